// SPDX-License-Identifier: Apache-2.0
//! What this machine lets the test do to the service: only trying shows it. A guest, whose machine
//! no other program uses, permits more.

use crate::hog;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable of a machine that only this test uses.
pub(crate) const OWN_MACHINE: &str = "ANION_CHAOS_OWN_MACHINE";

/// Returns the beginning of a command that sees `file` as /proc/meminfo.
fn with_meminfo(file: &str) -> [&str; 6] {
    let script = "mount --bind \"$0\" /proc/meminfo && exec \"$@\"";
    ["unshare", "--mount", "sh", "-c", script, file]
}

/// Returns the beginning of a command that runs in the cgroup of this directory.
fn in_group(directory: &str) -> [&str; 4] {
    let script = "echo 0 >\"$0/cgroup.procs\" && exec \"$@\"";
    ["sh", "-c", script, directory]
}

/// The environment of the service.
pub(crate) struct Surroundings {
    /// The file that the service reads as /proc/meminfo.
    pub(crate) meminfo: Option<Meminfo>,
    /// A cgroup of the service whose memory can be limited.
    pub(crate) memory: Option<Group>,
    /// A cgroup of the service whose threads can be limited.
    pub(crate) threads: Option<Group>,
    /// Whether the machine is this test's own.
    pub(crate) is_own_machine: bool,
}

impl Surroundings {
    /// Tries what this machine permits; `directory` is for the test's files.
    pub(crate) fn find(directory: &Path) -> Self {
        Self {
            meminfo: Meminfo::new(directory),
            memory: Group::new(&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory", "memory.high"),
            threads: Group::new(&["/sys/fs/cgroup", "/sys/fs/cgroup/pids"], "pids", "pids.max"),
            is_own_machine: std::env::var_os(OWN_MACHINE).is_some(),
        }
    }

    /// Returns the command and arguments that start a service in these surroundings.
    pub(crate) fn wrapper(&self) -> Vec<&str> {
        let mut words = Vec::new();
        for group in [&self.memory, &self.threads].into_iter().flatten() {
            words.extend(in_group(group.path()));
        }
        if let Some(meminfo) = &self.meminfo {
            words.extend(with_meminfo(meminfo.path()));
        }
        words
    }
}

/// The file that the service reads as /proc/meminfo.
pub(crate) struct Meminfo {
    file: PathBuf,
    /// The text, with the position of the number that changes.
    at: u64,
    total_kib: u64,
}

/// Digits of a number in the file, which is written in place.
const DIGITS: usize = 12;

impl Meminfo {
    /// Returns the file; `None` if this process may not mount it in a namespace of its own.
    fn new(directory: &Path) -> Option<Self> {
        let file = directory.join("meminfo");
        let total_kib = hog::kib_of("MemTotal");
        let text = format!("MemTotal: {total_kib:DIGITS$} kB\nMemAvailable: ");
        let meminfo = Self { at: text.len() as u64, total_kib, file };
        fs::write(&meminfo.file, format!("{text}{total_kib:DIGITS$} kB\n")).expect("our directory");
        let mut attempt = Command::new("unshare");
        attempt.args(&with_meminfo(meminfo.path())[1..]).args(["sh", "-c", ":"]);
        let is_permitted = attempt.output().is_ok_and(|output| output.status.success());
        is_permitted.then_some(meminfo)
    }

    fn path(&self) -> &str {
        self.file.to_str().expect("text")
    }

    /// Writes that one part in `parts` of the memory is available.
    pub(crate) fn write(&self, parts: u64) {
        let file = fs::File::options().write(true).open(&self.file).expect("our file");
        let number = format!("{:DIGITS$}", self.total_kib / parts);
        file.write_all_at(number.as_bytes(), self.at).expect("our file");
    }
}

/// A cgroup of the service. Dropping it removes it, when its processes have ended.
pub(crate) struct Group {
    directory: PathBuf,
    limit: &'static str,
}

impl Group {
    /// Returns a new cgroup below one of `places` with a controller, and the file of its limit;
    /// `None` if this process may not make one.
    fn new(places: &[&str], controller: &str, limit: &'static str) -> Option<Self> {
        let name = format!("anion-chaos-{}", std::process::id());
        for place in places.iter().map(Path::new) {
            // Cgroups of version 1 have no such file, and their controllers always.
            let _ = fs::write(place.join("cgroup.subtree_control"), format!("+{controller}"));
            let directory = place.join(&name);
            let is_made = fs::create_dir(&directory).is_ok() || directory.is_dir();
            if is_made && directory.join(limit).exists() {
                return Some(Self { directory, limit });
            }
            let _ = fs::remove_dir(&directory);
        }
        None
    }

    fn path(&self) -> &str {
        self.directory.to_str().expect("text")
    }

    /// Sets the limit.
    pub(crate) fn limit(&self, limit: &str) {
        fs::write(self.directory.join(self.limit), limit).expect("our cgroup");
    }

    /// Sets the limit of its memory to what it uses, which is above the limit at its next
    /// allocation.
    pub(crate) fn fill(&self) {
        self.limit(&self.number("memory.current").to_string());
    }

    /// Returns a number of the cgroup.
    pub(crate) fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.directory.join(file)).expect("our cgroup");
        text.trim().parse().expect("a number")
    }

    /// Runs a process in the cgroup that uses some memory and ends.
    pub(crate) fn use_memory(&self) {
        let mut shell = Command::new("sh");
        shell.args(&in_group(self.path())[1..]).args(["sh", "-c", ":"]);
        let status = shell.status().expect("it starts");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Another value may have removed it, or a process of a failed test is still ending.
        let _ = fs::remove_dir(&self.directory);
    }
}
