// SPDX-License-Identifier: Apache-2.0
//! Calls the kernel's ION device through either interface: descriptors (Linux 4.12 to 5.10) or
//! handles (before).

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The device.
pub const DEVICE: &str = "/dev/ion";
/// Most heaps that are queried; ids are bits of a 32-bit mask.
const MAX_HEAPS: usize = 32;

/// `struct ion_allocation_data` of the interface with descriptors.
#[repr(C)]
struct AllocationData {
    len: u64,
    heap_id_mask: u32,
    flags: u32,
    fd: u32,
    unused: u32,
}

/// `struct ion_heap_query`.
#[repr(C)]
struct HeapQuery {
    cnt: u32,
    reserved0: u32,
    heaps: u64,
    reserved1: u32,
    reserved2: u32,
}

/// `struct ion_heap_data`.
#[repr(C)]
#[derive(Clone, Copy)]
struct HeapData {
    name: [u8; 32],
    kind: u32,
    heap_id: u32,
    reserved: [u32; 3],
}

/// `struct ion_allocation_data` of the interface with handles.
#[repr(C)]
struct LegacyAllocationData {
    len: libc::size_t,
    align: libc::size_t,
    heap_id_mask: u32,
    flags: u32,
    handle: i32,
}

/// `struct ion_fd_data`.
#[repr(C)]
struct FdData {
    handle: i32,
    fd: i32,
}

nix::ioctl_readwrite!(
    /// `ION_IOC_ALLOC`
    ion_ioc_alloc,
    b'I',
    0,
    AllocationData
);
nix::ioctl_readwrite!(
    /// `ION_IOC_HEAP_QUERY`
    ion_ioc_heap_query,
    b'I',
    8,
    HeapQuery
);
nix::ioctl_read!(
    /// `ION_IOC_ABI_VERSION`
    ion_ioc_abi_version,
    b'I',
    9,
    u32
);
nix::ioctl_readwrite!(
    /// `ION_IOC_ALLOC` with a handle
    ion_ioc_alloc_legacy,
    b'I',
    0,
    LegacyAllocationData
);
nix::ioctl_readwrite!(
    /// `ION_IOC_SHARE`
    ion_ioc_share,
    b'I',
    4,
    FdData
);
nix::ioctl_readwrite!(
    /// `ION_IOC_FREE`: `struct ion_handle_data` is one int.
    ion_ioc_free,
    b'I',
    1,
    i32
);

/// A heap, as the device describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IonHeap {
    /// Its name.
    pub name: String,
    /// ION's number of its type.
    pub kind: u32,
    /// Its id: its bit in masks.
    pub id: u32,
}

/// The interface of an ION device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Allocation returns a descriptor.
    Descriptors,
    /// Allocation returns a handle, from which a descriptor is made.
    Handles,
}

/// The open device.
#[derive(Debug)]
pub struct Ion {
    device: OwnedFd,
    interface: Interface,
}

