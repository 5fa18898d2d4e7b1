// SPDX-License-Identifier: Apache-2.0
///////////////////////////////////////////////////////////////////////////////
// THIS FILE IS IMMUTABLE. DO NOT EDIT IN ANY CASE.                          //
///////////////////////////////////////////////////////////////////////////////

// This file is a snapshot of an AIDL file. Do not edit it manually. There are
// two cases:
// 1). this is a frozen version file - do not edit this in any case.
// 2). this is a 'current' file. If you make a backwards compatible change to
//     the interface (from the latest frozen version), the build system will
//     prompt you to update this file with `m <name>-update-api`.
//
// You must not make a backward incompatible change to any AIDL file built
// with the aidl_interface module type with versions property set. The module
// type is used to build AIDL files in a way that they can be used across
// independently updatable components of the system. If a device is shipped
// with such a backward incompatible change, it has a high risk of breaking
// later when a module using the interface is updated, e.g., Mainline modules.

package vendor.anion.allocator;
@VintfStability
interface IHeapAllocator {
  vendor.anion.allocator.HeapInfo[] listHeaps();
  vendor.anion.allocator.Allocation allocate(in vendor.anion.allocator.AllocationRequest request);
  vendor.anion.allocator.IReservation reserve(in vendor.anion.allocator.ReservationRequest request);
  vendor.anion.allocator.Explanation explain(in vendor.anion.allocator.AllocationRequest request);
  vendor.anion.allocator.BufferInfo describe(in ParcelFileDescriptor buffer);
  vendor.anion.allocator.HeapStats[] getStats();
  vendor.anion.allocator.ClientUsage[] getUsage();
  long trim(in String heap, in long bytes);
  vendor.anion.allocator.PressureLevel getPressure();
  void registerPressureListener(in vendor.anion.allocator.IPressureListener listener);
  void unregisterPressureListener(in vendor.anion.allocator.IPressureListener listener);
  void dumpTo(in ParcelFileDescriptor output, in String[] args);
  long adopt(in ParcelFileDescriptor buffer, in long id);
  const int MAX_COUNT = 64;
  const int MAX_NAME_BYTES = 31;
  const int MAX_HEAPS = 32;
  const int MAX_USAGE_ROWS = 1024;
  const int MAX_RESERVATIONS = 8;
  const int LATENCY_CLASSES = 24;
  const int MAX_PRESSURE_LISTENERS = 4;
}
