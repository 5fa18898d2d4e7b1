// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Allocation;
import vendor.anion.allocator.AllocationRequest;
import vendor.anion.allocator.BufferInfo;
import vendor.anion.allocator.ClientUsage;
import vendor.anion.allocator.Explanation;
import vendor.anion.allocator.HeapInfo;
import vendor.anion.allocator.HeapStats;
import vendor.anion.allocator.IReservation;
import vendor.anion.allocator.ReservationRequest;
import vendor.anion.allocator.IPressureListener;
import vendor.anion.allocator.PressureLevel;

/**
 * ION's heaps as a service: buffers as file descriptors, zeroed, accounted to the caller's uid, and released
 * when the last descriptor, in-flight copy and mapping is gone. No call is needed to free. The one exception are buffers
 * whose release the kernel does not report (ReleaseMechanism.TOKEN): those are released with Allocation.token.
 *
 * The caller's identity is what the transport vouches for (binder's uid and pid, or the socket's peer
 * credentials at connect time); nothing in a request can change it. "Privileged" below means uid 0, the
 * service's own uid, or a uid whose policy in the configuration says so.
 *
 * Every failure is a service-specific error with a code of ErrorCode, except that a malformed parcel is
 * refused by binder itself. Every list is bounded, so that no reply exceeds 512 KiB.
 */
@VintfStability
interface IHeapAllocator {
    /** Most buffers in one request. An RPC transport carries at most 64 descriptors in a message. */
    const int MAX_COUNT = 64;
    /** Longest label in bytes. */
    const int MAX_NAME_BYTES = 31;
    /** Most heap names in one request, and most heaps a service has. */
    const int MAX_HEAPS = 32;
    /** Most rows that getUsage returns. */
    const int MAX_USAGE_ROWS = 1024;
    /** Most reservations that one uid has at once. */
    const int MAX_RESERVATIONS = 8;
    /** Elements of HeapStats.allocateLatency. */
    const int LATENCY_CLASSES = 24;
    /** Most pressure listeners of one uid. */
    const int MAX_PRESSURE_LISTENERS = 4;

    /**
     * All configured heaps, unavailable ones included, in the order they are tried: by descending id.
     * Who may call: everyone.
     */
    HeapInfo[] listHeaps();

    /**
     * Allocates request.count buffers of request.size bytes from the first selected heap that can hold them all.
     * Every byte of every buffer is zero (of heaps with HeapFlags.ZEROED: all but secure ones). The caller owns the returned descriptors; they are close-on-exec, and
     * their size never changes. The memory counts against the caller's uid until every copy of the descriptor and
     * every mapping is gone, in whatever process; that of buffers which Allocation.token holds until it is given up.
     *
     * Who may call: everyone; a heap's configuration can limit it to some uids.
     *
     * ## Error conditions
     * BAD_REQUEST: size <= 0; count outside 1..MAX_COUNT; a flag bit, access or alignment that is not defined;
     *   a name that is too long or not printable; both or neither of heapIdMask and heapNames.
     * UNKNOWN_HEAP: no heap matches.
     * NOT_PERMITTED: the matching heaps are closed to the caller.
     * UNSUPPORTED: no matching heap can give this kind of buffer (unavailable here, alignment, dma-buf, cached, read-only).
     * QUOTA_EXCEEDED: the caller's uid would exceed its bytes or buffers.
     * NO_MEMORY: no matching heap has room for it (larger than a heap included, as in ION), or the service is out
     *   of descriptors. The last heap tried decides between this, QUOTA_EXCEEDED and BACKEND, as in ION.
     * BACKEND: the kernel failed an operation unexpectedly.
     * After any failure nothing is held and nothing is charged.
     */
    Allocation allocate(in AllocationRequest request);

    /**
     * Holds request.count buffers of request.size bytes of one heap ready for the caller: made, with their pages
     * present, and zero. They are charged to the caller's uid and take the heap's room from this call on, as if they
     * were allocated, though getUsage and getStats show them as reserved. The call does not wait until they are made;
     * IReservation.ready tells how far the service is.
     *
     * An allocate of the same uid and SELinux context from this heap, for a size that is rounded up to the same number
     * of bytes, draws them first: what it draws is not charged again, and is not refused for want of quota or room,
     * ready or not. A buffer that was drawn is one as any other and outlives the reservation. When it is
     * released, the service holds the next one ready in its place, as far as the heap's room and the quota permit by
     * then: a reservation of eight frames is one of eight frames again after they were used.
     *
     * Reserved memory is not given back under memory pressure, nor by trim: it was promised. It is not made while the
     * machine is short of memory, nor for half a minute after the last sign of that.
     *
     * The reservation lasts as long as the returned object is referenced: when the client drops it, dies, or its
     * session ends, what was not drawn goes back.
     *
     * Who may call: everyone; a heap's configuration can limit it to some uids.
     *
     * ## Error conditions
     * BAD_REQUEST: size <= 0; count outside 1..MAX_COUNT.
     * UNKNOWN_HEAP: no heap has this name.
     * NOT_PERMITTED: the heap is closed to the caller.
     * UNSUPPORTED: the heap is unavailable here.
     * QUOTA_EXCEEDED: the caller's uid would exceed its bytes or buffers, or has MAX_RESERVATIONS already.
     * NO_MEMORY: the heap has no room for them, the service is out of descriptors, or more than half of the machine's
     *   memory would be reserved by all clients together.
     * After any failure nothing is held and nothing is charged.
     */
    IReservation reserve(in ReservationRequest request);

