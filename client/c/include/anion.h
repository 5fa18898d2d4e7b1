/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The client library of the Anion allocator service. docs/c.md shows the first buffer in 20 lines,
 * libanion(3) is an overview, and anion.hpp is the library for C++17. `cargo xtask c-header`
 * generates this file from client/c/src.
 *
 * Results. A function that can fail returns 0 or a documented number on success, and a negative
 * errno on failure. `error`, its last argument, may be NULL. Otherwise the function sets it to NULL
 * on success, and on failure to an error whose text names field, value and limit, and for an
 * allocation the answer of every heap. The caller frees the error with anion_error_free().
 *
 * NULL. If a required pointer is NULL, a function fails with -EINVAL; functions that return no
 * status return 0 or NULL. Freeing NULL does nothing. Texts are UTF-8.
 *
 * Ownership. The caller owns an object that a function stores through an out-pointer
 * (`anion_client **client`), and frees it once with the function of that name; it is NULL after a
 * failure. A `const` pointer that a function returns belongs to the object of the call, and is
 * valid as long as that object. Objects may be freed in any order. Structures of the library begin
 * with `struct_size`, the number of bytes that this version of the library fills: later versions
 * append fields. Structures that the caller fills begin with it, too: zero the whole structure and
 * set `struct_size` to its sizeof; zero is the default of every other field.
 *
 * Threads. All threads may call all functions at once, also with the same object, but must not free
 * an object while another thread uses it. Threads of the library have the signal mask of the thread
 * that connected, or that began to watch the pressure.
 *
 * fork. A client connects again in a child by itself, over a socket. Kernel binder does not work in
 * a child of fork that has not executed a program. Buffers and mappings belong to the child, too.
 * Reservations and pressure listeners stay with the parent: in the child, calls fail with -ECHILD.
 * If the child frees objects of the parent, they stay valid for the parent. The child keeps the
 * parent's socket open until it executes a program or ends, so the service detects the parent's end
 * only then. If the parent had several threads, a child may call the library only if the C library
 * permits it, as glibc does for malloc.
 *
 * Restart. If a call finds that the service has ended, it waits up to the client's patience,
 * connects again and is repeated once. Buffers and mappings stay valid. When the client connects
 * again, it presents its memfds, so that the new service counts them, and makes its reservations
 * again. After a restart by systemd, the new service counts buffers of all kinds.
 */


#ifndef ANION_H
#define ANION_H

#include <stddef.h>
#include <stdint.h>

/**
 * The request is malformed. -EINVAL, as for arguments that the library itself refuses.
 */
#define ANION_BAD_REQUEST 1

/**
 * No heap has this name, or is in this mask. -ENODEV.
 */
#define ANION_UNKNOWN_HEAP 2

/**
 * The uid has no permission. -EPERM.
 */
#define ANION_NOT_PERMITTED 3

/**
 * The heaps exist, but cannot give this kind of buffer on this machine. -EOPNOTSUPP.
 */
#define ANION_UNSUPPORTED 4

/**
 * Memory, room or descriptors are exhausted. A later call may succeed. -ENOMEM.
 */
#define ANION_NO_MEMORY 5

/**
 * The request would exceed the quota of the caller's uid. -EDQUOT.
 */
#define ANION_QUOTA_EXCEEDED 6

/**
 * The descriptor is no live buffer of this service. -ENOENT.
 */
#define ANION_NOT_OURS 7

/**
 * The kernel refused an operation of the service that should work. -EIO.
 */
#define ANION_BACKEND 8

/**
 * CPU mappings are cached.
 */
#define ANION_HEAP_CACHED 1

/**
 * Every buffer is one physically contiguous piece, of any size.
 */
#define ANION_HEAP_CONTIGUOUS 2

/**
 * Every buffer is zero when the service hands it out.
 */
#define ANION_HEAP_ZEROED 4

