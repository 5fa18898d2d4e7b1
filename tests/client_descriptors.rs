// SPDX-License-Identifier: Apache-2.0
//! Tests clients without a free descriptor. There is only one test, because all tests of a process
//! share its descriptors.

mod common;

use anion_client::{Buffer, Client, Endpoint, Error, Request, Settings};
use common::anionctl::ANIONCTL;
use common::{Daemon, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::process::Command;

const LIMIT: u64 = 64;

fn buffers_of_the_books(client: &Client) -> i64 {
    let usage = client.call(|service| service.getUsage()).expect("answered");
    usage.iter().map(|usage| usage.buffers).sum()
}

#[test]
fn a_client_without_descriptors_is_told_its_limit_and_stays_connected() {
    let daemon = Daemon::start(&[]);
    // A program, before this process is limited: some of 32 buffers fit, whatever it inherits.
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=24", ANIONCTL, "--socket"]).arg(daemon.socket());
    let output = limited.args(["alloc", "--size", "4K", "--count", "32"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let wanted = "this process has no file descriptors left; it may have 24 (RLIMIT_NOFILE; ulimit -n)";
    assert!(told.contains(wanted) && output.status.code() == Some(5), "{told}");

    let endpoint = Some(Endpoint::Socket(daemon.socket()));
    let settings = Settings { endpoint, ..Settings::default() };
    let client = Client::with(settings.clone()).expect("connected");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("told");
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, hard).expect("lowered");
    let mut held: Vec<Buffer> = Vec::new();
    for count in [8, 5, 3, 2, 1] {
        let error = loop {
            match client.allocate(&Request::new(4096).count(count)) {
                Ok(buffers) => held.extend(buffers),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoDescriptors(none) if none.limit == LIMIT), "{error}");
        assert_eq!(error.errno(), nix::libc::EMFILE);
        assert!(error.to_string().contains("it may have 64 (RLIMIT_NOFILE; ulimit -n)"), "{error}");
    }
    let error = client.describe(&held[0]).expect_err("there is no number for the copy");
    assert!(matches!(error, Error::NoDescriptors(_)), "{error}");
    let error = Client::with(settings).expect_err("there is none for a connection");
    assert!(matches!(error, Error::NoDescriptors(_)), "{error}");
    // A call without descriptors is answered in the same session. Buffers that did not fit are not
    // accounted.
    let held_now = i64::try_from(held.len()).expect("few");
    eventually("what did not fit is released", || buffers_of_the_books(&client) == held_now);
    assert_eq!(client.generation(), 1, "the session was not cut");
    held.truncate(4);
    eventually("there is room again", || client.allocate(&Request::new(4096).count(8)).is_ok());
}
