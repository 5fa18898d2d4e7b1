// SPDX-License-Identifier: Apache-2.0
//! Checks device trees of vendors, from `tests/dts/boards`: the heaps of each, and the diagnostics.
//! To add a board, add its file there and the expected result to [`BOARDS`].

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The expected result for one file.
struct Board {
    /// Its name, without `.dts`.
    name: &'static str,
    /// Each heap: id, name, type, size with the base address if there is one, and state.
    heaps: &'static [&'static str],
    /// All diagnostics of the file.
    findings: &'static [&'static str],
}

/// The text of [`state`] for memory that the CPU cannot access.
const SECURE: &str = "secure memory, which only its board's kernel can serve";

const BOARDS: &[Board] = &[
    Board {
        name: "amlogic-ion_dev",
        heaps: &[
            "4 linux,ion-dev cma 0x8000000 ok",
            "0 linux,codec_mm_cma custom 0x13400000 memory of Amlogic's video decoder (codec_mm), which only its board's kernel hands out",
        ],
        findings: &[],
    },
    Board {
        name: "exynos2100-s21",
        heaps: &["1 vstream_heap cma 0x4800000 SECURE", "0 vframe_heap carveout 0x20000000 SECURE"],
        findings: &[],
    },
    Board {
        name: "exynos9810-note9",
        heaps: &[
            "11 secure_camera carveout 0x1e00000@0xe1900000 SECURE",
            "3 vstream cma 0x6c00000 SECURE",
            "1 crypto cma 0x1800000 ok",
        ],
        findings: &[],
    },
    Board {
        name: "exynos9820-hpa",
        heaps: &[
            "1 crypto_heap cma 0x1800000 ok",
            "0 vfw_heap custom - SECURE; pages of high order, which only its board's kernel collects",
        ],
        findings: &[],
    },
    Board {
        name: "google-gs101",
        heaps: &[
            "7 vscaler cma 0x3400000 SECURE",
            "6 vstream cma 0x4800000 SECURE",
            "5 video_system system - ok",
            "4 vframe cma 0x20000000 SECURE",
            "3 tui carveout 0x2000000 ok",
            "2 system system - ok",
            "1 famodel carveout 0x3c00000 SECURE",
            "0 crypto cma 0x1800000 ok",
        ],
        findings: &[],
    },
    Board { name: "latin1-comment", heaps: &["0 vmalloc system - ok"], findings: &[] },
    Board {
        name: "marvell-pxa",
        heaps: &["2 carveout_heap carveout 0x4000000@0x9000000 ok", "0 system_heap system - ok"],
        findings: &[],
    },
    Board {
        name: "mtk-mt6855",
        heaps: &["1 ssheap cma 0x10000000 SECURE", "0 mtk_sec_dmaheap custom - SECURE"],
        findings: &[],
    },
    Board {
        name: "qcom-3.4-no-type",
        heaps: &[
            "30 vmalloc system - ok",
            "23 pil_1 carveout 0x2000000@0x6400000 ok",
            "21 kmalloc system-contig - ok",
        ],
        findings: &[],
    },
    Board {
        name: "qcom-5.4-sd888",
        heaps: &["25 system system - ok", "4 adsp cma 0x800000 ok", "3 display cma 0x800000 ok"],
        findings: &[],
    },
    Board {
        name: "qcom-camera-type",
        heaps: &[
            "25 system system - ok",
            "20 camera custom - qcom,ion-heap-type \"CAMERA\" is a type of the vendor's own",
        ],
        findings: &[],
    },
    Board { name: "qcom-memory-fixed", heaps: &["23 pil_1 carveout 0x1e00000@0xdc00000 ok"], findings: &[] },
    Board {
        name: "rk3399-4.4",
        heaps: &["4 cma-heap cma 0x2000000 ok", "0 system-heap system - ok"],
        findings: &[],
    },
    Board { name: "samsung-chunk", heaps: &["0 tiles chunk 0x4800000 ok"], findings: &[] },
    Board {
        name: "sprd-ums512",
        heaps: &["3 carveout_fb carveout 0x1000000@0x9e000000 ok", "0 system system - ok"],
        findings: &[],
    },
    Board {
        name: "sunxi-h616",
        heaps: &["2 carveout carveout 0x4e00000@0x43200000 ok", "0 sys_user system - ok"],
        findings: &[],
    },
    Board {
        name: "t-disabled-container",
        heaps: &["1 linux,cma cma 0x4000000 ok", "0 vmalloc system - /ion: status is \"disabled\""],
        findings: &[
            "3:2: note: /ion: status is \"disabled\", so the kernel makes no heap of this `rockchip,ion`, which describes 1 heap",
        ],
    },
    Board {
        name: "t-empty-container",
        heaps: &["0 linux,cma cma 0x4000000 ok"],
        findings: &["3:2: warning: /ion: `qcom,msm-ion` is a heap container, but it is empty"],
    },
    Board {
        name: "t-nomap",
        heaps: &["1 unaligned@80001000 cma 0x1000@0x80001000 ok", "0 two cma 0x4000000@0x80000000 ok"],
        findings: &[
            "3:60: error: /reserved-memory/both: reusable and no-map exclude each other: the kernel refuses such a pool",
            "4:51: warning: /reserved-memory/two: reg has 2 ranges, but the pool is only the first",
            "5:53: error: /reserved-memory/short: reg has 3 cells, but it must have 4 or a multiple of that, as #address-cells 2 and #size-cells 2 say",
            "6:55: error: /reserved-memory/onecell: size has 1 cell, but it must have 2, as #size-cells says",
            "7:53: error: /reserved-memory/longname-of-more-than-thirty-one-bytes@80000000: heap name is \"longname-of-more-than-thirty-one-bytes@80000000\", but it must have 1 to 31 bytes",
            "8:66: warning: /reserved-memory/unaligned@80001000: base and size are no multiples of 0x200000: most kernels refuse such a pool",
            "9:51: error: /reserved-memory/p4k: size is 0x800, but it must be a multiple of the page size 4096",
        ],
    },
    Board {
        name: "t-reg-cells",
        heaps: &[],
        findings: &[
            "5:3: warning: /reserved-memory: #size-cells is 1, but that of / is 2: Linux ignores all reserved memory then",
            "12:17: error: /reserved-memory/ddr4_buf@0: reg has 4 cells, but it must have 3 or a multiple of that, as #address-cells 2 and #size-cells 1 say",
            "error: /: no heap is left",
        ],
    },
    Board {
        name: "tegra210",
        heaps: &[
            "1 vpr-carveout carveout 0x19000000 SECURE",
            "0 iram-carveout carveout 0x3f000@0x40001000 ok",
        ],
        findings: &[],
    },
    Board {
        name: "telechips",
        heaps: &["2 ion_carveout_heap carveout - its size is not known", "0 ion_noncontig_heap system - ok"],
        findings: &[],
    },
];

