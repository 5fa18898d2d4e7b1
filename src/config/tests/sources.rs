// SPDX-License-Identifier: Apache-2.0
//! Tests the keys about sources of memory and about memory after its release.

use super::super::Severity;
use super::super::spec::Device;
use super::{findings, names, own};
use crate::units::HeapName;

#[test]
fn a_custom_heap_has_its_sources_in_order() {
    let loaded =
        own("c { type = \"custom\"; devices = \"hugetlb\", \"udmabuf\", \"dma-heap:system\", \"memfd\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let heap = &loaded.config.heaps[0];
    let kernel = Device::DmaHeap(HeapName::new("system").expect("a name"));
    assert_eq!(heap.devices, [Device::Hugetlb, Device::Udmabuf, kernel, Device::Memfd]);
    assert_eq!(heap.device, Device::Auto);
    let words: Vec<String> = heap.devices.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["hugetlb", "udmabuf", "dma-heap:system", "memfd"]);
}

#[test]
fn a_list_of_devices_is_tried_in_order_at_the_start() {
    let loaded = own("s { type = \"system\"; device = \"dma-heap:system\", \"udmabuf\", \"memfd\"; };
                      c { type = \"cma\"; size = <0x1000>; device = \"auto\", \"memfd\"; };
                      d { type = \"carveout\"; size = <0x200000>; device = \"hugetlb\", \"memfd\"; };
                      e { type = \"system\"; device = \"udmabuf\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let words = |name| {
        let heap = loaded.config.heaps.iter().find(|heap| heap.name.as_str() == name).expect("there");
        let all: Vec<String> =
            std::iter::once(&heap.device).chain(&heap.fallbacks).map(Device::to_string).collect();
        all.join(" ")
    };
    assert_eq!(words("s"), "dma-heap:system udmabuf memfd");
    assert_eq!((words("c"), words("d")), ("auto memfd".to_owned(), "hugetlb memfd".to_owned()));
    assert_eq!(words("e"), "udmabuf");
}

#[test]
fn huge_pages_are_a_device_of_any_heap() {
    let loaded = own("s { type = \"system\"; device = \"hugetlb\"; };
                      c { type = \"carveout\"; size = <0x200000>; device = \"hugetlb\"; };
                      g { type = \"system-contig\"; device = \"hugetlb\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    assert!(loaded.config.heaps.iter().all(|heap| heap.device == Device::Hugetlb && heap.devices.is_empty()));
}

#[test]
fn immediate_free_switches_the_default_of_system_heaps_off() {
    let loaded = own("s { type = \"system\"; immediate-free; };
                      c { type = \"carveout\"; size = <0x1000>; immediate-free; };");
    assert_eq!(findings(&loaded), [""; 0]);
    assert!(loaded.config.heaps.iter().all(|heap| !heap.deferred_free));
}

#[test]
fn recycling_is_for_memory_of_the_kernels_heaps() {
    let loaded = own("a { type = \"system\"; recycle; };
                      b { type = \"system\"; device = \"dma-heap:system\"; recycle; };
                      c { type = \"cma\"; size = <0x1000>; device = \"ion:ion_cma_heap\"; recycle; };
                      d { type = \"custom\"; devices = \"memfd\", \"dma-heap:system\"; recycle; };");
    assert_eq!(findings(&loaded), [""; 0]);
    assert!(loaded.config.heaps.iter().all(|heap| heap.recycle));
    assert!(!own("s { type = \"system\"; };").config.heaps[0].recycle, "only where it is asked for");
    let both = own("a { type = \"system\"; recycle; immediate-free; };");
    let exclude = "3:22: error: /anion/a: recycle and immediate-free exclude each other";
    assert!(findings(&both).iter().any(|finding| finding == exclude), "{:?}", findings(&both));
}

#[test]
fn recycling_what_is_not_the_kernels_is_warned_of() {
    let expected = "recycle has no effect: none of the heap's memory comes from a dma-heap or from ion";
    for heap in [
        "type = \"system\"; device = \"memfd\"; recycle;",
        "type = \"carveout\"; size = <0x1000>; recycle;",
        "type = \"custom\"; devices = \"udmabuf\", \"memfd\"; recycle;",
    ] {
        let loaded = own(&format!("able {{ {heap} }};"));
        assert_eq!(names(&loaded), ["able"], "{heap}");
        let [finding] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
        assert_eq!((finding.severity, finding.message.as_str()), (Severity::Warning, expected), "{heap}");
    }
}

#[test]
fn clients_seal_the_buffers_of_a_heap_that_says_so() {
    let loaded = own("s { type = \"system\"; client-seals; };");
    assert_eq!(findings(&loaded), [""; 0]);
    assert!(loaded.config.heaps[0].client_seals);
    assert!(!own("s { type = \"system\"; };").config.heaps[0].client_seals, "only where it is asked for");
}

#[test]
fn sharing_across_domains_takes_a_reason() {
    let loaded = own("s { type = \"system\"; share-across-domains = \"one vendor wrote all clients\"; };
                      t { type = \"system\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let shared = |name| loaded.config.heaps.iter().find(|heap| heap.name.as_str() == name).expect("there");
    assert_eq!(shared("s").shared.as_deref(), Some("one vendor wrote all clients"));
    assert_eq!(shared("t").shared, None);
}

#[test]
fn every_mistake_about_sources_is_named_and_costs_one_heap() {
    let words = "memfd, hugetlb, ashmem, udmabuf, udmabuf-hugetlb, dma-heap:NAME or ion:NAME";
    for (heap, expected) in [
        ("type = \"custom\";", "a custom heap needs devices, the sources to try in order".to_owned()),
        (
            "type = \"custom\"; devices = \"memfd\"; device = \"memfd\";",
            "a custom heap takes no device: devices lists them in order".to_owned(),
        ),
        ("type = \"custom\"; devices = \"auto\";", format!("devices is \"auto\", but it must be {words}")),
        (
            "type = \"custom\"; devices = \"memfd\", \"disk\";",
            format!("devices is \"disk\", but it must be {words}"),
        ),
        ("type = \"custom\"; devices = \"memfd\", \"memfd\";", "devices has \"memfd\" twice".to_owned()),
        ("type = \"custom\"; devices;", "devices must be a string in double quotes".to_owned()),
        (
            "type = \"custom\"; devices = \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\";",
            "devices has 9 entries, but at most 8".to_owned(),
        ),
        (
            "type = \"custom\"; devices = \"dma-heap:secure\", \"memfd\"; secure;",
            "secure memory cannot come from memfd, hugetlb, ashmem or udmabuf, which the CPU can map"
                .to_owned(),
        ),
        (
            "type = \"system\"; device = \"ion:secure\"; secure; recycle;",
            "recycle and secure exclude each other: the CPU cannot map secure memory to clean it".to_owned(),
        ),
        (
            "type = \"system\"; recycle = <1>;",
            "recycle is a flag without a value: its presence turns it on".to_owned(),
        ),
        ("type = \"system\"; device = \"udmabuf\", \"udmabuf\";", "device has \"udmabuf\" twice".to_owned()),
        (
            "type = \"system\"; device = \"udmabuf\", \"disk\";",
            format!("device is \"disk\", but it must be auto, {words}"),
        ),
        (
            "type = \"system\"; device = \"auto\", \"memfd\";",
            "device has auto in a list, but only a cma heap's list can, as its first word".to_owned(),
        ),
        (
            "type = \"cma\"; size = <0x1000>; device = \"memfd\", \"auto\";",
            "device has auto in a list, but only a cma heap's list can, as its first word".to_owned(),
        ),
        (
            "type = \"system\"; device = \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\";",
            "device has 9 entries, but at most 8".to_owned(),
        ),
        (
            "type = \"system\"; device = \"dma-heap:secure\", \"memfd\"; secure;",
            "secure memory cannot come from memfd, hugetlb, ashmem or udmabuf, which the CPU can map"
                .to_owned(),
        ),
        (
            "type = \"system\"; devices = \"memfd\";",
            "a system heap takes no devices: device names them".to_owned(),
        ),
        (
            "type = \"system\"; deferred-free; immediate-free;",
            "deferred-free and immediate-free exclude each other".to_owned(),
        ),
        (
            "type = \"system\"; share-across-domains;",
            "share-across-domains must be a string in double quotes".to_owned(),
        ),
        (
            "type = \"system\"; share-across-domains = \" \";",
            "share-across-domains is \" \", but it must be the reason why that is safe".to_owned(),
        ),
    ] {
        let loaded = own(&format!("able {{ type = \"system\"; }};\nbad {{ {heap} }};"));
        assert_eq!(names(&loaded), ["able"], "{heap}");
        let messages: Vec<&str> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, [expected], "{heap}");
    }
}