/**
 * The service cleans released memory in the background before reuse.
 */
#define ANION_HEAP_DEFERRED_FREE 8

/**
 * The CPU can never map the buffers.
 */
#define ANION_HEAP_SECURE 16

/**
 * The heap can give buffers with ANION_READ_ONLY.
 */
#define ANION_HEAP_READ_ONLY 32

/**
 * Ordinary memory, page by page.
 */
#define ANION_KIND_SYSTEM 0

/**
 * Ordinary memory in one physical piece: at most a huge page.
 */
#define ANION_KIND_SYSTEM_CONTIG 1

/**
 * Memory set aside for the heap when the service starts.
 */
#define ANION_KIND_CARVEOUT 2

/**
 * Memory set aside, which is handed out in chunks of one size.
 */
#define ANION_KIND_CHUNK 3

/**
 * The kernel's contiguous memory allocator, or memory set aside instead.
 */
#define ANION_KIND_DMA 4

/**
 * An ordered list of other sources, or a vendor's own.
 */
#define ANION_KIND_CUSTOM 5

/**
 * A sealed memfd: shared memory.
 */
#define ANION_BACKING_MEMFD 0

/**
 * An ashmem region.
 */
#define ANION_BACKING_ASHMEM 1

/**
 * A dma-buf that /dev/udmabuf made.
 */
#define ANION_BACKING_UDMABUF 2

/**
 * A dma-buf of one of the kernel's dma-heaps.
 */
#define ANION_BACKING_DMA_HEAP 3

/**
 * A dma-buf of the kernel's ion device.
 */
#define ANION_BACKING_ION 4

/**
 * A memfd of huge pages.
 */
#define ANION_BACKING_HUGETLB 5

/**
 * The kernel reports the last close, and a lease confirms it: the release is immediate.
 */
#define ANION_RELEASE_CLOSE_EVENTS 0

/**
 * The service polls leases: the release takes up to half a second.
 */
#define ANION_RELEASE_LEASES 1

/**
 * The service polls reference counts of dma-bufs: the release takes up to half a second.
 */
#define ANION_RELEASE_REFERENCE_COUNTS 2

/**
 * The kernel cannot report it: the process is charged until it frees the anion_buffer.
 */
#define ANION_RELEASE_TOKEN 3

/**
 * The CPU reads.
 */
#define ANION_CPU_READ 1

/**
 * The CPU writes.
 */
#define ANION_CPU_WRITE 2

/**
 * The CPU reads and writes.
 */
#define ANION_CPU_READ_WRITE 3

/**
 * No memory pressure is known.
 */
#define ANION_PRESSURE_NONE 0

/**
 * The service returns a part of its pooled memory to the kernel.
 */
#define ANION_PRESSURE_MODERATE 1

/**
 * The service pools no memory.
 */
#define ANION_PRESSURE_CRITICAL 2

/**
 * Skips heaps that the CPU maps uncached.
 */
#define ANION_CACHED 1

/**
 * Buffers may contain data of clients of the caller's own trust domain: for callers that overwrite
 * every byte.
 */
#define ANION_UNZEROED 2

/**
 * Skips heaps whose buffers are not dma-bufs.
 */
#define ANION_DMA_BUF 4

/**
 * Descriptors and mappings permit reading and writing.
 */
#define ANION_READ_WRITE 0

/**
 * Descriptors and mappings permit only reading; the kernel enforces it.
 */
#define ANION_READ_ONLY 1

/**
 * It would serve the request now.
 */
#define ANION_WOULD_SERVE 0

/**
 * No configured heap has this id or name.
 */
#define ANION_NO_SUCH_HEAP 1

/**
 * It is configured, but unavailable on this machine.
 */
#define ANION_UNAVAILABLE 2

/**
 * The caller's uid may not use it.
 */
#define ANION_CLOSED 3

/**
 * It cannot give this kind of buffer.
 */
#define ANION_CANNOT 4

