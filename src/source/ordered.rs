// SPDX-License-Identifier: Apache-2.0
//! Several sources as one: the next is asked when the one before is exhausted.

use super::{Memory, Source, is_exhaustion};
use crate::units::{BackedBytes, Backing};
use std::io;
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

    fn max_alignment(&self) -> u64 {
        self.least(|source| source.max_alignment())
    }

    fn granule(&self) -> u64 {
        self.all().map(|source| source.granule()).fold(1, u64::max)
    }

    fn contiguous_bytes(&self) -> u64 {
        self.least(|source| source.contiguous_bytes())
    }

    /// The last source's error counts, unless one before it failed for another reason than exhaustion.
    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        self.others.iter().fold(self.first.create(bytes), |made, next| match made {
            Err(error) if is_exhaustion(&error) => next.create(bytes),
            settled => settled,
        })
    }
}
