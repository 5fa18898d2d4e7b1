/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that every function behaves as the header says, with one thread and one service. */
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void version_and_connections(void)
{
    anion_error *error;
    anion_client *client, *other;
    char endpoint[512];
    CHECK(strcmp(anion_version(), ANION_TEST_VERSION) == 0);
    client = connected();
    snprintf(endpoint, sizeof endpoint, "unix:%s", getenv("ANION_SOCKET"));
    CHECK(strcmp(anion_client_endpoint(client), getenv("ANION_SOCKET")) == 0);
    CHECK(anion_client_generation(client) == 1);

    anion_settings settings = {.struct_size = sizeof settings, .endpoint = endpoint, .connections = 2};
    OK(anion_connect_with(&settings, &other, &error), error);
    CHECK(strcmp(anion_client_endpoint(other), getenv("ANION_SOCKET")) == 0);
    anion_client_free(other);
    CHECK(anion_connect_with(NULL, &other, NULL) == 0);
    anion_client_free(other);
    OK(anion_connect(getenv("ANION_SOCKET"), &other, &error), error);
    anion_client_free(other);
    anion_client_free(client);
}

static void heaps(anion_client *client)
{
    anion_heaps *heaps;
    anion_error *error;
    anion_buffer *buffer = allocated(client, "camera", MIB);
    OK(anion_list_heaps(client, &heaps, &error), error);
    CHECK(heaps->struct_size == sizeof *heaps && heaps->count == 2);
    const anion_heap *system = heaps->heaps[0], *camera = heaps->heaps[1];
    CHECK(system->struct_size == sizeof *system);
    CHECK(system->id == 25 && strcmp(system->name, "system") == 0);
    CHECK(strcmp(system->aliases[0], "ion_system_heap") == 0 && system->aliases[1] == NULL);
    CHECK(system->kind == ANION_KIND_SYSTEM && system->backing == ANION_BACKING_MEMFD);
    CHECK(system->flags & ANION_HEAP_CACHED && system->flags & ANION_HEAP_ZEROED);
    CHECK(!(system->flags & ANION_HEAP_SECURE) && system->capacity == 0);
    CHECK(system->unavailable == NULL && strcmp(system->passed_over, "") == 0);
    CHECK(system->release <= ANION_RELEASE_LEASES && system->granule >= 4096);
    CHECK(system->max_alignment >= 4096);
    CHECK(camera->id == 20 && camera->kind == ANION_KIND_CARVEOUT && camera->capacity == 64 * MIB);
    CHECK(system->stride_align == 64 && camera->stride_align == 256);
    CHECK(camera->aliases[0] == NULL && camera->stats->struct_size == sizeof *camera->stats);
    CHECK(camera->stats->live_bytes == MIB && camera->stats->allocations == 1);
    CHECK(camera->stats->largest_free_bytes <= 63 * MIB && camera->stats->latency_count == 24);
    uint64_t calls = 0;
    for (size_t i = 0; i < camera->stats->latency_count; i++) calls += camera->stats->latency[i];
    CHECK(calls == 1);
    anion_heaps_free(heaps);
    anion_buffer_free(buffer);
}

static void explanations(anion_client *client)
{
    const char *names[] = {"nowhere", "camera", "ion_system_heap", NULL};
    anion_request request = {.struct_size = sizeof request, .bytes = 128 * MIB, .heaps = names};
    anion_explanation *explanation;
    anion_error *error;
    OK(anion_explain(client, &request, &explanation, &error), error);
    CHECK(explanation->struct_size == sizeof *explanation && explanation->possible == 1);
    CHECK(explanation->refusal == 0 && strcmp(explanation->heap, "system") == 0);
    CHECK(explanation->count == 3);
    const anion_verdict *const *verdicts = explanation->verdicts;
    CHECK(verdicts[0]->verdict == ANION_NO_SUCH_HEAP && verdicts[0]->heap_id == -1);
    CHECK(verdicts[1]->verdict == ANION_NO_ROOM && verdicts[1]->heap_id == 20);
    CHECK(strstr(verdicts[1]->reason, "134217728") != NULL && verdicts[1]->fits_bytes <= 64 * MIB);
    CHECK(verdicts[2]->verdict == ANION_WOULD_SERVE && strcmp(verdicts[2]->heap, "system") == 0);
    CHECK(verdicts[2]->struct_size == sizeof *verdicts[2]);
    anion_explanation_free(explanation);

    names[1] = NULL;
    OK(anion_explain(client, &request, &explanation, &error), error);
    CHECK(explanation->possible == 0 && explanation->refusal == ANION_UNKNOWN_HEAP);
    CHECK(strcmp(explanation->heap, "") == 0 && strstr(explanation->summary, "nowhere") != NULL);
    anion_explanation_free(explanation);
    CHECK(held_of(client).buffers == 0);
}