impl Ion {
    /// Opens the device.
    ///
    /// # Errors
    /// As open(2).
    pub fn open() -> io::Result<Self> {
        let device = open(DEVICE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut no_handle = 0;
        // SAFETY: the kernel reads one int at the pointer, which refers to this stack. There is no
        // handle 0, so nothing is freed; the newer interface does not have this ioctl number.
        let answer = unsafe { ion_ioc_free(device.as_raw_fd(), &raw mut no_handle) };
        let interface =
            if answer == Err(Errno::ENOTTY) { Interface::Descriptors } else { Interface::Handles };
        Ok(Self { device, interface })
    }

    /// Returns the device's interface.
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// Returns the version of Android's interface with heaps as modules (GKI 5.4 and 5.10); `None`
    /// on all other kernels, which do not have the ioctl. The interface allocates in the same way.
    pub fn abi_version(&self) -> Option<u32> {
        let mut version = 0;
        // SAFETY: the kernel writes one `u32` at the pointer, which refers to this stack.
        unsafe { ion_ioc_abi_version(self.device.as_raw_fd(), &raw mut version) }.ok().map(|_| version)
    }

    /// Returns all heaps by descending id.
    ///
    /// # Errors
    /// `ENOTTY` on kernels that do not list them: older ones with handles.
    pub fn heaps(&self) -> io::Result<Vec<IonHeap>> {
        let empty = HeapData { name: [0; 32], kind: 0, heap_id: 0, reserved: [0; 3] };
        let mut heaps = vec![empty; MAX_HEAPS];
        let address = heaps.as_mut_ptr().expose_provenance() as u64;
        let cnt = u32::try_from(heaps.len()).unwrap_or(0);
        let mut query = HeapQuery { cnt, reserved0: 0, heaps: address, reserved1: 0, reserved2: 0 };
        // SAFETY: the kernel writes at most `cnt` entries to the array whose address the query
        // carries, and the number of entries to `cnt`; both live during the call, and any bytes are
        // a valid `HeapData`.
        unsafe { ion_ioc_heap_query(self.device.as_raw_fd(), &raw mut query) }?;
        heaps.truncate(usize::try_from(query.cnt).unwrap_or(0));
        Ok(heaps.iter().map(IonHeap::from).collect())
    }

    /// Returns a zeroed dma-buf of `bytes` bytes, rounded up to pages, from the heap with this id.
    ///
    /// # Errors
    /// `ENODEV` if there is no such heap; `ENOMEM` if it has not enough memory; `EINVAL` for 0
    /// bytes.
    pub fn allocate(&self, bytes: u64, heap_id: u32, flags: u32) -> io::Result<OwnedFd> {
        let mask = 1u32.checked_shl(heap_id).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        match self.interface {
            Interface::Descriptors => self.allocate_descriptor(bytes, mask, flags),
            Interface::Handles => self.allocate_through_handle(bytes, mask, flags),
        }
    }

    fn allocate_descriptor(&self, len: u64, heap_id_mask: u32, flags: u32) -> io::Result<OwnedFd> {
        let mut data = AllocationData { len, heap_id_mask, flags, fd: 0, unused: 0 };
        // SAFETY: the kernel reads and writes one `AllocationData` at the pointer, which refers to
        // this stack.
        unsafe { ion_ioc_alloc(self.device.as_raw_fd(), &raw mut data) }?;
        let fd = RawFd::try_from(data.fd).map_err(io::Error::other)?;
        // SAFETY: after success the kernel has installed a new descriptor under this number for
        // this call.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn allocate_through_handle(&self, bytes: u64, heap_id_mask: u32, flags: u32) -> io::Result<OwnedFd> {
        let len = libc::size_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let mut data = LegacyAllocationData { len, align: 0, heap_id_mask, flags, handle: 0 };
        // SAFETY: the kernel reads and writes one structure at the pointer, which refers to this
        // stack; the ioctl number contains its size, which differs between 32 and 64 bits as the
        // kernel's does.
        unsafe { ion_ioc_alloc_legacy(self.device.as_raw_fd(), &raw mut data) }?;
        let mut share = FdData { handle: data.handle, fd: -1 };
        // SAFETY: as above, for `FdData`.
        let shared = unsafe { ion_ioc_share(self.device.as_raw_fd(), &raw mut share) };
        let mut handle = data.handle;
        // The dma-buf keeps the buffer; the handle would also keep it until the device is closed.
        // SAFETY: the kernel reads one int at the pointer, which refers to this stack.
        let freed = unsafe { ion_ioc_free(self.device.as_raw_fd(), &raw mut handle) };
        shared?;
        // SAFETY: after success the kernel has installed a new descriptor under this number for
        // this call.
        let fd = unsafe { OwnedFd::from_raw_fd(share.fd) };
        freed?;
        Ok(fd)
    }
}

impl From<&HeapData> for IonHeap {
    fn from(data: &HeapData) -> Self {
        let name = data.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self { name: String::from_utf8_lossy(name).into_owned(), kind: data.kind, id: data.heap_id }
    }
}

// The kernel's layouts; the legacy one has words of the machine's size.
const _: () = assert!(size_of::<AllocationData>() == 24);
const _: () = assert!(size_of::<HeapQuery>() == 24);
const _: () = assert!(size_of::<HeapData>() == 52);
const _: () =
    assert!(size_of::<LegacyAllocationData>() == if cfg!(target_pointer_width = "64") { 32 } else { 20 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_first_nul() {
        let mut data = HeapData { name: [0; 32], kind: 4, heap_id: 2, reserved: [0; 3] };
        data.name[..8].copy_from_slice(b"reserved");
        assert_eq!(IonHeap::from(&data), IonHeap { name: "reserved".into(), kind: 4, id: 2 });
        data.name = [b'x'; 32];
        assert_eq!(IonHeap::from(&data).name.len(), 32);
    }
}
