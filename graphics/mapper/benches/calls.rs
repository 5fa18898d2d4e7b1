// SPDX-License-Identifier: Apache-2.0
//! Measures the mapper's calls, beside the kernel's calls for the same: `cargo bench -p
//! anion-mapper`. Buffers are memfds. The results are medians in microseconds.

#[path = "../tests/maker/mod.rs"]
mod maker;
#[path = "../../../vts/src/mapper/sys/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the conformance suite uses the rest")]
#[expect(unsafe_code, reason = "it calls a library of C's")]
mod sys;

use anion_handle::{Handle, Request};
use anion_layout::{Format, STRIDE_ALIGN, Usage};
use anion_memory::map::SharedMap;
use anion_memory::{Access, BufferId};
use anyhow::{Result, anyhow};
use std::time::Instant;
use sys::{Library, Mapper, Native, Rect};

/// Times that each thing is done.
const ROUNDS: usize = 4000;
/// Times that eight megabytes are mapped.
const LARGE_ROUNDS: usize = 200;

fn main() -> Result<()> {
    // Words are parts of the benchmark of the workspace's root.
    if std::env::args().skip(1).any(|word| word != "--bench") {
        return Ok(());
    }
    let library = std::env::current_exe()?.with_file_name("libanion_mapper.so");
    let mapper = Library::open(&library)?.load()?;
    let small = buffer(64, 64)?;
    import(mapper, &small)?;
    calls(mapper, &small)?;
    first_lock(mapper, &buffer(1920, 1080)?)
}

/// Returns a handle of RGBA_8888.
fn buffer(width: u32, height: u32) -> Result<Native> {
    let request = Request {
        format: Format::Rgba8888,
        width,
        height,
        layers: 1,
        usage: Usage(0x33),
        stride_align: STRIDE_ALIGN,
        reserved_size: 0,
    };
    let size = request.needed()?.1.next_multiple_of(4096);
    let handle = Handle::new(BufferId(1), request, size, Access::ReadWrite)?;
    Native::new(maker::files(&handle, b"bench")?.into(), &handle.to_ints())
}

/// Returns the median of this number of rounds.
fn median(rounds: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[rounds / 2].as_secs_f64() * 1e6)
}

fn row(name: &str, microseconds: f64) {
    println!("| {name} | {microseconds:.2} |");
}

fn failed(call: &str) -> impl Fn(i32) -> anyhow::Error + '_ {
    move |code| anyhow!("{call} returns {code}")
}

fn import(mapper: Mapper, native: &Native) -> Result<()> {
    let floor = median(ROUNDS, || {
        let copies = [native.fds()[0].try_clone()?, native.fds()[1].try_clone()?];
        drop(SharedMap::sparse(&copies[1], 4096)?);
        Ok(())
    })?;
    row("two descriptors copied and closed, a page mapped and unmapped", floor);
    let took = median(ROUNDS, || {
        let buffer = mapper.import(native).map_err(failed("importBuffer"))?;
        mapper.free(buffer);
        Ok(())
    })?;
    row("importBuffer and freeBuffer", took);
    Ok(())
}

fn calls(mapper: Mapper, native: &Native) -> Result<()> {
    let buffer = mapper.import(native).map_err(failed("importBuffer"))?;
    let whole = Rect::default();
    let took = median(ROUNDS, || {
        mapper.lock(buffer, 0x33, whole, None, 0).map_err(failed("lock"))?;
        mapper.unlock(buffer).map_err(failed("unlock"))?;
        Ok(())
    })?;
    row("lock and unlock, from the second time on", took);
    let mut value = [0; 1024];
    for (name, number) in [("WIDTH", 3), ("PLANE_LAYOUTS", 15), ("DATASPACE", 17)] {
        let took = median(ROUNDS, || {
            mapper.get_standard(buffer, number, &mut value);
            Ok(())
        })?;
        row(&format!("getStandardMetadata of {name}"), took);
    }
    let length = usize::try_from(mapper.get_standard(buffer, 17, &mut value))?;
    let took = median(ROUNDS, || {
        mapper.set_standard(buffer, 17, &value[..length]);
        Ok(())
    })?;
    row("setStandardMetadata of DATASPACE", took);
    mapper.free(buffer);
    Ok(())
}

fn first_lock(mapper: Mapper, native: &Native) -> Result<()> {
    let bytes = 1920 * 1080 * 4;
    let floor = median(LARGE_ROUNDS, || {
        drop(SharedMap::new(&native.fds()[0], bytes, Access::ReadWrite)?);
        Ok(())
    })?;
    row("8 MiB mapped with all pages, and unmapped", floor);
    let took = median(LARGE_ROUNDS, || {
        let buffer = mapper.import(native).map_err(failed("importBuffer"))?;
        mapper.lock(buffer, 0x33, Rect::default(), None, 0).map_err(failed("lock"))?;
        mapper.unlock(buffer).map_err(failed("unlock"))?;
        mapper.free(buffer);
        Ok(())
    })?;
    row("1920 by 1080 imported, locked the first time, unlocked and freed", took);
    Ok(())
}
