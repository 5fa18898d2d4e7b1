/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Checks sizes and offsets of the mapper's header in C++, and calls that pass structures by value.
 * Arguments: path of the library, width of the image, and the numbers of a handle, whose
 * descriptors are 3 and 4.
 */
#include <anion-mapper.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>
#include <vector>

static_assert(sizeof(native_handle_t) == 12, "native_handle_t");
static_assert(sizeof(ARect) == 16, "ARect");
static_assert(sizeof(AIMapper_Error) == 4, "AIMapper_Error");
static_assert(sizeof(AIMapperV5) == 15 * sizeof(void *), "AIMapperV5");
static_assert(offsetof(AIMapper, v5) == sizeof(void *), "AIMapper.v5");
static_assert(sizeof(AIMapper) == (sizeof(void *) == 8 ? 128 : 64), "AIMapper");
#if defined(__i386__)
static_assert(sizeof(AIMapper_MetadataType) == 12, "AIMapper_MetadataType");
static_assert(sizeof(AIMapper_MetadataTypeDescription) == 52, "AIMapper_MetadataTypeDescription");
#else
static_assert(sizeof(AIMapper_MetadataType) == 16, "AIMapper_MetadataType");
static_assert(sizeof(AIMapper_MetadataTypeDescription) == (sizeof(void *) == 8 ? 64 : 56),
              "AIMapper_MetadataTypeDescription");
#endif

#define CHECK(condition)                                                                                      \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
            std::exit(1);                                                                                     \
        }                                                                                                     \
    } while (false)

static const char STANDARD[] = "android.hardware.graphics.common.StandardMetadataType";
static const int64_t WIDTH = 3, DATASPACE = 17;

struct Dumped {
    int buffers = 0;
    int values = 0;
    bool has_width = false;
};

static void on_buffer(void *context) {
    ++static_cast<Dumped *>(context)->buffers;
}

static void on_value(void *context, AIMapper_MetadataType type, const void *value, size_t size) {
    auto *dumped = static_cast<Dumped *>(context);
    CHECK(std::strcmp(type.name, STANDARD) == 0 && value != nullptr && size > 0);
    ++dumped->values;
    dumped->has_width |= type.value == WIDTH;
}

