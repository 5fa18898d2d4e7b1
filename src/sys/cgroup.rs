// SPDX-License-Identifier: Apache-2.0
//! What this process's control groups leave it of the machine's memory (Documentation/admin-guide/cgroup-v2.rst).
//! Going beyond kills a process of the group, however much memory the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the unified hierarchy is mounted by convention.
const ROOT: &str = "/sys/fs/cgroup";

/// Bytes that this process's group and those around it can still take, the cache that they can drop included; `None`
/// if no group has a limit.
pub fn headroom() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    headroom_below(Path::new(ROOT), unified(&groups)?)
}

/// The path of the group in the unified hierarchy, without the leading slash.
fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn headroom_below(root: &Path, group: &str) -> Option<u64> {
    let mut folder = PathBuf::from(root);
    let mut least = left_in(&folder);
    for part in group.split('/').filter(|part| !part.is_empty()) {
        folder.push(part);
        least = [least, left_in(&folder)].into_iter().flatten().min();
    }
    least
}

/// Bytes left in one group; `None` if it has no limit of its own.
fn left_in(folder: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(folder.join(file)).ok();
    let number = |file| read(file)?.trim().parse::<u64>().ok();
    // "max" is no number.
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let cache = read("memory.stat").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        line.trim().parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group's files: its limit, what it uses, and how much of that is cache.
    fn group(folder: &Path, limit: &str, used: u64, cache: u64) {
        fs::create_dir_all(folder).expect("a folder");
        let stat = format!("anon 1\nfile 2\ninactive_file {cache}\nactive_file 7\n");
        for (file, text) in [("max", limit.to_owned()), ("current", used.to_string()), ("stat", stat)] {
            fs::write(folder.join(format!("memory.{file}")), text + "\n").expect("written");
        }
    }

    #[test]
    fn the_tightest_group_decides_and_cache_counts_as_free() {
        let root = tempfile::tempdir().expect("a folder");
        let (outer, inner) = (root.path().join("outer"), root.path().join("outer/inner"));
        fs::create_dir_all(&inner).expect("folders");
        assert_eq!(headroom_below(root.path(), "outer/inner"), None, "the root has no such files");
        group(&outer, "max", 900, 0);
        group(&inner, "1000", 300, 100);
        assert_eq!(headroom_below(root.path(), "outer/inner"), Some(800));
        group(&outer, "950", 900, 0);
        assert_eq!(headroom_below(root.path(), "outer/inner"), Some(50));
        group(&outer, "800", 900, 0);
        assert_eq!(headroom_below(root.path(), "outer/inner"), Some(0));
    }

    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        assert_eq!(
            unified("12:cpu:/a\n0::/system.slice/anion.service\n"),
            Some("system.slice/anion.service")
        );
        assert_eq!(unified("0::/\n"), Some(""));
        assert_eq!(unified("1:name=systemd:/x\n"), None);
    }
}