static void a_batch_is_held_described_and_mapped(anion_client *client)
{
    anion_request request = {.struct_size = sizeof request,
                             .bytes = MIB - 1,
                             .heap_mask = 1u << 20,
                             .count = 3,
                             .flags = ANION_CACHED | ANION_UNZEROED,
                             .alignment = 4096,
                             .label = "frames"};
    anion_buffer *frames[3];
    anion_error *error;
    OK(anion_allocate(client, &request, frames, &error), error);
    CHECK(held_of(client).bytes == 3 * MIB && held_of(client).buffers == 3);
    for (int i = 0; i < 3; i++) {
        CHECK(anion_buffer_bytes(frames[i]) == MIB && anion_buffer_heap_id(frames[i]) == 20);
        CHECK(strcmp(anion_buffer_heap(frames[i]), "camera") == 0);
        CHECK(anion_buffer_backing(frames[i]) == ANION_BACKING_MEMFD);
        CHECK(fcntl(anion_buffer_fd(frames[i]), F_GETFD) == FD_CLOEXEC);
        CHECK(i == 0 || anion_buffer_id(frames[i]) != anion_buffer_id(frames[0]));
    }

    anion_description *description;
    struct stat file;
    OK(anion_describe(client, anion_buffer_fd(frames[1]), &description, &error), error);
    CHECK(fstat(anion_buffer_fd(frames[1]), &file) == 0);
    CHECK(description->struct_size == sizeof *description);
    CHECK(description->id == anion_buffer_id(frames[1]) && description->bytes == MIB);
    CHECK(description->heap_id == 20 && strcmp(description->heap, "camera") == 0);
    CHECK(strcmp(description->label, "frames") == 0 && description->inode == file.st_ino);
    CHECK(description->owner_uid == getuid() && description->owner_pid == getpid());
    CHECK(description->backing == ANION_BACKING_MEMFD && description->age_ms < 3600 * 1000);
    anion_description_free(description);

    /* Data written through one mapping is read through another, also after the buffer is freed. */
    anion_mapping *writer, *reader;
    OK(anion_map(frames[0], ANION_READ_WRITE, &writer, &error), error);
    CHECK(anion_mapping_bytes(writer) == MIB);
    CHECK((uintptr_t)anion_mapping_address(writer) % 4096 == 0);
    OK(anion_mapping_begin(writer, ANION_CPU_WRITE, &error), error);
    memset(anion_mapping_address(writer), 0x5a, MIB);
    OK(anion_mapping_end(writer, ANION_CPU_WRITE, &error), error);
    int fd = anion_buffer_into_fd(frames[0]);
    CHECK(fd >= 0);
    OK(anion_map_fd(fd, 4096, ANION_READ_ONLY, &reader, &error), error);
    CHECK(close(fd) == 0);
    CHECK(anion_mapping_bytes(reader) == 4096);
    OK(anion_mapping_begin(reader, ANION_CPU_READ, &error), error);
    CHECK(((unsigned char *)anion_mapping_address(reader))[4095] == 0x5a);
    OK(anion_mapping_end(reader, ANION_CPU_READ, &error), error);
    anion_mapping_free(writer);
    CHECK(held_of(client).buffers == 3);
    anion_mapping_free(reader);
    anion_buffer_free(frames[1]);
    anion_buffer_free(frames[2]);
    EVENTUALLY(held_of(client).buffers == 0);
}

static void buffers_are_zero_and_may_be_read_only(anion_client *client)
{
    anion_request request = {.struct_size = sizeof request, .bytes = 100, .access = ANION_READ_ONLY};
    anion_buffer *buffer;
    anion_mapping *mapping;
    anion_error *error;
    OK(anion_allocate(client, &request, &buffer, &error), error);
    OK(anion_map(buffer, ANION_READ_ONLY, &mapping, &error), error);
    for (size_t i = 0; i < anion_mapping_bytes(mapping); i++)
        CHECK(((char *)anion_mapping_address(mapping))[i] == 0);
    FAILS(anion_mapping_begin(mapping, ANION_CPU_READ_WRITE, &error), EACCES, "read-only", error);
    anion_mapping_free(mapping);
    FAILS(anion_map(buffer, ANION_READ_WRITE, &mapping, &error), EACCES, "cannot map buffer", error);
    CHECK(mapping == NULL);
    anion_buffer_free(buffer);
}

