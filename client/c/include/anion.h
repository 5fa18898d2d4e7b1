/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The client library of the Anion allocator service. docs/c.md has the first buffer in 20 lines,
 * libanion(3) an overview, anion.hpp the same for C++17. This file is made of client/c/src by
 * `cargo xtask c-header`.
 *
 * Results. A function that can fail returns 0, or a number that it says, and a negative errno on
 * failure. `error`, its last argument, may be NULL; else it is set to NULL on success and to a
 * text that names field, value and limit on failure: for an allocation the answer of every heap.
 * The caller frees that by anion_error_free().
 *
 * NULL. A pointer that a function needs and that is NULL is refused with -EINVAL; functions that
 * return no status return 0 or NULL then. Freeing NULL does nothing. Texts are UTF-8.
 *
 * Ownership. What a function stores through an out-pointer (`anion_client **client`) is the
 * caller's, who frees it by the function of that name once; it is NULL after a failure. What a
 * function returns as `const` belongs to the object that it was asked of and lives as long. Objects
 * may be freed in any order. Structures that the library gives out begin with `struct_size`, the
 * bytes that this version of the library fills: later versions append fields. Structures that the
 * caller fills begin with it as well: zero all of it and set `struct_size` to its sizeof; zero means
 * the default for every other field.
 *
 * Threads. All functions may be called from all threads at once, also with the same object, except
 * that an object must not be freed while another thread uses it. Threads of the library's own have
 * the signal mask of the thread that connected, or that began to watch the pressure.
 *
 * fork. A client connects for a child by itself, over a socket; in a child of fork that has not
 * executed a program, kernel binder is refused. Buffers and mappings are the child's, too.
 * Reservations and pressure listeners stay the parent's: the child is told -ECHILD. What the child
 * frees of the parent's ends nothing for the parent. It has the parent's socket open until it
 * executes a program or ends: the service learns of the parent's end only then. If the parent had
 * several threads, a child may call the library only if the C library permits it, as glibc does for
 * malloc.
 *
 * Restart. When a call finds the service gone, it waits for it up to the client's patience,
 * connects again and is made once more. Buffers and mappings stay valid. Reservations are lost:
 * make them again when anion_client_generation() has changed.
 */


#ifndef ANION_H
#define ANION_H

#include <stddef.h>
#include <stdint.h>

/**
 * The request is malformed. -EINVAL, as for arguments that the library refuses itself.
 */
#define ANION_BAD_REQUEST 1

/**
 * No heap has this name, or is in this mask. -ENODEV.
 */
#define ANION_UNKNOWN_HEAP 2

/**
 * This uid may not. -EPERM.
 */
#define ANION_NOT_PERMITTED 3

/**
 * The heaps exist, but cannot give this kind of buffer on this machine. -EOPNOTSUPP.
 */
#define ANION_UNSUPPORTED 4

/**
 * Memory, room or descriptors are exhausted. May pass. -ENOMEM.
 */
#define ANION_NO_MEMORY 5

/**
 * The quota of the caller's uid would be exceeded. -EDQUOT.
 */
#define ANION_QUOTA_EXCEEDED 6

/**
 * The descriptor is no live buffer of this service. -ENOENT.
 */
#define ANION_NOT_OURS 7

/**
 * The kernel refused the service something that should work. -EIO.
 */
#define ANION_BACKEND 8

/**
 * CPU mappings are cached.
 */
#define ANION_HEAP_CACHED 1

/**
 * Every buffer is one physically contiguous piece, whatever its size.
 */
#define ANION_HEAP_CONTIGUOUS 2

/**
 * Every buffer is zero when it is handed out.
 */
#define ANION_HEAP_ZEROED 4

/**
 * Released memory is cleaned in the background before it is reused.
 */
#define ANION_HEAP_DEFERRED_FREE 8

/**
 * The CPU can never map the buffers.
 */
#define ANION_HEAP_SECURE 16

/**
 * Buffers can be had with ANION_READ_ONLY.
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
 * Memory set aside, handed out in chunks of one size.
 */
#define ANION_KIND_CHUNK 3

/**
 * The kernel's contiguous memory allocator, or memory set aside in its place.
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
 * A dma-buf made by /dev/udmabuf.
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
 * The kernel reports the last close of a buffer, and a lease confirms it: released at once.
 */
