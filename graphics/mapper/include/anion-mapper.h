/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What mapper.anion.so offers: version 5 of AIMapper, the interface of Android between the
 * processes of graphics clients and a device's buffers. For programs without Android's own header;
 * no program includes both.
 *
 * A program loads the library with dlopen(), looks for AIMapper_loadIMapper(), and calls the
 * functions of the struct that it gives. All may be called by any thread. None unwinds.
 *
 * Functions return an AIMapper_Error; those that return a length return it below zero. A buffer is
 * the handle that importBuffer() gave: all other functions answer AIMAPPER_ERROR_BAD_BUFFER for any
 * other, also for the handle that was imported.
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

/** Descriptors and numbers that name a buffer, as a process sends them to another. */
typedef struct native_handle {
    /** sizeof(native_handle_t). */
    int version;
    int numFds;
    int numInts;
    /** Descriptors, then numbers. */
    int data[];
} native_handle_t;

/** An imported buffer. */
typedef const native_handle_t *buffer_handle_t;

/** A part of an image: the right column and the bottom row are the first outside. */
typedef struct ARect {
    int32_t left;
    int32_t top;
    int32_t right;
    int32_t bottom;
} ARect;

/** How a call ends. */
typedef enum AIMapper_Error {
    AIMAPPER_ERROR_NONE = 0,
    AIMAPPER_ERROR_BAD_DESCRIPTOR = 1,
    /** The buffer is none that was imported, or is not locked; the handle is not Anion's, or forged. */
    AIMAPPER_ERROR_BAD_BUFFER = 2,
    /** An argument is NULL or out of its range; metadata are fixed. */
    AIMAPPER_ERROR_BAD_VALUE = 3,
    /** Memory, address space or descriptors are used up. */
    AIMAPPER_ERROR_NO_RESOURCES = 5,
    /** There are no such metadata, they cannot be set, or the value is not encoded as they are. */
    AIMAPPER_ERROR_UNSUPPORTED = 7,
} AIMapper_Error;

/** A type of metadata. Here all have the name of StandardMetadataType, with numbers 1 to 23. */
typedef struct AIMapper_MetadataType {
    const char *name;
    int64_t value;
} AIMapper_MetadataType;

/** A type of metadata with what can be done with it. */
typedef struct AIMapper_MetadataTypeDescription {
    AIMapper_MetadataType metadataType;
    /** NULL of the standard types. */
    const char *description;
    bool isGettable;
    bool isSettable;
    /** Zero. */
    uint8_t reserved[32];
} AIMapper_MetadataTypeDescription;

/** Is called before the values of each buffer that dumpAllBuffers() dumps. */
typedef void (*AIMapper_BeginDumpBufferCallback)(void *context);

/** Is called with each value that is dumped, which lasts until it returns. */
typedef void (*AIMapper_DumpBufferCallback)(void *context, AIMapper_MetadataType metadataType, const void *value,
                                            size_t valueSize);

/** The functions of version 5. None is NULL. */
typedef struct AIMapperV5 {
    /** Imports a handle, as often as wanted: each import is another buffer_handle_t, with copies of
     *  the descriptors. The handle stays the caller's. Fails with BAD_BUFFER unless all of the
     *  handle fits together and fits its files. */
    AIMapper_Error (*importBuffer)(const native_handle_t *handle, buffer_handle_t *outBufferHandle);

    /** Undoes an import: its descriptors are closed, what was mapped is unmapped. */
    AIMapper_Error (*freeBuffer)(buffer_handle_t buffer);

    /** Gives how many descriptors and numbers of the handle another process needs: all. */
    AIMapper_Error (*getTransportSize)(buffer_handle_t buffer, uint32_t *outNumFds, uint32_t *outNumInts);

    /** Lets the CPU access the buffer until unlock(); locks nest. The usage is that of the CPU in
     *  BufferUsage, reading or writing only if the buffer was allocated for it. A region of zeros is
     *  all of the image. The fence, -1 or a descriptor of sync_file, is the library's whatever the
     *  call returns; it is waited for without a limit. The answer is where the image begins,
     *  whatever the region. Devices' writes are visible then. */
    AIMapper_Error (*lock)(buffer_handle_t buffer, uint64_t cpuUsage, ARect accessRegion, int acquireFence,
                           void **outData);

    /** Undoes the last lock. What the CPU wrote is visible to devices; the fence is -1. */
    AIMapper_Error (*unlock)(buffer_handle_t buffer, int *releaseFence);

    /** Makes visible to devices what the CPU wrote to a locked buffer. */
    AIMapper_Error (*flushLockedBuffer)(buffer_handle_t buffer);

    /** Makes visible to the CPU what devices wrote to a locked buffer. */
    AIMapper_Error (*rereadLockedBuffer)(buffer_handle_t buffer);

    /** Gives the bytes that metadata take, encoded: 0 if they are unset. They are written if the
     *  room suffices, and nothing is if not. Errors are below zero. */
    int32_t (*getMetadata)(buffer_handle_t buffer, AIMapper_MetadataType metadataType, void *outData,
                           size_t outDataSize);

    /** The same by the number of a standard type. */
    int32_t (*getStandardMetadata)(buffer_handle_t buffer, int64_t standardMetadataType, void *outData,
                                   size_t outDataSize);

    /** Sets metadata, encoded, for all processes that have the buffer. No bytes unset those that can
     *  be unset. BAD_VALUE for what the allocation has fixed. */
    AIMapper_Error (*setMetadata)(buffer_handle_t buffer, AIMapper_MetadataType metadataType, const void *metadata,
                                  size_t metadataSize);

    /** The same by the number of a standard type. */
    AIMapper_Error (*setStandardMetadata)(buffer_handle_t buffer, int64_t standardMetadataType,
                                          const void *metadata, size_t metadataSize);

    /** Gives the types of metadata: the same list each time. */
    AIMapper_Error (*listSupportedMetadataTypes)(const AIMapper_MetadataTypeDescription **outDescriptionList,
                                                 size_t *outNumberOfDescriptions);

    /** Calls a function with all metadata of a buffer that are set. */
    AIMapper_Error (*dumpBuffer)(buffer_handle_t buffer, AIMapper_DumpBufferCallback dumpBufferCallback,
                                 void *context);

    /** The same for all buffers that this process has imported. */
    AIMapper_Error (*dumpAllBuffers)(AIMapper_BeginDumpBufferCallback beginDumpBufferCallback,
                                     AIMapper_DumpBufferCallback dumpBufferCallback, void *context);

    /** Gives the memory that all processes with the buffer share for purposes of their own, until
     *  freeBuffer(); NULL and 0 if none was asked for. */
    AIMapper_Error (*getReservedRegion)(buffer_handle_t buffer, void **outReservedRegion, uint64_t *outReservedSize);
} AIMapperV5;

/** The mapper. */
typedef struct AIMapper {
    /** 5. */
    ANION_MAPPER_ALIGNED uint32_t version;
    AIMapperV5 v5;
} AIMapper;

/** Gives the mapper: the same each time. */
AIMapper_Error AIMapper_loadIMapper(AIMapper **outImplementation);

/** 5. */
extern int32_t ANDROID_HAL_MAPPER_VERSION;

#ifdef __cplusplus
}
#endif

#undef ANION_MAPPER_ALIGNED

#endif
