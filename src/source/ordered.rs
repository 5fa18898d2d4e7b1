// SPDX-License-Identifier: Apache-2.0
//! Several sources as one: the next is asked when the one before is exhausted.

use super::{Memory, Source, is_exhaustion};
use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes, Backing};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Sources in the order in which they are asked.
pub struct OrderedSources {
    first: Arc<dyn Source>,
    others: Vec<Arc<dyn Source>>,
}

impl OrderedSources {
    /// `None` if there are no sources.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Option<Self> {
        let mut sources = sources.into_iter();
        let first = sources.next()?;
        Some(Self { first, others: sources.collect() })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn least(&self, of: impl Fn(&dyn Source) -> u64) -> u64 {
        self.others.iter().map(|source| of(source.as_ref())).fold(of(self.first.as_ref()), u64::min)
    }
}

/// What it promises, each of its sources can keep.
impl Source for OrderedSources {
    fn backing(&self) -> Backing {
        self.first.backing()
    }

    fn backings(&self) -> Vec<Backing> {
        self.all().flat_map(|source| source.backings()).collect()
    }

    fn max_alignment(&self) -> u64 {
        self.least(|source| source.max_alignment())
    }

    fn granule(&self) -> u64 {
        self.all().map(|source| source.granule()).fold(1, u64::max)
    }

    fn contiguous_bytes(&self) -> u64 {
        self.least(|source| source.contiguous_bytes())
    }

    fn max_bytes(&self) -> u64 {
        self.all().map(|source| source.max_bytes()).fold(0, u64::max)
    }

    fn gives_dma_bufs(&self) -> bool {
        self.all().all(|source| source.gives_dma_bufs())
    }

    fn gives(&self, access: Access) -> bool {
        self.all().all(|source| source.gives(access))
    }

    fn descriptors(&self) -> u64 {
        self.all().map(|source| source.descriptors()).fold(1, u64::max)
    }

    fn is_machine_memory(&self) -> bool {
        self.all().any(|source| source.is_machine_memory())
    }

    fn recycles(&self) -> bool {
        self.all().any(|source| source.recycles())
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        self.create_for(bytes, Access::ReadWrite)
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        self.all().find_map(|source| source.identify(fd))
    }

    /// The last source's error counts, unless one before it failed for another reason than exhaustion.
    fn create_for(&self, bytes: BackedBytes, access: Access) -> io::Result<Box<dyn Memory>> {
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for source in self.all().filter(|source| bytes.get() <= source.max_bytes()) {
            match source.create_for(bytes, access) {
                Err(error) if is_exhaustion(&error) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memfd::MemfdSource;
    use crate::source::scripted::{Script, ScriptedSource};
    use crate::sys::memfd::MemfdFactory;
    use crate::units::{PageSize, RequestedBytes};

    /// Pages of 64 KiB that fail on command, then ordinary ones.
    fn two() -> (OrderedSources, Arc<Script>) {
        let script = Arc::new(Script::default());
        let of = |page, backing| {
            MemfdSource::with(MemfdFactory::probe().expect("memfd"), page, backing).expect("memfd")
        };
        let large = of(PageSize::new(64 << 10).expect("valid"), Backing::Hugetlb);
        let plain = of(crate::sys::memory::page_size().expect("page size"), Backing::Memfd);
        let first = ScriptedSource { inner: large, script: Arc::clone(&script) };
        (OrderedSources::new(vec![Arc::new(first), Arc::new(plain)]).expect("two"), script)
    }

    #[test]
    fn the_next_source_serves_when_the_one_before_is_exhausted() {
        let (sources, script) = two();
        let bytes = RequestedBytes(1).round_up(sources.granule()).expect("valid");
        let made = || sources.create(bytes).map(|memory| memory.backing());
        assert_eq!(made().expect("the first"), Backing::Hugetlb);
        script.fail(0..1, libc::ENOMEM);
        assert_eq!(made().expect("the second"), Backing::Memfd);
        assert_eq!(made().expect("the first has memory again"), Backing::Hugetlb);
        script.fail(0..1, libc::EIO);
        assert_eq!(made().expect_err("broken, not exhausted").raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn only_what_all_keep_is_promised() {
        let (sources, _) = two();
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        assert_eq!(sources.granule(), (64 << 10).max(page));
        assert_eq!((sources.max_alignment(), sources.contiguous_bytes()), (page, page));
        assert!(OrderedSources::new(vec![]).is_none());

        let of = |backing| {
            let page = PageSize::new(page).expect("valid");
            let factory = MemfdFactory::probe().expect("memfd");
            Arc::new(MemfdSource::with(factory, page, backing).expect("memfd")) as Arc<dyn Source>
        };
        let gives_dma_bufs = |backings: [Backing; 2]| {
            OrderedSources::new(backings.map(of).into()).expect("two").gives_dma_bufs()
        };
        assert!(gives_dma_bufs([Backing::Udmabuf, Backing::DmaHeap]));
        assert!(!gives_dma_bufs([Backing::Udmabuf, Backing::Memfd]), "the second may serve");
    }
}
