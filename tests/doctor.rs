// SPDX-License-Identifier: Apache-2.0
//! Tests `anionctl doctor`, which executes `aniond --doctor`, on the machine of the tests, with and
//! without a service.

mod common;

use common::Daemon;
use common::anionctl::{anionctl, client, json, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Exit codes, as documented by `anionctl doctor --help`.
const WANTING: i32 = 4;
const UNREADABLE: i32 = 5;

/// A heap that every machine can serve, and a heap that none can serve.
const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    plain { type = "system"; heap-id = <1>; device = "memfd"; };
    absent { type = "system"; heap-id = <2>; device = "dma-heap:no-such-heap"; };
}; };"#;

/// Returns a file with [`HEAPS`], and its directory.
fn wanting() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("wanting.dts");
    std::fs::write(&file, HEAPS).expect("written");
    (directory, file)
}

/// Returns `anionctl doctor` without arguments and without a service.
fn doctor() -> assert_cmd::Command {
    let mut command = anionctl();
    command.env_remove("ANION_CONFIG").args(["--socket", "/nowhere/socket"]);
    command
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON document")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn every_line_says_what_it_found_what_it_means_and_what_changes_it() {
    let report = parsed(&stdout(doctor().args(["--json", "doctor"]).assert().success()));
    assert_eq!(report["ok"], true);
    assert_eq!(keys(&report), BTreeSet::from(["ok", "findings", "config", "service"]));
    let findings = report["findings"].as_array().expect("lines");
    for finding in findings {
        assert_eq!(keys(finding), BTreeSet::from(["what", "state", "found", "means", "change", "required"]));
        for key in ["what", "found", "means"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {finding}");
        }
        assert!(
            ["ok", "limited", "missing"].contains(&finding["state"].as_str().expect("a word")),
            "{finding}"
        );
        assert!(finding["required"] != true || finding["state"] != "missing", "it was ok: {finding}");
        assert!(finding["state"] != "limited" || finding["change"].is_string(), "{finding}");
    }
    let of = |what: &str| findings.iter().find(|finding| finding["what"] == what);
    for what in [
        "kernel",
        "binder device",
        "hwbinder device",
        "vndbinder device",
        "service manager",
        "ion",
        "udmabuf",
        "ashmem",
        "memory",
        "huge pages",
        "shmem huge pages",
        "memory pressure",
        "leases",
        "inotify",
        "descriptors",
        "release of memfds",
        "release of dma-bufs",
        "service",
    ] {
        assert!(of(what).is_some(), "no line about {what}");
    }
    assert!(
        findings
            .iter()
            .any(|finding| finding["what"].as_str().is_some_and(|what| what.starts_with("dma-heap")))
    );
    // The service can run on a machine that runs the tests.
    assert_ne!(of("release of memfds").expect("a line")["state"], "missing");
    assert_eq!(of("service").expect("a line")["state"], "missing");
    assert_eq!(report["service"], Value::Null);
    assert_eq!(report["config"]["origin"], "built in");
    let heaps = report["config"]["heaps"].as_array().expect("heaps");
    assert!(heaps.iter().all(|heap| heap["available"] == true), "{heaps:?}");
}

