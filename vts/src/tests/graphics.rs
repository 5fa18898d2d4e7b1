// SPDX-License-Identifier: Apache-2.0
//! Tests Android's graphics allocator, if the service has it: the rules of the interface, and that
//! its buffers belong to the heaps and the caller.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::target::Target;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::{
    AllocationError::AllocationError, AllocationResult::AllocationResult,
    BufferDescriptorInfo::BufferDescriptorInfo, IAllocator::IAllocator,
};
use anion_ipc::{Connection, ServiceError};
use anyhow::{Result, anyhow, bail, ensure};

tests![
    Shared graphics_has_the_version_and_the_mapper_that_it_says,
    Shared graphics_can_allocate,
    Shared graphics_rejects_unknown_usages,
    Shared graphics_rejects_unknown_options,
    Shared graphics_serves_every_format_that_it_supports_and_no_other,
    Shared graphics_refuses_impossible_requests_with_its_own_codes,
    Quiet graphics_charges_buffers_to_the_caller_until_both_files_are_closed,
];

/// Name of the instance that is tested.
const NAME: &str = "android.hardware.graphics.allocator.IAllocator/default";
/// The CPU reads and writes often.
const CPU: i64 = 0x33;

/// Connects to the service's graphics allocator.
///
/// # Errors
/// [`inapplicable`] if there is no endpoint for it; an error if it cannot be reached.
fn connect(fixture: &Fixture) -> Result<Connection<dyn IAllocator>> {
    let Some(endpoint) = &fixture.graphics else {
        return inapplicable("--graphics names no graphics allocator");
    };
    let target = Target { endpoint: endpoint.clone(), name: NAME.to_owned() };
    let connection: Connection<dyn IAllocator> = target.connect(1)?;
    check_eq!(connection.service.getIMapperLibrarySuffix()?, "anion", "the suffix of the mapper's library");
    Ok(connection)
}

fn descriptor(format: i32) -> BufferDescriptorInfo {
    let mut descriptor = BufferDescriptorInfo { width: 64, height: 64, layerCount: 1, ..Default::default() };
    descriptor.name[..3].copy_from_slice(b"vts");
    descriptor.format.0 = format;
    descriptor.usage.0 = CPU;
    descriptor
}

/// RGBA_8888, which every allocator supports.
const RGBA: i32 = 1;

/// Expects a call to fail with a code of the interface other than 0.
fn code<T: std::fmt::Debug>(result: anion_ipc::Result<T>) -> Result<i32> {
    let status = match result {
        Ok(reply) => bail!("expected a refusal, but the call succeeded: {reply:?}"),
        Err(status) => status,
    };
    let error = ServiceError::of(&status).ok_or_else(|| anyhow!("the transport failed: {status}"))?;
    ensure!(error.code == 1 || error.code == 2, "code {}: {error}", error.code);
    ensure!(!error.message.is_empty(), "code {} came without a message", error.code);
    Ok(error.code)
}

/// Returns whether isSupported and allocate2 both accept the descriptor; both must agree.
fn is_served(allocator: &dyn IAllocator, descriptor: &BufferDescriptorInfo) -> Result<bool> {
    let is_supported = allocator.isSupported(descriptor)?;
    let allocated = allocator.allocate2(descriptor, 1);
    if is_supported {
        let AllocationResult { stride, buffers } = allocated?;
        ensure!(
            stride >= descriptor.width && buffers.len() == 1,
            "stride {stride}, {} buffers",
            buffers.len()
        );
    } else {
        check_eq!(code(allocated)?, AllocationError::UNSUPPORTED.0, "of {descriptor:?}");
    }
    Ok(is_supported)
}

fn graphics_has_the_version_and_the_mapper_that_it_says(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    ensure!(connection.service.getInterfaceVersion()? >= 2, "a version before allocate2");
    let hash = "9499fec09c544e9de5be3c87125721600f8ade66";
    check_eq!(connection.service.getInterfaceHash()?, hash, "the hash of version 2");
    Ok(())
}

