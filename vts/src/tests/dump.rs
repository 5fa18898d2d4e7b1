// SPDX-License-Identifier: Apache-2.0
//! Tests `dumpTo`: any caller can have the text of dumpsys written to any descriptor, and no
//! descriptor blocks the service.

use crate::harness::Fixture;
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode, interface};
use crate::request::{Held, from_any, from_heap};
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

tests![
    Shared dump_shows_heaps_and_own_buffers,
    Shared dump_goes_into_pipes_and_sockets,
    Shared dump_is_written_at_the_files_position,
    Shared json_dump_is_one_document,
    Shared heap_filter_leaves_other_heaps_out,
    Shared uid_filter_leaves_other_uids_out,
    Shared help_is_written_instead_of_a_dump,
    Shared unknown_arguments_are_refused,
    Quiet dump_closes_its_copy,
    Shared unwritable_output_is_a_backend_error,
    Shared slow_reader_of_a_pipe_that_does_not_block_gets_everything,
    Shared several_dumps_at_once_are_all_written,
    Quiet full_pipe_does_not_hold_up_the_service,
    Quiet pipe_that_is_never_read_does_not_hold_up_the_service,
];

/// The interface's "at most a few seconds", with a large margin.
const GIVES_UP: Duration = Duration::from_secs(120);
/// Calls that must be answered while a dump is stuck. A call that the dump blocks would be answered
/// only at its end.
const OTHERS_ANSWERED: usize = 2;

fn dump_to(fixture: &Fixture, output: impl AsFd, arguments: &[&str]) -> Result<anion_ipc::Result<()>> {
    let output = ParcelFileDescriptor::new(output.as_fd().try_clone_to_owned()?);
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Ok(fixture.service.dumpTo(&output, &arguments))
}

/// Returns the whole dump, by way of a file.
fn dump(fixture: &Fixture, arguments: &[&str]) -> Result<String> {
    let mut file = File::from(memfd_create("dump", MFdFlags::MFD_CLOEXEC)?);
    dump_to(fixture, &file, arguments)?.with_context(|| format!("dumpTo {arguments:?}"))?;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn inode(buffer: &Held) -> Result<String> {
    Ok(File::from(buffer.fd.try_clone()?).metadata()?.ino().to_string())
}

/// Returns whether `text` has `word` as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    // Heap names may contain commas; a comma at the end is punctuation.
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_,.@+".contains(c)));
    words.any(|part| part.trim_matches(',') == word)
}

fn dump_shows_heaps_and_own_buffers(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&AllocationRequest { name: "vts-dump".into(), ..from_any(1) })?;
    let text = dump(fixture, &[])?;
    for heap in &fixture.heaps {
        ensure!(has_word(&text, &heap.name), "heap {} is missing in: {text}", heap.name);
    }
    for counter in ["num_of_buffers", "num_of_alloc_bytes", "alloc_bytes_wm"] {
        ensure!(text.contains(counter), "ION's {counter} is missing in: {text}");
    }
    let inode = inode(&buffer)?;
    let row = text.lines().find(|line| has_word(line, &inode));
    let row = row.with_context(|| format!("no row has inode {inode} in: {text}"))?;
    for (what, value) in [
        ("label", "vts-dump".to_owned()),
        ("heap", buffer.heap_name.clone()),
        ("size", buffer.size.to_string()),
        ("uid", fixture.uid.to_string()),
        ("pid", std::process::id().to_string()),
    ] {
        ensure!(row.contains(&value), "the {what} {value} is missing in: {row}");
    }
    Ok(())
}

fn dump_goes_into_pipes_and_sockets(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    let inode = inode(&buffer)?;
    let (reader, writer) = pipe()?;
    let (here, there) = UnixStream::pair()?;
    let ends: [(OwnedFd, OwnedFd); 2] = [(reader.into(), writer.into()), (here.into(), there.into())];
    for (reader, writer) in ends {
        let text = thread::scope(|scope| -> Result<String> {
            let reading = scope.spawn(move || {
                let mut text = String::new();
                File::from(reader).read_to_string(&mut text).map(|_| text)
            });
            let dumped = dump_to(fixture, &writer, &[]);
            drop(writer);
            dumped??;
            reading.join().map_err(|_| anyhow!("the reader panicked"))?.map_err(Into::into)
        })?;
        ensure!(has_word(&text, &inode), "inode {inode} is missing in: {text}");
    }
    Ok(())
}