static void reservations_are_drawn_from(anion_client *client)
{
    anion_reservation *reservation;
    anion_error *error;
    OK(anion_reserve(client, "system", 2 * MIB, 2, &reservation, &error), error);
    EVENTUALLY(anion_reservation_ready(reservation, NULL) == 2);
    RETURNS(anion_reservation_ready(reservation, &error), 2, error);
    CHECK(held_of(client).reserved == 4 * MIB);
    anion_buffer *drawn = allocated(client, "system", 2 * MIB);
    CHECK(held_of(client).reserved == 2 * MIB);
    /* The service may still charge buffers that were freed before. */
    EVENTUALLY(held_of(client).bytes == 2 * MIB);
    anion_reservation_free(reservation);
    EVENTUALLY(held_of(client).reserved == 0);
    anion_buffer_free(drawn);
}

static void remember(uint32_t level, void *data)
{
    *(uint32_t *)data = level;
}

static void the_pressure_level_is_told(anion_client *client)
{
    anion_pressure *pressure;
    anion_error *error;
    uint32_t level = 99;
    int now = anion_get_pressure(client, &error);
    CHECK(now >= ANION_PRESSURE_NONE && now <= ANION_PRESSURE_CRITICAL && error == NULL);
    OK(anion_watch_pressure(client, &pressure, &error), error);
    struct pollfd polled = {.fd = anion_pressure_fd(pressure), .events = POLLIN};
    CHECK(poll(&polled, 1, -1) == 1);
    RETURNS(anion_pressure_dispatch(pressure, remember, &level, &error), 1, error);
    CHECK(level <= ANION_PRESSURE_CRITICAL);
    OK(anion_pressure_dispatch(pressure, remember, &level, &error), error);
    anion_pressure_free(pressure);
}

static void images_have_room_in_a_buffer(anion_client *client)
{
    anion_error *error;
    anion_layout *layout;
    OK(anion_layout_image("NV12", 1920, 1080, 0, 0, &layout, &error), error);
    CHECK(layout->struct_size == sizeof *layout && layout->bytes == 1920 * 1080 * 3 / 2);
    CHECK(layout->modifier == 0 && layout->format == 0x23 && layout->fourcc == 0x3231564e);
    CHECK(layout->stride == 1920 && layout->count == 2);
    const anion_plane *luma = layout->planes[0], *chroma = layout->planes[1];
    CHECK(luma->struct_size == sizeof *luma && luma->offset == 0 && luma->stride == 1920);
    CHECK(luma->width == 1920 && luma->height == 1080 && luma->bytes == 1920 * 1080);
    CHECK(luma->sample_increment == 8 && luma->horizontal_subsampling == 1);
    CHECK(chroma->offset == luma->bytes && chroma->width == 960 && chroma->height == 540);
    CHECK(chroma->sample_increment == 16 && chroma->vertical_subsampling == 2);
    anion_buffer *buffer = allocated(client, "system", layout->bytes);
    CHECK(anion_buffer_bytes(buffer) >= layout->bytes);
    anion_buffer_free(buffer);
    anion_layout_free(layout);

    /* IMPLEMENTATION_DEFINED selects a camera's format; rows have the alignment of the heap. */
    anion_heaps *heaps;
    OK(anion_list_heaps(client, &heaps, &error), error);
    uint32_t align = heaps->heaps[1]->stride_align;
    anion_heaps_free(heaps);
    OK(anion_layout_image("implementation_defined", 100, 2, 1 << 17, align, &layout, &error), error);
    CHECK(layout->format == 0x23 && layout->planes[1]->stride == 256);
    anion_layout_free(layout);
}

int main(void)
{
    version_and_connections();
    anion_client *client = connected();
    heaps(client);
    EVENTUALLY(held_of(client).buffers == 0);
    explanations(client);
    a_batch_is_held_described_and_mapped(client);
    buffers_are_zero_and_may_be_read_only(client);
    reservations_are_drawn_from(client);
    the_pressure_level_is_told(client);
    images_have_room_in_a_buffer(client);

    /* Objects may be freed in any order, and freeing NULL does nothing. */
    anion_buffer *last = allocated(client, "system", 1);
    anion_client_free(client);
    anion_buffer_free(last);
    anion_client_free(NULL);
    anion_buffer_free(NULL);
    anion_mapping_free(NULL);
    anion_reservation_free(NULL);
    anion_pressure_free(NULL);
    anion_heaps_free(NULL);
    anion_usage_free(NULL);
    anion_explanation_free(NULL);
    anion_description_free(NULL);
    anion_error_free(NULL);
    return 0;
}