/// Returns the output of `aniond --check-config` for all files in `tests/dts/boards`, by name.
fn checked() -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dts/boards");
    let entries = std::fs::read_dir(folder).expect("the folder of boards");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aniond"));
    let output = command.arg("--check-config").args(&files).arg("--json").output().expect("aniond runs");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let results = document["files"].as_array().expect("a list").iter();
    let name = |file: &Path| file.file_stem().expect("a name").to_str().expect("text").to_owned();
    files.iter().map(|file| name(file)).zip(results.cloned()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn heaps(file: &Value) -> Vec<String> {
    let number = |value: &Value| value.as_u64().map(|number| format!("{number:#x}"));
    let heap = |heap: &Value| {
        let size = number(&heap["size"]).unwrap_or_else(|| "-".to_owned());
        let base = number(&heap["base"]).map_or_else(String::new, |base| format!("@{base}"));
        let state = heap["unavailable"].as_str().unwrap_or("ok").replace(SECURE, "SECURE");
        format!("{} {} {} {size}{base} {state}", heap["id"], text(&heap["name"]), text(&heap["type"]))
    };
    file["heaps"].as_array().expect("a list").iter().map(heap).collect()
}

fn findings(file: &Value) -> Vec<String> {
    let finding = |finding: &Value| {
        let place = finding["line"].as_u64().map(|line| format!("{line}:{}: ", finding["column"]));
        let [severity, node, message] = ["severity", "node", "message"].map(|key| text(&finding[key]));
        format!("{}{severity}: {node}: {message}", place.unwrap_or_default())
    };
    file["diagnostics"].as_array().expect("a list").iter().map(finding).collect()
}

#[test]
fn every_board_has_its_heaps_or_says_why_not() {
    let checked = checked();
    let expected: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
    assert_eq!(checked.keys().map(String::as_str).collect::<Vec<_>>(), expected, "boards, sorted by name");
    for board in BOARDS {
        let file = &checked[board.name];
        assert!(file["error"].is_null(), "{}: {}", board.name, file["error"]);
        assert_eq!(heaps(file), board.heaps, "{}", board.name);
        assert_eq!(findings(file), board.findings, "{}", board.name);
    }
}