#define ANION_RELEASE_CLOSE_EVENTS 0

/**
 * Leases are asked now and then: released within half a second.
 */
#define ANION_RELEASE_LEASES 1

/**
 * References of dma-bufs are counted now and then: released within half a second.
 */
#define ANION_RELEASE_REFERENCE_COUNTS 2

/**
 * The kernel does not tell: a buffer is the process's until it frees the anion_buffer.
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
 * Nothing is known to be scarce.
 */
#define ANION_PRESSURE_NONE 0

/**
 * The service gives back what it keeps for reuse, in part.
 */
#define ANION_PRESSURE_MODERATE 1

/**
 * The service keeps nothing for reuse.
 */
#define ANION_PRESSURE_CRITICAL 2

/**
 * Only of heaps that the CPU maps cached.
 */
#define ANION_CACHED 1

/**
 * Buffers may have what clients of the caller's own trust domain left in them: for callers that
 * overwrite every byte.
 */
#define ANION_UNZEROED 2

/**
 * Only of heaps whose buffers are dma-bufs.
 */
#define ANION_DMA_BUF 4

/**
 * Descriptors and mappings permit reading and writing.
 */
#define ANION_READ_WRITE 0

/**
 * Descriptors and mappings permit reading and no more; the kernel enforces it.
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
 * It could, but has no room now, or the size is beyond its capacity.
 */
#define ANION_NO_ROOM 5

/**
 * It has room, but the caller's quota does not allow it.
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
 * Why a call failed.
 */
typedef struct anion_error anion_error;

/**
 * A buffer that is mapped. It keeps the memory, whatever becomes of the buffer.
 */
typedef struct anion_mapping anion_mapping;

/**
 * Hears of the pressure level.
 */
typedef struct anion_pressure anion_pressure;

/**
 * Buffers that the service holds ready.
 */
typedef struct anion_reservation anion_reservation;

/**
 * What the service knows of a live buffer.
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
   * The label of the request that it was allocated by.
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
   * Milliseconds since it was allocated.
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
   * ION's num_of_alloc_bytes: their bytes, without pooled memory.
   */
  uint64_t num_of_alloc_bytes;
  /**
   * ION's alloc_bytes_wm: the highest num_of_alloc_bytes ever.
   */
  uint64_t alloc_bytes_wm;
  /**
   * Bytes held by clients.
   */
  uint64_t live_bytes;
  /**
   * Bytes released and waiting to be cleaned or returned.
   */
  uint64_t deferred_bytes;
  /**
   * Clean bytes kept ready for reuse.
   */
  uint64_t pooled_bytes;
  /**
   * Bytes held ready for clients that reserved them.
   */
  uint64_t reserved_bytes;
  /**
   * Bytes that the heap can hold at once; 0 if only the machine's memory limits it.
   */
  uint64_t capacity;
  /**
   * Largest buffer that the free part of memory set aside could hold; 0 if none is set aside.
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
   * Buffers served from pooled memory.
   */
  uint64_t recycled;
  /**
   * Buffers of a pooled heap that had to be made, though large enough to be pooled.
   */
  uint64_t pool_misses;
  /**
   * Requests refused for lack of memory, room or descriptors.
   */
  uint64_t failures_no_memory;
  /**
   * Of these, those that fragmentation alone stood against.
   */
  uint64_t failures_fragmented;
  /**
   * Requests refused by the caller's quota.
   */
  uint64_t failures_quota;
  /**
   * Requests refused because the caller may not use the heap.
   */
  uint64_t failures_not_permitted;
  /**
   * Requests for what the heap can never give.
   */
  uint64_t failures_unsupported;
  /**
   * Requests that the kernel failed unexpectedly.
   */
  uint64_t failures_backend;
  /**
   * How long allocations took: element 0 counts those of less than 1 us, element n those of at
   * least 2^(n-1) us and less than 2^n us, the last one all longer ones.
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
   * Its bit in masks, 0 to 31, and its rank: higher ids are tried first.
   */
  uint32_t id;
  /**
   * ANION_KIND_ (ION's numbers); newer ones may appear.
   */
  uint32_t kind;
  /**
   * ANION_BACKING_ of the buffers that it gives first; newer ones may appear.
   */
  uint32_t backing;
  /**
   * ANION_HEAP_ bits.
   */
  uint32_t flags;
  /**
   * ANION_RELEASE_: how releases of its buffers are noticed.
   */
  uint32_t release;
  /**
   * Its name.
   */
  const char *name;
  /**
   * Other names that it answers to, with NULL after the last one.
   */
  const char *const *aliases;
  /**
   * Why nothing can come from it on this machine; NULL if something can.
   */
  const char *unavailable;
  /**
   * Sources that the configuration prefers, and why each cannot be used; empty if there is none.
   */
  const char *passed_over;
  /**
   * Bytes that it can hold at once; 0 if only the machine's memory limits it.
   */
  uint64_t capacity;
  /**
   * Bytes: sizes are rounded up to a multiple of it.
   */
  uint64_t granule;
  /**
   * Largest alignment in bytes that a request may ask for.
   */
  uint64_t max_alignment;
  /**
   * Its counters; NULL if the service has none for it.
   */
  const struct anion_heap_stats *stats;
} anion_heap;

