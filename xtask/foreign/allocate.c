// SPDX-License-Identifier: Apache-2.0
/*
 * Allocates a buffer through libgbinder, a binder stack that shares no code with the service's. It
 * writes and reads the parcels field by field, in the order of AllocationRequest.aidl and
 * Allocation.aidl.
 *
 * allocate DEVICE SERVICE HEAP BYTES: allocates one buffer of HEAP, maps it, checks that it is
 * zero, writes it and reads it back.
 */
#include <gbinder.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INTERFACE "vendor.anion.allocator.IHeapAllocator"
/* The second method of the interface. */
#define ALLOCATE (GBINDER_FIRST_CALL_TRANSACTION + 1)

static void fail(const char *what)
{
    fprintf(stderr, "allocate: %s\n", what);
    exit(1);
}

static void append_request(GBinderWriter *out, const char *heap, gint64 bytes)
{
    gsize start;

    gbinder_writer_append_int32(out, 1); /* the request is not null */
    start = gbinder_writer_bytes_written(out);
    gbinder_writer_append_int32(out, 0); /* size of the parcelable, which is set below */
    gbinder_writer_append_int64(out, bytes);
    gbinder_writer_append_int32(out, 1); /* count */
    gbinder_writer_append_int32(out, 0); /* heapIdMask */
    gbinder_writer_append_int32(out, 1); /* one element in heapNames */
    gbinder_writer_append_string16(out, heap);
    gbinder_writer_append_int32(out, 0); /* flags */
    gbinder_writer_append_int64(out, 0); /* alignment */
    gbinder_writer_append_string16(out, "foreign");
    gbinder_writer_append_bool(out, FALSE); /* requireDmaBuf */
    gbinder_writer_append_int32(out, 0); /* access: READ_WRITE */
    gbinder_writer_overwrite_int32(out, start, (gint32)(gbinder_writer_bytes_written(out) - start));
}

static gint32 read_int32(GBinderReader *in, const char *what)
{
    gint32 value;

    if (!gbinder_reader_read_int32(in, &value))
        fail(what);
    return value;
}

static gint64 read_int64(GBinderReader *in, const char *what)
{
    gint64 value;

    if (!gbinder_reader_read_int64(in, &value))
        fail(what);
    return value;
}

/* Ends the program with the message that follows the kind of refusal in the reply. */
static void fail_as_told(GBinderReader *in, gint32 kind)
{
    char *message = gbinder_reader_read_string16(in);

    fprintf(stderr, "allocate: refused (%d): %s\n", (int)kind, message ? message : "no message");
    exit(1);
}

static void check_memory(int fd, gint64 bytes)
{
    unsigned char *memory;

    if (bytes <= 0 || bytes > G_MAXINT32)
        fail("the buffer has an unexpected size");
    memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        fail("the descriptor does not map");
    for (gint64 at = 0; at < bytes; at++)
        if (memory[at] != 0)
            fail("the memory is not zero");
    memset(memory, 0xa5, (size_t)bytes);
    for (gint64 at = 0; at < bytes; at++)
        if (memory[at] != 0xa5)
            fail("the memory does not keep what was written");
    munmap(memory, (size_t)bytes);
}

int main(int argc, char **argv)
{
    GBinderServiceManager *manager;
    GBinderRemoteObject *object;
    GBinderClient *client;
    GBinderLocalRequest *request;
    GBinderRemoteReply *reply;
    GBinderWriter out;
    GBinderReader in;
    int status = 0, fd;
    gint64 asked, id, bytes;
    gint32 heap_id, backing, refusal;
    char *heap;

    if (argc != 5)
        fail("usage: allocate DEVICE SERVICE HEAP BYTES");
    asked = atoll(argv[4]);
    manager = gbinder_servicemanager_new(argv[1]);
    if (!manager)
        fail("no service manager");
    object = gbinder_servicemanager_get_service_sync(manager, argv[2], &status);
    if (!object)
        fail("no such service");
    client = gbinder_client_new(object, INTERFACE);
    request = gbinder_client_new_request2(client, ALLOCATE);
    gbinder_local_request_init_writer(request, &out);
    append_request(&out, argv[3], asked);
    reply = gbinder_client_transact_sync_reply(client, ALLOCATE, request, &status);
    if (!reply || status != GBINDER_STATUS_OK)
        fail("the transaction failed");

    gbinder_remote_reply_init_reader(reply, &in);
    refusal = read_int32(&in, "no status");
    if (refusal != 0)
        fail_as_told(&in, refusal);
    if (read_int32(&in, "no allocation") != 1)
        fail("the allocation is null");
    read_int32(&in, "no size of the allocation");
    if (read_int32(&in, "no buffers") != 1)
        fail("not exactly one buffer");
    if (read_int32(&in, "no buffer") != 1)
        fail("the buffer is null");
    read_int32(&in, "no size of the buffer");
    if (read_int32(&in, "no descriptor") != 1)
        fail("the descriptor is null");
    if (read_int32(&in, "no word on a second descriptor") != 0)
        fail("there is a second descriptor");
    fd = gbinder_reader_read_dup_fd(&in);
    if (fd < 0)
        fail("no descriptor came");
    id = read_int64(&in, "no id");
    bytes = read_int64(&in, "no size");
    heap_id = read_int32(&in, "no heap id");
    heap = gbinder_reader_read_string16(&in);
    backing = read_int32(&in, "no backing");
    if (bytes < asked || !heap || strcmp(heap, argv[3]) != 0)
        fail("not what was asked for");
    check_memory(fd, bytes);
    printf("buffer %lld of heap %s (id %d): %lld bytes, backing %d\n", (long long)id, heap, (int)heap_id, (long long)bytes,
           (int)backing);

    close(fd);
    g_free(heap);
    gbinder_remote_reply_unref(reply);
    gbinder_local_request_unref(request);
    gbinder_client_unref(client);
    gbinder_servicemanager_unref(manager);
    return 0;
}
