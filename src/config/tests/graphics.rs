// SPDX-License-Identifier: Apache-2.0
//! Tests which heaps serve images: the meaning of the `graphics` node, and the messages about its
//! errors.

use super::super::graphics::words;
use super::{findings, load, names, own};
use anion_layout::Usage;

/// Two heaps that rules may name.
const HEAPS: &str = "system { type = \"system\"; heap-id = <25>; aliases = \"other\"; }; \
    camera { type = \"carveout\"; heap-id = <20>; size = <0x100000>; stride-align = <256>; }; \
    vault { type = \"system\"; heap-id = <9>; secure; device = \"dma-heap:vault\"; };";

fn with(graphics: &str) -> super::Loaded {
    own(&format!("{HEAPS} graphics {{ {graphics} }};"))
}

/// Returns a line for each rule: its name, its usages, its heaps.
fn rules(loaded: &super::Loaded) -> Vec<String> {
    let line = |rule: &super::super::spec::GraphicsRule| {
        let heaps: Vec<_> = rule.heaps.iter().map(ToString::to_string).collect();
        let kind = if rule.dma_bufs_only { " dma-bufs" } else { "" };
        format!("{}: {} from {}{kind}", rule.name, words(rule.usages), heaps.join(" "))
    };
    loaded.config.graphics.iter().map(line).collect()
}

#[test]
fn rules_come_by_number_and_then_by_name() {
    let loaded = with(
        "b { reg = <1>; usages = \"cpu\"; heaps = \"other\"; }; \
         z { reg = <0>; usages = \"gpu-texture\", \"composer\"; heaps = \"camera\", \"system\"; dma-bufs-only; }; \
         d { vendor-usages = <0x80000000 0x10000000>; heaps = \"system\"; }; \
         a { usages = \"cpu\", \"camera\"; heaps = \"system\"; };",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    let expected = [
        "z: composer gpu-texture from camera system dma-bufs",
        "b: cpu from system",
        "a: cpu camera from system",
        "d: 0x8000000010000000 from system",
    ];
    assert_eq!(rules(&loaded), expected);
    assert_eq!(loaded.config.heaps[1].stride_align, 256);
    assert_eq!(names(&loaded), ["system", "camera", "vault"], "the node is no heap");
}

#[test]
fn without_the_node_ordinary_memory_serves_what_any_machine_can() {
    for loaded in [own(HEAPS), with("status = \"disabled\";")] {
        let rules = &loaded.config.graphics;
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].heaps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["system"]);
        for served in [0, 0x33, Usage::CAMERA_OUTPUT | 0x3, Usage::VIDEO_ENCODER, Usage::SENSOR_DIRECT_DATA] {
            assert!(rules[0].covers(Usage(served | Usage::REMOVED)), "{served:#x}");
        }
        for not in
            [Usage::GPU_TEXTURE, Usage::COMPOSER_OVERLAY, Usage::PROTECTED, Usage::RENDERSCRIPT, 1 << 28]
        {
            assert!(!rules[0].covers(Usage(0x33 | not)), "{not:#x}");
        }
    }
    let without = own("c { type = \"carveout\"; size = <0x1000>; };");
    assert!(without.config.graphics.is_empty());
    let empty = with("");
    assert_eq!((findings(&empty), rules(&empty)), (vec![], vec![]));
}

#[test]
fn protected_buffers_come_from_memory_of_their_own() {
    let loaded = with("p { usages = \"protected\", \"composer\"; heaps = \"vault\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let rule = &loaded.config.graphics[0];
    assert!(rule.covers(Usage(Usage::PROTECTED | Usage::COMPOSER_OVERLAY)));
    assert!(!rule.covers(Usage(Usage::COMPOSER_OVERLAY)), "what is not protected does not take it");
}

#[test]
fn every_mistake_is_named_and_costs_one_rule() {
    let good = "good { usages = \"cpu\"; heaps = \"system\"; };";
    let cases = [
        (
            "usages = \"cpu\", \"cups\"; heaps = \"system\";",
            "usages has \"cups\", but each must be one of cpu, ",
        ),
        ("heaps = \"system\";", "usages is missing: one or more of cpu, "),
        ("usages = \"cpu\";", "heaps is missing, but it must name at least one heap"),
        ("usages = \"cpu\"; heaps = \"nope\";", "heaps names \"nope\", which is no heap"),
        ("usages = \"cpu\"; heaps = \"system\", \"other\";", "heaps names system twice"),
        (
            "usages = \"cpu\"; heaps = \"vault\";",
            "heaps names vault, which is secure, but usages lacks protected",
        ),
        (
            "usages = \"protected\"; heaps = \"system\";",
            "heaps names system, which is not secure, but usages has",
        ),
        ("usages = \"protected\", \"cpu\"; heaps = \"vault\";", "usages has protected and cpu"),
        (
            "vendor-usages = <0x1>; heaps = \"system\";",
            "vendor-usages is 0x1, but only the bits 0xffff0000f0000000",
        ),
        ("usages = \"cpu\"; heaps = \"system\"; heap = \"x\";", "unknown property heap; did you mean heaps?"),
        ("usages = <1>; heaps = \"system\";", "usages must be a string in double quotes"),
        (
            "reg = <0 1>; usages = \"cpu\"; heaps = \"system\";",
            "reg must be one 32-bit cell, but it has 8 bytes",
        ),
    ];
    for (properties, message) in cases {
        let loaded = with(&format!("bad {{ {properties} }}; {good}"));
        let found = findings(&loaded);
        assert!(found.len() == 1 && found[0].contains(message), "{properties}: {found:?}");
        assert_eq!(rules(&loaded), ["good: cpu from system"], "{properties}");
    }
    let loaded = with("usages = \"cpu\";");
    assert!(findings(&loaded)[0].contains("unknown property usages"), "{:?}", findings(&loaded));
}

#[test]
fn the_alignment_of_rows_is_a_power_of_two() {
    for (bytes, is_good) in [("0", false), ("48", false), ("0x2000", false), ("1", true), ("0x1000", true)] {
        let loaded = own(&format!("a {{ type = \"system\"; stride-align = <{bytes}>; }};"));
        assert_eq!(loaded.config.heaps.len(), usize::from(is_good), "{bytes}");
        assert_eq!(findings(&loaded).iter().any(|found| found.contains("stride-align is ")), !is_good);
    }
    let vendor = load("/dts-v1/; / { reserved-memory { }; };");
    assert!(vendor.config.graphics.is_empty());
}
