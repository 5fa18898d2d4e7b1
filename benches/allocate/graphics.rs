// SPDX-License-Identifier: Apache-2.0
//! What the graphics allocator costs beside a plain call for a buffer of the same size and heap: a
//! metadata file for each buffer, and a handle.

use crate::client::{Client, Origin};
use crate::report::{Section, progress};
use crate::servers::Servers;
use crate::timed::{Timed, run, text};
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::{
    allocator::{
        AllocationResult::AllocationResult, BufferDescriptorInfo::BufferDescriptorInfo,
        IAllocator::IAllocator,
    },
    common::PixelFormat::PixelFormat,
};

/// Runs of every variant.
const ROUNDS: usize = 600;
/// Rounds between two waits until what was released is clean.
const WARM: usize = 2;
/// The CPU reads and writes often; its rule has the heap with a pool.
const CPU: i64 = 0x33;
/// A camera writes, too; its rule has the heap without one.
const CAMERA: i64 = 1 << 17;

/// Sides of the images, in pixels of four bytes.
const SIDES: [(i32, i32); 2] = [(64, 64), (1920, 1080)];

/// Measures both calls in turn.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("buffers of images");
    let client = Client::new(servers)?;
    let connection = servers.connect_graphics()?;
    let allocator = connection.service.as_ref();
    let about = "One call in µs over a socket, until the descriptors are here: allocate of the service's own interface, and \
                 allocate2 of Android's graphics allocator for an image of as many bytes from the same heap, in turn. Pooled \
                 buffers are clean.";
    let header = ["image", "allocate p50", "allocate2 p50", "allocate2 to allocate", "allocate2 p99"];
    let mut section = Section::new("graphics", about, &header);
    for (width, height) in SIDES {
        for (origin, usage) in [(Origin::Fresh, CPU | CAMERA), (Origin::Pooled, CPU)] {
            let bytes = u64::try_from(i64::from(width) * i64::from(height) * 4)?;
            client.empty()?;
            let kind = if origin == Origin::Pooled { "pooled" } else { "no pool" };
            let name = format!("RGBA_8888 {width}x{height}, {kind}");
            let image = || allocate2(allocator, width, height, usage);
            let mut timed = [
                Timed::new("allocate", ROUNDS, || client.one(origin, bytes))?,
                Timed::new("allocate2", ROUNDS, image)?,
            ];
            let is_pooled = origin == Origin::Pooled && bytes >= 32 << 10;
            run(&mut timed, |round, turn| {
                if is_pooled && turn == 0 && round.is_multiple_of(WARM) {
                    client.warm(bytes.next_multiple_of(4096), 2)?;
                    // A server that slept meanwhile is woken by an exchange that is not timed.
                    client.one(Origin::Fresh, 4096).map(drop)?;
                }
                Ok(())
            })?;
            let [plain, image] = &timed;
            let ratio = image.ratio_to(plain);
            let times = [plain.p50(), image.p50()].map(|time| format!("{time:.1}"));
            let p99 = format!("{:.1}", image.micros(0.99));
            section.row(
                [name.clone()].into_iter().chain(times).chain([text(ratio), p99]),
                serde_json::json!({
                    "image": name, "bytes": bytes, "allocate_us": plain.p50(), "allocate2_us": image.p50(),
                    "to_allocate": ratio, "p99_us": image.micros(0.99), "rounds": ROUNDS,
                }),
            );
        }
    }
    Ok(section)
}

fn allocate2(
    allocator: &dyn IAllocator,
    width: i32,
    height: i32,
    usage: i64,
) -> anyhow::Result<AllocationResult> {
    let mut descriptor = BufferDescriptorInfo { width, height, layerCount: 1, ..Default::default() };
    descriptor.name[..5].copy_from_slice(b"bench");
    (descriptor.format, descriptor.usage.0) = (PixelFormat::RGBA_8888, usage);
    allocator.allocate2(&descriptor, 1).map_err(|status| anyhow::anyhow!("{status}"))
}
