// SPDX-License-Identifier: Apache-2.0
//! Requests of clients, and their results.

use super::metadata::Metadata;
use crate::heap::{Heap, Needs, Rejection};
use crate::ledger::{Claim, HeapIndex};
use crate::pool::TrustDomain;
use crate::source::ReleaseMechanism;
use crate::units::{BackedBytes, Backing, BufferId, Count, HeapId, HeapMask, HeapName, Label, Uid};
use std::os::fd::OwnedFd;

/// The caller of the service. Only the transport makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The uid that is charged.
    pub uid: Uid,
    /// The process, for display; 0 if unknown.
    pub pid: i32,
    /// SELinux context, if the transport reports it.
    pub context: Option<String>,
}

impl Caller {
    /// Returns the trust domain whose recycled memory of `heap` this caller may receive.
    pub fn domain(&self, heap: &Heap) -> TrustDomain {
        match &self.context {
            _ if heap.spec().shared.is_some() => TrustDomain::Shared,
            Some(context) => TrustDomain::Context(context.clone()),
            None => TrustDomain::Uid(self.uid),
        }
    }
}

/// The heaps that may serve a request, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The heaps of a mask, by descending id.
    Mask(HeapMask),
    /// Heaps by name or alias, in this order. The names may be unknown.
    Names(Vec<String>),
}

/// A request whose numbers have been checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Requirements of one buffer.
    pub needs: Needs,
    /// Number of equal buffers; all or none are allocated.
    pub count: Count,
    /// The heaps.
    pub selection: Selection,
    /// For dumps.
    pub label: Label,
    /// Whether the caller overwrites every byte, so that data of its own trust domain may stay in a
    /// buffer.
    pub unzeroed: bool,
    /// The metadata of each buffer of an image; `None` for other buffers.
    pub metadata: Option<Metadata>,
}

impl Request {
    /// Returns the size that a buffer of this request has in `heap`, if the heap accepts it.
    ///
    /// # Errors
    /// As [`Heap::accept`]. For buffers with metadata also if the kernel does not report their
    /// release: the interface for such buffers has no token.
    pub(super) fn accepted_by(&self, heap: &Heap) -> Result<BackedBytes, Rejection> {
        if self.metadata.is_some() && heap.release_mechanism() == ReleaseMechanism::Token {
            let why =
                format!("the kernel does not report releases of its buffers: {}", heap.backing().name());
            return Err(Rejection::Unsupported(why));
        }
        heap.accept(&self.needs)
    }

    /// Returns the claim to book for `caller` if one buffer has `bytes` bytes.
    pub(super) fn claim(&self, caller: &Caller, heap: HeapIndex, bytes: BackedBytes) -> Claim {
        let metadata = self.metadata.as_ref().map_or(0, |metadata| metadata.bytes.get());
        Claim { uid: caller.uid, heap, count: self.count.get(), bytes, metadata }
    }
}

/// An allocated buffer, for the client.
#[derive(Debug)]
pub struct Grant {
    /// The client's descriptor.
    pub fd: OwnedFd,
    /// The client's descriptor of the buffer's metadata; `None` if the request had none.
    pub metadata: Option<OwnedFd>,
    /// The buffer's identity.
    pub id: BufferId,
    /// Its size.
    pub bytes: BackedBytes,
    /// Its heap.
    pub heap_id: HeapId,
    /// The name of that heap.
    pub heap_name: HeapName,
    /// Kind of the buffer's memory.
    pub backing: Backing,
}
