// SPDX-License-Identifier: Apache-2.0
//! Anion: ION's heap model as an allocator service.
//!
//! The modules are floors, lowest first. Each may use only those above it in this list
//! (`tests/floors.rs` checks). A *source* makes memory, a *heap* is a named policy over a source,
//! and the *ledger* records what each uid holds. With these terms, start reading at `allocator`.
//! `ARCHITECTURE.md` is the overview.
//!
//! Programs call only [`daemon::main`]. Items that are `pub` within a floor are for the floors
//! above it. The compiler reports items that no floor uses.

#![deny(unsafe_code)]
#![expect(unreachable_pub, reason = "pub marks the items that a floor offers to others")]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("Anion needs Linux: memfd, leases and inotify");

// Checked numbers and names.
mod units;

// System calls: the only floor with `unsafe`.
mod sys;

// The progress of background threads.
mod pulse;

// Parses device trees into heap descriptions and client policy.
mod config;

// The usage of each uid, and the room of each heap.
mod ledger;

// Memory between two clients: released list, free lists, free ranges of an arena.
mod pool;

// Makers of memory.
mod source;

// Named policies over sources.
mod heap;

// The use cases. Start reading here.
mod allocator;

// Android's graphics allocator over the use cases.
mod graphics;

// The AIDL interface over the use cases.
mod service;

// The process around the service: arguments, sockets, signals.
pub mod daemon;

/// Exports internals of the service for benchmarks and for tests in processes of their own. The
/// feature is on for `cargo test` and `cargo bench`; programs are built without it.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    pub use crate::allocator::{Allocator, Caller, Failure, Grant, Request, Selection, WatchedCgroup};
    pub use crate::config::load;
    #[cfg(not(soong))]
    pub use crate::daemon::in_process::InProcess;
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

/// Parses bytes as a list of system calls, for the fuzzer: the result is a policy or an error.
#[cfg(all(feature = "testing", not(soong)))]
#[doc(hidden)]
pub fn read_system_calls(bytes: &[u8]) {
    daemon::seccomp::read(&String::from_utf8_lossy(bytes));
}

/// Reads bytes as the state that a service leaves to the next one, for the fuzzer: the result is
/// the state of a service or an error. Also reads them with a right checksum.
///
/// # Panics
/// If a state differs after it was written and read again.
#[cfg(all(feature = "testing", not(soong)))]
#[doc(hidden)]
pub fn read_state(bytes: &[u8]) {
    daemon::carry::state::check(bytes);
}

/// Parses arbitrary bytes as a device tree, for pages of two sizes, small and large, and applies an
/// overlay to the embedded tree. For the fuzzer: the result is heaps or an error, never a panic.
#[doc(hidden)]
pub fn read_device_tree(bytes: &[u8]) {
    for page in [4096, 16384].into_iter().flat_map(units::PageSize::new) {
        // Heaps and an error are both valid results.
        let _ = config::parse(std::path::Path::new("fuzzed"), bytes, page);
    }
}
