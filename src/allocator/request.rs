// SPDX-License-Identifier: Apache-2.0
//! What clients ask for and get.

use crate::heap::{Heap, Needs};
use crate::pool::TrustDomain;
use crate::units::{BackedBytes, Backing, BufferId, Count, HeapId, HeapMask, HeapName, Label, Uid};
use std::os::fd::OwnedFd;

/// Who calls. Only the transport fills this in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom everything is charged to.
    pub uid: Uid,
    /// For people; 0 if unknown.
    pub pid: i32,
    /// SELinux context, where the transport tells.
    pub context: Option<String>,
}

impl Caller {
    /// Returns the domain whose scrubbed memory of `heap` it may get.
    pub fn domain(&self, heap: &Heap) -> TrustDomain {
        match &self.context {
            _ if heap.spec().shared.is_some() => TrustDomain::Shared,
            Some(context) => TrustDomain::Context(context.clone()),
            None => TrustDomain::Uid(self.uid),
        }
    }
}

/// Which heaps may serve a request, in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The heaps of a mask, by descending id.
    Mask(HeapMask),
    /// Heaps by name or alias, in this order. May name heaps that do not exist.
    Names(Vec<String>),
}

/// A request whose numbers have been checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// What one buffer must be like.
    pub needs: Needs,
    /// How many equal buffers: all or none.
    pub count: Count,
    /// Which heaps.
    pub selection: Selection,
    /// For dumps.
    pub label: Label,
    /// Whether the caller overwrites every byte, so that what its own trust domain left in a buffer
    /// may stay in it.
    pub unzeroed: bool,
}

/// One buffer on its way to the client.
#[derive(Debug)]
pub struct Grant {
    /// The client's descriptor.
    pub fd: OwnedFd,
    /// The buffer's identity.
    pub id: BufferId,
    /// Its size.
    pub bytes: BackedBytes,
    /// Its heap.
    pub heap_id: HeapId,
    /// That heap's name.
    pub heap_name: HeapName,
    /// What the descriptor is.
    pub backing: Backing,
}
