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
 * Allocates buffers from ION-like heaps. A buffer is a file descriptor of zeroed memory. It is
 * charged to the caller's uid, and released when the last descriptor, in-flight copy and mapping is
 * gone; clients make no call to free it. The only exception are buffers whose release the kernel
 * cannot report (ReleaseMechanism.TOKEN): Allocation.token releases them.
 *
 * The transport determines the caller's identity (binder's uid and pid, or the socket's peer
 * credentials at connect time); nothing in a request can change it. "Privileged" means uid 0, the
 * service's own uid, or a uid that the configuration makes privileged.
 *
 * Every failure is a service-specific error with a code of ErrorCode, except that binder itself
 * refuses a malformed parcel. Every list has a maximum length, so that no reply exceeds 512 KiB.
 */
@VintfStability
interface IHeapAllocator {
    /**
     * Most buffers in one request. An RPC transport carries at most 64 descriptors in a message.
     */
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
     * Returns all configured heaps, also unavailable ones, in the order in which requests try them:
     * by descending id.
     * Who may call: everyone.
     */
    HeapInfo[] listHeaps();

    /**
     * Allocates request.count buffers of request.size bytes from the first selected heap that has
     * room for all of them. Every byte of every buffer is zero (if the heap has HeapFlags.ZEROED,
     * as all but secure heaps do). The caller owns the returned descriptors; they are
     * close-on-exec, and their size never changes. The memory is charged to the caller's uid until
     * every copy of the descriptor and every mapping is gone, in any process. Buffers of
     * Allocation.token are charged until the token releases them.
     *
     * Who may call: everyone; a heap's configuration can limit it to some uids.
     *
     * ## Error conditions
     * BAD_REQUEST: size <= 0; count outside 1..MAX_COUNT; a flag bit, access or alignment that is
     *   not defined; a name that is too long or not printable; both or neither of heapIdMask and
     *   heapNames.
     * UNKNOWN_HEAP: no heap matches.
     * NOT_PERMITTED: the matching heaps are closed to the caller.
     * UNSUPPORTED: no matching heap can give this kind of buffer (alignment, dma-buf, cached
     *   mapping, read-only access), or the heap is unavailable on this machine.
     * QUOTA_EXCEEDED: the caller's uid would exceed its bytes or buffers.
     * NO_MEMORY: no matching heap has room (also if the size exceeds the heap's capacity, as in
     *   ION), or the service has no free descriptors. The last heap that was tried decides between
     *   this, QUOTA_EXCEEDED and BACKEND, as in ION.
     * BACKEND: an operation of the kernel failed unexpectedly.
     * After any failure nothing is allocated and nothing is charged.
     */
    Allocation allocate(in AllocationRequest request);

    /**
     * Reserves request.count buffers of request.size bytes of one heap for the caller. The service
     * preallocates them, zeroed and with all pages present. From this call on they are charged to
     * the caller's uid and take the heap's room as allocated buffers do; getUsage and getStats show
     * them as reserved. The call does not wait until the service has made them; IReservation.ready
     * returns how many are ready.
     *
     * An allocate of the same uid and SELinux context from this heap, for a size that is rounded up
     * to the same number of bytes, draws reserved buffers first. Drawn buffers are not charged
     * again, and allocate does not refuse them for lack of quota or room, even if they are not
     * ready yet. A drawn buffer is an ordinary buffer and outlives the reservation. When it is
     * released, the service reserves a new one in its place, if the heap's room and the quota still
     * permit it. So a reservation of eight frames has eight frames again after their use.
     *
     * Neither memory pressure nor trim releases reserved memory. The service does not make reserved
     * buffers while the machine is short of memory, and for half a minute after the last sign of
     * that.
     *
     * The reservation lasts as long as the returned object is referenced. When the client drops it
     * or exits, or its session ends, the service releases the buffers that were not drawn.
     *
     * Who may call: everyone; a heap's configuration can limit it to some uids.
     *
     * ## Error conditions
     * BAD_REQUEST: size <= 0; count outside 1..MAX_COUNT.
     * UNKNOWN_HEAP: no heap has this name.
     * NOT_PERMITTED: the heap is closed to the caller.
     * UNSUPPORTED: the heap is unavailable on this machine.
     * QUOTA_EXCEEDED: the caller's uid would exceed its bytes or buffers, or has MAX_RESERVATIONS
     *   already.
     * NO_MEMORY: the heap has no room for them, the service has no free descriptors, or all clients
     *   together would reserve more than half of the machine's memory.
     * After any failure nothing is reserved and nothing is charged.
     */
    IReservation reserve(in ReservationRequest request);

    /**
     * Returns what allocate would do, heap by heap, without changing memory or counters.
     *
     * Who may call: everyone. The verdicts are those for the caller's uid.
     *
     * ## Error conditions
     * BAD_REQUEST: as for allocate. A request that names no existing heap is no error: the
     *   explanation says so.
     */
    Explanation explain(in AllocationRequest request);