    /**
     * Says what allocate would do, heap by heap, without touching memory or counters.
     *
     * Who may call: everyone. The verdicts are those for the caller's uid.
     *
     * ## Error conditions
     * BAD_REQUEST: as for allocate. A request that names no existing heap is not an error here: the explanation says so.
     */
    Explanation explain(in AllocationRequest request);

    /**
     * Identifies a buffer by its descriptor. The identity is taken from the file behind the descriptor, so it
     * cannot be forged and survives being passed on. The service closes its copy before it answers.
     *
     * Who may call: everyone who holds the descriptor.
     *
     * ## Error conditions
     * NOT_OURS: the file is not a live buffer of this service.
     */
    BufferInfo describe(in ParcelFileDescriptor buffer);

    /**
     * Counters of every heap, in the order of listHeaps.
     * Who may call: everyone.
     */
    HeapStats[] getStats();

    /**
     * What clients hold: for privileged callers every uid seen since the service started, most bytes first and
     * at most MAX_USAGE_ROWS; for others their own uid alone.
     * Who may call: everyone.
     */
    ClientUsage[] getUsage();

    /**
     * Gives memory that no client holds back to the kernel, or to what is set aside for its heap: deferred frees
     * first, then pools. Reserved memory stays.
     *
     * Who may call: privileged callers.
     *
     * @param heap  name or alias; empty for all heaps.
     * @param bytes how much at least, if there is that much; 0 for everything.
     * @return bytes given back; may exceed the request by part of one buffer.
     *
     * ## Error conditions
     * NOT_PERMITTED: the caller is not privileged.
     * UNKNOWN_HEAP: no heap has this name.
     * BAD_REQUEST: bytes < 0.
     */
    long trim(in String heap, in long bytes);

    /**
     * How scarce memory is now.
     * Who may call: everyone.
     */
    PressureLevel getPressure();

    /**
     * Has the listener told of the pressure level: at once, and whenever it changes, until it is unregistered or its
     * process dies. Registering a listener that is registered changes nothing.
     *
     * Calls to a listener are oneway, and made one after another for each listener on its own; a listener that does
     * not take them holds up no other. Over RPC the client must have opened an incoming connection, and its session
     * ends if it does not read from it.
     *
     * Who may call: everyone.
     *
     * ## Error conditions
     * UNSUPPORTED: the listener cannot be called: an RPC session without an incoming connection, or a listener that
     *   is dead or not a client's own.
     * QUOTA_EXCEEDED: the caller's uid has MAX_PRESSURE_LISTENERS already.
     * NO_MEMORY: the service has as many listeners of all clients as it can serve.
     */
    void registerPressureListener(in IPressureListener listener);

    /**
     * Ends what registerPressureListener began. A call that is on its way may still arrive.
     *
     * Who may call: the uid that registered it.
     *
     * ## Error conditions
     * BAD_REQUEST: the caller's uid has no such listener registered.
     */
    void unregisterPressureListener(in IPressureListener listener);

    /**
     * Writes the text that dumpsys shows into a descriptor: how releases are noticed, memory pressure and huge
     * pages, the heaps in the format of ION's debugfs, then a table of live buffers. The service writes at most a few seconds, then gives up; it closes its copy.
     *
     * Who may call: everyone. The buffer table lists the caller's own buffers, for privileged callers all.
     *
     * @param output where to write: a pipe, file or socket open for writing. The caller keeps its own copy.
     * @param args   "--json" for one JSON document, "--heap NAME" or "--uid N" to filter; "--map" with
     *               "--json" for the free and pooled ranges of memory that is set aside; "--journal",
     *               with "--since N", for the last events; "--service" for who serves; "--help".
     *
     * ## Error conditions
     * BAD_REQUEST: an argument that is not listed above.
     * UNKNOWN_HEAP: --heap names no heap.
     * BACKEND: writing failed or took too long.
     */
    void dumpTo(in ParcelFileDescriptor output, in String[] args);
}