/**
 * It has no room now, or the size exceeds its capacity.
 */
#define ANION_NO_ROOM 5

/**
 * It has room, but the caller's quota does not permit the request.
 */
#define ANION_OVER_QUOTA 6

/**
 * A buffer that this process holds.
 */
typedef struct anion_buffer anion_buffer;

/**
 * A client of the allocator service.
 */
typedef struct anion_client anion_client;

/**
 * Cause of a failed call.
 */
typedef struct anion_error anion_error;

/**
 * A mapping of a buffer. It keeps the memory, also after the buffer is freed.
 */
typedef struct anion_mapping anion_mapping;

/**
 * Receives the level of memory pressure.
 */
typedef struct anion_pressure anion_pressure;

/**
 * Buffers that the service reserves.
 */
typedef struct anion_reservation anion_reservation;

/**
 * Description of a live buffer.
 */
typedef struct anion_description {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * Its id.
   */
  uint64_t id;
  /**
   * Its bytes.
   */
  uint64_t bytes;
  /**
   * The id of its heap.
   */
  uint32_t heap_id;
  /**
   * ANION_BACKING_: the kind of its descriptor; newer ones may appear.
   */
  uint32_t backing;
  /**
   * The name of its heap.
   */
  const char *heap;
  /**
   * The label of its request.
   */
  const char *label;
  /**
   * The uid of the process that allocated it.
   */
  uint32_t owner_uid;
  /**
   * The pid of that process.
   */
  int32_t owner_pid;
  /**
   * The inode that /proc and other tools show for it.
   */
  uint64_t inode;
  /**
   * Milliseconds since the allocation.
   */
  uint64_t age_ms;
} anion_description;

/**
 * Counters of a heap since the service started.
 */
typedef struct anion_heap_stats {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * ION's num_of_buffers: buffers that exist, deferred frees included.
   */
  uint64_t num_of_buffers;
  /**
   * ION's num_of_alloc_bytes: bytes of these buffers, without pooled memory.
   */
  uint64_t num_of_alloc_bytes;
  /**
   * ION's alloc_bytes_wm: the highest value of num_of_alloc_bytes.
   */
  uint64_t alloc_bytes_wm;
  /**
   * Bytes that clients hold.
   */
  uint64_t live_bytes;
  /**
   * Bytes that were released and wait for scrubbing, or for their return to the kernel.
   */
  uint64_t deferred_bytes;
  /**
   * Clean bytes that are pooled.
   */
  uint64_t pooled_bytes;
  /**
   * Bytes of reserved buffers that are not drawn.
   */
  uint64_t reserved_bytes;
  /**
   * Bytes that the heap can give at once; 0 if only the machine's memory limits it.
   */
  uint64_t capacity;
  /**
   * Largest buffer that fits into a free range of memory set aside; 0 if none is set aside.
   */
  uint64_t largest_free_bytes;
  /**
   * Buffers handed out.
   */
  uint64_t allocations;
  /**
   * Buffers released.
   */
  uint64_t frees;
  /**
   * Pool hits: buffers that came from pooled memory.
   */
  uint64_t recycled;
  /**
   * Pool misses: new buffers of a heap with a pool that were large enough for the pool.
   */
  uint64_t pool_misses;
  /**
   * Requests that were refused for lack of memory, room or descriptors.
   */
  uint64_t failures_no_memory;
  /**
   * Those of failures_no_memory that failed for fragmentation alone.
   */
  uint64_t failures_fragmented;
  /**
   * Requests that exceeded the caller's quota.
   */
  uint64_t failures_quota;
  /**
   * Requests of callers that may not use the heap.
   */
  uint64_t failures_not_permitted;
  /**
   * Requests for a kind of buffer that the heap can never give.
   */
  uint64_t failures_unsupported;
  /**
   * Requests that failed for an unexpected error of the kernel.
   */
  uint64_t failures_backend;
  /**
   * Durations of allocations: element 0 counts those below 1 us, element n those of at least
   * 2^(n-1) us and below 2^n us, the last element all longer ones.
   */
  const uint64_t *latency;
  /**
   * Elements of `latency`.
   */
  size_t latency_count;
} anion_heap_stats;

