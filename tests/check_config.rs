// SPDX-License-Identifier: Apache-2.0
//! Tests `aniond --check-config`: tables, diagnostics and exit codes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

struct Checked {
    success: bool,
    stdout: String,
}

fn check(arguments: &[&str], files: &[&Path]) -> Checked {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aniond"));
    let output = command.arg("--check-config").args(files).args(arguments).output().expect("aniond runs");
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert!(!stdout.is_empty(), "nothing printed: {}", String::from_utf8_lossy(&output.stderr));
    Checked { success: output.status.success(), stdout }
}

fn json(files: &[&Path]) -> (bool, Value) {
    let checked = check(&["--json"], files);
    (checked.success, serde_json::from_str(&checked.stdout).expect("one JSON document"))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the id, name, type and size of every heap, and whether it is available.
fn heaps(file: &Value) -> Vec<(u64, &str, &str, Option<u64>, bool)> {
    let heaps = file["heaps"].as_array().expect("a list").iter();
    let heap = |heap: &'static str| heap;
    let (id, name, kind, size) = (heap("id"), heap("name"), heap("type"), heap("size"));
    heaps
        .map(|h| {
            let text = |key| h[key].as_str().expect("text");
            (
                h[id].as_u64().expect("a number"),
                text(name),
                text(kind),
                h[size].as_u64(),
                h["unavailable"].is_null(),
            )
        })
        .collect()
}

#[test]
fn the_shipped_configuration_is_good() {
    let checked = check(&[], &[&here("etc/anion/heaps.dts")]);
    assert!(checked.success, "{}", checked.stdout);
    for word in ["2 heaps", "system", "camera", "64 MiB", "(others)", "1 GiB", "4096", "0 errors, 0 warnings"]
    {
        assert!(checked.stdout.contains(word), "{word} is missing:\n{}", checked.stdout);
    }
    // The order of the service: higher ids first.
    assert!(checked.stdout.find("│ 25 ").expect("system") < checked.stdout.find("│ 20 ").expect("camera"));
}

#[test]
fn a_bad_file_fails_with_file_line_and_column_and_the_good_one_is_printed_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.dts");
    let text = "/dts-v1/;\n/ { anion { compatible = \"anion,heaps-v1\";\n  ok { type = \"system\"; };\n  \
                small { type = \"carveout\"; size = <0x1234>; };\n}; };\n";
    std::fs::write(&bad, text).expect("written");
    let missing = folder.path().join("missing.dtb");
    let checked = check(&[], &[&bad, &missing, &here("etc/anion/heaps.dts")]);
    assert!(!checked.success);
    let message = "4:30: error: /anion/small: size is 0x1234, but it must be a multiple of the page size";
    assert!(checked.stdout.contains(&format!("{}:{message}", bad.display())), "{}", checked.stdout);
    assert!(
        checked.stdout.contains(&format!("error: cannot read {}: ", missing.display())),
        "{}",
        checked.stdout
    );
    assert!(checked.stdout.contains("ok") && checked.stdout.contains("camera"), "{}", checked.stdout);
}

#[test]
fn json_has_the_same_content() {
    let (success, document) = json(&[&here("etc/anion/heaps.dts"), &here("tests/dts/kirin.dtsi")]);
    assert!(success);
    assert_eq!(document["ok"], Value::Bool(true));
    let files = document["files"].as_array().expect("a list");
    assert_eq!(
        heaps(&files[0]),
        [(25, "system", "system", None, true), (20, "camera", "system", Some(64 << 20), true)]
    );
    assert_eq!(files[0]["policy"]["default"]["max_bytes"], 1_u64 << 30);
    assert_eq!(files[0]["diagnostics"], Value::Array(vec![]));
    let fb = (3, "carveout_fb", "carveout", Some(0x120_0000), true);
    assert!(heaps(&files[1]).contains(&fb), "{:?}", heaps(&files[1]));
    assert_eq!(files[1]["diagnostics"][0]["severity"], "note");
    assert_eq!(files[1]["diagnostics"][0]["line"], 2);
}

