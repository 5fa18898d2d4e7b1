// SPDX-License-Identifier: Apache-2.0
//! The heaps of the service: over memfds on every machine, and over the devices that this machine
//! has.

use std::path::Path;

/// Bytes of each heap with a size.
pub(crate) const SIZED: [(&str, u64); 5] = [
    ("carveout", 32 << 20),
    ("chunks", 16 << 20),
    ("direct", 16 << 20),
    ("lens", 16 << 20),
    ("contiguous", 16 << 20),
];

/// A uid with privileges; the others have none.
pub(crate) const PRIVILEGED: u32 = 61_003;

/// Heaps, and the device that they need: its path, the names, and the nodes of the device tree.
const OVER_DEVICES: [(&str, &[&str], &str); 3] = [
    (
        "/dev/udmabuf",
        &["frames", "blocks", "lens"],
        r#"frames { type = "system"; heap-id = <24>; device = "udmabuf"; deferred-free; };
        blocks { type = "system"; heap-id = <23>; device = "udmabuf"; deferred-free; pool-orders = <4 0>; };
        lens { type = "carveout"; heap-id = <19>; size = <0x1000000>; device = "udmabuf"; deferred-free; };"#,
    ),
    (
        "/dev/dma_heap/system",
        &["kernel", "recycled"],
        r#"kernel { type = "system"; heap-id = <22>; device = "dma-heap:system"; };
        recycled { type = "system"; heap-id = <21>; device = "dma-heap:system"; recycle; };"#,
    ),
    (
        "/dev/dma_heap/reserved",
        &["contiguous"],
        r#"contiguous { type = "cma"; heap-id = <18>; size = <0x1000000>; device = "dma-heap:reserved"; };"#,
    ),
];

/// The heaps of a service.
pub(crate) struct Heaps {
    /// The device tree.
    pub(crate) tree: String,
    pub(crate) names: Vec<&'static str>,
    /// The devices that they use.
    pub(crate) devices: Vec<&'static Path>,
}

impl Heaps {
    /// Returns heaps over memfds, and heaps over each device that this machine has.
    pub(crate) fn of_this_machine() -> Self {
        let present: Vec<_> = OVER_DEVICES.iter().filter(|(device, ..)| Path::new(device).exists()).collect();
        let over_devices: String = present.iter().map(|(.., nodes)| *nodes).collect();
        let tree = format!(
            r#"/dts-v1/; / {{ anion {{ compatible = "anion,heaps-v1";
    system {{ type = "system"; heap-id = <25>; device = "memfd"; deferred-free; }};
    carveout {{ type = "carveout"; heap-id = <20>; size = <0x2000000>; device = "memfd"; deferred-free; }};
    chunks {{ type = "chunk"; heap-id = <10>; size = <0x1000000>; chunk-size = <0x10000>; device = "memfd"; }};
    direct {{ type = "carveout"; heap-id = <5>; size = <0x1000000>; device = "memfd"; immediate-free; }};
    {over_devices}
    clients {{ max-bytes = <0x3000000>; favoured {{ uids = <{PRIVILEGED}>; max-bytes = <0x3000000>; privileged; }}; }};
}}; }};"#
        );
        let names = present.iter().flat_map(|(_, names, _)| *names).copied();
        Self {
            tree,
            names: ["system", "carveout", "chunks", "direct"].into_iter().chain(names).collect(),
            devices: present.iter().map(|(device, ..)| Path::new(*device)).collect(),
        }
    }

    /// Returns the heaps with a size.
    pub(crate) fn sized(&self) -> Vec<(&'static str, u64)> {
        SIZED.into_iter().filter(|(name, _)| self.names.contains(name)).collect()
    }
}
