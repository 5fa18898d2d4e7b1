/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The interface of mapper.anion.so: version 5 of Android's AIMapper, by which processes import
 * graphic buffers, access them with the CPU, and read and write their metadata. This header is for
 * programs that are built without Android's header of the interface. Do not include both.
 *
 * A program loads the library with dlopen(), finds AIMapper_loadIMapper() with dlsym(), and calls
 * the functions of the structure that it stores. Any thread may call any function. No function
 * throws an exception.
 *
 * Results. Functions return an AIMapper_Error; functions that return a length return a negative
 * AIMapper_Error on failure. If a callback or a pointer for a result is NULL, they fail with
 * AIMAPPER_ERROR_BAD_VALUE.
 *
 * Buffers. importBuffer() stores a buffer_handle_t, which identifies the buffer in all other calls.
 * They fail with AIMAPPER_ERROR_BAD_BUFFER for any other pointer, also for the handle that was
 * passed to importBuffer().
 */
#ifndef ANION_MAPPER_H
#define ANION_MAPPER_H

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
extern "C" {
#define ANION_MAPPER_ALIGNED alignas(std::max_align_t)
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define ANION_MAPPER_ALIGNED _Alignas(max_align_t)
#endif

/** Descriptors and numbers that describe a buffer: the form in which processes pass buffers on. */
typedef struct native_handle {
    /** sizeof(native_handle_t). */
    int version;
    int numFds;
    int numInts;
    /** numFds descriptors, then numInts numbers. */
    int data[];
} native_handle_t;

/** An imported buffer. */
typedef const native_handle_t *buffer_handle_t;

/** A region of an image, in pixels: it excludes the column `right` and the row `bottom`. */
typedef struct ARect {
    int32_t left;
    int32_t top;
    int32_t right;
    int32_t bottom;
} ARect;

/** Result of a call. */
typedef enum AIMapper_Error {
    AIMAPPER_ERROR_NONE = 0,
    /** This library never returns it. */
    AIMAPPER_ERROR_BAD_DESCRIPTOR = 1,
    /** The buffer was not imported, was freed, or is not locked; a handle to import is not Anion's,
     *  or is inconsistent. */
    AIMAPPER_ERROR_BAD_BUFFER = 2,
    /** An argument is NULL or out of range, or the allocation fixes the metadata. */
    AIMAPPER_ERROR_BAD_VALUE = 3,
    /** Memory, address space or descriptors are exhausted. */
    AIMAPPER_ERROR_NO_RESOURCES = 5,
    /** The metadata type does not exist or cannot be set, or the value has another encoding. */
    AIMAPPER_ERROR_UNSUPPORTED = 7,
} AIMapper_Error;

/** A type of metadata. Types of this library have the name
 *  "android.hardware.graphics.common.StandardMetadataType" and a value of 1 to 23. */
typedef struct AIMapper_MetadataType {
    const char *name;
    int64_t value;
} AIMapper_MetadataType;

/** A type of metadata, and its properties. */
typedef struct AIMapper_MetadataTypeDescription {
    AIMapper_MetadataType metadataType;
    /** NULL for the standard types. */
    const char *description;
    bool isGettable;
    bool isSettable;
    /** Zero. */
    uint8_t reserved[32];
} AIMapper_MetadataTypeDescription;

/** Receives the start of a buffer: dumpAllBuffers() calls it before the values of each buffer. */
typedef void (*AIMapper_BeginDumpBufferCallback)(void *context);

/** Receives an encoded value, which is valid until the callback returns. */
typedef void (*AIMapper_DumpBufferCallback)(void *context, AIMapper_MetadataType metadataType, const void *value,
                                            size_t valueSize);

/** The functions of version 5. None is NULL. */
typedef struct AIMapperV5 {
    /** Imports a handle, and copies its descriptors. Each import of a handle creates another
     *  buffer_handle_t. The handle still belongs to the caller.
     *
     *  Fails with BAD_BUFFER if the handle is not Anion's, is inconsistent or does not fit its
     *  files, and with NO_RESOURCES if no descriptor or address space is left. */
    AIMapper_Error (*importBuffer)(const native_handle_t *handle, buffer_handle_t *outBufferHandle);

    /** Frees an imported buffer: ends its locks, closes its descriptors, unmaps its memory. */
    AIMapper_Error (*freeBuffer)(buffer_handle_t buffer);

    /** Stores how many descriptors and numbers of the handle another process needs: all of them. */
    AIMapper_Error (*getTransportSize)(buffer_handle_t buffer, uint32_t *outNumFds, uint32_t *outNumInts);

    /** Begins a CPU access, which lasts until unlock(), and stores the address of the whole image
     *  in `*outData`, for any region. Data that devices wrote is then visible to the CPU. Locks
     *  nest, and do not exclude locks of other imports of the buffer.
     *
     *  `cpuUsage` has only CPU bits of BufferUsage, which the allocation must have permitted. A
     *  region of zeros means the whole image. `acquireFence` is -1 or the descriptor of a
     *  sync_file, for which the call waits without a time limit. The library owns the descriptor,
     *  and closes it also if the call fails.
     *
     *  Fails with BAD_VALUE if the usage has no CPU bits, has others or exceeds that of the
     *  allocation, if the region is not inside the image, or if the fence cannot be polled; with
     *  NO_RESOURCES if the address space is full. */
    AIMapper_Error (*lock)(buffer_handle_t buffer, uint64_t cpuUsage, ARect accessRegion, int acquireFence,
                           void **outData);

    /** Ends the access of the last lock(): data that the CPU wrote becomes visible to devices.
     *  Stores -1 in `*releaseFence`: the caller need not wait. Fails with BAD_BUFFER if the buffer
     *  is not locked. */
    AIMapper_Error (*unlock)(buffer_handle_t buffer, int *releaseFence);

    /** Makes data that the CPU wrote to a locked buffer visible to devices. Fails with BAD_BUFFER
     *  if the buffer is not locked. */
    AIMapper_Error (*flushLockedBuffer)(buffer_handle_t buffer);

    /** Makes data that devices wrote to a locked buffer visible to the CPU. Fails with BAD_BUFFER
     *  if the buffer is not locked. */
    AIMapper_Error (*rereadLockedBuffer)(buffer_handle_t buffer);

    /** Returns the length of the encoded metadata in bytes, 0 if they are unset, or a negative
     *  AIMapper_Error. Writes the metadata to `outData` only if they fit into `outDataSize` bytes;
     *  `outData` may be NULL. */
    int32_t (*getMetadata)(buffer_handle_t buffer, AIMapper_MetadataType metadataType, void *outData,
                           size_t outDataSize);

    /** Does the same for a type of StandardMetadataType, by its number. */
    int32_t (*getStandardMetadata)(buffer_handle_t buffer, int64_t standardMetadataType, void *outData,
                                   size_t outDataSize);

    /** Sets metadata to an encoded value, for all processes that have the buffer. 0 bytes unset
     *  metadata that may be unset.
     *
     *  Fails with BAD_VALUE for metadata that the request of the allocation fixes; with UNSUPPORTED
     *  for others that cannot be set or unset, and for a value that is too long or not encoded as
     *  its type. */
    AIMapper_Error (*setMetadata)(buffer_handle_t buffer, AIMapper_MetadataType metadataType, const void *metadata,
                                  size_t metadataSize);

    /** Does the same for a type of StandardMetadataType, by its number. */
    AIMapper_Error (*setStandardMetadata)(buffer_handle_t buffer, int64_t standardMetadataType,
                                          const void *metadata, size_t metadataSize);

    /** Stores the list of all metadata types: the same one each time, which is never freed. */
    AIMapper_Error (*listSupportedMetadataTypes)(const AIMapper_MetadataTypeDescription **outDescriptionList,
                                                 size_t *outNumberOfDescriptions);

    /** Calls `dumpBufferCallback` with each value of a buffer's metadata that is set. */
    AIMapper_Error (*dumpBuffer)(buffer_handle_t buffer, AIMapper_DumpBufferCallback dumpBufferCallback,
                                 void *context);

    /** Does the same for all buffers that this process has imported, in no particular order. */
    AIMapper_Error (*dumpAllBuffers)(AIMapper_BeginDumpBufferCallback beginDumpBufferCallback,
                                     AIMapper_DumpBufferCallback dumpBufferCallback, void *context);

    /** Stores address and bytes of the reserved region: memory for the clients' own use that all
     *  processes with the buffer share. It is valid until freeBuffer(). Stores NULL and 0 if the
     *  allocation requested none. */
    AIMapper_Error (*getReservedRegion)(buffer_handle_t buffer, void **outReservedRegion, uint64_t *outReservedSize);
} AIMapperV5;

/** The mapper: its version and functions. */
typedef struct AIMapper {
    /** Always 5. */
    ANION_MAPPER_ALIGNED uint32_t version;
    AIMapperV5 v5;
} AIMapper;

/** Stores a pointer to the mapper: the same one each time, which is never freed. */
AIMapper_Error AIMapper_loadIMapper(AIMapper **outImplementation);

/** The version of the interface, 5. */
extern int32_t ANDROID_HAL_MAPPER_VERSION;

#ifdef __cplusplus
}
#endif

#undef ANION_MAPPER_ALIGNED

#endif
