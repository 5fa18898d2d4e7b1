// SPDX-License-Identifier: Apache-2.0
//! Defines the kernels of guests, and obtains them.

mod enforcing;
mod packages;
mod source;
mod vkms;

use std::path::{Path, PathBuf};

use anyhow::Result;

use self::packages::Series;
use super::guest::Course;
use super::machine::{self, Machine};
use super::{chaos, pictures};
use crate::debian::{Apt, SID, Suite};
use crate::needs;
use crate::tools::Tool;

/// A kernel for guests.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its origin.
    pub(crate) from: &'static str,
    /// The machine on which it boots.
    pub(super) machine: &'static Machine,
    /// The devices that it must have below `/dev`. It may have no others that the guest's script
    /// knows.
    pub(crate) devices: &'static [&'static str],
    /// The parties of the contract table that must have a heap here.
    pub(super) parties: &'static [&'static str],
    /// The backing of each heap of `fallback.dts`: lines of a name and a kind of buffer, or `none`.
    pub(super) backings: &'static [&'static str],
    /// Its page size in KiB.
    pub(super) page: u32,
    /// Kernel parameters beside those of every guest.
    pub(super) append: &'static str,
    /// Whether it accepts a device tree from the emulator.
    pub(super) takes_device_tree: bool,
    /// The steps that run on it.
    pub(super) course: Course,
    origin: Origin,
}

/// The origin of a kernel.
#[derive(Debug)]
enum Origin {
    /// Packages of a suite of the running Debian.
    System(Series),
    /// The same, with the module vkms, which is built for it.
    WithDisplay(Series),
    /// Packages of another suite.
    Suite(Suite, Series),
    /// Built from its source.
    Built,
}

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Package and version.
    pub(super) title: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    /// The modules to insert, in this order: `.ko`, or compressed as `.ko.xz`.
    pub(super) modules: Vec<PathBuf>,
    /// The same for cameras and graphics devices.
    pub(super) picture_modules: Vec<PathBuf>,
}

/// Binder without binderfs. If Debian's kernels have dma-heap and udmabuf, these are built in.
const BINDER: &[&str] = &["kernel/drivers/android/binder_linux"];

/// The same with compressed swap, as on devices.
const BINDER_AND_SWAP: &[&str] = &[
    "kernel/drivers/android/binder_linux",
    "kernel/lib/lz4/lz4_compress",
    "kernel/lib/lz4/lz4hc_compress",
    "kernel/drivers/block/zram/zram",
];

/// The camera vivid and the graphics device vgem, each after its dependencies. Debian's kernels
/// lack vim2m, vicodec and vkms; the last depends only on modules in this list.
const PICTURE_MODULES: &[&str] = &[
    "kernel/drivers/media/rc/rc-core",
    "kernel/drivers/media/cec/core/cec",
    "kernel/drivers/media/mc/mc",
    "kernel/drivers/media/v4l2-core/videodev",
    "kernel/drivers/media/v4l2-core/v4l2-dv-timings",
    "kernel/drivers/media/common/v4l2-tpg/v4l2-tpg",
    "kernel/drivers/media/common/videobuf2/videobuf2-common",
    "kernel/drivers/media/common/videobuf2/videobuf2-memops",
    "kernel/drivers/media/common/videobuf2/videobuf2-v4l2",
    "kernel/drivers/media/common/videobuf2/videobuf2-vmalloc",
    "kernel/drivers/media/common/videobuf2/videobuf2-dma-contig",
    "kernel/drivers/media/test-drivers/vivid/vivid",
    "kernel/drivers/gpu/drm/drm",
    "kernel/drivers/gpu/drm/drm_kms_helper",
    "kernel/drivers/gpu/drm/drm_shmem_helper",
    "kernel/drivers/gpu/drm/vgem/vgem",
];

/// Distinguishes kernels within a minute: start of the service, safe recycling of memory, and the
/// answers of the contract table.
const SHORT: &[&str] = &["devices", "hub", "serve-binder", "doctor", "domains", "contract", "stop-binder"];

/// The suites of the graphics allocator and of the mapper.
const GRAPHICS: &[&str] = &["vts-graphics"];

/// The conformance suite.
const SUITE: &[&str] = &["vts-binder-alice"];

/// Steps that need a feature which only this kernel has.
const OF_ION: &[&str] = &["device-tree", "vts-vndbinder"];

/// The same two; the conformance suite as one user and the graphics suite, for kernels on which two
/// users run everything at the same time; the camera, which another kernel has in the test command;
/// and chaos, which runs alone.
const NOT_OF_TWO: &[&str] =
    &["device-tree", "vts-vndbinder", "vts-binder-alice", "vts-graphics", pictures::STEP, chaos::STEP];

/// The answers of the contract table.
const ANSWERS: &[&str] = &["devices", "hub", "serve-binder", "contract", "stop-binder"];

