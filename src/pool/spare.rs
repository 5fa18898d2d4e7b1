// SPDX-License-Identifier: Apache-2.0
//! Idle memory, and the proof in its type that it is clean.

use crate::units::{BackedBytes, Uid};
use std::marker::PhantomData;

/// Clients that may get each other's scrubbed memory: one SELinux context, or one uid where there is none.
///
/// Scrubbing is not enough across this line: a client can keep pages of a file pinned (vmsplice, io_uring) where no
/// lease sees it, and would read what the next holder writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrustDomain {
    /// Processes of one SELinux context.
    Context(String),
    /// Processes of one user.
    Uid(Uid),
}

/// State of a spare that holds what its last client wrote.
#[derive(Debug)]
pub enum Dirty {}

/// State of a spare of which every byte is zero.
#[derive(Debug)]
pub enum Zeroed {}

/// Memory that no client holds.
#[derive(Debug)]
pub struct Spare<M, S> {
    memory: M,
    bytes: BackedBytes,
    domain: TrustDomain,
    state: PhantomData<S>,
}

impl<M, S> Spare<M, S> {
    /// Its size.
    pub fn bytes(&self) -> BackedBytes {
        self.bytes
    }

    /// Who held it last.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The memory alone, to look at or to give back to the kernel.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

impl<M> Spare<M, Dirty> {
    /// What a client of `domain` has let go of.
    pub fn released(memory: M, bytes: BackedBytes, domain: TrustDomain) -> Self {
        Self { memory, bytes, domain, state: PhantomData }
    }

    /// Cleans it with `zero`, the only way to a zeroed spare.
    ///
    /// # Errors
    /// `zero`'s; the memory is dropped then, since nobody knows what is in it.
    pub fn scrub<E>(self, zero: impl FnOnce(&M) -> Result<(), E>) -> Result<Spare<M, Zeroed>, E> {
        zero(&self.memory)?;
        Ok(Spare { memory: self.memory, bytes: self.bytes, domain: self.domain, state: PhantomData })
    }
}

impl<M> Spare<M, Zeroed> {
    /// A part of a zeroed spare.
    pub(super) fn part(memory: M, bytes: BackedBytes, domain: TrustDomain) -> Self {
        Self { memory, bytes, domain, state: PhantomData }
    }

    /// The memory, for a client of its own domain.
    pub fn into_memory(self) -> M {
        self.memory
    }
}