/**
 * All configured heaps, unavailable ones included, in the order in which they are tried.
 */
typedef struct anion_heaps {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * How many there are.
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
   * Bytes of all rows with what pads them.
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
   * Bits from a sample to the next of its row; 0 where samples do not begin at whole bytes.
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
 * Where everything of an image is in its buffer.
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
   * The modifier that devices know the arrangement by: DRM_FORMAT_MOD_LINEAR, 0.
   */
  uint64_t modifier;
  /**
   * The value of Android's PixelFormat; of IMPLEMENTATION_DEFINED, of what was chosen.
   */
  int32_t format;
  /**
   * The code of drm_fourcc.h; 0 of formats without one.
   */
  uint32_t fourcc;
  /**
   * From a row of the first plane to the next: pixels; bytes of RAW10 and RAW12.
   */
  uint32_t stride;
  /**
   * How many planes there are: 1 to 3.
   */
  size_t count;
  /**
   * The planes, in the order of their offsets.
   */
  const struct anion_plane *const *planes;
} anion_layout;

/**
 * What one heap would do with a request.
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
   * Largest bytes that it could give the caller now, for the count that was asked for.
   */
  uint64_t fits_bytes;
} anion_verdict;

/**
 * What an allocation would do. Another caller may take the memory before the real call.
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
   * The whole answer as text, as a failing anion_allocate() has it.
   */
  const char *summary;
  /**
   * Elements of `verdicts`.
   */
  size_t count;
  /**
   * Every heap that the request selects, in the order in which they are tried.
   */
  const struct anion_verdict *const *verdicts;
} anion_explanation;

/**
 * What one uid holds.
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
   * How many live buffers it has.
   */
  uint64_t buffers;
  /**
   * Bytes held ready for it by reservations and not in use.
   */
  uint64_t reserved_bytes;
  /**
   * Highest `bytes` since the service started.
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
 * What uids hold.
 */
typedef struct anion_usage {
  /**
   * Bytes of this structure that are filled.
   */
  size_t struct_size;
  /**
   * How many rows there are.
   */
  size_t count;
  /**
   * One for each uid, most bytes first.
   */
  const struct anion_usage_row *const *rows;
} anion_usage;

/**
 * A request for equal buffers, all of one heap. Zero is the default of every field but
 * `struct_size` and `bytes`.
 */
typedef struct anion_request {
  /**
   * The sizeof of this structure.
   */
  size_t struct_size;
  /**
   * Bytes of one buffer, more than 0. Rounded up to the heap's granule.
   */
  uint64_t bytes;
  /**
   * Names or aliases of heaps, tried in this order, with NULL after the last one. NULL: the
   * heaps of `heap_mask`.
   */
  const char *const *heaps;
  /**
   * Bit n admits the heap with id n; higher ids are tried first. 0 admits all.
   */
  uint32_t heap_mask;
  /**
   * How many buffers, at most 64: all of them, or none. 0 is 1.
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
   * Physical pieces of at least so many bytes, at multiples of it: a power of two; 0 for the
   * heap's own.
   */
  uint64_t alignment;
  /**
   * A label for dumps: at most 31 bytes of printable ASCII. NULL: none.
   */
  const char *label;
} anion_request;

