// SPDX-License-Identifier: Apache-2.0
//! A process that takes the memory of a machine. The kernel ends it first when memory runs out.

use crate::common::Killed;
use crate::common::vitals::number_in;
use crate::process::this_program;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};

/// The variable of such a process: the MiB that it leaves.
pub(crate) const LEAVES: &str = "ANION_CHAOS_LEAVES_MIB";
/// The line that it prints when it has all of it.
const HAS: &str = "has the memory";
/// Bytes that it takes at a time.
const PIECE: usize = 1 << 20;

/// Returns a field of /proc/meminfo in KiB.
pub(crate) fn kib_of(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("readable");
    number_in(&text, field).unwrap_or_else(|| panic!("/proc/meminfo has no {field}"))
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
pub(crate) struct Hog {
    _process: Killed,
}

impl Hog {
    /// Starts it, as the test `test` of this program, and waits until it has its memory or the
    /// kernel has ended it for that.
    pub(crate) fn start(test: &str, leaves_mib: u64) -> Self {
        let process = this_program(test).env(LEAVES, leaves_mib.to_string()).spawn();
        let mut process = Killed(process.expect("it starts"));
        let output = process.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        // The output ends without this line if the kernel has ended the process.
        let _ = lines.find(|line| line == HAS);
        Self { _process: process }
    }
}
