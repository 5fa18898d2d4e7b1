// SPDX-License-Identifier: Apache-2.0
//! Reads the rules for heaps of images: the `graphics` child of Anion's own node.

use super::diagnostic::Report;
use super::heaps::{is_on, refuse_unknown};
use super::property::{NodeReader, cell, number, texts};
use super::spec::{GraphicsRule, HeapSpec};
use super::tree::{NodeId, Tree};
use crate::units::{HeapName, HeapType};
use anion_layout::Usage;

/// The keys of a rule.
pub(super) const KEYS: &[&str] = &["reg", "usages", "vendor-usages", "heaps", "dma-bufs-only"];

/// Usages of the CPU.
const CPU: u64 = Usage::CPU_READ | Usage::CPU_WRITE;

/// The words for usages: groups first, then every single bit.
const WORDS: [(&str, u64); 23] = [
    ("cpu", CPU),
    ("camera", Usage::CAMERA_OUTPUT | Usage::CAMERA_INPUT),
    ("composer", Usage::COMPOSER_OVERLAY | Usage::COMPOSER_CLIENT_TARGET | Usage::COMPOSER_CURSOR),
    ("gpu", GPU),
    ("video", Usage::VIDEO_ENCODER | Usage::VIDEO_DECODER | Usage::HW_IMAGE_ENCODER),
    ("camera-input", Usage::CAMERA_INPUT),
    ("camera-output", Usage::CAMERA_OUTPUT),
    ("composer-client-target", Usage::COMPOSER_CLIENT_TARGET),
    ("composer-cursor", Usage::COMPOSER_CURSOR),
    ("composer-overlay", Usage::COMPOSER_OVERLAY),
    ("front-buffer", Usage::FRONT_BUFFER),
    ("gpu-cube-map", Usage::GPU_CUBE_MAP),
    ("gpu-data-buffer", Usage::GPU_DATA_BUFFER),
    ("gpu-mipmap-complete", Usage::GPU_MIPMAP_COMPLETE),
    ("gpu-render-target", Usage::GPU_RENDER_TARGET),
    ("gpu-texture", Usage::GPU_TEXTURE),
    ("hw-image-encoder", Usage::HW_IMAGE_ENCODER),
    ("protected", Usage::PROTECTED),
    ("renderscript", Usage::RENDERSCRIPT),
    ("sensor", Usage::SENSOR_DIRECT_DATA),
    ("sensor-direct-data", Usage::SENSOR_DIRECT_DATA),
    ("video-decoder", Usage::VIDEO_DECODER),
    ("video-encoder", Usage::VIDEO_ENCODER),
];

const GPU: u64 = Usage::GPU_TEXTURE
    | Usage::GPU_RENDER_TARGET
    | Usage::GPU_DATA_BUFFER
    | Usage::GPU_CUBE_MAP
    | Usage::GPU_MIPMAP_COMPLETE;

/// Usages that ordinary memory serves on any machine, since no device has to import it.
const EVERYWHERE: [&str; 5] = ["cpu", "camera", "video", "sensor", "front-buffer"];

/// Returns the rule of a configuration without a `graphics` node: the usages of the CPU, cameras,
/// codecs and sensors, from the system heaps by descending id. Returns no rule without such a heap.
pub fn default_rules(heaps: &[HeapSpec]) -> Vec<GraphicsRule> {
    let names: Vec<HeapName> = heaps
        .iter()
        .filter(|heap| heap.kind == HeapType::System && !heap.secure)
        .map(|heap| heap.name.clone())
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let usages = EVERYWHERE.iter().filter_map(|word| bits(word)).fold(0, |all, bits| all | bits);
    vec![GraphicsRule { name: "default".to_owned(), usages, heaps: names, dma_bufs_only: false }]
}

/// Returns the bits that a word stands for; `None` if the word is unknown.
fn bits(word: &str) -> Option<u64> {
    WORDS.iter().find(|(own, _)| *own == word).map(|(_, bits)| *bits)
}

/// Returns the words for these bits: groups if all of their bits are set, and the bits of vendors
/// as a number.
pub fn words(usages: u64) -> String {
    let mut left = usages;
    let mut words = Vec::new();
    for (word, bits) in WORDS {
        if left & bits == bits {
            words.push(word.to_owned());
            left &= !bits;
        }
    }
    if left != 0 {
        words.push(format!("{left:#x}"));
    }
    words.join(" ")
}

