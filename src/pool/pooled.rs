// SPDX-License-Identifier: Apache-2.0
//! Memory that no client holds. Its type proves whether it is clean.

use crate::units::{BackedBytes, Uid};
use std::marker::PhantomData;

/// The clients that may receive each other's recycled memory: those of one SELinux context, or of
/// one uid if the transport reports no context.
///
/// Between domains cleaning is not enough: a client can keep pages of a file pinned (vmsplice,
/// io_uring) without the lease detecting it, and would read what the next holder writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrustDomain {
    /// Processes of one SELinux context.
    Context(String),
    /// Processes of one user.
    Uid(Uid),
    /// All clients of a heap whose configuration says that its memory may be shared.
    Shared,
}

/// State of memory that has the data of its last client.
#[derive(Debug)]
pub enum Dirty {}

/// State of memory of which every byte is zero.
#[derive(Debug)]
pub enum Clean {}

/// Memory in a pool: no client holds it.
#[derive(Debug)]
pub struct Pooled<M, S> {
    memory: M,
    bytes: BackedBytes,
    /// `None` if no client has ever held it.
    domain: Option<TrustDomain>,
    state: PhantomData<S>,
}

impl<M, S> Pooled<M, S> {
    /// Returns its size.
    pub fn bytes(&self) -> BackedBytes {
        self.bytes
    }

    /// Returns the domain that held it last; `None` for fresh memory, which no client has held.
    pub fn domain(&self) -> Option<&TrustDomain> {
        self.domain.as_ref()
    }

    /// Returns the memory, to inspect it.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

impl<M> Pooled<M, Dirty> {
    /// Wraps memory that a client of `domain` has released.
    pub fn released(memory: M, bytes: BackedBytes, domain: TrustDomain) -> Self {
        Self { memory, bytes, domain: Some(domain), state: PhantomData }
    }

    /// Cleans it with `zero`: the only conversion from dirty to clean memory.
    ///
    /// # Errors
    /// `zero`'s; the memory is dropped then, since its contents are unknown.
    pub fn clean<N, E>(self, zero: impl FnOnce(M) -> Result<N, E>) -> Result<Pooled<N, Clean>, E> {
        let memory = zero(self.memory)?;
        Ok(Pooled { memory, bytes: self.bytes, domain: self.domain, state: PhantomData })
    }
}

impl<M> Pooled<M, Dirty> {
    /// Returns the memory with the data of its last client, for a client of the same domain that
    /// accepts that.
    pub fn into_dirty_memory(self) -> M {
        self.memory
    }
}

impl<M> Pooled<M, Clean> {
    /// Wraps memory as its source made it: zero and never held by a client, so it fits every
    /// domain.
    pub fn fresh(memory: M, bytes: BackedBytes) -> Self {
        Self { memory, bytes, domain: None, state: PhantomData }
    }

    /// Returns the same memory in another form.
    pub fn map<N>(self, form: impl FnOnce(M) -> N) -> Pooled<N, Clean> {
        Pooled { memory: form(self.memory), bytes: self.bytes, domain: self.domain, state: PhantomData }
    }

    /// Wraps a part of clean memory.
    pub(super) fn part(memory: M, bytes: BackedBytes, domain: Option<TrustDomain>) -> Self {
        Self { memory, bytes, domain, state: PhantomData }
    }

    /// Returns the memory, for a client of its own domain; for any client if it is fresh.
    pub fn into_memory(self) -> M {
        self.memory
    }
}
