// SPDX-License-Identifier: Apache-2.0
//! Runs the example of two processes that share camera frames.

mod common;

use common::anionctl::held;
use common::example::{check_that_a_missing_service_is_named, example, path_of};
use common::holders::{Inode, buffers_of};
use common::{CLIENT_HEAPS, Daemon, Killed, eventually};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The size of a frame's buffer: NV12 with 1920 times 1080 pixels, in whole pages.
const BUFFER_BYTES: i64 = 3_112_960;

/// A pipeline that replaces buffers and ends with its input. Killed when dropped; the consumer ends
/// with its producer.
struct Pipeline {
    producer: Killed,
    output: PathBuf,
}

impl Pipeline {
    fn start(daemon: &Daemon) -> Self {
        let output = daemon.directory().join("output");
        let producer = Command::new(path_of("camera_pipeline"))
            .arg("--socket")
            .arg(daemon.socket())
            .args(["--until-closed", "--frames", "1", "--replace", "3"])
            .stdin(Stdio::piped())
            .stdout(File::create(&output).expect("a file"))
            .spawn()
            .expect("it starts");
        Self { producer: Killed(producer), output }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).expect("its output")
    }

    /// Returns the number of frames that the consumer found correct.
    fn frames(&self) -> usize {
        self.output().lines().filter(|line| line.starts_with("frame ")).count()
    }

    /// Waits until more frames have arrived than there are slots in the ring.
    fn await_frames(&self, when: &str) {
        let before = self.frames();
        eventually(when, || self.frames() > before + 5);
    }

    /// Returns the inodes of the buffers that the two processes have, and the bytes and buffers
    /// that the service counts at this moment. The processes are stopped meanwhile.
    fn buffers(&self, daemon: &Daemon) -> (BTreeSet<Inode>, (i64, i64)) {
        let producer = Pid::from_raw(self.producer.id().cast_signed());
        kill(producer, Signal::SIGSTOP).expect("it runs");
        let stopped = waitpid(producer, Some(WaitPidFlag::WUNTRACED)).expect("our child");
        assert_eq!(stopped, WaitStatus::Stopped(producer, Signal::SIGSTOP), "{}", self.output());
        let consumer = fs::read_to_string(format!("/proc/{producer}/task/{producer}/children"));
        let consumer = consumer.expect("it runs").trim().parse().map(Pid::from_raw).expect("one child");
        // It waits for the next frame, or is about to.
        let buffers = [producer, consumer].into_iter().flat_map(buffers_of).collect();
        let counted = held(daemon);
        kill(producer, Signal::SIGCONT).expect("it is stopped");
        (buffers, counted)
    }

    /// Waits until the service counts exactly the buffers that the two processes have, among them
    /// some of `before`. Returns their inodes.
    fn await_exact(&self, daemon: &Daemon, before: Option<&BTreeSet<Inode>>) -> BTreeSet<Inode> {
        let mut exact = None;
        eventually("the service counts exactly the buffers", || {
            let (buffers, counted) = self.buffers(daemon);
            let count = i64::try_from(buffers.len()).expect("few");
            let is_exact = count >= 4 && counted == (count * BUFFER_BYTES, count);
            exact = Some(buffers).filter(|_| is_exact);
            exact.as_ref().is_some_and(|now| before.is_none_or(|before| !now.is_disjoint(before)))
        });
        exact.expect("found")
    }
}

#[test]
fn frames_arrive_intact_and_the_memory_comes_back() {
    let daemon = Daemon::start(&[]);
    let assert = example("camera_pipeline")
        .arg("--socket")
        .arg(daemon.socket())
        .args(["--frames", "6"])
        .assert()
        .success();
    let output = String::from_utf8(assert.get_output().stdout.clone()).expect("text");
    assert!(output.contains("frame 6/6"), "{output}");
    assert!(output.trim_end().ends_with("this user: 0 bytes held"), "{output}");
}

#[test]
fn frames_continue_while_the_service_is_away_and_the_next_one_counts_their_buffers() {
    let mut daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let mut pipeline = Pipeline::start(&daemon);
    pipeline.await_frames("frames arrive");
    for _ in 0..2 {
        let before = pipeline.await_exact(&daemon, None);
        daemon.kill();
        // The thread that allocates then waits for the service.
        pipeline.await_frames("frames arrive without the service");
        daemon.start_again();
        eventually("it serves", || UnixStream::connect(daemon.socket()).is_ok());
        pipeline.await_exact(&daemon, Some(&before));
        pipeline.await_frames("frames arrive with the next service");
    }
    drop(pipeline.producer.stdin.take());
    let status = pipeline.producer.wait().expect("our child");
    let output = pipeline.output();
    assert!(status.success(), "{output}");
    let numbers =
        output.lines().filter_map(|line| line.strip_prefix("frame ")?.split(',').next()?.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "{output}");
    let summary = format!("{} frames arrived in order with every byte; ", numbers.len());
    let summary = output.lines().find_map(|line| line.strip_prefix(&summary)).expect("a summary");
    assert!(summary.ends_with("the service was started again 2 times"), "{summary}");
    assert!(!summary.starts_with("0 "), "buffers are replaced: {summary}");
    assert!(output.trim_end().ends_with("this user: 0 bytes held"), "{output}");
}

#[test]
fn a_missing_service_is_named() {
    check_that_a_missing_service_is_named("camera_pipeline");
}
