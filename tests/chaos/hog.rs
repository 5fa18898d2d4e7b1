// SPDX-License-Identifier: Apache-2.0
//! A process that takes the memory of a machine. The kernel ends it first when memory runs out.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// The variable of such a process: the MiB that it leaves.
pub(crate) const LEAVES: &str = "ANION_CHAOS_LEAVES_MIB";
/// The line that it prints when it has all of it.
const HAS: &str = "has the memory";
/// Bytes that it takes at a time.
const PIECE: usize = 1 << 20;

/// Returns a field of /proc/meminfo in KiB.
pub(crate) fn kib_of(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("readable");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("/proc/meminfo has no {field}"))
}

/// Takes memory until only the MiB of the environment are available, and keeps it until standard
/// input ends.
pub(crate) fn live() {
    let leaves: u64 = env::var(LEAVES).expect("a number").parse().expect("a number");
    fs::write("/proc/self/oom_score_adj", "1000").expect("it may be ended first");
    let mut taken = Vec::new();
    while kib_of("MemAvailable") / 1024 > leaves {
        taken.push(vec![1_u8; PIECE]);
    }
    println!("\n{HAS}");
    io::stdout().flush().expect("the parent reads");
    // Returns at the end of the input.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    assert!(taken.iter().all(|piece| piece[0] == 1), "it was kept");
}

/// Such a process. Dropping it ends it.
pub(crate) struct Hog(Child);

impl Hog {
    /// Starts it, as the test `test` of this program, and waits until it has its memory or the
    /// kernel has ended it for that.
    pub(crate) fn start(test: &str, leaves_mib: u64) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture"])
            .env(LEAVES, leaves_mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        // The output ends without this line if the kernel has ended the process.
        let _ = lines.find(|line| line == HAS);
        Self(child)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
