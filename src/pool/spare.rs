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
    /// Everyone who uses a heap whose configuration says that its memory may be shared.
    Shared,
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
    /// `None` if no client has ever held it.
    domain: Option<TrustDomain>,
    state: PhantomData<S>,
}

impl<M, S> Spare<M, S> {
    /// Its size.
    pub fn bytes(&self) -> BackedBytes {
        self.bytes
    }

    /// Who held it last; `None` for fresh memory, which no client has ever held.
    pub fn domain(&self) -> Option<&TrustDomain> {
        self.domain.as_ref()
    }

    /// The memory alone, to look at or to give back to the kernel.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

impl<M> Spare<M, Dirty> {
    /// What a client of `domain` has let go of.
    pub fn released(memory: M, bytes: BackedBytes, domain: TrustDomain) -> Self {
        Self { memory, bytes, domain: Some(domain), state: PhantomData }
    }

    /// Cleans it with `zero`, the only way to a zeroed spare for what a client has held.
    ///
    /// # Errors
    /// `zero`'s; the memory is dropped then, since nobody knows what is in it.
    pub fn scrub<E>(self, zero: impl FnOnce(&M) -> Result<(), E>) -> Result<Spare<M, Zeroed>, E> {
        zero(&self.memory)?;
        Ok(Spare { memory: self.memory, bytes: self.bytes, domain: self.domain, state: PhantomData })
    }
}

impl<M> Spare<M, Zeroed> {
    /// Memory as its source made it: zero, and never held by a client, so that it fits every domain.
    pub fn fresh(memory: M, bytes: BackedBytes) -> Self {
        Self { memory, bytes, domain: None, state: PhantomData }
    }

    /// The same memory in another form.
    pub fn map<N>(self, form: impl FnOnce(M) -> N) -> Spare<N, Zeroed> {
        Spare { memory: form(self.memory), bytes: self.bytes, domain: self.domain, state: PhantomData }
    }

    /// A part of a zeroed spare.
    pub(super) fn part(memory: M, bytes: BackedBytes, domain: Option<TrustDomain>) -> Self {
        Self { memory, bytes, domain, state: PhantomData }
    }

    /// The memory, for a client of its own domain; for any client if it is fresh.
    pub fn into_memory(self) -> M {
        self.memory
    }
}
