// SPDX-License-Identifier: Apache-2.0
//! Tests vendor bindings: heaps of their trees appear with the right id, name, type and size.

use super::super::Diagnostic;
use super::{findings, load, summary};

const POOLS: &str = "reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
    pool_a: pool-a { compatible = \"shared-dma-pool\"; reusable; size = <0 0x800000>; };
    pool_b: pool-b@90000000 { compatible = \"shared-dma-pool\"; reusable; linux,cma-default; reg = <0 0x90000000 0 0x400000>; };
    fixed: fixed@a0000000 { no-map; reg = <0 0xa0000000 0 0x200000>; };
    vague: vague@b0000000 { reg = <0 0xb0000000 0 0x100000>; };
    empty: empty { compatible = \"shared-dma-pool\"; }; };";

fn board(nodes: &str) -> super::Loaded {
    load(&format!("/dts-v1/; / {{ #address-cells = <2>; #size-cells = <2>; {POOLS}\n{nodes} }};"))
}

#[test]
fn qualcomm_ion_names_heaps_by_id() {
    let loaded = board(
        "ion { compatible = \"qcom,msm-ion\"; #address-cells = <1>; #size-cells = <0>;
           qcom,ion-heap@25 { reg = <25>; qcom,ion-heap-type = \"SYSTEM\"; };
           qcom,ion-heap@22 { reg = <22>; memory-region = <&pool_a>; qcom,ion-heap-type = \"DMA\"; };
           qcom,ion-heap@28 { reg = <28>; linux,contiguous-region = <&pool_b>; qcom,ion-heap-type = \"DMA\"; };
           qcom,ion-heap@27 { reg = <27>; qcom,ion-heap-type = \"DMA\"; };
           qcom,ion-heap@10 { reg = <10>; memory-region = <&pool_a>; qcom,ion-heap-type = \"HYP_CMA\"; };
           qcom,ion-heap@9 { reg = <9>; qcom,ion-heap-type = \"SYSTEM_SECURE\"; };
           qcom,ion-heap@8 { reg = <8>; qcom,ion-heap-type = \"CP\"; qcom,memory-reservation-size = <0x300000>; qcom,heap-align = <0x100000>; };
           qcom,ion-heap@14 { reg = <14>; memory-region = <&fixed>; qcom,ion-heap-type = \"CARVEOUT\"; status = \"disabled\"; };
           qcom,ion-heap@19 { reg = <19>; qcom,ion-heap-type = \"CARVEOUT\"; };
         };",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    let secure = "secure memory, which only its board's kernel can serve";
    assert_eq!(
        summary(&loaded),
        [
            "28 audio cma 0x400000 ok".to_owned(),
            "27 qsecom cma 0x400000 ok".to_owned(),
            "25 system system - ok".to_owned(),
            "22 adsp cma 0x800000 ok".to_owned(),
            "19 qsecom_ta carveout - its size is not known".to_owned(),
            "14 secure_carveout carveout 0x200000 status is \"disabled\"".to_owned(),
            format!("10 secure_display cma 0x800000 {secure}"),
            format!("9 secure_heap system - {secure}"),
            format!("8 mm carveout 0x300000 {secure}"),
        ]
    );
    assert_eq!(loaded.config.heaps.last().map(|heap| heap.alignment), Some(0x10_0000));
}

#[test]
fn qualcomm_mistakes_cost_one_heap() {
    let loaded = board(
        "ion { compatible = \"qti,msm-ion\";
           a { reg = <25>; qti,ion-heap-type = \"SYSTEM\"; vendor,extra; };
           b { reg = <7>; qcom,ion-heap-type = \"SYSTEM\"; };
           c { reg = <22>; qcom,ion-heap-type = \"PLAIN\"; };
           d { qcom,ion-heap-type = \"SYSTEM\"; };
           e { reg = <28>; };
           f { reg = <27>; memory-region = <&empty>; qcom,ion-heap-type = \"DMA\"; }; };",
    );
    let reason = "region /reserved-memory/empty: it has neither reg nor size";
    let vendors_own = "22 adsp custom - qcom,ion-heap-type \"PLAIN\" is a type of the vendor's own";
    assert_eq!(
        summary(&loaded),
        [format!("27 qsecom cma - {reason}"), "25 system system - ok".to_owned(), vendors_own.to_owned()]
    );
    assert_eq!(
        findings(&loaded),
        [
            "8:58: warning: /ion/a: property vendor,extra is not known and has no effect",
            "9:16: error: /ion/b: reg is 7, but Qualcomm's ION has no heap of that id",
            "11:12: error: /ion/d: reg is missing: it is the heap's id",
            "12:12: error: /ion/e: qcom,ion-heap-type is missing",
        ]
    );
}

#[test]
fn qualcomm_dma_heap_type_1_is_never_guessed() {
    let loaded = board(
        "heaps { compatible = \"qcom,dma-heaps\";
           a { qcom,dma-heap-name = \"qcom,display\"; qcom,dma-heap-type = <1>; memory-region = <&pool_a>; };
           b { qcom,dma-heap-name = \"qcom,fixed\"; qcom,dma-heap-type = <1>; memory-region = <&fixed>; };
           c { qcom,dma-heap-name = \"qcom,vague\"; qcom,dma-heap-type = <1>; memory-region = <&vague>; };
           d { qcom,dma-heap-name = \"qcom,adsp\"; qcom,dma-heap-type = <2>; memory-region = <&pool_a>; qcom,max-align = <9>; qcom,uncached-heap; };
           e { qcom,dma-heap-name = \"qcom,tui\"; qcom,dma-heap-type = <3>; memory-region = <&fixed>; qcom,token = <5>; };
           f { qcom,dma-heap-name = \"qcom,new\"; qcom,dma-heap-type = <4>; }; };",
    );
    assert_eq!(
        summary(&loaded),
        [
            "4 qcom,tui carveout 0x200000 secure memory, which only its board's kernel can serve",
            "3 qcom,adsp cma 0x800000 ok",
            "2 qcom,vague carveout 0x100000 qcom,dma-heap-type 1 means carveout in some kernels and contiguous memory \
             in others, and its region does not say which",
            "1 qcom,fixed carveout 0x200000 ok",
            "0 qcom,display cma 0x800000 ok",
        ]
    );
    assert_eq!((loaded.config.heaps[1].alignment, loaded.config.heaps[1].cached), (2 << 20, false));
    assert_eq!(findings(&loaded), ["13:49: error: /heaps/f: qcom,dma-heap-type is 4, but it must be 0 to 3"]);
}

#[test]
fn kirin_heaps_find_their_regions_by_name_by_phandle_and_at_the_container() {
    let loaded = load(include_str!("../../../tests/dts/kirin.dtsi"));
    assert_eq!(
        findings(&loaded),
        ["2:1: note: /: there is no /dts-v1/; so it is read as a part of a device tree"]
    );
    assert_eq!(
        summary(&loaded),
        [
            "18 tui custom 0x1000000 secure memory, which only its board's kernel can serve; status is \"disable\"",
            "12 carveout_lost carveout - no reserved memory is named carveout_lost",
            "7 preview cma 0x8000000 region /reserved-memory/preview-mem: status is \"disable\"",
            "4 carveout_ocr carveout 0x600000 ok",
            "3 carveout_fb carveout 0x1200000 ok",
            "2 carveout_own carveout 0x100000 ok",
            "1 contig system-contig - ok",
            "0 sys system - ok",
        ]
    );
}

#[test]
fn hi6220_and_generic_ion_name_kinds_by_compatible() {
    let loaded = board(
        "ion { compatible = \"hisilicon,hi6220-ion\";
           u { compatible = \"hisilicon,sys_user\"; }; c { compatible = \"hisilicon,sys_contig\"; };
           m { compatible = \"hisilicon,cma\"; memory-region = <&pool_a>; }; x { compatible = \"hisilicon,new\"; }; };",
    );
    assert_eq!(
        summary(&loaded),
        ["4 cma cma 0x800000 ok", "1 sys_contig system-contig - ok", "0 sys_user system - ok"]
    );
    assert_eq!(
        findings(&loaded),
        ["9:76: warning: /ion/x: its compatible is no heap of hisilicon,hi6220-ion"]
    );
    let loaded = board(
        "ion { compatible = \"acme,ion\", \"linux,ion\";
           sys { compatible = \"linux,ion-heap-system\"; }; cam { compatible = \"linux,ion-heap-dma\"; memory-region = <&pool_a>; };
           fix { compatible = \"linux,ion-heap-carveout\"; memory-region = <&fixed>; }; };",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(
        summary(&loaded),
        ["2 sys system - ok", "1 fix carveout 0x200000 ok", "0 cam cma 0x800000 ok"]
    );
}

#[test]
fn samsung_regions_and_dma_heaps() {
    let loaded = load(
        "/dts-v1/; / { reserved-memory { #address-cells = <2>; #size-cells = <1>; ranges;
           a { compatible = \"exynos9820-ion\"; ion,heapname = \"crypto\"; ion,reusable; size = <0x100000>; ion,alignment = <0x10000>; };
           b { compatible = \"exynos9820-ion\"; ion,heapname = \"video\"; ion,secure; ion,protection_id = <2>; reg = <0 0x80000000 0x200000>; };
           c { compatible = \"exynos9820-ion\"; ion,heapname = \"both\"; ion,reusable; ion,untouchable; size = <0x1000>; };
           r: r { size = <0x300000>; }; };
         h1 { compatible = \"samsung,dma-heap-carveout\"; dma-heap,name = \"camera\"; memory-region = <&r>; dma-heap,uncached; };
         h2 { compatible = \"samsung,dma-heap-system\"; dma-heap,name = \"system\"; };
         h3 { compatible = \"samsung,dma-heap-rbin\"; dma-heap,name = \"lent\"; };
         h4 { compatible = \"samsung,dma-heap-chunk\"; dma-heap,name = \"tiles\"; memory-region = <&r>; dma-heap,secure; }; };",
    );
    let secure = "secure memory, which only its board's kernel can serve";
    assert_eq!(
        summary(&loaded),
        [
            format!("5 video carveout 0x200000 {secure}"),
            "4 crypto cma 0x100000 ok".to_owned(),
            format!("3 tiles chunk 0x300000 {secure}; its binding does not give the chunk size"),
            "2 lent custom - samsung,dma-heap-rbin is not a known kind of heap".to_owned(),
            "1 system system - ok".to_owned(),
            "0 camera carveout 0x300000 ok".to_owned(),
        ]
    );
    assert_eq!(
        findings(&loaded),
        ["4:84: error: /reserved-memory/c: ion,untouchable and ion,reusable exclude each other"]
    );
}

#[test]
fn rockchip_ids_are_types() {
    let loaded = load(
        "/dts-v1/; / { ion { compatible = \"rockchip,ion\";
           rockchip,ion-heap@4 { compatible = \"rockchip,ion-heap\"; rockchip,ion_heap = <4>; reg = <0x0 0x2000000>; };
           rockchip,ion-heap@0 { compatible = \"rockchip,ion-heap\"; rockchip,ion_heap = <0>; reg = <0 0>; };
           rockchip,ion-heap@2 { rockchip,ion_heap = <2>; reg = <0x60000000 0x100000 0x100000>; };
           rockchip,ion-heap@5 { rockchip,ion_heap = <5>; }; rockchip,ion-heap@9 { rockchip,ion_heap = <9>; }; }; };",
    );
    assert_eq!(
        summary(&loaded),
        [
            "5 drm custom - a type of the vendor's own",
            "4 cma cma 0x2000000 ok",
            "2 carveout carveout 0x100000 ok",
            "0 vmalloc system - ok"
        ]
    );
    assert_eq!(
        findings(&loaded),
        [
            "5:84: error: /ion/rockchip,ion-heap@9: rockchip,ion_heap is 9, but Rockchip's ION has no heap of that id"
        ]
    );
}

#[test]
fn plain_pools_count_only_without_a_container() {
    let loaded = board("");
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(summary(&loaded), ["1 pool-b@90000000 cma 0x400000 ok", "0 pool-a cma 0x800000 ok"]);
    let loaded = board("ion { compatible = \"rockchip,ion\"; h { rockchip,ion_heap = <0>; }; };");
    assert_eq!(summary(&loaded), ["0 vmalloc system - ok"]);
}

#[test]
fn reserved_memory_that_is_a_heap_by_itself() {
    let loaded = load(
        "/dts-v1/; / { reserved-memory { #address-cells = <1>; #size-cells = <1>; ranges;
           mm { compatible = \"mediatek,ion-carveout-heap\"; size = <0x400000>; };
           tiles { compatible = \"dma_heap,chunk\"; chunk-order = <3>; size = <0x10000>; };
           odd { compatible = \"dma_heap,chunk\"; chunk-order = <40>; size = <0x10000>; }; }; };",
    );
    assert_eq!(summary(&loaded), ["1 tiles chunk 0x10000 ok", "0 mm carveout 0x400000 ok"]);
    assert_eq!(loaded.config.heaps[0].chunk_size, Some(0x8000));
    assert_eq!(
        findings(&loaded),
        [
            "4:49: error: /reserved-memory/odd: chunk-order is 40, but such chunks do not divide the size 0x10000"
        ]
    );
}

#[test]
fn a_flood_of_heaps_ends_in_one_error() {
    let heaps: String = (0..600).map(|n| format!("h{n} {{ qcom,dma-heap-name = \"n{n}\"; }};")).collect();
    let loaded = board(&format!("heaps {{ compatible = \"qcom,dma-heaps\"; {heaps} }};"));
    let message = |d: &&Diagnostic| d.message.starts_with("more than 128 heaps are described");
    assert_eq!(loaded.diagnostics.iter().filter(message).count(), 1);
    // One for each heap that was examined, one for the limit, and one that no heap is left.
    assert_eq!(loaded.diagnostics.len(), 130);
    assert!(loaded.config.heaps.is_empty());
}

#[test]
fn a_size_that_no_page_divides_costs_the_heap() {
    let loaded = load(
        "/dts-v1/; / { ion { compatible = \"rockchip,ion\";
           a { rockchip,ion_heap = <2>; reg = <0 0x1234>; }; b { rockchip,ion_heap = <0>; }; }; };",
    );
    assert_eq!(summary(&loaded), ["0 vmalloc system - ok"]);
    assert_eq!(
        findings(&loaded),
        ["2:41: error: /ion/a: size is 0x1234, but it must be a multiple of the page size 4096"]
    );
}

#[test]
fn containers_that_nothing_reads_are_named_and_pools_beside_them_count() {
    let loaded = board(
        "a { compatible = \"acme,fast-ion\"; h { reg = <1>; }; };
         dma-heaps { some-heap { }; };
         b { status = \"disabled\"; x { acme,heap-id = <1>; compatible = \"acme,ion-heap\"; }; };
         c { compatible = \"acme,li-ion-charger\"; x { reg = <1>; }; };",
    );
    assert_eq!(summary(&loaded), ["1 pool-b@90000000 cma 0x400000 ok", "0 pool-a cma 0x800000 ok"]);
    let unread = "is a heap container that this version does not read";
    assert_eq!(
        findings(&loaded),
        [
            format!("7:1: warning: /a: `acme,fast-ion` {unread}"),
            format!("8:10: warning: /dma-heaps: `dma-heaps` {unread}"),
            format!("9:10: warning: /b: `b` {unread}; status is \"disabled\""),
        ]
    );
    let alone = load("/dts-v1/; / { a { compatible = \"acme,ion\"; }; };");
    let [warning, error] = &findings(&alone)[..] else { panic!("{:?}", findings(&alone)) };
    assert_eq!(*warning, format!("1:15: warning: /a: `acme,ion` {unread}"));
    let expected =
        "error: /: no heap: there are heap containers, but no heap could be read from them: /a (acme,ion)";
    assert_eq!(error, expected);
}

#[test]
fn reserved_memory_of_other_cell_counts_than_the_root_is_warned_of() {
    let loaded = load(
        "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
         reserved-memory { #address-cells = <2>; #size-cells = <1>; ranges;
           p { compatible = \"shared-dma-pool\"; reusable; reg = <0 0x80000000 0x400000>; }; }; };",
    );
    assert_eq!(summary(&loaded), ["0 p cma 0x400000 ok"]);
    assert_eq!(
        findings(&loaded),
        [
            "2:10: warning: /reserved-memory: #size-cells is 1, but that of / is 2: Linux ignores all reserved \
             memory then"
        ]
    );
}

#[test]
fn a_pool_of_size_0_is_switched_off_and_no_error() {
    let loaded = load(
        "/dts-v1/; / { reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
           a: a { compatible = \"shared-dma-pool\"; reusable; size = <0 0>; };
           b { compatible = \"shared-dma-pool\"; reusable; linux,cma-default; size = <0 0x400000>; }; }; };",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(summary(&loaded), ["1 b cma 0x400000 ok", "0 a cma - its size is 0, which switches it off"]);
    assert!(loaded.config.heaps[0].is_default_pool && !loaded.config.heaps[1].is_default_pool);
}

#[test]
fn heaps_are_looked_for_by_the_boards_names() {
    let loaded = board(
        "heaps { compatible = \"qcom,dma-heaps\";
           a { qcom,dma-heap-name = \"qcom,display\"; qcom,dma-heap-type = <2>; memory-region = <&pool_b>; };
           b { qcom,dma-heap-name = \"qcom,fixed\"; qcom,dma-heap-type = <1>; memory-region = <&fixed>; }; };",
    );
    let names = |heap: &super::super::spec::HeapSpec| {
        heap.kernel_names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let [carveout, display] = &loaded.config.heaps[..] else { panic!("{:?}", summary(&loaded)) };
    assert_eq!(names(display), ["qcom,display", "pool-b@90000000", "pool-b"]);
    assert_eq!((display.base, display.is_default_pool), (Some(0x9000_0000), true));
    assert_eq!((names(carveout), carveout.base), (vec![], Some(0xa000_0000)));
}

#[test]
fn cell_counts_are_those_of_the_nearest_node_that_has_them() {
    let loaded = load(
        "/dts-v1/; / { #address-cells = <1>; #size-cells = <1>;
         memory { mm: mm_region { linux,contiguous-region; reg = <0x80000000 0x400000>; }; };
         ion { compatible = \"qcom,msm-ion\";
           a { reg = <22>; linux,contiguous-region = <&mm>; qcom,ion-heap-type = \"DMA\"; };
           b { reg = <25>; qcom,ion-heap-type = \"SYSTEM\"; }; }; };",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(summary(&loaded), ["25 system system - ok", "22 adsp cma 0x400000 ok"]);
    assert_eq!(loaded.config.heaps[1].base, Some(0x8000_0000));
}