/// Reads `graphics`: a rule for each child, by ascending `reg`, then those without `reg` by name,
/// since not every form of a tree has an order of nodes. Skips a rule with an error.
pub(super) fn read(
    tree: &Tree,
    graphics: NodeId,
    heaps: &[HeapSpec],
    report: &mut Report,
) -> Vec<GraphicsRule> {
    let mut node = NodeReader::new(tree, graphics);
    if !is_on(&mut node, report) {
        return default_rules(heaps);
    }
    refuse_unknown(&mut node, &[]);
    node.finish(report);
    let children = tree.children(graphics);
    let mut rules: Vec<_> = children.filter_map(|child| rule(tree, child, heaps, report)).collect();
    rules.sort_by(|(one, a), (other, b)| (one, &a.name).cmp(&(other, &b.name)));
    rules.into_iter().map(|(_, rule)| rule).collect()
}

/// Returns a rule with its position in the order.
fn rule(tree: &Tree, id: NodeId, heaps: &[HeapSpec], report: &mut Report) -> Option<(u32, GraphicsRule)> {
    let mut node = NodeReader::new(tree, id);
    if !is_on(&mut node, report) {
        return None;
    }
    refuse_unknown(&mut node, KEYS);
    let place = node.get("reg", cell).unwrap_or(u32::MAX);
    let usages = usages(&mut node) | vendor_usages(&mut node);
    let found = named_heaps(&mut node, heaps);
    check_protected(&mut node, usages, &found);
    let rule = GraphicsRule {
        name: tree.base_name(id).to_owned(),
        usages,
        heaps: found.into_iter().map(|heap| heap.name.clone()).collect(),
        dma_bufs_only: node.flag("dma-bufs-only"),
    };
    node.finish(report).then_some((place, rule))
}

fn usages(node: &mut NodeReader<'_>) -> u64 {
    if !node.has("usages") && !node.has("vendor-usages") {
        node.fail("usages", format!("usages is missing: one or more of {}", all_words()));
    }
    let words = node.get("usages", texts).unwrap_or_default();
    if let Some(unknown) = words.iter().find(|word| bits(word).is_none()) {
        let shown: String = unknown.chars().take(64).collect();
        node.fail("usages", format!("usages has {shown:?}, but each must be one of {}", all_words()));
    }
    words.iter().filter_map(|word| bits(word)).fold(0, |all, bits| all | bits)
}

fn all_words() -> String {
    WORDS.map(|(word, _)| word).join(", ")
}

fn vendor_usages(node: &mut NodeReader<'_>) -> u64 {
    let Some(bits) = node.get("vendor-usages", number) else { return 0 };
    if bits & !Usage::VENDOR != 0 {
        let rule = format!("only the bits {:#x} are vendors'", Usage::VENDOR);
        node.fail("vendor-usages", format!("vendor-usages is {bits:#x}, but {rule}"));
    }
    bits
}

/// Returns the heaps that a rule names, without duplicates.
fn named_heaps<'h>(node: &mut NodeReader<'_>, heaps: &'h [HeapSpec]) -> Vec<&'h HeapSpec> {
    if !node.has("heaps") {
        node.fail("heaps", "heaps is missing, but it must name at least one heap");
    }
    let mut found: Vec<&HeapSpec> = Vec::new();
    for name in node.get("heaps", texts).unwrap_or_default() {
        let answers = |heap: &&HeapSpec| {
            std::iter::once(&heap.name).chain(&heap.aliases).any(|own| own.as_str() == name)
        };
        let Some(heap) = heaps.iter().find(answers) else {
            let shown: String = name.chars().take(64).collect();
            node.fail("heaps", format!("heaps names {shown:?}, which is no heap"));
            break;
        };
        if found.iter().any(|other| other.id == heap.id) {
            node.fail("heaps", format!("heaps names {} twice", heap.name));
            break;
        }
        found.push(heap);
    }
    found
}

/// Checks that protected images use only memory that the CPU never maps, and other images never use
/// it.
fn check_protected(node: &mut NodeReader<'_>, usages: u64, heaps: &[&HeapSpec]) {
    let is_protected = usages & Usage::PROTECTED != 0;
    if is_protected && usages & CPU != 0 {
        node.fail("usages", "usages has protected and cpu, but the CPU never maps protected buffers");
    }
    if let Some(heap) = heaps.iter().find(|heap| heap.secure != is_protected) {
        let why = if is_protected { "is not secure, but usages has" } else { "is secure, but usages lacks" };
        node.fail("heaps", format!("heaps names {}, which {why} protected", heap.name));
    }
}
