// SPDX-License-Identifier: Apache-2.0
//! Anion: ION's heap model as an allocator service.
//!
//! The modules are floors, lowest first; each may use only those above it in this list
//! (`tests/floors.rs` checks). Start reading at `allocator` once it makes sense that a *source*
//! makes memory, a *heap* is a named policy over a source, and the *ledger* knows who holds what.
//! `ARCHITECTURE.md` is the map.
//!
//! Programs call only [`daemon::main`]. Items that are `pub` within a floor are for the floors
//! above it, and the compiler reports those that none of them uses.

#![deny(unsafe_code)]
#![expect(unreachable_pub, reason = "it tells what a floor offers from what it keeps to itself")]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("Anion needs Linux: memfd, leases and inotify");

// Checked numbers and names.
mod units;

// The kernel: the only floor with `unsafe`.
mod sys;

// How far background threads have got.
mod pulse;

// Device trees to heap descriptions and client policy.
mod config;

// Who holds what, and what is still free.
mod ledger;

// Memory between two clients: released list and free lists; which bytes of an arena are free.
mod pool;

// Where bytes come from.
mod source;

// Named policies over sources.
mod heap;

// The use cases. Read this to understand Anion.
mod allocator;

// Android's graphics allocator over the use cases.
mod graphics;

// The AIDL interface over the use cases.
mod service;

// The process around the service.
pub mod daemon;

/// What benchmarks and tests in processes of their own take out of the service: `cargo test` and
/// `cargo bench` turn the feature on, programs are built without it.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    pub use crate::allocator::{Allocator, Caller, Failure, Grant, Request, Selection, WatchedCgroup};
    pub use crate::config::load;
    pub use crate::heap::Needs;
    pub use crate::sys::dma_heap::{DIRECTORY as DMA_HEAPS, DmaHeap};
    pub use crate::sys::fd::{inode, resident_bytes};
    pub use crate::sys::ion::{Ion, IonHeap};
    pub use crate::sys::lock::measure as measure_locks;
    pub use crate::sys::memfd::MemfdFactory;
    pub use crate::sys::memory::{HugePages, huge_pages, page_size};
    pub use crate::sys::references::ReferenceCounts;
    pub use crate::units::{Count, HeapName, Label, RequestedBytes, Uid};
}

/// Reads bytes as a device tree on machines with small and with large pages, for the fuzzer:
/// whatever they are, it ends with heaps or a complaint.
#[doc(hidden)]
pub fn read_device_tree(bytes: &[u8]) {
    for page in [4096, 16384].into_iter().flat_map(units::PageSize::new) {
        // An error is an answer as good as heaps are.
        let _ = config::parse(std::path::Path::new("fuzzed"), bytes, page);
    }
}
