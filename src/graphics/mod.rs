// SPDX-License-Identifier: Apache-2.0
//! Floor 7, beside `service`: Android's graphics allocator over the same use cases. No lower floor
//! has types generated from `android.hardware.graphics.allocator`.
//!
//! A buffer for images is a buffer of a heap with a metadata file beside it. `anion-handle` defines
//! its native handle; `config` defines which heaps serve which usages. [`isSupported`] and
//! [`allocate2`] make the same checks, so a supported request fails only for lack of resources.
//!
//! [`isSupported`]: IAllocator::isSupported
//! [`allocate2`]: IAllocator::allocate2

mod descriptor;
mod refusal;

use crate::allocator::{Allocator, Caller, Grant, Graphic, Metadata, Request, Selection};
use crate::config::spec::GraphicsRule;
use crate::heap::{Heap, Needs};
use crate::units::{Access, Count, RequestedBytes, Uid};
#[cfg(soong)]
use android_hardware_common::aidl::android::hardware::common::NativeHandle::NativeHandle;
#[cfg(not(soong))]
use android_hardware_graphics_allocator::aidl::android::hardware::common::NativeHandle::NativeHandle;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::{
    AllocationResult::AllocationResult,
    BufferDescriptorInfo::BufferDescriptorInfo,
    IAllocator::{BnAllocator, IAllocator},
};
use anion_handle::{Handle, metadata};
use anion_ipc::{ParcelFileDescriptor, Result, Strong, calling_identity, impl_interface, new_binder};
use anion_layout::Layout;
use descriptor::Wanted;
use refusal::Refusal;
use std::sync::Arc;

/// Name of the interface.
pub const INTERFACE_NAME: &str = "android.hardware.graphics.allocator.IAllocator";

/// `SUFFIX` of the library `mapper.SUFFIX.so` that reads the handles.
const MAPPER_SUFFIX: &str = "anion";

/// Limit of the buffers of one call: each has two descriptors, and a message over a socket carries
/// 64.
const MAX_BUFFERS: usize = 32;

/// An [`Allocator`] with the interface of Android's graphics allocators.
pub struct GraphicsAllocatorService {
    allocator: Arc<Allocator>,
    rules: Vec<GraphicsRule>,
}

impl GraphicsAllocatorService {
    /// Returns a binder object that any transport can publish. `rules` define which heaps serve
    /// which usages.
    pub fn binder(allocator: Arc<Allocator>, rules: Vec<GraphicsRule>) -> Strong<dyn IAllocator> {
        new_binder!(BnAllocator, Self { allocator, rules })
    }

    /// Returns the heaps that serve `wanted`, in the order in which they are tried.
    fn heaps(&self, wanted: &Wanted<'_>) -> impl Iterator<Item = &Heap> {
        let found = |name| self.allocator.heaps().iter().find(move |heap| heap.name() == name);
        wanted.rule.heaps.iter().filter_map(found)
    }

    /// Returns whether a heap would give such a buffer to the caller while no memory is in use.
    fn is_served(&self, caller: &Caller, wanted: &Wanted<'_>) -> std::result::Result<bool, Refusal> {
        for heap in self.heaps(wanted) {
            let (_, request) = request(wanted, heap, Count::ONE)?;
            if self.allocator.supports(caller, &request).chosen().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn allocate_all(
        &self,
        caller: &Caller,
        wanted: &Wanted<'_>,
        count: Count,
    ) -> std::result::Result<AllocationResult, Refusal> {
        let mut explanations = Vec::new();
        for heap in self.heaps(wanted) {
            let (layout, request) = request(wanted, heap, count)?;
            match self.allocator.allocate(caller, &request) {
                Ok(grants) => return result(wanted, heap, &layout, grants),
                Err(explanation) => explanations.push(explanation),
            }
        }
        Err(Refusal::failed(&explanations, self.is_served(caller, wanted)?))
    }
}

impl_interface!(GraphicsAllocatorService);

/// Returns the caller that the transport identified.
fn caller() -> std::result::Result<Caller, Refusal> {
    let identity = calling_identity().ok_or(Refusal::UnknownCaller)?;
    Ok(Caller { uid: Uid(identity.uid), pid: identity.pid, context: identity.context })
}

/// Returns the request to `heap`, which may align rows differently.
fn request(
    wanted: &Wanted<'_>,
    heap: &Heap,
    count: Count,
) -> std::result::Result<(Layout, Request), Refusal> {
    let image = wanted.image(heap);
    let (layout, bytes) = image.needed()?;
    let size = RequestedBytes(i64::try_from(metadata::size(image.reserved_size)).unwrap_or(i64::MAX));
    let graphic = Graphic {
        width: image.width,
        height: image.height,
        format: image.format.value(),
        usage: image.usage.0,
    };
    let metadata =
        Metadata { graphic, bytes: size.round_up(heap.page().bytes())?, initial: wanted.metadata.clone() };
    let request = Request {
        needs: Needs {
            bytes: RequestedBytes(i64::try_from(bytes).unwrap_or(i64::MAX)),
            alignment: 0,
            cached: false,
            dma_buf: wanted.rule.dma_bufs_only,
            access: Access::ReadWrite,
        },
        count,
        selection: Selection::Names(vec![heap.name().to_string()]),
        label: wanted.label.clone(),
        unzeroed: false,
        metadata: Some(metadata),
    };
    Ok((layout, request))
}

/// Returns the answer with a native handle for each buffer. Releases a buffer that is not passed
/// on: its descriptors are dropped here.
fn result(
    wanted: &Wanted<'_>,
    heap: &Heap,
    layout: &Layout,
    grants: Vec<Grant>,
) -> std::result::Result<AllocationResult, Refusal> {
    let native = |grant: Grant| {
        let handle = Handle::new(grant.id, wanted.image(heap), grant.bytes.get(), Access::ReadWrite)?;
        let fds = std::iter::once(grant.fd).chain(grant.metadata);
        Ok(NativeHandle { fds: fds.map(ParcelFileDescriptor::new).collect(), ints: handle.to_ints() })
    };
    let buffers = grants.into_iter().map(native).collect::<std::result::Result<_, Refusal>>()?;
    Ok(AllocationResult { stride: i32::try_from(layout.stride).unwrap_or(i32::MAX), buffers })
}

impl IAllocator for GraphicsAllocatorService {
    fn allocate(&self, _descriptor: &[u8], _count: i32) -> Result<AllocationResult> {
        Err(Refusal::OldDescriptor.into())
    }

    fn allocate2(&self, descriptor: &BufferDescriptorInfo, count: i32) -> Result<AllocationResult> {
        let wanted = Wanted::of(descriptor, &self.rules)?;
        let count = descriptor::count(count).map_err(Refusal::from)?;
        Ok(self.allocate_all(&caller()?, &wanted, count)?)
    }

    fn isSupported(&self, descriptor: &BufferDescriptorInfo) -> Result<bool> {
        let is_served = || self.is_served(&caller()?, &Wanted::of(descriptor, &self.rules)?);
        Ok(is_served().unwrap_or(false))
    }

    fn getIMapperLibrarySuffix(&self) -> Result<String> {
        Ok(MAPPER_SUFFIX.to_owned())
    }
}