int main(int argc, char **argv) {
    CHECK(argc > 3);
    void *library = dlopen(argv[1], RTLD_LOCAL | RTLD_NOW);
    CHECK(library != nullptr);
    auto *version = static_cast<int32_t *>(dlsym(library, "ANDROID_HAL_MAPPER_VERSION"));
    CHECK(version != nullptr && *version == 5);
    auto load = reinterpret_cast<decltype(&AIMapper_loadIMapper)>(dlsym(library, "AIMapper_loadIMapper"));
    CHECK(load != nullptr);
    AIMapper *mapper = nullptr;
    CHECK(load(&mapper) == AIMAPPER_ERROR_NONE);
    CHECK(reinterpret_cast<uintptr_t>(mapper) % alignof(AIMapper) == 0 && mapper->version == 5);
    const AIMapperV5 &v5 = mapper->v5;

    const uint64_t width = std::strtoull(argv[2], nullptr, 10);
    std::vector<int> words{sizeof(native_handle_t), 2, argc - 3, 3, 4};
    for (int at = 3; at < argc; ++at) {
        words.push_back(static_cast<int>(std::strtol(argv[at], nullptr, 10)));
    }
    buffer_handle_t buffer = nullptr;
    CHECK(v5.importBuffer(reinterpret_cast<native_handle_t *>(words.data()), &buffer) == AIMAPPER_ERROR_NONE);
    uint32_t fds = 0, ints = 0;
    CHECK(v5.getTransportSize(buffer, &fds, &ints) == AIMAPPER_ERROR_NONE);
    CHECK(fds == 2 && ints == static_cast<uint32_t>(argc - 3));

    /* Passes a structure of 16 bytes by value, with arguments after it. */
    int ends[2];
    CHECK(pipe(ends) == 0);
    void *data = nullptr;
    const int32_t right = static_cast<int32_t>(width);
    CHECK(v5.lock(buffer, 0x33, ARect{0, 0, right + 1, 1}, ends[1], &data) == AIMAPPER_ERROR_BAD_VALUE);
    char byte;
    CHECK(read(ends[0], &byte, 1) == 0); /* The library closed the fence. */
    CHECK(v5.lock(buffer, 0x33, ARect{1, 2, 0, 3}, -1, &data) == AIMAPPER_ERROR_BAD_VALUE);
    CHECK(v5.lock(buffer, 0x33, ARect{0, 3, right, 2}, -1, &data) == AIMAPPER_ERROR_BAD_VALUE);
    CHECK(v5.lock(buffer, 0x33, ARect{0, 0, right, 1}, -1, &data) == AIMAPPER_ERROR_NONE);
    static_cast<char *>(data)[0] = 1;
    CHECK(v5.flushLockedBuffer(buffer) == AIMAPPER_ERROR_NONE);
    CHECK(v5.rereadLockedBuffer(buffer) == AIMAPPER_ERROR_NONE);
    int fence = 7;
    CHECK(v5.unlock(buffer, &fence) == AIMAPPER_ERROR_NONE && fence == -1);

    /* Passes a structure of a pointer and a 64-bit number by value. */
    unsigned char value[512];
    const int32_t length = v5.getMetadata(buffer, AIMapper_MetadataType{STANDARD, WIDTH}, value, sizeof value);
    CHECK(length == 8 + 53 + 8 + 8);
    uint64_t found = 0;
    std::memcpy(&found, value + length - 8, sizeof found);
    CHECK(found == width);
    CHECK(v5.getStandardMetadata(buffer, WIDTH, nullptr, 0) == length);
    const int64_t beyond = WIDTH + (INT64_C(1) << 32);
    CHECK(v5.getMetadata(buffer, AIMapper_MetadataType{STANDARD, beyond}, value, sizeof value) ==
          -AIMAPPER_ERROR_UNSUPPORTED);
    CHECK(v5.getMetadata(buffer, AIMapper_MetadataType{"other", WIDTH}, value, sizeof value) ==
          -AIMAPPER_ERROR_UNSUPPORTED);
    const int32_t bytes = v5.getStandardMetadata(buffer, DATASPACE, value, sizeof value);
    value[bytes - 1] = 0x12;
    const AIMapper_MetadataType dataspace{STANDARD, DATASPACE};
    CHECK(v5.setMetadata(buffer, dataspace, value, static_cast<size_t>(bytes)) == AIMAPPER_ERROR_NONE);
    unsigned char again[512];
    CHECK(v5.getStandardMetadata(buffer, DATASPACE, again, sizeof again) == bytes);
    CHECK(std::memcmp(value, again, static_cast<size_t>(bytes)) == 0);
    CHECK(v5.setStandardMetadata(buffer, DATASPACE, value, static_cast<size_t>(bytes)) == AIMAPPER_ERROR_NONE);

    const AIMapper_MetadataTypeDescription *list = nullptr;
    size_t count = 0;
    CHECK(v5.listSupportedMetadataTypes(&list, &count) == AIMAPPER_ERROR_NONE && count == 23);
    for (size_t at = 0; at < count; ++at) {
        CHECK(std::strcmp(list[at].metadataType.name, STANDARD) == 0);
        CHECK(list[at].metadataType.value == static_cast<int64_t>(at + 1));
        CHECK(list[at].isGettable && list[at].isSettable == (at >= 16 && at < 22));
    }
    Dumped one, all;
    CHECK(v5.dumpBuffer(buffer, on_value, &one) == AIMAPPER_ERROR_NONE && one.has_width && one.values == 19);
    CHECK(v5.dumpAllBuffers(on_buffer, on_value, &all) == AIMAPPER_ERROR_NONE);
    CHECK(all.buffers == 1 && all.values == one.values);
    void *region = &one;
    uint64_t size = 1;
    CHECK(v5.getReservedRegion(buffer, &region, &size) == AIMAPPER_ERROR_NONE && region == nullptr && size == 0);
    CHECK(v5.freeBuffer(buffer) == AIMAPPER_ERROR_NONE);
    CHECK(v5.freeBuffer(buffer) == AIMAPPER_ERROR_BAD_BUFFER);
    return 0;
}