/**
 * A configured heap.
 */
typedef struct anion_heap {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * Its bit in masks, 0 to 31, and its rank: the service tries higher ids first.
   */
  uint32_t id;
  /**
   * ANION_KIND_ (ION's numbers); newer ones may appear.
   */
  uint32_t kind;
  /**
   * ANION_BACKING_ of the buffers of its first source; newer values may appear.
   */
  uint32_t backing;
  /**
   * ANION_HEAP_ bits.
   */
  uint32_t flags;
  /**
   * ANION_RELEASE_: the release mechanism of its buffers.
   */
  uint32_t release;
  /**
   * Its name.
   */
  const char *name;
  /**
   * Its other names, with NULL after the last one.
   */
  const char *const *aliases;
  /**
   * The reason why it is unavailable on this machine; NULL if it is available.
   */
  const char *unavailable;
  /**
   * Skipped sources of the configuration, with the reasons; empty if there is none.
   */
  const char *passed_over;
  /**
   * Bytes that it can give at once; 0 if only the machine's memory limits it.
   */
  uint64_t capacity;
  /**
   * Bytes: the service rounds sizes up to a multiple of it.
   */
  uint64_t granule;
  /**
   * Largest alignment in bytes of a request.
   */
  uint64_t max_alignment;
  /**
   * Its counters; NULL if the service has none for it.
   */
  const struct anion_heap_stats *stats;
  /**
   * Bytes: rows of images in its buffers should begin at multiples of it, as its devices
   * require. It is an argument of anion_layout_image(). 0, that function's default, if the
   * service does not report it.
   */
  uint32_t stride_align;
} anion_heap;

/**
 * All configured heaps, also unavailable ones, in the order in which the service tries them.
 */
typedef struct anion_heaps {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * The number of heaps.
   */
  size_t count;
  /**
   * Each of them.
   */
  const struct anion_heap *const *heaps;
} anion_heaps;

/**
 * A plane of an image.
 */
typedef struct anion_plane {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * Bytes from the start of the buffer to its first sample.
   */
  uint64_t offset;
  /**
   * Bytes from a row to the next.
   */
  uint64_t stride;
  /**
   * Bytes of all rows with their padding.
   */
  uint64_t bytes;
  /**
   * Samples of a row.
   */
  uint32_t width;
  /**
   * Rows.
   */
  uint32_t height;
  /**
   * Bits from a sample to the next in its row; 0 if samples do not begin at whole bytes.
   */
  uint32_t sample_increment;
  /**
   * Pixels of a row that share a sample.
   */
  uint32_t horizontal_subsampling;
  /**
   * Rows of pixels that share a sample.
   */
  uint32_t vertical_subsampling;
} anion_plane;

/**
 * The layout of an image in its buffer.
 */
typedef struct anion_layout {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * Bytes that a buffer needs.
   */
  uint64_t bytes;
  /**
   * The modifier of the layout for devices: DRM_FORMAT_MOD_LINEAR, 0.
   */
  uint64_t modifier;
  /**
   * The value of Android's PixelFormat; for IMPLEMENTATION_DEFINED, that of the selected format.
   */
  int32_t format;
  /**
   * The code of drm_fourcc.h; 0 for formats without one.
   */
  uint32_t fourcc;
  /**
   * Distance from a row of the first plane to the next, in pixels; for RAW10 and RAW12, in
   * bytes.
   */
  uint32_t stride;
  /**
   * The number of planes: 1 to 3.
   */
  size_t count;
  /**
   * The planes, in the order of their offsets.
   */
  const struct anion_plane *const *planes;
} anion_layout;