fn dump_is_written_at_the_files_position(fixture: &Fixture) -> Result<()> {
    let mut file = File::from(memfd_create("dump", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(b"kept\n")?;
    dump_to(fixture, &file, &[])??;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    ensure!(text.starts_with("kept\n"), "the file lost its previous contents: {text}");
    ensure!(text.contains("num_of_buffers"), "nothing was appended: {text}");
    Ok(())
}

/// Labels may contain quotes and backslashes, which are printable.
fn json_dump_is_one_document(fixture: &Fixture) -> Result<()> {
    let label = r#"vts "a\b" {}"#;
    let buffer = fixture.allocate_one(&AllocationRequest { name: label.into(), ..from_any(1) })?;
    let text = dump(fixture, &["--json"])?;
    let document: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    ensure!(document.is_object(), "not an object: {document}");
    let inode = serde_json::Value::from(File::from(buffer.fd.try_clone()?).metadata()?.ino());
    ensure!(has_value(&document, &inode), "inode {inode} is missing in: {document}");
    ensure!(has_value(&document, &label.into()), "label {label:?} is missing in: {document}");
    for heap in &fixture.heaps {
        ensure!(
            has_value(&document, &heap.name.clone().into()),
            "heap {} is missing in: {document}",
            heap.name
        );
    }
    Ok(())
}

/// Returns whether `wanted` occurs anywhere in `document`.
fn has_value(document: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    match document {
        serde_json::Value::Array(items) => items.iter().any(|item| has_value(item, wanted)),
        serde_json::Value::Object(fields) => fields.values().any(|field| has_value(field, wanted)),
        value => value == wanted,
    }
}

fn heap_filter_leaves_other_heaps_out(fixture: &Fixture) -> Result<()> {
    let mut usable = fixture.usable();
    let (Some(one), Some(other)) = (usable.next(), usable.next()) else {
        return inapplicable("needs two heaps that this uid can use");
    };
    let (own, foreign) =
        (fixture.allocate_one(&from_heap(one.id, 1))?, fixture.allocate_one(&from_heap(other.id, 1))?);
    for json in [&["--heap", &one.name][..], &["--heap", &one.name, "--json"]] {
        let text = dump(fixture, json)?;
        ensure!(has_word(&text, &one.name), "heap {} is missing in: {text}", one.name);
        ensure!(has_word(&text, &inode(&own)?), "its buffer is missing in: {text}");
        ensure!(!has_word(&text, &other.name), "heap {} is shown in: {text}", other.name);
        ensure!(!has_word(&text, &inode(&foreign)?), "a buffer of heap {} is shown in: {text}", other.name);
    }
    Ok(())
}

fn uid_filter_leaves_other_uids_out(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    let inode = inode(&buffer)?;
    let text = dump(fixture, &["--uid", &fixture.uid.to_string()])?;
    ensure!(has_word(&text, &inode), "inode {inode} is missing in: {text}");
    // No process has this uid.
    let text = dump(fixture, &["--uid", "4294967294"])?;
    ensure!(!has_word(&text, &inode), "inode {inode} of another uid is shown in: {text}");
    Ok(())
}

fn help_is_written_instead_of_a_dump(fixture: &Fixture) -> Result<()> {
    let text = dump(fixture, &["--help"])?;
    for option in ["--json", "--heap", "--uid"] {
        ensure!(text.contains(option), "{option} is missing in: {text}");
    }
    ensure!(!text.contains("num_of_buffers"), "the help has a dump in it: {text}");
    Ok(())
}

fn unknown_arguments_are_refused(fixture: &Fixture) -> Result<()> {
    let file = memfd_create("dump", MFdFlags::MFD_CLOEXEC)?;
    let bad: [&[&str]; 8] = [
        &["--no-such-option"],
        &["extra"],
        &[""],
        &["--json", "--no-such-option"],
        &["--heap"],
        &["--uid"],
        &["--uid", "root"],
        &["--uid", "-1"],
    ];
    for arguments in bad {
        let message = expect_error(dump_to(fixture, &file, arguments)?, &[ErrorCode::BAD_REQUEST])
            .with_context(|| format!("dumpTo {arguments:?}"))?
            .message;
        let wrong = arguments.last().copied().unwrap_or_default();
        ensure!(
            message.contains(wrong),
            "dumpTo {arguments:?}: the message does not name {wrong:?}: {message}"
        );
    }
    expect_error(dump_to(fixture, &file, &["--heap", "no-such-heap"])?, &[ErrorCode::UNKNOWN_HEAP])?;
    check_eq!(File::from(file).metadata()?.len(), 0, "bytes written by refused dumps");
    Ok(())
}

/// Runs alone, because a child of another test has copies of all descriptors for a moment.
fn dump_closes_its_copy(fixture: &Fixture) -> Result<()> {
    for _ in 0..8 {
        let (mut reader, writer) = pipe()?;
        dump_to(fixture, &writer, &["--help"])??;
        drop(writer);
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Fails with EAGAIN at the end if any process still has the writing end.
        reader.read_to_end(&mut Vec::new()).context("the service still has the pipe after its answer")?;
    }
    Ok(())
}

fn unwritable_output_is_a_backend_error(fixture: &Fixture) -> Result<()> {
    let (reader, writer) = pipe()?;
    drop(reader);
    // The reader is closed: a service that does not ignore SIGPIPE is killed.
    expect_error(dump_to(fixture, &writer, &[])?, &[ErrorCode::BACKEND])
        .context("a pipe without a reader")?;
    let read_only = File::open("/dev/null")?;
    expect_error(dump_to(fixture, &read_only, &[])?, &[ErrorCode::BACKEND])
        .context("a file open for reading")?;
    let full = File::options().write(true).open("/dev/full").context("/dev/full")?;
    expect_error(dump_to(fixture, &full, &[])?, &[ErrorCode::BACKEND]).context("a full device")?;
    Ok(())
}

/// Returns 64 buffers with long labels, whose dump exceeds the smallest pipe, and such a pipe.
fn more_than_a_pipe(fixture: &Fixture) -> Result<(Vec<Held>, PipeReader, PipeWriter)> {
    let heap = fixture.roomy()?;
    fixture.require_quota(64, 64 * heap.granule)?;
    let request = AllocationRequest {
        count: interface::MAX_COUNT,
        name: "a long label, to fill the pipe".into(),
        ..from_heap(heap.id, 1)
    };
    let buffers = fixture.allocate(&request)?;
    let length = dump(fixture, &[])?.len();
    let (reader, writer) = pipe()?;
    let capacity = usize::try_from(fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1))?)?;
    if capacity >= length {
        return inapplicable(format!("the smallest pipe of {capacity} bytes takes a whole dump of {length}"));
    }
    Ok((buffers, reader, writer))
}