/**
 * How a client behaves.
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
   * Milliseconds that a call waits for a service that was there and is gone; 0 for the default
   * of 5000. 1 is a single attempt.
   */
  uint32_t patience_ms;
  /**
   * How many calls are answered at once over a socket; 0 for the default of 1. Kernel binder
   * ignores it.
   */
  uint32_t connections;
} anion_settings;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Allocates buffers, and stores as many pointers in `buffers` as the request's count: all of them,
 * or none. They are zero, unless the request permits otherwise or the heap is secure, and charged
 * to the caller's uid until every descriptor, copy and mapping of them is gone, in any process.
 *
 * Fails with the service's refusal, the verdict of every heap in its text; -EINVAL for flags or
 * access that this version does not know. `buffers` is not written then.
 */
int anion_allocate(const struct anion_client *client,
                   const struct anion_request *request,
                   struct anion_buffer ** buffers,
                   struct anion_error **error);

/**
 * Returns the buffer's descriptor, close-on-exec, which stays the buffer's: dup(2) it, or pass it
 * on, before the buffer is freed. -EINVAL for NULL.
 */
int anion_buffer_fd(const struct anion_buffer *buffer);

/**
 * Returns what no other buffer has had or will have until the machine reboots.
 */
uint64_t anion_buffer_id(const struct anion_buffer *buffer);

/**
 * Returns its usable bytes: those of the request, rounded up to the heap's granule.
 */
uint64_t anion_buffer_bytes(const struct anion_buffer *buffer);

/**
 * Returns the name of the heap that it came from.
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
 * ANION_RELEASE_TOKEN is given up: it stays usable, and is charged to no uid. -EINVAL for NULL.
 */
int anion_buffer_into_fd(struct anion_buffer *buffer);

/**
 * Closes the buffer's descriptor. Copies of it and mappings keep the memory.
 */
void anion_buffer_free(struct anion_buffer *buffer);

/**
 * Identifies a buffer by a descriptor of it, whichever process allocated it. `fd` stays the
 * caller's.
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
 * `binder:DEVICE`. NULL looks for the service as anionctl(1) does: the socket that ANION_SOCKET
 * names, else kernel binder if the service is registered there, else the first that answers of
 * $XDG_RUNTIME_DIR/anion/allocator.sock (if that directory is the caller's own) and
 * /run/anion/allocator.sock.
 *
 * Fails with -EINVAL if `endpoint` is none of these, and with -ENOTCONN if no service answers: the
 * message has the cause for each place, and the command that helps.
 */
int anion_connect(const char *endpoint, struct anion_client **client, struct anion_error **error);

/**
 * Connects with other settings than the defaults, which `settings` may be NULL for.
 */
int anion_connect_with(const struct anion_settings *settings,
                       struct anion_client **client,
                       struct anion_error **error);

/**
 * Returns where the service is: a socket's path or "binder:DEVICE".
 */
const char *anion_client_endpoint(const struct anion_client *client);

/**
 * Returns how many services the client was connected to so far, one after the other, at least 1.
 * While it stays the same, reservations that were made by the client are still there.
 */
uint64_t anion_client_generation(const struct anion_client *client);

/**
 * Ends the connection. Buffers, mappings and pressure listeners go on without it; reservations
 * too, which keep the connection that they were made by.
 */
void anion_client_free(struct anion_client *client);

/**
 * Returns the negative errno that the call returned. Beside those of the refusals: -EINVAL, an
 * argument is refused by the library; -ENOTCONN, there is no service, or it did not come back
 * within the patience; -ETIMEDOUT, it is there and did not answer; -EPROTO, its answer is not what
 * the interface promises; -EMFILE, this process has no descriptor left for the answer; -ECHILD,
 * the object is of this process's parent; -ENOTRECOVERABLE, a fault of the library; else the errno
 * of a system call.
 */
int anion_error_code(const struct anion_error *error);

/**
 * Returns which of the ANION_ refusals the service gave; 0 if it was not asked or did not answer.
 */
int32_t anion_error_refusal(const struct anion_error *error);