#[test]
fn the_report_is_short_unless_all_is_asked_for_and_fits_80_columns() {
    let (short, all) = ["doctor", "doctor --all"]
        .map(|line| stdout(doctor().args(line.split(' ')).assert().success()))
        .into();
    for text in [&short, &all] {
        assert!(text.starts_with("Heaps of the configuration (built in):\nID  HEAP"), "{text}");
        assert!(text.ends_with("\n\nAll requirements are met.\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    assert!(all.contains("leases: ") && !short.contains("leases: "), "{short}");
    assert!(short.lines().count() < all.lines().count() / 2, "{short}");
}

#[test]
fn a_heap_that_this_machine_cannot_serve_has_its_own_exit_code() {
    let (_directory, file) = wanting();
    let assert = doctor().args(["--json", "doctor", "--config"]).arg(&file).assert().code(WANTING);
    assert_eq!(
        stderr(doctor().arg("doctor").arg("--config").arg(&file).assert()),
        "aniond: missing: heap absent\n"
    );
    let report = parsed(&stdout(assert));
    assert_eq!(report["ok"], false);
    let heaps = report["config"]["heaps"].as_array().expect("heaps");
    assert_eq!(heaps.len(), 2);
    assert_eq!(
        keys(&heaps[0]),
        BTreeSet::from([
            "id",
            "name",
            "type",
            "device",
            "backing",
            "passed_over",
            "available",
            "unavailable_reason"
        ])
    );
    assert_eq!((&heaps[0]["name"], &heaps[0]["available"]), (&"absent".into(), &false.into()));
    assert!(heaps[0]["unavailable_reason"].as_str().expect("text").contains("no-such-heap"));
    assert_eq!((&heaps[1]["name"], &heaps[1]["available"]), (&"plain".into(), &true.into()));
}

/// The prediction equals the service's own report.
#[test]
fn a_running_service_is_asked_and_agrees() {
    let daemon = Daemon::with_heaps(HEAPS);
    let (_directory, file) = wanting();
    let assert = client(&daemon).args(["--json", "doctor", "--config"]).arg(file).assert().code(WANTING);
    let report = parsed(&stdout(assert));
    let service = &report["service"];
    assert_eq!(
        keys(service),
        BTreeSet::from(["endpoint", "version", "heaps", "uid", "pid", "configuration", "unavailable"])
    );
    assert_eq!((&service["version"], &service["heaps"]), (&2.into(), &2.into()));
    assert_eq!(service["uid"], nix::unistd::geteuid().as_raw());
    assert_eq!(service["pid"], daemon.pid().as_raw());
    assert!(service["configuration"].as_str().is_some_and(|file| file.ends_with("/heaps.dts")), "{service}");
    let [absent] = service["unavailable"].as_array().expect("rows").as_slice() else { panic!("{service}") };
    assert_eq!(keys(absent), BTreeSet::from(["heap", "reason"]));
    assert_eq!(absent["heap"], "absent");
    assert_eq!(absent["reason"], report["config"]["heaps"][0]["unavailable_reason"]);
    // The doctor allocated nothing.
    let list = json(&daemon, &["usage"]);
    assert!(list["usage"].as_array().expect("rows").iter().all(|row| row["bytes"] == 0), "{list}");
}

#[test]
fn the_environment_names_the_configuration_as_it_does_for_the_service() {
    let (_directory, file) = wanting();
    let assert = doctor().env("ANION_CONFIG", &file).args(["--json", "doctor"]).assert().code(WANTING);
    assert_eq!(parsed(&stdout(assert))["config"]["origin"], file.to_str().expect("text"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_no_finding() {
    let message = stderr(doctor().args(["doctor", "--config", "/nowhere.dts"]).assert().code(UNREADABLE));
    assert!(message.starts_with("aniond: cannot read /nowhere.dts: "), "{message}");
}

#[test]
fn it_is_the_services_own_program() {
    let (_directory, file) = wanting();
    let aniond = || {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_aniond"));
        command.env_remove("ANION_SOCKET").args(["--doctor", "--socket", "/nowhere/socket", "--config"]);
        command.arg(&file).timeout(common::DEADLINE);
        command
    };
    let heaps = |text: String| text.split_once("Heaps of the configuration (").expect("heaps").1.to_owned();
    let own = aniond().assert().code(WANTING);
    let by_client = doctor().args(["doctor", "--config"]).arg(&file).assert().code(WANTING);
    assert_eq!(heaps(stdout(own)), heaps(stdout(by_client)));
    assert_eq!(parsed(&stdout(aniond().arg("--json").assert().code(WANTING)))["ok"], false);
    let both = aniond().arg("--check-config").arg(&file).assert().code(2);
    assert!(stderr(both).contains("cannot be used with"));
}

#[test]
fn without_the_services_program_it_says_where_it_looked() {
    let alone = tempfile::tempdir().expect("a directory");
    let program = alone.path().join("anionctl");
    std::fs::copy(common::anionctl::ANIONCTL, &program).expect("copied");
    let doctor = |path: &std::path::Path| {
        let mut command = assert_cmd::Command::new(&program);
        command.env_remove("ANION_SOCKET").env_remove("ANION_CONFIG").env("PATH", path);
        command.args(["--socket", "/nowhere/socket", "doctor"]).timeout(common::DEADLINE);
        command
    };
    let elsewhere = tempfile::tempdir().expect("a directory");
    let message = stderr(doctor(elsewhere.path()).assert().code(UNREADABLE));
    assert!(message.starts_with("anionctl: doctor is the service's own program, aniond,"), "{message}");
    for folder in [&alone, &elsewhere] {
        assert!(message.contains(&folder.path().display().to_string()), "{message}");
    }
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_aniond")).parent().expect("a directory");
    let text = stdout(doctor(programs).assert().success());
    assert!(text.ends_with("\n\nAll requirements are met.\n"), "{text}");
}

#[test]
fn completions_and_help_know_it() {
    let script = stdout(anionctl().args(["completions", "bash"]).assert().success());
    assert!(script.contains("doctor"));
    let help = stdout(anionctl().args(["doctor", "--help"]).assert().success());
    assert!(help.contains("Exit status:") && help.contains("--config"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}
