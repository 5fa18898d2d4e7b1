// SPDX-License-Identifier: Apache-2.0
//! Tests `anionctl watch` on a real terminal, with an emulated screen.

mod common;

use common::anionctl::Holder;
use common::terminal::start_on_terminal;
use common::{CLIENT_HEAPS, Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

const SIZE: (u16, u16) = (24, 100);

/// A `watch` on a terminal.
struct Watch {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(daemon: &Daemon, args: &[&str]) -> Self {
        let (child, master) =
            start_on_terminal(daemon, SIZE, &[&["watch", "--interval", "50ms"], args].concat());
        let keys = master.try_clone().expect("a copy");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(SIZE.0, SIZE.1, 0)));
        let shown = Arc::clone(&screen);
        let reader = thread::spawn(move || read_all(master, &shown));
        Self { child, keys, screen, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    fn shows(&self, what: &str) {
        eventually(what, || self.text().contains(what));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Waits until it ends, and checks that it has restored the terminal.
    fn ended(&mut self) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(status.expect("it ended").success(), "{status:?}: {}", self.text());
        self.reader.take().expect("once").join().expect("no panic");
        let parser = self.screen.lock().expect("no panic");
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{}", screen.contents());
    }

    /// Returns the pid of `watch`, which setsid started.
    fn pid(&self) -> Pid {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).expect("readable");
        // setsid has no child: it executed the program itself.
        Pid::from_raw(
            children.split_whitespace().next().map_or(own.cast_signed(), |pid| pid.parse().expect("a pid")),
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Feeds the program's output to the screen until the program has ended.
fn read_all(mut master: File, screen: &Mutex<vt100::Parser>) {
    let mut piece = [0; 4096];
    while let Ok(taken @ 1..) = master.read(&mut piece) {
        screen.lock().expect("no panic").process(&piece[..taken]);
    }
}

#[test]
fn the_screen_shows_heaps_users_and_history_sorts_and_ends_with_q() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let (_held, _) = Holder::start(&daemon, &["--size", "3M", "--heap", "camera"]);
    let mut watch = Watch::start(&daemon, &[]);
    watch.shows("3.0 MiB");
    assert!(watch.screen.lock().expect("no panic").screen().alternate_screen());
    watch.shows("memory pressure: none");
    for what in ["HEAP", "HISTORY", "USER", "root", "q quit", "█"] {
        if what != "root" || nix::unistd::geteuid().is_root() {
            watch.shows(what);
        }
    }
    let place = |watch: &Watch, heap: &str| watch.text().lines().position(|line| line.starts_with(heap));
    assert!(place(&watch, "system") < place(&watch, "camera"), "by id: {}", watch.text());
    watch.press("ss");
    watch.shows("by held");
    eventually("the heap that holds most is first", || place(&watch, "camera") < place(&watch, "system"));
    // Scrolled by one row, the first heap is no longer visible.
    watch.press("j");
    eventually("it is scrolled", || place(&watch, "camera").is_none());
    watch.press("q");
    watch.ended();
}

#[test]
fn it_survives_a_restart_of_the_service_and_ctrl_c_restores_the_terminal() {
    let mut daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let mut watch = Watch::start(&daemon, &[]);
    watch.shows("memory pressure: none");
    daemon.kill();
    watch.shows("waiting for the service");
    daemon.start_again();
    watch.shows("memory pressure: none");
    watch.press("\x03");
    watch.ended();
}

#[test]
fn a_signal_and_a_count_restore_the_terminal_too() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let mut watch = Watch::start(&daemon, &[]);
    watch.shows("memory pressure: none");
    kill(watch.pid(), Signal::SIGTERM).expect("it runs");
    watch.ended();
    Watch::start(&daemon, &["--count", "2"]).ended();
}