    /**
     * Identifies a buffer by the file behind a descriptor. So the identity cannot be forged, and
     * stays the same when processes pass the descriptor on. The service closes its copy before it
     * answers.
     *
     * Who may call: everyone who holds a descriptor.
     *
     * ## Error conditions
     * NOT_OURS: the file is not a live buffer of this service.
     */
    BufferInfo describe(in ParcelFileDescriptor buffer);

    /**
     * Returns the counters of every heap, in the order of listHeaps.
     * Who may call: everyone.
     */
    HeapStats[] getStats();

    /**
     * Returns how much each uid holds. Privileged callers get every uid since the service started,
     * those with the most bytes first, at most MAX_USAGE_ROWS. Others get only their own uid.
     * Who may call: everyone.
     */
    ClientUsage[] getUsage();

    /**
     * Returns memory that no client holds to the kernel, or to the memory set aside for its heap:
     * deferred frees first, then pooled memory. Reserved memory stays.
     *
     * Who may call: privileged callers.
     *
     * @param heap  name or alias; empty for all heaps.
     * @param bytes how much to return at least, if there is that much; 0 for everything.
     * @return bytes that were returned; may exceed the request by part of one buffer.
     *
     * ## Error conditions
     * NOT_PERMITTED: the caller is not privileged.
     * UNKNOWN_HEAP: no heap has this name.
     * BAD_REQUEST: bytes < 0.
     */
    long trim(in String heap, in long bytes);

    /**
     * Returns the present level of memory pressure.
     * Who may call: everyone.
     */
    PressureLevel getPressure();

    /**
     * Calls the listener with the level of memory pressure: at once, and whenever it changes, until
     * the listener is unregistered or its process exits. Registering a listener again changes
     * nothing.
     *
     * Calls to a listener are oneway. The service makes them one after the other, separately for
     * each listener, so a listener that accepts no calls does not delay others. Over RPC, the
     * client must have opened an incoming connection; if it does not read from it, its session
     * ends.
     *
     * Who may call: everyone.
     *
     * ## Error conditions
     * UNSUPPORTED: the service cannot call the listener: the RPC session has no incoming
     *   connection, the listener is dead, or it does not belong to a client.
     * QUOTA_EXCEEDED: the caller's uid has MAX_PRESSURE_LISTENERS already.
     * NO_MEMORY: the service has reached its limit of listeners of all clients.
     */
    void registerPressureListener(in IPressureListener listener);

    /**
     * Unregisters a listener. A call that is in flight may still arrive.
     *
     * Who may call: the uid that registered it.
     *
     * ## Error conditions
     * BAD_REQUEST: the caller's uid has no such listener registered.
     */
    void unregisterPressureListener(in IPressureListener listener);

    /**
     * Writes the report that dumpsys shows to a descriptor: the release mechanism, memory pressure
     * and huge pages, the heaps in the format of ION's debugfs, and a table of live buffers. The
     * service stops writing after a few seconds, and closes its copy of the descriptor.
     *
     * Who may call: everyone. The buffer table lists the caller's own buffers, for privileged
     * callers all.
     *
     * @param output pipe, file or socket that is open for writing. The caller keeps its own copy.
     * @param args   "--json" for one JSON document, "--heap NAME" or "--uid N" to filter; "--map"
     *   with "--json" for the free and pooled ranges of memory that is set aside; "--journal", with
     *   "--since N", for the last events; "--service" for process and configuration of the service;
     *   "--help".
     *
     * ## Error conditions
     * BAD_REQUEST: an argument is not in the list above.
     * UNKNOWN_HEAP: --heap names no heap.
     * BACKEND: writing failed or took too long.
     */
    void dumpTo(in ParcelFileDescriptor output, in String[] args);

    /**
     * Counts a buffer that the caller allocated from an earlier service, which ended without
     * passing it on: the buffer is charged to the caller's uid, described and released as before.
     * Quota and room do not apply, since the caller holds the memory already. After its release the
     * memory goes back to the kernel.
     *
     * Only memfds can be counted again: their owner, seals and name prove that a service of the
     * same uid made them. A client presents only buffers that it has allocated itself: a buffer is
     * charged to the first uid that presents it.
     *
     * Who may call: everyone who holds a descriptor.
     *
     * @param buffer any descriptor of the buffer.
     * @param id     Buffer.id that the earlier service returned.
     * @return the id of the buffer: the same, unless another buffer has it. The present one for a
     *   live buffer of the caller's uid.
     *
     * ## Error conditions
     * NOT_OURS: no service of this uid made the file as a buffer, or its heap does not exist any
     *   more.
     * NOT_PERMITTED: the buffer is charged to another uid.
     * NO_MEMORY: the service has no descriptors for more buffers.
     * BACKEND: an operation of the kernel failed unexpectedly.
     */
    long adopt(in ParcelFileDescriptor buffer, in long id);
}
