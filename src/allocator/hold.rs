// SPDX-License-Identifier: Apache-2.0
//! Charges buffers that clients hold since before the service started, and detects their release.
//! The memory is never pooled.

use super::Allocator;
use super::metadata::MetadataFile;
use super::registry::{Live, Record};
use crate::heap::Stored;
use crate::source::{File, Memory};
use crate::units::{BackedBytes, Backing, HeapName};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// Reason why such a buffer is not counted.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    /// The configuration has no such heap any more.
    #[error("no heap is called {0}")]
    NoHeap(HeapName),
    /// The release of such memory cannot be detected in this service.
    #[error("the release of {} cannot be detected", .0.name())]
    Kind(Backing),
    /// The file is another one than the description says.
    #[cfg(not(soong))]
    #[error("its file is inode {found} instead of {expected}")]
    OtherFile {
        /// Inode number of the file.
        found: u64,
        /// Inode number in the description.
        expected: u64,
    },
    /// A live buffer has its id or its file.
    #[error("a live buffer has the same id or file")]
    Known,
    /// A descriptor cannot be opened or duplicated, or the file is not as described.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Allocator {
    /// Charges a buffer that clients hold already, and detects its release from now on.
    ///
    /// # Errors
    /// [`NotHeld::Known`] if a live buffer has its id or file; if it cannot be watched.
    pub(super) fn hold(
        &self,
        record: Record,
        memory: Box<dyn Memory>,
        metadata: Option<(OwnedFd, BackedBytes)>,
    ) -> Result<(), NotHeld> {
        let watch = self.watch(memory.as_ref())?;
        let again = |(fd, bytes)| self.metadata_again(fd, bytes, watch.is_none());
        let metadata = metadata.map(again).transpose()?;
        let Record { id, uid, bytes, heap, .. } = record;
        let live = Live {
            inode: memory.inode(),
            stored: Stored { memory: memory.into(), watch },
            metadata,
            domain: None,
            lender: None,
            record,
        };
        let refused = self.registry().insert_held(&self.heaps[heap], Box::new(live));
        if let Some(live) = refused {
            // The watch is per file: it may belong to the live buffer, and stays.
            drop(live);
            return Err(NotHeld::Known);
        }
        // It may have been released before the watch.
        let now = Instant::now();
        match watch {
            Some(_) => self.liveness.suspect(id, uid, now),
            None => self.liveness.unwatched(uid, &[id], bytes.get(), now),
        }
        Ok(())
    }

    /// Returns the memory behind a descriptor of an earlier service.
    pub(super) fn open_again(
        &self,
        fd: OwnedFd,
        bytes: BackedBytes,
        backing: Backing,
    ) -> Result<Box<dyn Memory>, NotHeld> {
        let of = |file: Box<dyn File>| -> Box<dyn Memory> { file };
        Ok(match backing {
            Backing::Memfd => of(self.machine.memfd.open_file(fd.as_fd(), bytes)?),
            Backing::Hugetlb => {
                let hugetlb = self.machine.hugetlb.as_ref().map_err(|_| NotHeld::Kind(backing))?;
                of(hugetlb.open_file(fd.as_fd(), bytes)?)
            }
            Backing::Udmabuf | Backing::DmaHeap | Backing::Ion => {
                self.machine.devices.open_dma_buf(fd, bytes, backing)?
            }
            Backing::Ashmem => return Err(NotHeld::Kind(backing)),
        })
    }

    /// Returns the metadata file of an earlier service's buffer.
    fn metadata_again(
        &self,
        fd: OwnedFd,
        bytes: BackedBytes,
        is_watched: bool,
    ) -> io::Result<Arc<MetadataFile>> {
        let file = self.machine.memfd.open_file(fd.as_fd(), bytes)?;
        let watch = if is_watched { self.watch(file.as_ref())? } else { None };
        Ok(Arc::new(MetadataFile::new(file, bytes, watch)))
    }
}
