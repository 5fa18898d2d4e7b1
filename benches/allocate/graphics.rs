// SPDX-License-Identifier: Apache-2.0
//! Measures the cost of the graphics allocator beside a plain request for a buffer of the same size
//! and heap. It adds a metadata file for each buffer, and a handle.

use crate::client::{Client, Origin};
use crate::report::{Section, progress};
use crate::servers::Servers;
use crate::timed::Held;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::{
    allocator::{
        AllocationResult::AllocationResult, BufferDescriptorInfo::BufferDescriptorInfo,
        IAllocator::IAllocator,
    },
    common::PixelFormat::PixelFormat,
};
use std::time::{Duration, Instant};

/// Runs of both calls, in turn.
const ROUNDS: usize = 1200;
/// Rounds whose medians make a ratio: few, so that the load of the machine is equal for both.
const WINDOW: usize = 40;
/// The CPU reads and writes often; the rule for this usage selects the heap with a pool.
const CPU: i64 = 0x33;
/// A camera writes, too; the rule for this usage selects the heap without a pool.
const CAMERA: i64 = 1 << 17;

/// Sides of the images, in pixels of four bytes.
const SIDES: [(i32, i32); 2] = [(64, 64), (1920, 1080)];
/// Side of an image for an exchange without timing.
const SMALL: i32 = 32;

/// Measures both calls in turn.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("buffers of images");
    let client = Client::new(servers)?;
    let connection = servers.connect_graphics()?;
    let allocator = connection.service.as_ref();
    let about = "One call in µs over a socket, until the client has the descriptors: allocate of the service's own interface, \
                 and allocate2 of Android's graphics allocator for an image of as many bytes from the same heap, in turn. \
                 Pooled buffers are clean. The ratio compares the medians of each of 40 rounds: the table has the median \
                 of the ratios, and the range of their middle half.";
    let header =
        ["image", "allocate p50", "allocate2 p50", "allocate2 to allocate", "half of all", "allocate2 p99"];
    let mut section = Section::new("graphics", about, &header);
    for (width, height) in SIDES {
        for (origin, usage) in [(Origin::Fresh, CPU | CAMERA), (Origin::Pooled, CPU)] {
            let bytes = u64::try_from(i64::from(width) * i64::from(height) * 4)?;
            client.empty()?;
            let kind = if origin == Origin::Pooled { "pooled" } else { "no pool" };
            let name = format!("RGBA_8888 {width}x{height}, {kind}");
            let image = || allocate2(allocator, width, height, usage);
            let is_pooled = origin == Origin::Pooled && bytes >= 32 << 10;
            let mut times = [const { Vec::new() }; 2];
            for round in 0..ROUNDS {
                if is_pooled {
                    client.warm(bytes.next_multiple_of(4096), 2)?;
                    // Exchanges without timing: cleaning has displaced both threads' code from the
                    // caches, and they may sleep.
                    client.one(Origin::Fresh, 4096).map(drop)?;
                    allocate2(allocator, SMALL, SMALL, CPU | CAMERA).map(drop)?;
                }
                // Neither call is always the first.
                for turn in [round % 2, 1 - round % 2] {
                    let start = Instant::now();
                    let held: Held =
                        if turn == 0 { Box::new(client.one(origin, bytes)?) } else { Box::new(image()?) };
                    times[turn].push(start.elapsed());
                    drop(held);
                }
            }
            let [plain, image] = times;
            let windows = plain.chunks(WINDOW).zip(image.chunks(WINDOW));
            let mut ratios: Vec<f64> = windows.map(|(plain, image)| at(image, 50) / at(plain, 50)).collect();
            ratios.sort_unstable_by(f64::total_cmp);
            let [low, ratio, high] = [1, 2, 3].map(|quarter| ratios[quarter * (ratios.len() - 1) / 4]);
            let [plain, image, p99] = [at(&plain, 50), at(&image, 50), at(&image, 99)];
            section.row(
                [
                    name.clone(),
                    format!("{plain:.1}"),
                    format!("{image:.1}"),
                    format!("{ratio:.2}"),
                    format!("{low:.2} to {high:.2}"),
                    format!("{p99:.1}"),
                ],
                serde_json::json!({
                    "image": name, "bytes": bytes, "allocate_us": plain, "allocate2_us": image,
                    "to_allocate": ratio, "quartiles": [low, high], "p99_us": p99, "rounds": ROUNDS,
                }),
            );
        }
    }
    Ok(section)
}

/// Returns the time in µs that `percent` percent of the calls did not exceed.
fn at(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e6
}

/// Allocates an image of RGBA_8888.
pub(crate) fn allocate2(
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