/**
 * Answer of one heap to a request.
 */
typedef struct anion_verdict {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * Its id; -1 if no heap has the name.
   */
  int32_t heap_id;
  /**
   * ANION_WOULD_SERVE to ANION_OVER_QUOTA; newer ones may appear.
   */
  uint32_t verdict;
  /**
   * Its name, or the name that no heap has.
   */
  const char *heap;
  /**
   * The verdict in words, with the value in the request and the limit.
   */
  const char *reason;
  /**
   * Largest size in bytes of a buffer that it could give the caller now, for the requested
   * count; 0 if none.
   */
  uint64_t fits_bytes;
} anion_verdict;

/**
 * Result of a dry run. Another caller may take the memory before the real call.
 */
typedef struct anion_explanation {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * 1 if it would succeed, else 0.
   */
  int possible;
  /**
   * The refusal that it would fail with; 0 if it would succeed.
   */
  int32_t refusal;
  /**
   * The heap that would serve it; empty if none.
   */
  const char *heap;
  /**
   * The whole answer as text, the same as that of a failing anion_allocate().
   */
  const char *summary;
  /**
   * Elements of `verdicts`.
   */
  size_t count;
  /**
   * Every heap that the request selects, in the order in which the service tries them.
   */
  const struct anion_verdict *const *verdicts;
} anion_explanation;

/**
 * Memory that one uid holds.
 */
typedef struct anion_usage_row {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * The uid.
   */
  uint32_t uid;
  /**
   * The name of its policy in the configuration; "default" if none names the uid.
   */
  const char *policy;
  /**
   * Bytes of its live buffers.
   */
  uint64_t bytes;
  /**
   * Number of its live buffers.
   */
  uint64_t buffers;
  /**
   * Bytes of its reserved buffers that are not drawn.
   */
  uint64_t reserved_bytes;
  /**
   * Highest value of `bytes` since the service started.
   */
  uint64_t peak_bytes;
  /**
   * Limit of bytes and reserved bytes together; 0 if unlimited.
   */
  uint64_t quota_bytes;
  /**
   * Limit of buffers, reserved ones included; 0 if unlimited.
   */
  uint64_t quota_buffers;
} anion_usage_row;

/**
 * Memory that uids hold.
 */
typedef struct anion_usage {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * The number of rows.
   */
  size_t count;
  /**
   * One for each uid, most bytes first.
   */
  const struct anion_usage_row *const *rows;
} anion_usage;

/**
 * A request for equal buffers of one heap. Zero is the default of every field but `struct_size`
 * and `bytes`.
 */
typedef struct anion_request {
  /**
   * The sizeof of this structure.
   */
  size_t struct_size;
  /**
   * Bytes of one buffer, more than 0. The service rounds them up to the heap's granule.
   */
  uint64_t bytes;
  /**
   * Names or aliases of heaps, which the service tries in this order, with NULL after the last
   * one. NULL selects the heaps of `heap_mask`.
   */
  const char *const *heaps;
  /**
   * Bit n admits the heap with id n; the service tries higher ids first. 0 admits all.
   */
  uint32_t heap_mask;
  /**
   * Number of buffers, at most 64: all of them, or none. 0 is 1.
   */
  uint32_t count;
  /**
   * ANION_CACHED, ANION_UNZEROED and ANION_DMA_BUF.
   */
  uint32_t flags;
  /**
   * ANION_READ_WRITE or ANION_READ_ONLY.
   */
  uint32_t access;
  /**
   * Alignment: physical pieces of at least this many bytes, at multiples of it. A power of two;
   * 0 for the heap's own.
   */
  uint64_t alignment;
  /**
   * A label for dumps: at most 31 bytes of printable ASCII. NULL: none.
   */
  const char *label;
} anion_request;

/**
 * Settings of a client.
 */
