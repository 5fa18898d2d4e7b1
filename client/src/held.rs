// SPDX-License-Identifier: Apache-2.0
//! The buffers and reservations of a client, to have them counted and made again by a service that
//! follows the one that made them.

use super::buffer::Buffer;
use super::reservation::Reserved;
use anion_ipc::{ParcelFileDescriptor, Strong};
use anion_memory::BufferId;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The first version of the interface with `adopt`.
const ADOPTS: i32 = 2;
/// Entries from which those of dropped objects are removed.
const FEW: usize = 64;

/// The buffers and reservations of this process that may still exist.
#[derive(Default)]
pub(super) struct Held {
    buffers: Mutex<Known<(BufferId, Weak<OwnedFd>)>>,
    reservations: Mutex<Known<Weak<Reserved>>>,
}

/// Entries, some of which may be of dropped objects.
struct Known<T> {
    entries: Vec<T>,
    /// Number of entries at which those of dropped objects are removed next.
    full: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), full: FEW }
    }
}

impl<T: Clone> Known<T> {
    fn add(&mut self, added: impl Iterator<Item = T>, exists: impl Fn(&T) -> bool) {
        self.entries.extend(added);
        if self.entries.len() > self.full {
            self.entries.retain(exists);
            self.full = (2 * self.entries.len()).max(FEW);
        }
    }
}

fn lock<T>(known: &Mutex<Known<T>>) -> MutexGuard<'_, Known<T>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Adds allocated buffers, without keeping them.
    pub(super) fn add_buffers(&self, buffers: &[Buffer]) {
        let added = buffers.iter().filter_map(|buffer| Some((buffer.id(), buffer.presentable()?)));
        lock(&self.buffers).add(added, |(_, fd)| fd.strong_count() > 0);
    }

    /// Adds a reservation, without keeping it.
    pub(super) fn add_reservation(&self, reserved: &Arc<Reserved>) {
        let added = std::iter::once(Arc::downgrade(reserved));
        lock(&self.reservations).add(added, |reserved| reserved.strong_count() > 0);
    }

    /// Presents all buffers to a service and makes the reservations again. Returns the number of
    /// buffers that it counts.
    pub(super) fn present(&self, service: &Strong<dyn IHeapAllocator>) -> usize {
        let counted = self.present_buffers(service);
        let reservations = lock(&self.reservations).entries.clone();
        for reserved in reservations.iter().filter_map(Weak::upgrade) {
            reserved.make_again(service);
        }
        counted
    }

    fn present_buffers(&self, service: &Strong<dyn IHeapAllocator>) -> usize {
        let buffers = lock(&self.buffers).entries.clone();
        if buffers.is_empty() || service.getInterfaceVersion().unwrap_or(1) < ADOPTS {
            return 0;
        }
        let is_counted = |(id, fd): &(BufferId, Weak<OwnedFd>)| {
            let fd = fd.upgrade()?.as_fd().try_clone_to_owned().ok()?;
            service.adopt(&ParcelFileDescriptor::new(fd), i64::from_ne_bytes(id.0.to_ne_bytes())).ok()
        };
        buffers.iter().filter_map(is_counted).count()
    }
}
