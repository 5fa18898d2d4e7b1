// SPDX-License-Identifier: Apache-2.0
//! Tests the real `anionctl` against the real service, over a socket.

mod common;

use common::anionctl::{ANIONCTL, Holder, anionctl, client, held, json, stderr, stdout, text};
use common::{Daemon, Killed, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MIB: i64 = 1 << 20;

/// Exit codes, as documented by `anionctl --help`.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

#[test]
fn heaps_are_listed_by_descending_id() {
    let daemon = Daemon::start(&[]);
    let list = json(&daemon, &["list"]);
    let ids: Vec<i64> = list["heaps"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|heap| heap["id"].as_i64().expect("an id"))
        .collect();
    assert!(!ids.is_empty());
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    let table = text(&daemon, &["list"]);
    assert!(table.lines().next().is_some_and(|header| header.contains("NAME")), "{table}");
    let rows = |line: &&str| !line.contains(" skips ");
    assert_eq!(table.lines().filter(rows).count(), ids.len() + 1, "{table}");
    assert!(table.contains("system"), "{table}");
}

#[test]
fn a_batch_is_zeroed_writable_and_made_of_different_buffers() {
    let daemon = Daemon::start(&[]);
    let report = json(&daemon, &["alloc", "--size", "8M", "--count", "4"]);
    let buffers = report["buffers"].as_array().expect("rows");
    assert_eq!(buffers.len(), 4);
    for buffer in buffers {
        assert_eq!(buffer["size"], 8 * MIB);
        assert_eq!(buffer["zeroed"], true);
        assert_eq!(buffer["verified"], true);
    }
    for key in ["id", "inode"] {
        let values: HashSet<i64> =
            buffers.iter().map(|buffer| buffer[key].as_i64().expect("a number")).collect();
        assert_eq!(values.len(), 4, "{key} repeats");
    }
    assert_eq!(report["total_bytes"], 32 * MIB);
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn the_table_shows_sizes_for_people() {
    let daemon = Daemon::start(&[]);
    let table = text(&daemon, &["alloc", "--size", "8M", "--count", "2", "--heap", "system"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    let backing = json(&daemon, &["list"])["heaps"][0]["backing"].as_str().expect("text").to_owned();
    assert!(["system", "8.0 MiB", &backing].iter().all(|word| rows[1].contains(word)), "{table}");
    assert!(rows[3].starts_with("16.0 MiB in 2 buffers"), "{table}");
}

#[test]
fn held_buffers_are_accounted_until_ctrl_c() {
    let daemon = Daemon::start(&[]);
    let (holder, report) = Holder::start(&daemon, &["--size", "8M", "--count", "4"]);
    assert_eq!(report["total_bytes"], 32 * MIB);
    assert_eq!(held(&daemon), (32 * MIB, 4));
    let table = text(&daemon, &["usage"]);
    assert!(table.contains("32.0 MiB"), "{table}");
    let status = holder.end_with(Signal::SIGINT);
    assert!(status.success(), "{status}");
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn killing_a_holder_brings_usage_to_zero() {
    let daemon = Daemon::start(&[]);
    let (holder, _) = Holder::start(&daemon, &["--size", "1M", "--count", "8"]);
    assert_eq!(held(&daemon), (8 * MIB, 8));
    assert!(!holder.end_with(Signal::SIGKILL).success());
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn read_only_buffers_are_checked_and_not_written() {
    let daemon = Daemon::start(&[]);
    let report = json(&daemon, &["alloc", "--size", "64K", "--read-only"]);
    assert_eq!(report["buffers"][0]["zeroed"], true);
    assert_eq!(report["buffers"][0]["verified"], Value::Null);
}

#[test]
fn exec_hands_over_the_buffers_and_becomes_the_command() {
    let daemon = Daemon::start(&[]);
    let script = "echo $ANION_FDS; echo $ANION_SIZES; echo $ANION_IDS | wc -w; cmp -n 65536 /dev/zero /dev/fd/3; \
                  cmp -n 65536 /dev/zero /dev/fd/4; test -e /dev/fd/5 && echo leaked; exit 7";
    let assert = client(&daemon)
        .args(["alloc", "--size", "64K", "--count", "2", "--exec", "sh", "-c", script])
        .assert()
        .code(7);
    let table = String::from_utf8(assert.get_output().stderr.clone()).expect("text");
    assert!(table.contains("ZEROED"), "the report goes to standard error: {table}");
    assert_eq!(stdout(assert), "3 4\n65536 65536\n2\n");
}

#[test]
fn a_command_that_cannot_be_executed_ends_as_in_a_shell() {
    let daemon = Daemon::start(&[]);
    let exec = |command: &str| client(&daemon).args(["alloc", "--size", "4K", "--exec", command]).assert();
    assert!(stderr(exec("/nowhere/nothing").code(127)).contains("cannot run /nowhere/nothing"));
    assert!(stderr(exec("/").code(126)).contains("cannot run /"));
}

#[test]
fn describe_names_the_original_owner_of_an_inherited_buffer() {
    let daemon = Daemon::start(&[]);
    // The shell is the process that allocated. anionctl is its child, and knows only the
    // descriptors.
    let script =
        format!("echo $$ $ANION_IDS; '{ANIONCTL}' --socket '{}' --json describe", daemon.socket().display());
    let output = text(
        &daemon,
        &["alloc", "--size", "64K", "--count", "2", "--name", "preview", "--exec", "sh", "-c", &script],
    );
    let (head, document) = output.split_once('\n').expect("two parts");
    let numbers: Vec<i64> = head.split(' ').map(|word| word.parse().expect("a number")).collect();
    let document: Value = serde_json::from_str(document).expect("JSON");
    let buffers = document["buffers"].as_array().expect("rows");
    assert_eq!(buffers.len(), 2);
    for (index, buffer) in buffers.iter().enumerate() {
        assert_eq!(buffer["fd"], 3 + index);
        assert_eq!(buffer["owner_pid"], numbers[0]);
        assert_eq!(buffer["id"], numbers[1 + index]);
        assert_eq!(buffer["name"], "preview");
        assert_eq!(buffer["size"], 65536);
    }
}

#[test]
fn a_buffer_that_was_passed_on_outlives_its_owner_and_still_names_it() {
    let daemon = Daemon::start(&[]);
    // The shell that allocated ends at once. Its child waits until it has another parent, then
    // describes the inherited buffers.
    let heir = format!(
        "while [ \"$(cut -d' ' -f4 /proc/$$/stat)\" = $0 ]; do :; done; '{ANIONCTL}' --socket '{0}' --json describe; \
         '{ANIONCTL}' --socket '{0}' --json usage",
        daemon.socket().display()
    );
    let script = "echo $$; sh -c \"$HEIR\" $$ &";
    let output = stdout(
        client(&daemon)
            .env("HEIR", heir)
            .args(["alloc", "--size", "1M", "--exec", "sh", "-c", script])
            .assert()
            .success(),
    );
    let (owner, documents) = output.split_once('\n').expect("two parts");
    let documents: Vec<Value> = serde_json::Deserializer::from_str(documents)
        .into_iter()
        .map(|document| document.expect("JSON"))
        .collect();
    assert_eq!(documents[0]["buffers"][0]["owner_pid"].to_string(), owner);
    assert_eq!(documents[1]["usage"][0]["bytes"], MIB);
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn describe_refuses_what_the_service_did_not_make() {
    let daemon = Daemon::start(&[]);
    let assert = client(&daemon).args(["describe", "--fd", "0"]).assert().code(REFUSED);
    let shown = stdout(assert);
    assert!(shown.starts_with("descriptor 0: NOT_OURS: "), "{shown}");
    let closed = stderr(client(&daemon).args(["describe", "--fd", "97"]).assert().code(USAGE));
    assert!(closed.contains("descriptor 97"), "{closed}");
    let none = stderr(client(&daemon).arg("describe").assert().code(USAGE));
    assert!(none.contains("ANION_FDS"), "{none}");
}

#[test]
fn explain_fails_with_the_code_and_the_reasons_that_alloc_fails_with() {
    let daemon = Daemon::start(&[]);
    let request = ["--size", "1P", "--count", "2"];
    let dry = client(&daemon).args(["--json", "explain"]).args(request).assert().code(REFUSED);
    let dry: Value = serde_json::from_str(&stdout(dry)).expect("JSON");
    assert_eq!(dry["possible"], false);
    assert!(!dry["verdicts"].as_array().expect("rows").is_empty());
    let real = stderr(client(&daemon).arg("alloc").args(request).assert().code(REFUSED));
    let code = dry["error"].as_str().expect("a code");
    assert!(real.starts_with(&format!("anionctl: {code}: ")), "{real} is not {code}");
    assert!(real.contains(dry["summary"].as_str().expect("text")), "{real}");
    let shown = stdout(client(&daemon).arg("explain").args(request).assert().code(REFUSED));
    assert!(shown.starts_with(&format!("impossible: {code}")), "{shown}");
}

#[test]
fn explain_succeeds_where_alloc_would_and_takes_nothing() {
    let daemon = Daemon::start(&[]);
    let dry = json(&daemon, &["explain", "--size", "1M", "--heap", "system"]);
    assert_eq!(dry["possible"], true);
    assert_eq!(dry["chosen_heap"], "system");
    assert_eq!(dry["error"], Value::Null);
    assert_eq!(held(&daemon), (0, 0));
}

#[test]
fn the_service_s_refusals_name_their_code() {
    let daemon = Daemon::start(&[]);
    let cases: [(&[&str], &str); 6] = [
        (&["alloc", "--size", "4K", "--heap", "nonsense"], "UNKNOWN_HEAP"),
        (&["alloc", "--size", "0"], "BAD_REQUEST"),
        (&["alloc", "--size", "4K", "--count", "65"], "BAD_REQUEST"),
        (&["alloc", "--size", "4K", "--heap-mask", "0"], "BAD_REQUEST"),
        (&["trim", "--heap", "nonsense"], "UNKNOWN_HEAP"),
        (&["dump", "--heap", "nonsense"], "UNKNOWN_HEAP"),
    ];
    for (args, code) in cases {
        let message = stderr(client(&daemon).args(args).assert().code(REFUSED));
        assert!(message.starts_with(&format!("anionctl: {code}: ")), "{args:?}: {message}");
    }
}

/// Returns the keys of an object.
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn json_has_the_keys_that_help_promises() {
    let daemon = Daemon::start(&[]);
    let (_holder, report) = Holder::start(&daemon, &["--size", "64K"]);
    let promised = |words: &str| words.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let check = |value: &Value, words: &str| {
        assert_eq!(keys(value).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), promised(words));
    };
    check(&report, "buffers total_bytes allocate_us check_us");
    check(&report["buffers"][0], "index id heap_id heap size backing inode zeroed verified");
    let list = json(&daemon, &["list"]);
    check(
        &list["heaps"][0],
        "id name aliases type backing available unavailable_reason passed_over \
         release_mechanism capacity granule max_alignment flags priority stride_align",
    );
    let stats = json(&daemon, &["stats"]);
    check(
        &stats["stats"][0],
        "heap_id heap num_of_buffers num_of_alloc_bytes alloc_bytes_wm live_bytes deferred_bytes pooled_bytes \
         reserved_bytes capacity largest_free_bytes allocations frees recycled pool_misses warmed scrubbed_bytes scrubbed_in_call_bytes unzeroed \
         discarded discarded_by_cause failures allocate_latency allocate_p50_us allocate_p99_us",
    );
    check(&stats["stats"][0]["discarded_by_cause"], "full busy sealed untouched scarce scrub_failed");
    check(&stats["stats"][0]["failures"], "no_memory fragmented quota not_permitted unsupported backend");
    check(
        &json(&daemon, &["usage"])["usage"][0],
        "uid user policy bytes buffers reserved_bytes peak_bytes quota_bytes quota_buffers",
    );
    let explanation = json(&daemon, &["explain", "--size", "4K"]);
    check(&explanation, "possible chosen_heap error summary verdicts");
    check(&explanation["verdicts"][0], "heap_id heap verdict reason fits_bytes");
    check(&json(&daemon, &["trim"]), "trimmed_bytes");
}

#[test]
fn stats_count_what_happened() {
    let daemon = Daemon::start(&[]);
    let (_holder, report) = Holder::start(&daemon, &["--size", "1M", "--count", "3", "--heap", "system"]);
    assert_eq!(report["buffers"][0]["heap"], "system");
    let stats = json(&daemon, &["stats"]);
    let system = stats["stats"].as_array().expect("rows").iter().find(|row| row["heap"] == "system");
    let system = system.expect("a row for the heap");
    assert_eq!(system["live_bytes"], 3 * MIB);
    assert_eq!(system["num_of_buffers"], 3);
    assert_eq!(system["allocations"], 3);
    let calls: u64 =
        system["allocate_latency"].as_array().expect("counts").iter().filter_map(Value::as_u64).sum();
    assert_eq!(calls, 1, "one call for all three");
    assert_eq!(system["allocate_p50_us"], system["allocate_p99_us"]);
    assert!(text(&daemon, &["stats"]).contains("3.0 MiB"));
}

#[test]
fn dump_prints_the_service_s_report_in_both_forms() {
    let daemon = Daemon::start(&[]);
    let (_holder, report) = Holder::start(&daemon, &["--size", "1M", "--name", "find-me"]);
    let dump = text(&daemon, &["dump"]);
    assert!(dump.contains("find-me"), "{dump}");
    assert!(dump.contains(&report["buffers"][0]["inode"].to_string()), "{dump}");
    let document = json(&daemon, &["dump"]);
    assert!(document.to_string().contains("find-me"), "{document}");
    let other = text(&daemon, &["dump", "--uid", "4000000"]);
    assert!(!other.contains("find-me"), "{other}");
}

#[test]
fn watch_prints_rates_from_the_second_look_on() {
    let daemon = Daemon::start(&[]);
    let output = text(&daemon, &["--json", "watch", "--interval", "20ms", "--count", "3"]);
    let looks: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect();
    assert_eq!(looks.len(), 3);
    assert_eq!(looks[0]["heaps"][0]["allocations_per_s"], Value::Null);
    assert_eq!(looks[1]["heaps"][0]["allocations_per_s"], 0.0);
    assert_eq!(looks[2]["look"], 3);
    for level in ["pressure", "pressure_peak"] {
        assert!(["none", "moderate", "critical"].map(Value::from).contains(&looks[0][level]), "{}", looks[0]);
    }
    assert_eq!(looks[1]["heaps"][0]["interval_p99_us"], Value::Null, "no client allocates");
    let table = text(&daemon, &["watch", "--count", "1"]);
    assert!(table.contains("ALLOCS/s") && !table.contains('\x1b'), "{table:?}");
}

#[test]
fn watch_ends_cleanly_with_a_signal() {
    let daemon = Daemon::start(&[]);
    let mut watch = Command::new(ANIONCTL)
        .arg("--socket")
        .arg(daemon.socket())
        .args(["watch", "--interval", "1h"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("anionctl starts");
    let mut output = watch.stdout.take().expect("a pipe");
    // The first report has been printed, so the signal handlers are installed.
    output.read_exact(&mut [0]).expect("a first look");
    let status = Holder(Killed(watch)).end_with(Signal::SIGTERM);
    assert!(status.success(), "{status}");
}

/// Runs `anionctl list` with `stdout` as its standard output.
fn list_into(daemon: &Daemon, stdout: impl Into<Stdio>) -> Output {
    let mut command = Command::new(ANIONCTL);
    command.arg("--socket").arg(daemon.socket()).arg("list").stdout(stdout).stderr(Stdio::piped());
    command.output().expect("anionctl runs")
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let daemon = Daemon::start(&[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = list_into(&daemon, writer);
    assert!(output.status.success(), "{}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let daemon = Daemon::start(&[]);
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = list_into(&daemon, full);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write"));
}

#[test]
fn the_environment_names_the_socket_unless_a_flag_does() {
    let daemon = Daemon::start(&[]);
    anionctl().env("ANION_SOCKET", daemon.socket()).arg("stats").assert().success();
    client(&daemon).env("ANION_SOCKET", "/nowhere/socket").arg("stats").assert().success();
    anionctl().env("ANION_SOCKET", "/nowhere/socket").arg("stats").assert().code(UNREACHABLE);
    anionctl()
        .current_dir(daemon.directory())
        .env("ANION_SOCKET", Path::new("socket"))
        .arg("stats")
        .assert()
        .success();
}

#[test]
fn a_wrong_command_line_is_refused_before_the_service_is_asked() {
    let cases: [&[&str]; 8] = [
        &[],
        &["nonsense"],
        &["alloc"],
        &["alloc", "--size", "8X"],
        &["alloc", "--size", "4K", "--heap", "a", "--heap-mask", "1"],
        &["alloc", "--size", "4K", "--hold", "1", "--exec", "true"],
        &["--socket", "/nowhere/socket", "list", "--binder"],
        &["watch", "--interval", "0"],
    ];
    for args in cases {
        let assert = anionctl().args(args).assert().code(USAGE);
        assert!(stdout(assert).is_empty(), "{args:?}");
    }
    let message = stderr(anionctl().args(["alloc", "--size", "8X"]).assert());
    assert!(message.starts_with("anionctl: invalid value '8X'"), "{message}");
}

#[test]
fn completions_and_manual_pages_need_no_service() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(anionctl().args(["completions", shell]).assert().success());
        for word in ["list", "alloc", "heap-mask", "describe", "watch"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    for args in [&["man"][..], &["man", "alloc"]] {
        assert!(stdout(anionctl().args(args).assert().success()).contains(".SH SYNOPSIS"));
    }
    let help = stdout(anionctl().arg("--help").assert().success());
    assert!(help.contains("Exit status:"), "{help}");
}