typedef struct anion_settings {
  /**
   * The sizeof of this structure.
   */
  size_t struct_size;
  /**
   * As for anion_connect(); NULL for the default.
   */
  const char *endpoint;
  /**
   * Milliseconds that a call waits for a service that has ended to start again; 0 for the
   * default of 5000. 1 is a single attempt.
   */
  uint32_t patience_ms;
  /**
   * Number of calls that are answered at once over a socket; 0 for the default of 1. Kernel
   * binder ignores it.
   */
  uint32_t connections;
} anion_settings;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Allocates buffers, and stores as many pointers in `buffers` as the request's count: all of them,
 * or none. They are zero, unless the request permits otherwise or the heap is secure. They are
 * charged to the caller's uid until every descriptor, copy and mapping of them is gone, in any
 * process.
 *
 * Fails with the service's refusal, with the verdict of every heap in its text; -EINVAL for flags
 * or access that this version does not know. `buffers` is not written then.
 */
int anion_allocate(const struct anion_client *client,
                   const struct anion_request *request,
                   struct anion_buffer ** buffers,
                   struct anion_error **error);

/**
 * Returns the buffer's close-on-exec descriptor, which still belongs to the buffer: dup(2) it, or
 * pass it on, before the buffer is freed. -EINVAL for NULL.
 */
int anion_buffer_fd(const struct anion_buffer *buffer);

/**
 * Returns the id, which is unique until the machine reboots.
 */
uint64_t anion_buffer_id(const struct anion_buffer *buffer);

/**
 * Returns its usable bytes: the requested size, rounded up to the heap's granule.
 */
uint64_t anion_buffer_bytes(const struct anion_buffer *buffer);

/**
 * Returns the name of the heap that the buffer came from.
 */
const char *anion_buffer_heap(const struct anion_buffer *buffer);

/**
 * Returns the id of that heap.
 */
uint32_t anion_buffer_heap_id(const struct anion_buffer *buffer);

/**
 * Returns the kind of its descriptor, ANION_BACKING_; UINT32_MAX if it is newer than this library.
 */
uint32_t anion_buffer_backing(const struct anion_buffer *buffer);

/**
 * Frees the object and returns its descriptor, which the caller closes. A buffer of a heap with
 * ANION_RELEASE_TOKEN is released: its memory stays usable, and is charged to no uid. -EINVAL for
 * NULL.
 */
int anion_buffer_into_fd(struct anion_buffer *buffer);

/**
 * Closes the buffer's descriptor. Copies of it and mappings keep the memory.
 */
void anion_buffer_free(struct anion_buffer *buffer);

/**
 * Identifies a buffer by one of its descriptors, whichever process allocated it. `fd` still
 * belongs to the caller.
 *
 * Fails with -ENOENT if it is no live buffer of this service, and with -EBADF if it is not open.
 */
int anion_describe(const struct anion_client *client,
                   int fd,
                   struct anion_description **description,
                   struct anion_error **error);

/**
 * Frees a description.
 */
void anion_description_free(struct anion_description *description);

/**
 * Returns the library's version: "MAJOR.MINOR.PATCH".
 */
const char *anion_version(void);

/**
 * Connects to the service.
 *
 * `endpoint` is a socket's path, which begins with `/` or `.`, `unix:PATH`, `binder` or
 * `binder:DEVICE`. With NULL the library looks for the service as anionctl(1) does: the socket
 * that ANION_SOCKET names, else kernel binder if the service is registered there, else the first
 * that answers of $XDG_RUNTIME_DIR/anion/allocator.sock (if that directory belongs to the caller)
 * and /run/anion/allocator.sock.
 *
 * Fails with -EINVAL if `endpoint` is none of these, and with -ENOTCONN if no service answers: the
 * message names the cause for each address, and the command that helps.
 */
int anion_connect(const char *endpoint, struct anion_client **client, struct anion_error **error);

/**
 * Connects with `settings`; NULL for the defaults.
 */
