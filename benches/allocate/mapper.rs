// SPDX-License-Identifier: Apache-2.0
//! Measures the mapper's calls for each kind of buffer on this machine, beside the kernel's call
//! that begins and ends an access of the CPU. `cargo bench -p anion-mapper` measures all of its
//! calls, for memfds.

#[path = "../../vts/src/mapper/sys/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the conformance suite uses the rest")]
#[expect(unsafe_code, reason = "it calls a library of C's")]
mod platform;

use crate::graphics::allocate2;
use crate::report::{Section, progress};
use crate::servers::{GraphicsService, Servers, program};
use anion_memory::dma_buf::{CpuAccess, Phase, sync};
use anyhow::{Context, Result, anyhow};
use platform::{Library, Mapper, Native, Rect};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

/// Number of each call.
const ROUNDS: usize = 2000;
/// The CPU reads and writes often.
const CPU: i64 = 0x33;
/// Usage bits whose rules select one heap each.
const KINDS: [(&str, i64); 3] = [("memfd", 1 << 16), ("udmabuf", 1 << 17), ("dma-heap", 1 << 23)];
const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    files { type = "system"; heap-id = <1>; device = "memfd"; };
    frames { type = "system"; heap-id = <2>; device = "udmabuf"; };
    kernel { type = "system"; heap-id = <3>; device = "dma-heap:system"; };
    graphics {
        files { usages = "cpu", "video-encoder"; heaps = "files"; };
        frames { usages = "cpu", "camera-output"; heaps = "frames"; };
        kernel { usages = "cpu", "sensor"; heaps = "kernel"; };
    };
}; };"#;

/// Measures the calls with each kind in turn.
pub(crate) fn measure(_: &Servers) -> Result<Section> {
    progress("calls of the mapper");
    let about = "Calls of the mapper in µs, p50, for an image of 64x64 pixels of RGBA_8888, by the kind of its buffer. \
                 The floor of lock and unlock is two calls of DMA_BUF_IOCTL_SYNC; for a memfd, they return ENOTTY.";
    let header = ["buffer", "importBuffer, freeBuffer", "two syncs", "lock, unlock", "above two syncs"];
    let mut section = Section::new("mapper", about, &header);
    let Some(place) = place() else {
        let missing = "not measured: no mapper beside the service (cargo build --release -p anion-mapper)";
        section.row([missing.to_owned()], serde_json::json!({ "missing": missing }));
        return Ok(section);
    };
    let mapper = Library::open(&place)?.load()?;
    let service = GraphicsService::start(HEAPS)?;
    for (kind, usage) in KINDS {
        // Some kernels lack some kinds.
        let Ok(answer) = allocate2(service.allocator(), 64, 64, CPU | usage) else { continue };
        let handle = answer.buffers.into_iter().next().context("no buffer")?;
        let native = Native::new(handle.fds.into_iter().map(OwnedFd::from).collect(), &handle.ints)?;
        let [import, syncs, lock] = calls(mapper, &native)?;
        let cells = [import, syncs, lock, lock - syncs].map(|micros| format!("{micros:.2}"));
        section.row(
            [kind.to_owned()].into_iter().chain(cells),
            serde_json::json!({ "buffer": kind, "import_us": import, "two_syncs_us": syncs, "lock_us": lock }),
        );
    }
    Ok(section)
}

/// Returns the path of the mapper: its installed name, or cargo's.
fn place() -> Option<PathBuf> {
    ["mapper.anion.so", "libanion_mapper.so"].map(program).into_iter().find(|place| place.is_file())
}

/// Returns the medians for one buffer: import and free, the kernel's two calls, lock and unlock.
fn calls(mapper: Mapper, native: &Native) -> Result<[f64; 3]> {
    let import = || mapper.import(native).map_err(|code| anyhow!("importBuffer returns {code}"));
    let buffer = import()?;
    let imported = median(|| {
        mapper.free(import()?);
        Ok(())
    })?;
    let synced = median(|| {
        sync(&native.fds()[0], CpuAccess::ReadWrite, Phase::Start)?;
        Ok(sync(&native.fds()[0], CpuAccess::ReadWrite, Phase::End)?)
    })?;
    let locked = median(|| {
        let locked = mapper.lock(buffer, CPU, Rect::default(), None, 0);
        locked.map_err(|code| anyhow!("lock returns {code}"))?;
        mapper.unlock(buffer).map(drop).map_err(|code| anyhow!("unlock returns {code}"))
    })?;
    mapper.free(buffer);
    Ok([imported, synced, locked])
}

fn median(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2].as_secs_f64() * 1e6)
}
