// SPDX-License-Identifier: Apache-2.0
//! Anion: ION's heap model as an allocator service.
//!
//! The modules are floors, lowest first; each may use only those above it in this list (`tests/floors.rs`
//! checks). Start reading at [`allocator`] once it makes sense that a *source* makes memory, a *heap* is a named
//! policy over a source, and the *ledger* knows who holds what. `ARCHITECTURE.md` is the map.

#![deny(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("Anion needs Linux: memfd, leases and inotify");

// Checked numbers and names.
pub mod units;

// The kernel: the only floor with `unsafe`.
pub mod sys;

// Device trees to heap descriptions and client policy.
pub mod config;

// Who holds what, and what is still free.
pub mod ledger;

// Memory between two clients: deferred frees, and zeroed spares; which reserved bytes are free.
pub mod pool;

// Where bytes come from.
pub mod source;

// Named policies over sources.
pub mod heap;

// The use cases. Read this to understand Anion.
pub mod allocator;

// The AIDL interface over the use cases.
pub mod service;

// The other side of the interface, for programs that need buffers; of the floors it knows `units` and `sys` alone.
pub mod client;
