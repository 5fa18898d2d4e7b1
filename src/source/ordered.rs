// SPDX-License-Identifier: Apache-2.0
//! Several sources as one: the next is tried when the one before is exhausted.

use super::{Capabilities, Memory, Opened, Source, SourceError};
use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Sources in the order in which they are tried.
pub struct OrderedSources {
    sources: Vec<Opened>,
}

impl OrderedSources {
    /// Makes one source of several; `None` if there are none. It neither sets memory aside nor
    /// joins blocks, even if one of them does.
    pub fn open(sources: Vec<Opened>) -> Option<Opened> {
        let each = sources.iter().map(|opened| opened.capabilities.clone());
        let capabilities = each.reduce(Capabilities::merge)?;
        Some(Opened::new(Arc::new(Self { sources }), capabilities))
    }
}

impl Source for OrderedSources {
    /// Tries each source whose limit for one buffer permits `bytes`. It returns the last error, or
    /// an earlier one that is not exhaustion.
    fn create(&self, bytes: BackedBytes, access: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        let mut last = SourceError::from(io::Error::from(io::ErrorKind::Unsupported));
        for Opened { source, capabilities, .. } in &self.sources {
            if bytes.get() > capabilities.max_bytes {
                continue;
            }
            match source.create(bytes, access, name) {
                Err(error) if error.is_exhaustion() => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        self.sources.iter().find_map(|opened| opened.source.identify(fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileSource;
    use crate::source::memfd::MemfdSource;
    use crate::source::scripted::{Script, ScriptedSource};
    use crate::sys::memfd::MemfdFactory;
    use crate::units::{Backing, PageSize, RequestedBytes};

    /// Returns a source of 64 KiB pages that fails on command, followed by one of ordinary pages.
    fn two() -> (Opened, Arc<Script>) {
        let script = Arc::new(Script::default());
        let of = |page, backing| {
            MemfdSource::with(MemfdFactory::probe().expect("memfd"), page, backing).expect("memfd")
        };
        let large = of(PageSize::new(64 << 10).expect("valid"), Backing::Hugetlb);
        let plain = of(crate::sys::memory::page_size().expect("page size"), Backing::Memfd);
        let first = ScriptedSource { inner: large, script: Arc::clone(&script) };
        let files: [Arc<dyn FileSource>; 2] = [Arc::new(first), Arc::new(plain)];
        (OrderedSources::open(files.map(Opened::from).into()).expect("two"), script)
    }

    #[test]
    fn the_next_source_serves_when_the_one_before_is_exhausted() {
        let (Opened { source, capabilities, .. }, script) = two();
        let bytes = RequestedBytes(1).round_up(capabilities.granularity).expect("valid");
        let made = || source.create(bytes, Access::ReadWrite, "test").map(|memory| memory.backing());
        assert_eq!(made().expect("the first"), Backing::Hugetlb);
        script.fail(0..1, libc::ENOMEM);
        assert_eq!(made().expect("the second"), Backing::Memfd);
        assert_eq!(made().expect("the first has memory again"), Backing::Hugetlb);
        script.fail(0..1, libc::EIO);
        let broken = made().expect_err("broken, not exhausted");
        assert!(matches!(broken, SourceError::System(error) if error.raw_os_error() == Some(libc::EIO)));
    }

    #[test]
    fn only_what_all_keep_is_promised() {
        let capabilities = two().0.capabilities;
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        assert_eq!(capabilities.granularity, (64 << 10).max(page));
        assert_eq!((capabilities.max_alignment, capabilities.contiguous_bytes), (page, page));
        assert!(OrderedSources::open(vec![]).is_none());

        let gives_dma_bufs = |[first, second]: [Backing; 2]| {
            let of = |backing| Capabilities::of_pieces(backing, page);
            of(first).merge(of(second)).gives_dma_bufs()
        };
        assert!(gives_dma_bufs([Backing::Udmabuf, Backing::DmaHeap]));
        assert!(!gives_dma_bufs([Backing::Udmabuf, Backing::Memfd]), "the second may serve");
    }
}