int anion_connect_with(const struct anion_settings *settings,
                       struct anion_client **client,
                       struct anion_error **error);

/**
 * Returns the address of the service: a socket's path or "binder:DEVICE".
 */
const char *anion_client_endpoint(const struct anion_client *client);

/**
 * Returns the number of services that the client was connected to so far, at least 1. While it
 * stays the same, reservations of the client still exist.
 */
uint64_t anion_client_generation(const struct anion_client *client);

/**
 * Ends the connection. Buffers, mappings and pressure listeners stay valid; so do reservations,
 * which keep the connection that made them.
 */
void anion_client_free(struct anion_client *client);

/**
 * Returns the negative errno that the call returned. In addition to those of the refusals:
 * -EINVAL, the library refuses an argument; -ENOTCONN, no service answers, or it did not start
 * again within the patience; -ETIMEDOUT, the service runs and did not answer; -EPROTO, its answer
 * violates the interface; -EMFILE, this process has no free descriptor for the answer; -ECHILD,
 * the object belongs to this process's parent; -ENOTRECOVERABLE, a bug of the library; else the
 * errno of a system call.
 */
int anion_error_code(const struct anion_error *error);

/**
 * Returns the service's refusal as an ANION_ code; 0 if the service was not called or did not
 * answer.
 */
int32_t anion_error_refusal(const struct anion_error *error);

/**
 * Returns the reason in words.
 */
const char *anion_error_message(const struct anion_error *error);

/**
 * Frees an error.
 */
void anion_error_free(struct anion_error *error);

/**
 * Lists the heaps with their counters.
 */
int anion_list_heaps(const struct anion_client *client,
                     struct anion_heaps **heaps,
                     struct anion_error **error);

/**
 * Frees a list of heaps.
 */
void anion_heaps_free(struct anion_heaps *heaps);

/**
 * Computes the layout of an image. It needs no service. `format` is a name of Android's
 * PixelFormat, or NV12, NV16, NV21, P010 or P210; `usage` are bits of its BufferUsage, which
 * select the format of IMPLEMENTATION_DEFINED, and else 0. Rows begin at multiples of
 * `stride_align` bytes, a power of two up to 4096; 0 is 64. EINVAL if there is no such format, or
 * it has no image of this size.
 */
int anion_layout_image(const char *format,
                       uint32_t width,
                       uint32_t height,
                       uint64_t usage,
                       uint32_t stride_align,
                       struct anion_layout **layout,
                       struct anion_error **error);

/**
 * Frees a layout.
 */
void anion_layout_free(struct anion_layout *layout);

/**
 * Maps all of a buffer, shared, with its pages present, at an address of the kernel's choice.
 *
 * Fails with -EACCES if the buffer does not permit `access`, ANION_READ_WRITE or ANION_READ_ONLY,
 * or its heap is secure, and with -ENOMEM if the address space is full.
 */
int anion_map(const struct anion_buffer *buffer,
              uint32_t access,
              struct anion_mapping **mapping,
              struct anion_error **error);

/**
 * Maps the first `bytes` bytes of a buffer that came from another process. `fd` still belongs to
 * the caller.
 *
 * Fails as anion_map(); with -EINVAL if `bytes` is 0 or beyond the end, and with -EBADF if `fd` is
 * not open.
 */
int anion_map_fd(int fd,
                 size_t bytes,
                 uint32_t access,
                 struct anion_mapping **mapping,
                 struct anion_error **error);

/**
 * Returns the address of the mapping: page-aligned, and valid until it is freed. Read and write
 * between anion_mapping_begin() and anion_mapping_end(), so that dma-bufs are coherent.
 */
void *anion_mapping_address(const struct anion_mapping *mapping);

/**
 * Returns the number of mapped bytes.
 */
size_t anion_mapping_bytes(const struct anion_mapping *mapping);