fn graphics_can_allocate(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    // RGBA_8888, YCBCR_420_888, YV12.
    for format in [RGBA, 0x23, 0x3231_5659] {
        ensure!(is_served(&*connection.service, &descriptor(format))?, "format {format:#x} is mandatory");
    }
    let batch = connection.service.allocate2(&descriptor(RGBA), 4)?;
    check_eq!(batch.buffers.len(), 4, "buffers of a batch");
    for buffer in &batch.buffers {
        check_eq!(buffer.fds.len(), 2, "descriptors of a handle");
        check_eq!(buffer.ints.len(), batch.buffers[0].ints.len(), "numbers of a handle");
    }
    Ok(())
}

fn graphics_rejects_unknown_usages(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    ensure!(is_served(&*connection.service, &descriptor(RGBA))?, "the descriptor is good before the bit");
    for bit in (33..48).chain([19, 21]) {
        let mut changed = descriptor(RGBA);
        changed.usage.0 |= 1 << bit;
        ensure!(!is_served(&*connection.service, &changed)?, "usage bit {bit} is served");
    }
    Ok(())
}

fn graphics_rejects_unknown_options(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    let mut changed = descriptor(RGBA);
    changed.additionalOptions.push(Default::default());
    for (name, is_known) in
        [("android.hardware.graphics.common.Dataspace", true), ("bogus", false), ("", false)]
    {
        name.clone_into(&mut changed.additionalOptions[0].name);
        changed.additionalOptions[0].value = 1;
        check_eq!(is_served(&*connection.service, &changed)?, is_known, "option {name:?}");
    }
    Ok(())
}

fn graphics_serves_every_format_that_it_supports_and_no_other(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    let mut served = 0;
    for format in (0..0x40).chain([0x100, 0x2020_3859, 0x2036_3159, 0x3231_5659, -1]) {
        let rows = if format == 0x21 { 1 } else { 64 };
        let wanted = BufferDescriptorInfo { height: rows, ..descriptor(format) };
        served += u32::from(is_served(&*connection.service, &wanted)?);
    }
    ensure!(served >= 3, "only {served} formats are served");
    Ok(())
}

fn graphics_refuses_impossible_requests_with_its_own_codes(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    let service = &connection.service;
    for wrong in [
        BufferDescriptorInfo { width: 0, ..descriptor(RGBA) },
        BufferDescriptorInfo { width: i32::MAX, height: i32::MAX, ..descriptor(RGBA) },
        BufferDescriptorInfo { height: i32::MIN, ..descriptor(RGBA) },
        BufferDescriptorInfo { layerCount: 0, ..descriptor(RGBA) },
        BufferDescriptorInfo { reservedSize: i64::MIN, ..descriptor(RGBA) },
        BufferDescriptorInfo { reservedSize: i64::MAX, ..descriptor(RGBA) },
        BufferDescriptorInfo::default(),
    ] {
        ensure!(!is_served(&**service, &wrong)?, "{wrong:?} is served");
    }
    for count in [0, -1, i32::MIN, i32::MAX] {
        code(service.allocate2(&descriptor(RGBA), count))?;
    }
    Ok(())
}

fn graphics_charges_buffers_to_the_caller_until_both_files_are_closed(fixture: &Fixture) -> Result<()> {
    let connection = connect(fixture)?;
    let mut buffers = connection.service.allocate2(&descriptor(RGBA), 2)?.buffers;
    let (bytes, count) = fixture.holding()?;
    ensure!(count == 2 && bytes > 2 * 64 * 64 * 4, "{count} buffers of {bytes} bytes are charged");
    drop(buffers.pop());
    fixture.await_holding(bytes / 2, 1)?;
    // Keeps only the pixels of the last one.
    let metadata = buffers.pop().and_then(|mut handle| handle.fds.pop());
    ensure!(metadata.is_some(), "a handle without metadata");
    fixture.stays_holding(bytes / 2, 1, "its metadata is held")?;
    drop(metadata);
    fixture.await_holding(0, 0)
}
