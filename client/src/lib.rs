// SPDX-License-Identifier: Apache-2.0
//! The client library: connect to the allocator service, allocate, map.
//!
//! ```no_run
//! use anion_client::{Access, Client, CpuAccess, Request};
//!
//! let client = Client::connect()?;
//! let request = Request::new(1920 * 1080 * 3 / 2).heap("camera").name("preview");
//! let frame = client.allocate_one(&request)?;
//! let mapping = frame.map(Access::ReadWrite)?;
//! mapping.begin(CpuAccess::Write)?.write_at(0, b"first pixels")?;
//! println!("buffer {} of heap {}: {} bytes", frame.id(), frame.heap(), frame.bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Lifetime of buffers
//!
//! A [`Buffer`] is a file descriptor. No call frees it: when its last copy is closed and its last
//! [`Mapping`] is unmapped, in every process, the kernel reports this to the service. If the kernel
//! cannot report the release ([`Heap::is_held_by_token`], ashmem), this process is charged until it
//! drops the [`Buffer`].
//!
//! # When the service restarts
//!
//! If a call finds that the service has ended, the client connects again to the address where it
//! found the service first, waits up to its *patience*, and repeats the call once
//! ([`Client::call`]). Buffers and mappings of the process stay valid, with their content. Before
//! that call, the client presents the [`Buffer`]s that it has allocated and that still exist: the
//! new service charges and describes them as before. Only memfds can be counted so; after a restart
//! by systemd, all kinds of buffers are. It also makes each [`Reservation`] again. A
//! [`PressureWatch`] finds the new service by itself.
//!
//! # After fork(2)
//!
//! Descriptors and mappings belong to the child as well as to the parent. A [`Client`] connects
//! again in the child at the child's first call, over a socket. Objects that the parent made inside
//! the service belong to the parent; dropping the child's copy does not end them. Kernel binder
//! does not work in a child before exec. The child keeps the parent's socket open until it executes
//! a program or ends, so the service detects the end of a dead parent only then.
//!
//! # When descriptors run out
//!
//! If this process has no free descriptor for a reply, the call fails with
//! [`Error::NoDescriptors`]. The service releases what it allocated for the call, and the client
//! stays connected.
//!
//! # Dependencies
//!
//! The library uses only the interface of the service. `anion-memory` has the code for a buffer's
//! memory that the service and the library share.
//!
//! # Code for libdmabufheap
//!
//! [`BufferAllocator`] has the methods of libdmabufheap's class of that name.

#![forbid(unsafe_code)]

mod buffer;
mod buffer_allocator;
mod connection;
mod descriptors;
mod error;
mod held;
mod mapping;
mod pressure;
mod process;
mod request;
mod reservation;

pub use anion_ipc::Endpoint;
pub use anion_layout::{Format, Image, LINEAR, Layout, Plane, STRIDE_ALIGN, Unsupported, Usage};
pub use anion_memory::dma_buf::{CpuAccess, Phase};
pub use anion_memory::{Access, Backing, BufferId, HeapType};
pub use buffer::{Buffer, Heap};
pub use buffer_allocator::{BufferAllocator, HeapNames, SyncType};
pub use connection::{Client, Settings};
pub use descriptors::NoDescriptors;
pub use error::{Error, Refusal, errno_of};
pub use mapping::{Mapping, View};
pub use pressure::{PressureLevel, PressureWatch};
pub use request::Request;
pub use reservation::Reservation;

/// Compiles the program of docs/images.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/images.md")]
struct ImagesPage;
