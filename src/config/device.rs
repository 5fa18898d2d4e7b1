// SPDX-License-Identifier: Apache-2.0
//! Reads the words for sources of memory: `device` of most heaps, `devices` of custom heaps, and
//! the settings that follow from them.

use super::draft::Draft;
use super::property::{NodeReader, texts};
use super::spec::Device;
use crate::units::{HeapName, HeapType, Invalid};

/// Most entries of `device` or `devices`: more than there are kinds of devices. The allocate path
/// tries those of `devices`.
const MAX_DEVICES: usize = 8;

/// Reason why a word is no device; worded to follow `KEY is "WORD", but`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum WordError {
    /// The name after the colon is invalid.
    #[error(transparent)]
    Name(#[from] Invalid),
    /// The word is unknown; the text is the beginning of the list of words.
    #[error("it must be {0}memfd, hugetlb, ashmem, udmabuf, udmabuf-hugetlb, dma-heap:NAME or ion:NAME")]
    Unknown(&'static str),
}

/// Sets the heap's sources, and whether the CPU must not access its memory.
pub(super) fn describe(node: &mut NodeReader<'_>, heap: &mut Draft) {
    (heap.device, heap.fallbacks) = device(node, heap.kind);
    heap.devices = devices(node, heap.kind);
    heap.secure = node.flag("secure");
    check_secure(node, heap);
    heap.recycle = recycle(node, heap);
}

/// Reads `recycle`, a switch for memory of the kernel's own heaps. It has no effect on other
/// sources.
fn recycle(node: &mut NodeReader<'_>, heap: &Draft) -> bool {
    let recycle = node.flag("recycle");
    let is_kernels = |device: &Device| match device {
        Device::DmaHeap(_) | Device::Ion(_) => true,
        Device::Auto => matches!(heap.kind, HeapType::System | HeapType::Dma),
        Device::Memfd | Device::Hugetlb | Device::Ashmem | Device::Udmabuf | Device::UdmabufHugetlb => false,
    };
    if recycle && !named(heap).any(is_kernels) {
        node.warn(
            "recycle",
            "recycle has no effect: none of the heap's memory comes from a dma-heap or from ion",
        );
    }
    if recycle && node.flag("immediate-free") {
        node.fail("recycle", "recycle and immediate-free exclude each other");
    }
    if recycle && heap.secure {
        node.fail(
            "recycle",
            "recycle and secure exclude each other: the CPU cannot map secure memory to clean it",
        );
    }
    recycle
}

/// Returns every device that the heap names, in order.
fn named(heap: &Draft) -> impl Iterator<Item = &Device> {
    let own = (heap.kind != HeapType::Custom).then_some(&heap.device);
    heap.devices.iter().chain(own).chain(&heap.fallbacks)
}

/// Reads the heap's device and its fallbacks.
fn device(node: &mut NodeReader<'_>, kind: HeapType) -> (Device, Vec<Device>) {
    if kind == HeapType::Custom && node.has("device") {
        node.fail("device", "a custom heap takes no device: devices lists them in order");
    }
    let words = node.get("device", texts).unwrap_or_default();
    let mut devices = list(node, "device", &words, "auto, ").into_iter();
    let first = devices.next().unwrap_or(Device::Auto);
    let fallbacks: Vec<_> = devices.collect();
    let is_choice = |(at, device): (usize, &Device)| {
        // The kernel's contiguous memory has many names; for other kinds the last source of `auto`
        // is always available.
        *device == Device::Auto && (at > 0 || kind != HeapType::Dma)
    };
    if !fallbacks.is_empty() && std::iter::once(&first).chain(&fallbacks).enumerate().any(is_choice) {
        node.fail("device", "device has auto in a list, but only a cma heap's list can, as its first word");
    }
    (first, fallbacks)
}

/// Reads the ordered list of devices, which a custom heap must have and other heaps must not have.
fn devices(node: &mut NodeReader<'_>, kind: HeapType) -> Vec<Device> {
    match (kind, node.has("devices")) {
        (HeapType::Custom, false) => {
            node.fail("type", "a custom heap needs devices, the sources to try in order");
            return Vec::new();
        }
        (HeapType::Custom, true) | (_, false) => {}
        (_, true) => {
            node.fail("devices", format!("a {} heap takes no devices: device names them", kind.name()));
            return Vec::new();
        }
    }
    let words = node.get("devices", texts).unwrap_or_default();
    list(node, "devices", &words, "")
}

/// Reads the words of one property; `first` as in [`parse`].
fn list(node: &mut NodeReader<'_>, key: &str, words: &[String], first: &'static str) -> Vec<Device> {
    if words.len() > MAX_DEVICES {
        node.fail(key, format!("{key} has {} entries, but at most {MAX_DEVICES}", words.len()));
        return Vec::new();
    }
    let mut devices = Vec::with_capacity(words.len());
    for word in words {
        match parse(word, first) {
            Ok(device) if devices.contains(&device) => node.fail(key, format!("{key} has {word:?} twice")),
            Ok(device) => devices.push(device),
            Err(fault) => node.fail(key, format!("{key} is {word:?}, but {fault}")),
        }
    }
    devices
}

/// Reads a word. `auto` is permitted if `first`, the beginning of the list of words in the error,
/// is not empty.
fn parse(word: &str, first: &'static str) -> Result<Device, WordError> {
    match (word, word.split_once(':')) {
        ("auto", _) if !first.is_empty() => Ok(Device::Auto),
        ("memfd", _) => Ok(Device::Memfd),
        ("hugetlb", _) => Ok(Device::Hugetlb),
        ("ashmem", _) => Ok(Device::Ashmem),
        ("udmabuf", _) => Ok(Device::Udmabuf),
        ("udmabuf-hugetlb", _) => Ok(Device::UdmabufHugetlb),
        (_, Some(("dma-heap", name))) => Ok(Device::DmaHeap(HeapName::new(name)?)),
        (_, Some(("ion", name))) => Ok(Device::Ion(HeapName::new(name)?)),
        _ => Err(WordError::Unknown(first)),
    }
}

/// Checks that a secure heap names the kernel heap that serves it: only the kernel can protect
/// memory from the CPU.
fn check_secure(node: &mut NodeReader<'_>, heap: &mut Draft) {
    let is_kernel_heap = |device: &Device| matches!(device, Device::DmaHeap(_) | Device::Ion(_));
    if !heap.secure || named(heap).all(is_kernel_heap) {
        return;
    }
    if named(heap).any(|device| *device == Device::Auto) {
        heap.unavailable = Some(
            "secure memory comes from the kernel alone: name its heap with device = \"dma-heap:NAME\" or \
             \"ion:NAME\""
                .to_owned(),
        );
        return;
    }
    node.fail(
        "secure",
        "secure memory cannot come from memfd, hugetlb, ashmem or udmabuf, which the CPU can map",
    );
}