/**
 * Returns the reason in words, for people.
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
 * Computes where the planes of an image are. Needs no service. `format` is a name of Android's
 * PixelFormat, or NV12, NV16, NV21, P010 or P210; `usage` are bits of its BufferUsage, which
 * decide what IMPLEMENTATION_DEFINED is, and else 0. Rows begin at multiples of `stride_align`
 * bytes, a power of two up to 4096; 0 is 64. EINVAL if there is no such format, or it has no image
 * of this size.
 */
int anion_layout_image(const char *format,
                       uint32_t width,
                       uint32_t height,
                       uint64_t usage,
                       uint32_t stride_align,
                       struct anion_layout **layout,
                       struct anion_error **error);

/**
 * Frees what anion_layout_image() made.
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
 * Maps the first `bytes` bytes of a buffer that came from another process. `fd` stays the
 * caller's.
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
 * Returns where the mapping is: page-aligned, and valid until it is freed. Reading and writing is
 * between anion_mapping_begin() and anion_mapping_end(), so that dma-bufs are coherent.
 */
void *anion_mapping_address(const struct anion_mapping *mapping);

/**
 * Returns how many bytes are mapped.
 */
size_t anion_mapping_bytes(const struct anion_mapping *mapping);

/**
 * Begins an access of the CPU, ANION_CPU_: what devices wrote becomes visible to it. Accesses may
 * overlap. Costs nothing where no device can write behind the CPU's back, as to a memfd.
 *
 * Fails with -EACCES for writing to a mapping that is read-only; else as the buffer's exporter.
 */
int anion_mapping_begin(const struct anion_mapping *mapping,
                        uint32_t access,
                        struct anion_error **error);

/**
 * Ends an access that was begun with the same `access`: what the CPU wrote becomes visible to
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
 * Returns the level now: one of ANION_PRESSURE_.
 */
int anion_get_pressure(const struct anion_client *client, struct anion_error **error);

/**
 * Begins to listen, over a connection and on a thread of its own: the level now is the first that
 * is told. When the service restarts, it listens to the new one. One uid may have four.
 *
 * Fails with the service's refusal; -ENOTCONN if no service answers.
 */
int anion_watch_pressure(const struct anion_client *client,
                         struct anion_pressure **pressure,
                         struct anion_error **error);

/**
 * Returns a descriptor that is readable while there is something to dispatch. It stays the
 * object's: poll(2) it, and do nothing else with it. -EINVAL for NULL.
 */
int anion_pressure_fd(const struct anion_pressure *pressure);

/**
 * Calls `callback` on this thread with the last level that was told since the last dispatch, and
 * `data`, if any was. Levels in between may be missed. Does not wait. The callback may call the
 * library, and must return: it throws no exception and does not longjmp.
 *
 * Returns 1 if it called, else 0. Fails with -ECHILD in a child of fork.
 */
int anion_pressure_dispatch(const struct anion_pressure *pressure,
                            void (*callback)(uint32_t level, void *data),
                            void *data,
                            struct anion_error **error);

/**
 * Ends listening.
 */
void anion_pressure_free(struct anion_pressure *pressure);

/**
 * Explains what anion_allocate() would do, heap by heap, without touching memory or counters.
 *
 * A request that the service refuses as malformed fails here, too; one that no heap can serve does
 * not.
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
 * Has `count` buffers of `bytes` bytes of the heap with this name or alias held ready: made, with
 * their pages present, zero, and charged to the caller's uid. Requests for the same size draw
 * them, and when those are released, the next ones are made. Does not wait until they are made.
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
 * Returns how many of its buffers lie ready now: those that were drawn and not yet released do not
 * count.
 *
 * Fails with -ENOTCONN if the service that it was made in is gone, and the reservation with it.
 */
int anion_reservation_ready(const struct anion_reservation *reservation,
                            struct anion_error **error);

/**
 * Gives back what was not drawn. Buffers that were drawn stay with their holders.
 */
void anion_reservation_free(struct anion_reservation *reservation);

/**
 * Lists what clients hold: for privileged callers every uid seen since the service started, at
 * most 1024; for others their own alone.
 */
int anion_get_usage(const struct anion_client *client,
                    struct anion_usage **usage,
                    struct anion_error **error);

/**
 * Frees what anion_get_usage() made.
 */
void anion_usage_free(struct anion_usage *usage);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ANION_H */