/// The caller chooses whether writes block; neither is an error.
fn slow_reader_of_a_pipe_that_does_not_block_gets_everything(fixture: &Fixture) -> Result<()> {
    let (buffers, mut reader, writer) = more_than_a_pipe(fixture)?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let text = thread::scope(|scope| -> Result<String> {
        let reading = scope.spawn(move || {
            thread::sleep(Duration::from_millis(100));
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let dumped = dump_to(fixture, &writer, &[]);
        drop(writer);
        dumped??;
        Ok(reading.join().map_err(|_| anyhow!("the reader panicked"))??)
    })?;
    for buffer in &buffers {
        ensure!(has_word(&text, &inode(buffer)?), "buffer {} is missing in: {text}", buffer.id);
    }
    Ok(())
}

/// No dump is stuck, so none may be refused.
fn several_dumps_at_once_are_all_written(fixture: &Fixture) -> Result<()> {
    thread::scope(|scope| {
        let dumping: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    for _ in 0..8 {
                        ensure!(dump(fixture, &[])?.contains("num_of_buffers"), "an empty dump");
                    }
                    Ok(())
                })
            })
            .collect();
        dumping.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// Dumps into `writer`, which never accepts all of it, and checks that other calls are answered.
fn stuck_dump(fixture: &Fixture, writer: OwnedFd) -> Result<()> {
    let stuck = fixture.connect()?;
    let output = ParcelFileDescriptor::new(writer);
    let start = Instant::now();
    thread::scope(|scope| {
        let dumping = scope.spawn(|| {
            let refusal = expect_error(stuck.service.dumpTo(&output, &[]), &[ErrorCode::BACKEND]);
            (refusal, start.elapsed())
        });
        // The dump has begun by then, and lasts seconds before the service aborts it.
        thread::sleep(Duration::from_millis(200));
        let mut answered = 0;
        while !dumping.is_finished() && start.elapsed() < GIVES_UP {
            drop(fixture.allocate_one(&from_any(1))?);
            fixture.service.getStats()?;
            answered += usize::from(!dumping.is_finished());
            thread::sleep(Duration::from_millis(20));
        }
        ensure!(answered >= OTHERS_ANSWERED, "{answered} other callers were answered while a dump was stuck");
        let Ok((refusal, took)) = dumping.join() else { bail!("the dumping thread panicked") };
        refusal?;
        ensure!(took < GIVES_UP, "the service gave up only after {took:?}");
        Ok(())
    })
}

fn full_pipe_does_not_hold_up_the_service(fixture: &Fixture) -> Result<()> {
    let (_reader, mut writer) = pipe()?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while writer.write(&[0; 4096]).is_ok() {}
    // The descriptor blocks again: the service must not depend on the flags of the caller's
    // description.
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    stuck_dump(fixture, writer.into())
}

/// The pipe accepts the beginning, and then no more.
fn pipe_that_is_never_read_does_not_hold_up_the_service(fixture: &Fixture) -> Result<()> {
    let (_buffers, mut reader, writer) = more_than_a_pipe(fixture)?;
    stuck_dump(fixture, writer.into())?;
    // The service has closed the pipe: after the written part, the reader sees the end.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    reader.read_to_end(&mut Vec::new()).context("the service still has the pipe that it gave up")?;
    Ok(())
}
