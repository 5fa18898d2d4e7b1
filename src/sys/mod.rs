// SPDX-License-Identifier: Apache-2.0
//! Floor 1: system calls. Only this floor has `unsafe` code and raw descriptors; above it, types
//! express which descriptors are owned or borrowed.

#![allow(unsafe_code, reason = "the one floor that may; every block argues for itself")]

pub mod accounts;
pub mod ashmem;
pub mod cgroup;
pub mod clock;
pub mod dma_buf;
pub mod dma_heap;
pub mod fd;
pub mod inotify;
pub mod interrupt;
pub mod ion;
pub mod lease;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod memory;
pub mod pressure;
pub mod references;
#[cfg(not(soong))]
pub mod seccomp;
pub mod thread;
pub mod udmabuf;
pub mod wipe;
