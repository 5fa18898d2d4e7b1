// SPDX-License-Identifier: Apache-2.0
//! Starts programs on a terminal of their own.

use super::Daemon;
use super::anionctl::ANIONCTL;
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::process::{Child, Command};

/// Starts `anionctl` on a new terminal of this size, which is the only one that it can access. Its
/// output is read from the file; the other end is closed when it has ended.
pub(crate) fn start_on_terminal(
    daemon: &Daemon,
    (rows, columns): (u16, u16),
    args: &[&str],
) -> (Child, File) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let other_end = || terminal.slave.try_clone().expect("a copy");
    // Without it, a program could use the terminal of the tests.
    let child = Command::new("setsid")
        .args(["--ctty", "--wait", ANIONCTL, "--socket"])
        .arg(daemon.socket())
        .args(args)
        .stdin(other_end())
        .stdout(other_end())
        .stderr(other_end())
        .spawn()
        .expect("setsid starts");
    (child, File::from(terminal.master))
}