/// Root's service raises the limits of a udmabuf module with such parameters.
const LIMITS: &[&str] = &["limits"];

/// The selection of sources, and the loss of devices.
const FALLBACK: &[&str] = &["fallback", "closed-devices", "vanished-devices"];

/// Heaps that every kernel has.
const EVERYWHERE: &[&str] = &["anion/system", "anion/camera"];
/// Kernels with the dma-heap of system memory and udmabuf.
const WITH_DMA_BUFS: &[&str] = &[
    "dma-heap/system",
    "anion/system",
    "anion/camera",
    "anion/frames",
    "anion/kernel",
    "anion/recycled",
    "anion/lens",
    "anion/tiles",
];
/// Kernels with udmabuf only.
const WITH_UDMABUF: &[&str] = &["anion/system", "anion/camera", "anion/frames", "anion/lens", "anion/tiles"];
/// Kernels with ION and its successors.
const WITH_ION: &[&str] = &[
    "ion/ion_system_heap",
    "ion/ion_system_contig_heap",
    "ion/reserved",
    "dma-heap/reserved",
    "dma-heap/system",
    "anion/system",
    "anion/camera",
    "anion/frames",
    "anion/kernel",
    "anion/recycled",
    "anion/lens",
    "anion/tiles",
    "anion/legacy",
    "anion/region",
    "anion/contiguous",
];

/// Kernels with ION, but without contiguous memory.
const WITHOUT_CMA: &[&str] = &[
    "ion/ion_system_heap",
    "ion/ion_system_contig_heap",
    "dma-heap/system",
    "anion/system",
    "anion/camera",
    "anion/frames",
    "anion/kernel",
    "anion/recycled",
    "anion/lens",
    "anion/tiles",
    "anion/legacy",
    "anion/region",
];

/// The first is the default.
pub(crate) const KERNELS: [Entry; 8] = [
    Entry {
        name: "debian-6.12",
        from: "newest 6.12 of the running Debian",
        machine: &machine::PC,
        devices: &["binder", "dma_heap/system", "udmabuf"],
        parties: WITH_DMA_BUFS,
        backings: &[
            "whatever dma-heap",
            "ordered udmabuf",
            "strict dma-heap",
            "contiguous none",
            "anyhow memfd",
        ],
        page: 4,
        append: "",
        takes_device_tree: false,
        course: Course::AllBut(NOT_OF_TWO),
        origin: Origin::WithDisplay(Series {
            prefix: "6.12.",
            suffix: "-amd64",
            packages: &["linux-image-"],
            modules: BINDER_AND_SWAP,
            picture_modules: PICTURE_MODULES,
        }),
    },
    Entry {
        name: "debian-6.1",
        from: "newest 6.1 of the running Debian",
        machine: &machine::PC,
        devices: &["binder"],
        parties: EVERYWHERE,
        backings: &["whatever memfd", "ordered memfd", "strict none", "contiguous none", "anyhow memfd"],
        page: 4,
        append: "",
        takes_device_tree: false,
        course: Course::Only(&[SHORT, SUITE, &["fallback"]]),
        origin: Origin::System(Series {
            prefix: "6.1.0-",
            suffix: "-amd64",
            packages: &["linux-image-"],
            modules: BINDER,
            picture_modules: PICTURE_MODULES,
        }),
    },
    Entry {
        name: "debian-7",
        from: "newest 7.x of Debian sid",
        machine: &machine::PC,
        devices: &["binder", "dma_heap/system", "udmabuf"],
        parties: WITH_DMA_BUFS,
        backings: &[
            "whatever dma-heap",
            "ordered udmabuf",
            "strict dma-heap",
            "contiguous none",
            "anyhow memfd",
        ],
        page: 4,
        append: "",
        takes_device_tree: false,
        // The whole suite passes on 6.12, with the same devices, and on the same series for 64-bit
        // ARM.
        course: Course::Only(&[SHORT, GRAPHICS, &[pictures::STEP], FALLBACK, LIMITS]),
        origin: Origin::Suite(
            SID,
            Series {
                prefix: "7.",
                suffix: "-amd64",
                packages: &["linux-binary-", "linux-modules-"],
                modules: BINDER,
                picture_modules: PICTURE_MODULES,
            },
        ),
    },
    Entry {
        name: "arm64-16k",
        from: "newest 7.x of Debian sid, for 64-bit ARM with pages of 16 KiB",
        machine: &machine::ARM64,
        devices: &["binder", "udmabuf"],
        parties: WITH_UDMABUF,
        backings: &["whatever udmabuf", "ordered udmabuf", "strict none", "contiguous none", "anyhow memfd"],
        page: 16,
        append: "",
        takes_device_tree: false,
        course: Course::Only(&[SHORT, SUITE, FALLBACK]),
        origin: Origin::Suite(
            SID,
            Series {
                prefix: "7.",
                suffix: "-arm64-16k",
                packages: &["linux-binary-", "linux-modules-"],
                modules: BINDER,
                picture_modules: &[],
            },
        ),
    },
    enforcing::ENTRY,
    Entry {
        name: "ion",
        from: "5.10, built from the source in Debian bullseye-security",
        machine: &machine::PC,
        devices: &[
            "ashmem",
            "binder",
            "dma_heap/reserved",
            "dma_heap/system",
            "hwbinder",
            "ion",
            "udmabuf",
            "vndbinder",
        ],
        parties: WITH_ION,
        backings: &[
            "whatever dma-heap",
            "ordered dma-heap",
            "strict dma-heap",
            "contiguous dma-heap",
            "anyhow dma-heap",
        ],
        page: 4,
        append: "",
        takes_device_tree: true,
        course: Course::Only(&[SHORT, SUITE, OF_ION, FALLBACK]),
        origin: Origin::Built,
    },
    Entry {
        name: "ion-no-cma",
        from: "the same, without contiguous memory",
        machine: &machine::PC,
        devices: &["ashmem", "binder", "dma_heap/system", "hwbinder", "ion", "udmabuf", "vndbinder"],
        parties: WITHOUT_CMA,
        backings: &[
            "whatever dma-heap",
            "ordered udmabuf",
            "strict dma-heap",
            "contiguous none",
            "anyhow memfd",
        ],
        page: 4,
        append: "cma=0",
        takes_device_tree: false,
        course: Course::Only(&[ANSWERS, FALLBACK]),
        origin: Origin::Built,
    },
    Entry {
        name: "ion-broken-cma",
        from: "the same, with a contiguous heap that cannot allocate",
        machine: &machine::PC,
        devices: &[
            "ashmem",
            "binder",
            "dma_heap/reserved",
            "dma_heap/system",
            "hwbinder",
            "ion",
            "udmabuf",
            "vndbinder",
        ],
        // The broken heap gives no memory for any request, so the table does not run.
        parties: &[],
        backings: &[
            "whatever dma-heap",
            "ordered udmabuf",
            "strict dma-heap",
            "contiguous none",
            "anyhow memfd",
        ],
        page: 4,
        append: "cma=256M movablecore=64M",
        takes_device_tree: false,
        course: Course::Only(&[&["devices"], FALLBACK]),
        origin: Origin::Built,
    },
];

