// SPDX-License-Identifier: Apache-2.0
//! Requests and the buffers of their replies.

use anyhow::{Context, Result};
use std::os::fd::OwnedFd;

/// The interface, under the names of its files.
pub(crate) mod aidl {
    pub(crate) use vendor_anion_allocator::aidl::vendor::anion::allocator::{
        Access::Access, Allocation::Allocation, AllocationFlags::AllocationFlags,
        AllocationRequest::AllocationRequest, Backing::Backing, Buffer::Buffer, BufferInfo::BufferInfo,
        ClientUsage::ClientUsage, ErrorCode::ErrorCode, Explanation::Explanation, HeapFlags::HeapFlags,
        HeapInfo::HeapInfo, HeapStats::HeapStats, HeapType::HeapType, IBufferToken::IBufferToken,
        IHeapAllocator as interface, IReservation::IReservation, PressureLevel::PressureLevel,
        ReleaseMechanism::ReleaseMechanism, ReservationRequest::ReservationRequest, Verdict::Verdict,
    };
}
use aidl::{Allocation, AllocationRequest, Backing, Buffer, IBufferToken};
use anion_ipc::Strong;

/// A buffer that this process holds; dropping it releases it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) fd: OwnedFd,
    pub(crate) id: i64,
    pub(crate) size: u64,
    pub(crate) heap_id: i32,
    pub(crate) heap_name: String,
    pub(crate) backing: Backing,
    _claim: Option<Claim>,
}

/// The token that makes this process the owner of a buffer whose release the kernel does not
/// report.
#[derive(Debug)]
struct Claim {
    token: Strong<dyn IBufferToken>,
    id: i64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The service refuses buffers that need no token. If the service has ended, so have its
        // claims.
        let _ = self.token.release(&[self.id]);
    }
}

/// Returns the buffers of a reply.
///
/// # Errors
/// If one has no descriptor or a negative size.
pub(crate) fn held(allocation: Allocation) -> Result<Vec<Held>> {
    let token = allocation.token;
    let own = |buffer: Buffer| {
        Ok(Held {
            _claim: token.clone().map(|token| Claim { token, id: buffer.id }),
            fd: buffer.fd.context("a buffer without a descriptor")?.into(),
            id: buffer.id,
            size: u64::try_from(buffer.size).context("a negative size")?,
            heap_id: buffer.heapId,
            heap_name: buffer.heapName,
            backing: buffer.backing,
        })
    };
    allocation.buffers.into_iter().map(own).collect()
}

/// Returns a request for one buffer from any heap.
pub(crate) fn from_any(size: i64) -> AllocationRequest {
    AllocationRequest { size, heapIdMask: -1, name: "vts".into(), ..Default::default() }
}

/// Returns a request for one buffer from the heap with this id.
pub(crate) fn from_heap(id: i32, size: i64) -> AllocationRequest {
    AllocationRequest { heapIdMask: 1_i32.wrapping_shl(id.cast_unsigned()), ..from_any(size) }
}

/// Returns a request for one buffer from the heaps with these names, in this order.
pub(crate) fn from_names(names: &[&str], size: i64) -> AllocationRequest {
    let heapNames = names.iter().map(|name| (*name).to_owned()).collect();
    AllocationRequest { heapIdMask: 0, heapNames, ..from_any(size) }
}