#[test]
fn overlays_are_applied_to_the_tree_before_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let base = file(
        "base.dts",
        "/dts-v1/; / { soc: soc { }; ion { compatible = \"rockchip,ion\"; system-heap { }; }; };",
    );
    let overlay = file(
        "camera.dtso",
        "/dts-v1/; /plugin/; &{/ion} { carveout-heap { reg = <0x80000000 0x100000>; }; };",
    );
    let shipped = here("etc/anion/heaps.dts");
    let (success, document) = json(&[&base, &overlay, &shipped]);
    assert!(success, "{document:#}");
    let [changed, other] = &document["files"].as_array().expect("a list")[..] else { panic!("{document:#}") };
    assert_eq!(
        heaps(changed),
        [(2, "carveout-heap", "carveout", Some(0x10_0000), true), (0, "system-heap", "system", None, true)]
    );
    assert_eq!(changed["heaps"][0]["base"], 0x8000_0000_u64);
    assert_eq!(changed["overlays"][0], overlay.to_str().expect("text"));
    assert_eq!((heaps(other).len(), &other["overlays"]), (2, &Value::Array(vec![])));
    let wrong = file("wrong.dtso", "/dts-v1/; /plugin/; &gone { };");
    let checked = check(&[], &[&base, &wrong]);
    assert!(!checked.success);
    let message = format!("error: {} cannot be applied: it refers to &gone", wrong.display());
    assert!(checked.stdout.contains(&message), "{}", checked.stdout);
    let alone = check(&[], &[&overlay]);
    assert!(!alone.success && alone.stdout.contains("this is an overlay"), "{}", alone.stdout);
}

#[test]
fn base_addresses_and_the_default_pool_are_shown() {
    let checked = check(
        &[],
        &[&here("tests/dts/boards/t-empty-container.dts"), &here("tests/dts/boards/marvell-pxa.dts")],
    );
    for word in ["linux,cma-default", "0x9000000", "base"] {
        assert!(checked.stdout.contains(word), "{word} is missing:\n{}", checked.stdout);
    }
}

/// Returns a board that the project keeps outside its checkout.
fn board(name: &str) -> PathBuf {
    let path = here("../shared/dts").join(name);
    assert!(
        path.exists(),
        "{} is not there: this test needs the board files beside the checkout",
        path.display()
    );
    path
}

#[test]
#[ignore = "needs the board files beside the checkout"]
fn sdm845_heaps_appear() {
    let (success, document) = json(&[&board("sdm845-heaps.dts")]);
    assert!(success, "{document:#}");
    assert_eq!(
        heaps(&document["files"][0]),
        [
            (27, "qsecom", "cma", Some(0x140_0000), true),
            (25, "system", "system", None, true),
            (22, "adsp", "cma", Some(0x100_0000), true),
            (13, "spss", "cma", Some(0x80_0000), false),
            (10, "secure_display", "cma", Some(0x5c0_0000), false),
            (9, "secure_heap", "system", None, false),
        ]
    );
}

#[test]
#[ignore = "needs the board files beside the checkout"]
fn hi3660_heaps_appear() {
    let (success, document) = json(&[&board("hi3660-ion.dtsi")]);
    assert!(success, "{document:#}");
    assert_eq!(
        heaps(&document["files"][0]),
        [
            (17, "heap_sec_tui", "custom", Some(0x200_0000), false),
            (14, "carveout_drm_misc", "carveout", Some(0x2c0_0000), false),
            (6, "camera_heap", "cma", Some(0x2800_0000), false),
            (2, "carveout_gralloc", "carveout", Some(0x1e0_0000), true),
            (1, "sys_contig", "system-contig", None, true),
            (0, "sys_heap", "system", None, true),
        ]
    );
}
