// SPDX-License-Identifier: Apache-2.0
//! Runs the mapper's suite over a graphics allocator. Another process allocates the buffers, and
//! passes their handles.

use crate::child::ChildProcess;
use crate::harness::beside_others;
use crate::mapper::source::{Allocated, Source, Wanted, serve};
use crate::mapper::{self, Dumped, Outcome, Suite, check_eq};
use crate::target::Target;
#[cfg(soong)]
use android_hardware_common::aidl::android::hardware::common::NativeHandle::NativeHandle;
#[cfg(not(soong))]
use android_hardware_graphics_allocator::aidl::android::hardware::common::NativeHandle::NativeHandle;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::{
    BufferDescriptorInfo::BufferDescriptorInfo, IAllocator::IAllocator,
};
use anion_ipc::{Endpoint, ParcelFileDescriptor};
use anyhow::{Context, Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The service name that Android's clients use over kernel binder. A socket has only one object.
const NAME: &str = "android.hardware.graphics.allocator.IAllocator/default";
/// Number of forged handles, each with a write to metadata; guests are slow.
const FORGED: usize = 5_000;

/// A test of the mapper.
type Body = Box<dyn Fn(&Suite) -> Result<Outcome> + Send>;

/// Returns the mapper's tests. Each runs alone if the uid's quota `is_tight`. `heaps` is the other
/// interface of the same service.
///
/// # Errors
/// If the library is no mapper, or the allocator cannot be reached.
pub(crate) fn trials(
    library: &Path,
    endpoint: &Endpoint,
    heaps: Target,
    is_tight: bool,
) -> Result<Vec<Trial>> {
    let target = Target { endpoint: endpoint.clone(), name: NAME.to_owned() };
    let (ours, theirs) = UnixStream::pair()?;
    let child = ChildProcess::start("graphics", &[&target.to_string()], Some(theirs.into()))
        .with_context(|| format!("cannot reach the graphics allocator at {endpoint}"))?;
    // The process that allocates lives until the last test has ended.
    let tested = Arc::new((Suite::new(library, Source::new(ours), FORGED)?, child));
    let trial = |(name, body): (&str, Body)| {
        let tested = Arc::clone(&tested);
        Trial::ignorable_test(format!("mapper::{name}"), move || {
            match beside_others(is_tight, || body(&tested.0)) {
                Ok(Outcome::Passed) => Ok(Completion::Completed),
                Ok(Outcome::Unsupported(reason)) => Ok(Completion::ignored_with(reason)),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            }
        })
    };
    let alone = mapper::all().into_iter().map(|(name, body)| (name, Box::new(body) as Body));
    let beside: Body = Box::new(move |suite| the_dump_agrees_with_the_service(suite, &heaps));
    Ok(alone.chain([("DumpAgreesWithTheService", beside)]).map(trial).collect())
}

/// Compares the mapper's dump of a buffer with the service's description of it.
fn the_dump_agrees_with_the_service(suite: &Suite, heaps: &Target) -> Result<Outcome> {
    let (width, height, format, usage) = (48, 32, 1, 0x33);
    let name = "agreed".to_owned();
    let (fd, dumped) =
        suite.dumped(&Wanted { name, width, height, layers: 1, format, usage, reserved: 0 })?;
    let heaps = heaps.connect::<dyn IHeapAllocator>(1)?;
    let info = heaps.service.describe(&ParcelFileDescriptor::new(fd))?;
    let graphic = info.graphic.context("the service returned no image of the buffer")?;
    let described = Dumped {
        id: info.id,
        name: info.name,
        sides: (graphic.width.into(), graphic.height.into()),
        format: graphic.format,
        usage: graphic.usage,
        bytes: info.size,
    };
    check_eq!(dumped, described, "the buffer in the dump of all");
    Ok(Outcome::Passed)
}

/// Answers requests over the inherited socket: allocates, and sends the handles.
///
/// # Errors
/// If the allocator cannot be reached.
pub(crate) fn allocate_for_parent(target: &str, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let connection = target.parse::<Target>()?.connect::<dyn IAllocator>(1)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    ready()?;
    serve(&socket, |wanted| allocate(&*connection.service, wanted))
}

/// Allocates one buffer; `None` if it is unsupported.
fn allocate(service: &dyn IAllocator, wanted: &Wanted) -> Result<Option<Allocated>> {
    let mut descriptor = BufferDescriptorInfo {
        width: wanted.width,
        height: wanted.height,
        layerCount: wanted.layers,
        reservedSize: wanted.reserved,
        ..Default::default()
    };
    descriptor.format.0 = wanted.format;
    descriptor.usage.0 = wanted.usage;
    for (place, byte) in descriptor.name.iter_mut().zip(wanted.name.bytes().take(127)) {
        *place = byte;
    }
    if !service.isSupported(&descriptor)? {
        ensure!(service.allocate2(&descriptor, 1).is_err(), "an unsupported image was allocated");
        return Ok(None);
    }
    let result = service.allocate2(&descriptor, 1)?;
    let [NativeHandle { fds, ints }] =
        <[NativeHandle; 1]>::try_from(result.buffers).ok().context("the reply must have one buffer")?;
    Ok(Some(Allocated { stride: result.stride, fds: fds.into_iter().map(OwnedFd::from).collect(), ints }))
}
