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
//! # What lives how long
//!
//! A [`Buffer`] is a file descriptor. No call frees it: when its last copy and the last [`Mapping`]
//! of it are gone, in whatever process, the service learns that from the kernel. Where the kernel
//! does not tell ([`Heap::is_held_by_token`], ashmem), the buffer counts as this process's until
//! the [`Buffer`] is dropped.
//!
//! # When the service restarts
//!
//! A call that finds the service gone connects again, to the place where the service was found
//! first, waits for it up to the client's *patience*, and is made once more ([`Client::call`]).
//! Buffers and mappings that the process holds stay valid, with their content; the new service
//! neither counts them nor describes them. A [`Reservation`] is lost with the service and must be
//! made again when [`Client::generation`] has changed; a [`PressureWatch`] finds the new service by
//! itself.
//!
//! # After fork(2)
//!
//! Descriptors and mappings are the child's as well as the parent's. A [`Client`] connects for the
//! child, over a socket, with the child's first call; what the parent made inside the service stays
//! the parent's, and dropping the child's copy of it ends nothing. Kernel binder serves no child
//! before exec. The child keeps the parent's socket open until it executes a program or ends, so
//! the service sees the end of a parent that dies only then.
//!
//! # When descriptors run out
//!
//! A call whose descriptors this process has no number for fails with [`Error::NoDescriptors`].
//! What the service had allocated for it is released at once, and the client stays connected.
//!
//! # How it is built
//!
//! It is a plain client of the interface: of the service it knows nothing else. What both do alike
//! with the memory of a buffer is in `anion-memory`.
//!
//! # Old code
//!
//! [`BufferAllocator`] has the shape of libdmabufheap's class of that name.

#![forbid(unsafe_code)]

mod buffer;
mod buffer_allocator;
mod connection;
mod descriptors;
mod error;
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