impl Entry {
    /// Returns the newest kernel of its kind, downloaded or built unless it is in the cache.
    ///
    /// # Errors
    /// If it is unavailable and the cache has none of this kind.
    pub(super) fn obtain(&self, cache: &Path) -> Result<Kernel> {
        match &self.origin {
            Origin::System(series) => series.newest(|| Ok(Apt::system()), cache),
            Origin::WithDisplay(series) => {
                let mut kernel = series.newest(|| Ok(Apt::system()), cache)?;
                let display = vkms::obtain(&kernel.title, &Apt::system(), &cache.join("kernels"))?;
                kernel.picture_modules.push(display);
                Ok(kernel)
            }
            Origin::Suite(suite, series) => series.newest(|| Apt::of_suite(suite, cache), cache),
            Origin::Built => source::newest(cache),
        }
    }

    /// Returns the tools that are needed to boot it.
    pub(super) fn tools(&self) -> Vec<Tool> {
        let is_built = matches!(self.origin, Origin::Built | Origin::WithDisplay(_));
        let built = if is_built { needs::KERNEL } else { &[] };
        let tree = if self.takes_device_tree { needs::DEVICE_TREE } else { &[] };
        [self.machine.tools, built, tree].concat()
    }

    /// Returns the parts that will be downloaded or built, without those in the cache.
    pub(super) fn unfetched(&self, cache: &Path) -> Vec<String> {
        let kernels = cache.join("kernels");
        let download = || format!("download the kernel {}: {}", self.name, self.from);
        match &self.origin {
            Origin::System(series) | Origin::Suite(_, series) => {
                series.newest_cached(&kernels).is_none().then(download).into_iter().collect()
            }
            Origin::WithDisplay(series) => match series.newest_cached(&kernels) {
                None => vec![download(), vkms::WORK.to_owned()],
                Some(kernel) if vkms::is_cached(&kernel, &kernels) => Vec::new(),
                Some(_) => vec![vkms::WORK.to_owned()],
            },
            Origin::Built => source::newest_cached(&kernels)
                .is_none()
                .then(|| source::WORK.to_owned())
                .into_iter()
                .collect(),
        }
    }

    /// Returns a line with its description.
    pub(crate) fn about(&self) -> String {
        format!("{}; has {}", self.from, self.devices.join(", "))
    }
}