/**
 * Begins a CPU access, ANION_CPU_: data that devices wrote becomes visible to the CPU. Accesses
 * may overlap. It costs nothing for memory that no device can access, such as a memfd.
 *
 * Fails with -EACCES for writing to a read-only mapping; else with the errors of the buffer's
 * exporter.
 */
int anion_mapping_begin(const struct anion_mapping *mapping,
                        uint32_t access,
                        struct anion_error **error);

/**
 * Ends an access that began with the same `access`: data that the CPU wrote becomes visible to
 * devices.
 */
int anion_mapping_end(const struct anion_mapping *mapping,
                      uint32_t access,
                      struct anion_error **error);

/**
 * Unmaps the memory.
 */
void anion_mapping_free(struct anion_mapping *mapping);

/**
 * Returns the present level: one of ANION_PRESSURE_.
 */
int anion_get_pressure(const struct anion_client *client, struct anion_error **error);

/**
 * Registers for pressure levels, over a connection and on a thread of its own; the first one is
 * the present level. When the service restarts, it connects to the new one. One uid may have four.
 *
 * Fails with the service's refusal; -ENOTCONN if no service answers.
 */
int anion_watch_pressure(const struct anion_client *client,
                         struct anion_pressure **pressure,
                         struct anion_error **error);

/**
 * Returns a descriptor that is readable while there is a level to dispatch. It belongs to the
 * object: use it only with poll(2). -EINVAL for NULL.
 */
int anion_pressure_fd(const struct anion_pressure *pressure);

/**
 * Calls `callback` on this thread with the last level and `data`, if a level arrived since the
 * last dispatch. It may skip levels in between. It does not wait. The callback may call the
 * library, and must return: it must not throw an exception or call longjmp.
 *
 * Returns 1 if it called `callback`, else 0. Fails with -ECHILD in a child of fork.
 */
int anion_pressure_dispatch(const struct anion_pressure *pressure,
                            void (*callback)(uint32_t level, void *data),
                            void *data,
                            struct anion_error **error);

/**
 * Ends the registration.
 */
void anion_pressure_free(struct anion_pressure *pressure);

/**
 * Explains what anion_allocate() would do, heap by heap, without changing memory or counters.
 *
 * Fails for a request that the service refuses as malformed. It is no failure if no heap can serve
 * the request.
 */
int anion_explain(const struct anion_client *client,
                  const struct anion_request *request,
                  struct anion_explanation **explanation,
                  struct anion_error **error);

/**
 * Frees an explanation.
 */
void anion_explanation_free(struct anion_explanation *explanation);

/**
 * Reserves `count` buffers of `bytes` bytes of the heap with this name or alias. The service
 * preallocates them, zeroed, with their pages present, and charges them to the caller's uid.
 * Requests for the same size draw them, and after their release the service makes the next ones.
 * The function does not wait until they are made.
 *
 * Fails with the service's refusal.
 */
int anion_reserve(const struct anion_client *client,
                  const char *heap,
                  uint64_t bytes,
                  uint32_t count,
                  struct anion_reservation **reservation,
                  struct anion_error **error);

/**
 * Returns how many of its buffers are ready now, without those that were drawn and not yet
 * released.
 *
 * Fails with -ENOTCONN if the service that made it has ended, and the reservation with it.
 */
int anion_reservation_ready(const struct anion_reservation *reservation,
                            struct anion_error **error);

/**
 * Releases the buffers that were not drawn. Drawn buffers stay with their holders.
 */
void anion_reservation_free(struct anion_reservation *reservation);

/**
 * Lists how much each uid holds. Privileged callers get every uid since the service started, at
 * most 1024; others only their own.
 */
int anion_get_usage(const struct anion_client *client,
                    struct anion_usage **usage,
                    struct anion_error **error);

/**
 * Frees a list of usage.
 */
void anion_usage_free(struct anion_usage *usage);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ANION_H */
