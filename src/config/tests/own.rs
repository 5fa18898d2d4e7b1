// SPDX-License-Identifier: Apache-2.0
//! Tests Anion's own schema: the meaning of every key, and the message about every error.

use super::super::spec::{Device, HeapSpec, Quota, Reserve};
use super::super::{Severity, embedded};
use super::{findings, load, names, own, page};
use crate::units::{HeapName, HeapType, Uid};

const GOOD: &str = "able { type = \"system\"; };\n";

#[test]
fn the_embedded_default_loads_without_a_word() {
    let loaded = embedded(page());
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(names(&loaded), ["system", "camera"]);
    assert_eq!(loaded.config.heaps[1].size, Some(64 << 20));
    assert_eq!(loaded.config.policy.default.max_bytes, Some(1 << 30));
    let sets_aside = |heap: &HeapSpec| heap.kind != HeapType::System;
    assert!(!loaded.config.heaps.iter().any(sets_aside), "the service holds memory that no client asked for");
    // Pages of 64 KiB are the largest that Linux has on arm64.
    let big_pages = embedded(crate::units::PageSize::new(65536).expect("a power of two"));
    assert_eq!(findings(&big_pages), [""; 0]);
}

#[test]
fn every_key_arrives() {
    let loaded =
        own("all@5 { type = \"chunk\"; reg = <5>; heap-name = \"tiles\"; aliases = \"t1\", \"t2\"; \
         size = <0x1 0x0>; alignment = <0x2000>; chunk-size = <0x10000>; uncached; deferred-free; \
         pool-limit = <0x100000>; device = \"dma-heap:linux,cma\"; secure; allow-uids = <1000 10>; \
         status = \"okay\"; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let heap = &loaded.config.heaps[0];
    assert_eq!((heap.id.get(), heap.name.as_str(), heap.kind), (5, "tiles", HeapType::Chunk));
    assert_eq!(heap.aliases.iter().map(HeapName::as_str).collect::<Vec<_>>(), ["t1", "t2"]);
    assert_eq!((heap.size, heap.alignment, heap.chunk_size), (Some(1 << 32), 0x2000, Some(0x10000)));
    assert_eq!((heap.cached, heap.deferred_free, heap.secure), (false, true, true));
    assert_eq!((heap.pool_limit, heap.pool_orders.len()), (Some(0x10_0000), 0));
    assert_eq!(heap.device, Device::DmaHeap(HeapName::new("linux,cma").expect("a name")));
    assert_eq!(heap.allow_uids, Some(vec![Uid(10), Uid(1000)]));
    assert_eq!((heap.unavailable.as_deref(), heap.node.as_str()), (None, "/anion/all@5"));
}

#[test]
fn defaults_are_those_of_the_kind() {
    let loaded = own("s { type = \"system\"; }; c { type = \"carveout\"; size = <0x1000>; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let [system, carveout] = loaded.config.heaps.as_slice() else { panic!("two heaps") };
    assert_eq!((system.name.as_str(), carveout.name.as_str()), ("s", "c"));
    assert_eq!((system.deferred_free, carveout.deferred_free), (true, false));
    assert_eq!((system.pool_orders.as_slice(), carveout.pool_orders.len()), ([8, 4, 0].as_slice(), 0));
    assert_eq!((system.cached, system.alignment, system.size), (true, super::PAGE, None));
    assert_eq!((system.device.clone(), system.allow_uids.clone()), (Device::Auto, None));
}

#[test]
fn heaps_without_ids_get_the_lowest_free_ones_by_name() {
    let loaded = own("z { type = \"system\"; }; a { type = \"system\"; }; \
                      m { type = \"system\"; heap-id = <0>; }; n { type = \"system\"; heap-id = <2>; };");
    let ids: Vec<_> = loaded.config.heaps.iter().map(|h| (h.id.get(), h.name.as_str())).collect();
    assert_eq!(ids, [(3, "z"), (2, "n"), (1, "a"), (0, "m")]);
}

#[test]
fn a_region_gives_the_size_and_its_reg_wins() {
    let loaded = load(
        "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
         reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
           a: a@80000000 { reg = <0 0x80000000 1 0x4000>; size = <0 0x1000>; };
           b: b { size = <0 0x3000>; }; c: c { alignment = <1>; }; d: d { status = \"disabled\"; size = <0x1000>; }; };
         elsewhere: elsewhere { size = <0x1000>; };
         anion { compatible = \"anion,heaps-v1\";
           h1 { type = \"carveout\"; memory-region = <&a>; };
           h2 { type = \"cma\"; memory-region = <&b>; };
           h3 { type = \"cma\"; memory-region = <&c>; };
           h4 { type = \"cma\"; memory-region = <&d>; };
           h5 { type = \"cma\"; memory-region = <&elsewhere>; };
           h6 { type = \"cma\"; memory-region = <77>; }; }; };",
    );
    let sizes: Vec<_> = loaded.config.heaps.iter().map(|h| (h.name.as_str(), h.size)).collect();
    assert_eq!(sizes, [("h2", Some(0x3000)), ("h1", Some((1 << 32) + 0x4000))]);
    assert_eq!(
        findings(&loaded),
        [
            "9:31: error: /anion/h3: region /reserved-memory/c: it has neither reg nor size",
            "10:31: error: /anion/h4: memory-region cannot be used, region /reserved-memory/d: status is \"disabled\"",
            "11:31: error: /anion/h5: memory-region is /elsewhere, but it must be in /reserved-memory",
            "12:31: error: /anion/h6: memory-region is phandle 0x4d, but no node has it",
        ]
    );
}

/// A heap on line 4 after a valid one, with its message. The invalid one is skipped, the valid one
/// is kept.
#[test]
fn every_mistake_is_named_and_costs_one_heap() {
    let cases = [
        (
            "size = <0x1234>;",
            "4:26: error: /anion/bad: size is 0x1234, but it must be a multiple of the page size 4096",
        ),
        ("size = <0>;", "4:26: error: /anion/bad: size is 0x0, but it must be 1 to 0x7fffffffffffffff"),
        (
            "size = <1 2 3>;",
            "4:26: error: /anion/bad: size must be a number of one or two cells, but it has 3",
        ),
        ("size = \"1 MiB\";", "4:26: error: /anion/bad: size must be 32-bit cells, but it has 6 bytes"),
        ("", "4:7: error: /anion/bad: a carveout heap needs a size or a memory-region"),
        (
            "size = <0x1000>; heap-id = <32>;",
            "4:43: error: /anion/bad: heap-id is 32, but it must be 0 to 31",
        ),
        (
            "size = <0x1000>; reg = <1>; heap-id = <2>;",
            "4:43: error: /anion/bad: reg is 1, but heap-id is 2: give one of them",
        ),
        (
            "size = <0x1000>; heap-id = <1 2>;",
            "4:43: error: /anion/bad: heap-id must be one 32-bit cell, but it has 8 bytes",
        ),
        (
            "size = <0x1000>; heap-name = \"a/b\";",
            "4:43: error: /anion/bad: heap name is \"a/b\", but only ASCII letters, digits and ,._+-@ are allowed",
        ),
        (
            "size = <0x1000>; heap-name = \"able\";",
            "4:1: error: /anion/bad: name able is taken: /anion/able has it already",
        ),
        (
            "size = <0x1000>; aliases = \"x\", \"able\";",
            "4:1: error: /anion/bad: name able is taken: /anion/able has it already",
        ),
        ("size = <0x1000>; aliases = \"bad\";", "4:1: error: /anion/bad: name bad is given twice"),
        ("size = <0x1000>; aliases;", "4:43: error: /anion/bad: aliases must be a string in double quotes"),
        (
            "size = <0x1000>; cashed;",
            "4:43: error: /anion/bad: unknown property cashed; did you mean cached?",
        ),
        ("size = <0x1000>; wibble-wobble;", "4:43: error: /anion/bad: unknown property wibble-wobble"),
        (
            "size = <0x1000>; memory-region = <1>;",
            "4:43: error: /anion/bad: size and memory-region exclude each other: the region has a size",
        ),
        (
            "size = <0x1000>; alignment = <0x800>;",
            "4:43: error: /anion/bad: alignment is 0x800, but it must be a power of two of at least the page size 4096",
        ),
        (
            "size = <0x1000>; alignment = <0x3000>;",
            "4:43: error: /anion/bad: alignment is 0x3000, but it must be a power of two of at least the page size 4096",
        ),
        (
            "size = <0x1000>; chunk-size = <0x1000>;",
            "4:43: error: /anion/bad: a carveout heap takes no chunk-size",
        ),
        (
            "size = <0x1000>; cached; uncached;",
            "4:51: error: /anion/bad: cached and uncached exclude each other",
        ),
        (
            "size = <0x1000>; cached = <1>;",
            "4:43: error: /anion/bad: cached is a flag without a value: its presence turns it on",
        ),
        (
            "size = <0x1000>; pool-orders = <8 0>;",
            "4:43: error: /anion/bad: a carveout heap takes no pool-orders",
        ),
        (
            "size = <0x1000>; device = \"disk\";",
            "4:43: error: /anion/bad: device is \"disk\", but it must be auto, memfd, hugetlb, ashmem, udmabuf, udmabuf-hugetlb, dma-heap:NAME or ion:NAME",
        ),
        (
            "size = <0x1000>; device = \"ion:\";",
            "4:43: error: /anion/bad: device is \"ion:\", but heap name is \"\", but it must have 1 to 31 bytes",
        ),
        (
            "size = <0x1000>; secure; device = \"memfd\";",
            "4:43: error: /anion/bad: secure memory cannot come from memfd, hugetlb, ashmem or udmabuf, which the CPU can map",
        ),
        (
            "size = <0x1000>; allow-uids;",
            "4:43: error: /anion/bad: allow-uids is empty, but it must name at least one uid",
        ),
        (
            "size = <0x1000>; status = \"off\";",
            "4:43: error: /anion/bad: status is \"off\", but it must be okay, disabled, reserved or fail",
        ),
        ("size = <0x1000>; size = <0x2000>;", "4:43: error: /anion/bad: size is given twice in this node"),
        (
            "size = <0x1000>; memory-region = <&nowhere>;",
            "4:43: error: /anion/bad: size and memory-region exclude each other: the region has a size",
        ),
        (
            "size = <0x1000>; child { };",
            "4:1: error: /anion/bad: a heap has no child nodes, but there is child",
        ),
    ];
    for (body, expected) in cases {
        let loaded = own(&format!("{GOOD}bad {{ type = \"carveout\"; {body} }};"));
        assert_eq!(names(&loaded), ["able"], "{body}");
        let errors: Vec<String> = findings(&loaded).into_iter().filter(|f| f.contains("error")).collect();
        assert_eq!(errors, [expected], "{body}");
    }
}

#[test]
fn other_kinds_have_other_mistakes() {
    for (heap, expected) in [
        ("size = <0x1000>;", "type is missing: one of system, system-contig, carveout, chunk, cma, custom"),
        (
            "type = \"sytem\";",
            "type is \"sytem\", but it must be one of system, system-contig, carveout, chunk, cma, custom",
        ),
        ("type = \"system\"; memory-region = <1>;", "a system heap takes no memory-region"),
        (
            "type = \"system\"; pool-orders = <0 4>;",
            "pool-orders are [0, 4], but each must be below the one before",
        ),
        ("type = \"system\"; pool-orders = <19>;", "pool-orders has 19, but an order is at most 18"),
        ("type = \"chunk\"; size = <0x3000>;", "a chunk heap needs a chunk-size"),
        (
            "type = \"chunk\"; size = <0x3000>; chunk-size = <0x2000>;",
            "chunk-size is 0x2000, but it must divide the size 0x3000",
        ),
        (
            "type = \"chunk\"; size = <0x3000>; chunk-size = <0x3000>;",
            "chunk-size is 0x3000, but it must be a power of two and a multiple of the page size 4096",
        ),
    ] {
        let loaded = own(&format!("{GOOD}bad {{ {heap} }};"));
        assert_eq!(names(&loaded), ["able"], "{heap}");
        let messages: Vec<&str> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, [expected], "{heap}");
    }
}

#[test]
fn ids_are_unique_and_no_more_than_32() {
    let loaded = own("a { type = \"system\"; heap-id = <3>; }; b { type = \"system\"; heap-id = <3>; };");
    assert_eq!(findings(&loaded), ["3:40: error: /anion/b: heap-id is 3, but /anion/a has it already"]);
    let many: String = (0..34).map(|n| format!("h{n:02} {{ type = \"system\"; }};\n")).collect();
    let loaded = own(&many);
    assert_eq!(loaded.config.heaps.len(), 32);
    let message = "there is no heap id left: 32 heaps is the limit";
    assert_eq!(
        findings(&loaded),
        [format!("35:1: error: /anion/h32: {message}"), format!("36:1: error: /anion/h33: {message}")]
    );
}

#[test]
fn a_flood_of_unknown_keys_is_counted_not_listed() {
    let keys: String = (0..100).map(|n| format!("wibble-wobble-{n:02};")).collect();
    let loaded = own(&format!("{GOOD}bad {{ type = \"system\"; {keys} }};"));
    assert_eq!(loaded.diagnostics.len(), 33);
    let last = loaded.diagnostics.last().expect("the count");
    assert_eq!(last.message, "68 more properties are unknown");
}

#[test]
fn disabled_nodes_are_noted_and_left_out() {
    let loaded = own(&format!("{GOOD}off {{ status = \"disabled\"; wibble; }};"));
    assert_eq!(names(&loaded), ["able"]);
    assert_eq!(findings(&loaded), ["4:7: note: /anion/off: status is \"disabled\", so the node is left out"]);
}

#[test]
fn secure_memory_without_a_kernel_heap_is_listed_as_unavailable() {
    let loaded = own("s { type = \"system\"; secure; };");
    assert_eq!(findings(&loaded), [""; 0]);
    let reason = loaded.config.heaps[0].unavailable.as_deref().expect("a reason");
    assert!(reason.starts_with("secure memory comes from the kernel alone"), "{reason}");
}

#[test]
fn a_tree_without_heaps_is_an_error() {
    let nothing =
        "error: /: no heap: nothing here is compatible with \"anion,heaps-v1\" or a known vendor binding";
    assert_eq!(findings(&load("/dts-v1/; / { };")), [nothing]);
    assert_eq!(findings(&own("")), ["2:5: error: /anion: no heap is left"]);
}

#[test]
fn one_own_node_counts_and_vendor_nodes_do_not() {
    let loaded = load(
        "/dts-v1/; / { z { compatible = \"anion,heaps-v1\"; one { type = \"system\"; }; };
         a { compatible = \"anion,heaps-v1\"; two { type = \"system\"; }; };
         b { compatible = \"anion,heaps-v1\"; status = \"disabled\"; };
         ion { compatible = \"rockchip,ion\"; }; };",
    );
    assert_eq!(names(&loaded), ["one"]);
    assert_eq!(
        findings(&loaded),
        [
            "2:10: error: /a: only one node can be \"anion,heaps-v1\", and /z is: this one is left out",
            "3:10: note: /b: status is \"disabled\", so the node is left out",
            "4:10: note: /ion: not imported, since /z describes the heaps",
        ]
    );
}

#[test]
fn client_policy_arrives() {
    let loaded = own("camera { type = \"carveout\"; size = <0x100000>; }; s { type = \"system\"; };
         clients { max-bytes = <1 0>; max-buffers = <10>;
           cam { uids = <1047 1048>; max-bytes = <0x200000>; max-buffers = <7>; privileged;
                 reserve-heaps = \"camera\"; reserve-bytes = <0 0x4000>; };
           gone { uids = <1>; status = \"disabled\"; }; };");
    let policy = &loaded.config.policy;
    assert_eq!(policy.default, Quota { max_bytes: Some(1 << 32), max_buffers: Some(10) });
    let [cam] = policy.clients.as_slice() else { panic!("one client") };
    assert_eq!((cam.name.as_str(), cam.uids.as_slice()), ("cam", [Uid(1047), Uid(1048)].as_slice()));
    assert_eq!(cam.quota, Quota { max_bytes: Some(0x20_0000), max_buffers: Some(7) });
    assert!(cam.privileged);
    assert_eq!(cam.reserves, [Reserve { heap: HeapName::new("camera").expect("a name"), bytes: 0x4000 }]);
    assert!(loaded.diagnostics.iter().all(|d| d.severity == Severity::Note), "{:?}", findings(&loaded));
}

#[test]
fn a_bad_client_is_left_out_and_the_others_live() {
    for (body, expected) in [
        ("", "uids, users and groups are missing: one of them must name the users of this client"),
        ("uids;", "uids is empty, but it must name at least one uid"),
        ("uids = <1>;", "uid 1 is in client bad, but client a has it already"),
        ("uids = <2>; max-bytes = \"plenty\";", "max-bytes must be 32-bit cells, but it has 7 bytes"),
        ("uids = <2>; priviledged;", "unknown property priviledged; did you mean privileged?"),
        (
            "uids = <2>; reserve-heaps = \"c\";",
            "reserve-heaps and reserve-bytes go together, but one is missing",
        ),
        (
            "uids = <2>; reserve-heaps = \"c\"; reserve-bytes = <1 2 3>;",
            "reserve-bytes has 3 cells for 1 heaps, not one or two each",
        ),
    ] {
        let loaded = own(&format!(
            "c {{ type = \"carveout\"; size = <0x4000>; }}; clients {{ a {{ uids = <1>; }}; bad {{ {body} }}; }};"
        ));
        let messages: Vec<&str> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, [expected], "{body}");
        assert_eq!(loaded.config.policy.clients.len(), 1, "{body}");
    }
}

#[test]
fn reserves_that_cannot_be_kept_cost_only_themselves() {
    for (reserves, expected) in [
        ("reserve-heaps = \"x\"; reserve-bytes = <0x1000>;", "reserve-heaps names \"x\", which is no heap"),
        (
            "reserve-heaps = \"s\"; reserve-bytes = <0x1000>;",
            "reserve-heaps names s, but a heap without a size has no reserves",
        ),
        (
            "reserve-heaps = \"c\"; reserve-bytes = <0x800>;",
            "reserve-bytes for c is 0x800, but it must be a multiple of the page size 4096",
        ),
        (
            "reserve-heaps = \"c\"; reserve-bytes = <0x3000>;",
            "all reserves of c together are 0x6000, but its size is 0x4000",
        ),
        (
            "max-bytes = <0x1000>; reserve-heaps = \"c\"; reserve-bytes = <0x2000>;",
            "reserve-bytes for c is 0x2000, but max-bytes 0x1000 is less",
        ),
        (
            "reserve-heaps = \"c\", \"alias\"; reserve-bytes = <0x1000 0x1000>;",
            "reserve-heaps names alias twice",
        ),
    ] {
        let loaded = own(&format!(
            "c {{ type = \"carveout\"; size = <0x4000>; aliases = \"alias\"; }}; s {{ type = \"system\"; }};
             clients {{ a {{ uids = <1 2>; {reserves} }}; }};"
        ));
        let messages: Vec<&str> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, [expected], "{reserves}");
        assert_eq!(loaded.config.policy.clients.len(), 1, "{reserves}");
    }
}
