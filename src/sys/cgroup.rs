// SPDX-License-Identifier: Apache-2.0
//! Control groups: finds those of this process, reads their limits, and reports shortages of memory
//! in one of version 2 (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Larger than the file in any kernel.
const EVENTS_BYTES: usize = 4096;

/// Number of times that a cgroup was short of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shortages {
    /// It exceeded `memory.high`, and its tasks had to reclaim memory.
    pub high: u64,
    /// It was about to exceed `memory.max`.
    pub max: u64,
    /// Reclaim failed, and an allocation was about to fail.
    pub oom: u64,
}

impl Shortages {
    /// Returns the differences to `earlier`.
    fn since(self, earlier: Self) -> Self {
        Self {
            high: self.high.saturating_sub(earlier.high),
            max: self.max.saturating_sub(earlier.max),
            oom: self.oom.saturating_sub(earlier.oom),
        }
    }

    /// Parses the counts; ignores other keys.
    fn parse(text: &str) -> Self {
        let mut counts = Self::default();
        for (key, count) in text.lines().filter_map(|line| line.split_once(' ')) {
            let field = match key {
                "high" => &mut counts.high,
                "max" => &mut counts.max,
                "oom" => &mut counts.oom,
                _ => continue,
            };
            *field = count.parse().unwrap_or(*field);
        }
        counts
    }
}

/// A cgroup's `memory.events`. Becomes ready (`POLLPRI`) when one of its counts has grown,
/// including those of its descendants.
#[derive(Debug)]
pub struct MemoryEvents {
    file: File,
    seen: Shortages,
}

impl MemoryEvents {
    /// Watches the cgroup of this directory. Ignores earlier events.
    ///
    /// # Errors
    /// `NotFound` if it is no cgroup, the root cgroup, or one without the memory controller; else
    /// as reading a file.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut events =
            Self { file: File::open(directory.join("memory.events"))?, seen: Shortages::default() };
        events.take()?;
        Ok(events)
    }

    /// Returns the shortages since the last call. Until it is called, the file stays ready.
    ///
    /// # Errors
    /// `ENODEV` if the cgroup no longer exists.
    pub fn take(&mut self) -> io::Result<Shortages> {
        let mut bytes = [0; EVENTS_BYTES];
        let length = self.file.read_at(&mut bytes, 0)?;
        let now = Shortages::parse(&String::from_utf8_lossy(&bytes[..length]));
        let new = now.since(self.seen);
        self.seen = now;
        Ok(new)
    }
}

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Returns the directory of this process's cgroup of version 2; `None` if this process cannot see
/// it.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own_directory() -> io::Result<Option<PathBuf>> {
    own_directory_in(None)
}

/// Returns the directory of this process's cgroup: of version 1 for a controller, of version 2 for
/// `None`.
fn own_directory_in(controller: Option<&str>) -> io::Result<Option<PathBuf>> {
    let cgroup = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(directory(&cgroup, &mounts, controller))
}

/// Files of a cgroup with a memory controller.
struct MemoryFiles {
    /// The files of its limits; the lowest limit applies.
    limits: &'static [&'static str],
    used: &'static str,
    /// The line of memory.stat with the cache that it can drop.
    cache: &'static str,
}

const VERSION_2: MemoryFiles =
    MemoryFiles { limits: &["memory.max", "memory.high"], used: "memory.current", cache: "inactive_file " };
const VERSION_1: MemoryFiles = MemoryFiles {
    limits: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};
/// Approximate value for "no limit" in version 1, in whole pages.
const UNLIMITED: u64 = i64::MAX as u64 >> 1;

/// Returns the lowest limit of processes and threads of this process's cgroups, in words; `None` if
/// there is none, or this process can see no cgroup.
pub fn own_pids_limit() -> Option<String> {
    own_limit("pids", &["pids.max"])
}

/// Returns the lowest limit of memory, as [`own_pids_limit`].
pub fn own_memory_limit() -> Option<String> {
    own_limit("memory", &["memory.max", "memory.limit_in_bytes"])
}

fn own_limit(controller: &str, files: &[&str]) -> Option<String> {
    let directories = [None, Some(controller)].into_iter().filter_map(|tree| own_directory_in(tree).ok()?);
    let limits = directories.flat_map(|directory| {
        let paths = directory.ancestors().flat_map(|above| files.iter().map(|file| above.join(file)));
        paths.filter_map(|path| Some((number_in(&path)?, path))).collect::<Vec<_>>()
    });
    limits.min().map(|(limit, path)| format!("{} is {limit}", path.display()))
}

/// Returns the limit in this file; `None` for "max".
fn number_in(path: &Path) -> Option<u64> {
    let number = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (number < UNLIMITED).then_some(number)
}

/// Returns the bytes that this process's cgroup and its ancestors can still allocate, including the
/// cache that they can drop; `None` if none has a limit. Exceeding them kills a process of the
/// cgroup, or makes it wait, however much memory the machine has.
pub fn headroom() -> Option<u64> {
    let of = |tree, files| Some(headroom_of(&own_directory_in(tree).ok()??, files)).flatten();
    [of(None, &VERSION_2), of(Some("memory"), &VERSION_1)].into_iter().flatten().min()
}

/// Returns the minimum of the room that is left in a cgroup and its ancestors. Directories above
/// the cgroups have no such files.
fn headroom_of(directory: &Path, files: &MemoryFiles) -> Option<u64> {
    directory.ancestors().filter_map(|above| left_in(above, files)).min()
}

/// Returns the bytes left in one cgroup; `None` if it has no limit of its own.
fn left_in(directory: &Path, files: &MemoryFiles) -> Option<u64> {
    let limit = files.limits.iter().filter_map(|file| number_in(&directory.join(file))).min()?;
    let used = number_in(&directory.join(files.used))?;
    let cache = fs::read_to_string(directory.join("memory.stat")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(files.cache))?;
        line.trim().parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

/// Returns the cgroup's directory, from the texts of proc_pid_cgroup(5) and proc_pid_mountinfo(5).
fn directory(cgroup: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        let is_it = controller.map_or(names.is_empty(), |name| names.split(',').any(|one| one == name));
        is_it.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let (kind, rest) = filesystem.split_once(' ')?;
        let is_it = match controller {
            None => kind == "cgroup2",
            // The mount source comes before the options.
            Some(name) => kind == "cgroup" && rest.split([' ', ',']).skip(1).any(|option| option == name),
        };
        if !is_it {
            return None;
        }
        let mut fields = mount.split(' ').skip(3).map(unescape);
        let (root, point) = (fields.next()?, fields.next()?);
        // A container may not see its own cgroup: then the path is not below the mounted directory,
        // or contains `..`.
        let below = Path::new(path).strip_prefix(&root).ok().filter(|_| !path.contains("/.."))?;
        Some(Path::new(&point).components().chain(below.components()).collect())
    })
}

/// Decodes the kernel's octal escapes of blanks and backslashes.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(cgroup: &str, mounts: &str) -> Option<String> {
        directory(cgroup, mounts, None).map(|path| path.to_str().expect("text").to_owned())
    }

    #[test]
    fn the_own_cgroup_is_found_below_its_mount() {
        let expected = "/sys/fs/cgroup/system.slice/anion.service";
        assert_eq!(found("0::/system.slice/anion.service\n", UNIFIED).as_deref(), Some(expected));
    }

    #[test]
    fn a_container_sees_a_part_of_the_tree() {
        let part = "40 30 0:26 /pod/c1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(found("0::/pod/c1/work\n", part).as_deref(), Some("/sys/fs/cgroup/work"));
        assert_eq!(found("0::/elsewhere\n", part), None);
        assert_eq!(found("0::/../other\n", UNIFIED), None);
    }

    #[test]
    fn the_root_is_the_mount_itself() {
        assert_eq!(found("0::/\n", UNIFIED).as_deref(), Some("/sys/fs/cgroup"));
    }

    #[test]
    fn a_mount_with_blanks_in_its_name_is_found() {
        let mount = "40 30 0:26 / /my\\040groups rw - cgroup2 none rw\n";
        assert_eq!(found("0::/a\n", mount).as_deref(), Some("/my groups/a"));
    }

    #[test]
    fn version_1_alone_has_none() {
        let memory = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(found("4:memory:/a\n1:cpu:/\n", memory), None);
        assert_eq!(found("4:memory:/a\n0::/a\n", memory), None);
        let of = |controller| directory("4:cpu,memory:/a\n1:pids:/b\n0::/\n", memory, Some(controller));
        assert_eq!(of("memory").as_deref(), Some(Path::new("/sys/fs/cgroup/memory/a")));
        assert_eq!(of("pids"), None, "its tree is not mounted");
        assert_eq!(of("blkio"), None);
    }

    #[test]
    fn limits_of_version_1_and_high_ones_of_version_2_count() {
        let root = tempfile::tempdir().expect("scratch");
        let write = |file: &str, text: &str| fs::write(root.path().join(file), text).expect("written");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.usage_in_bytes", "300\n");
        write("memory.stat", "cache 5\ntotal_inactive_file 100\n");
        assert_eq!(headroom_of(root.path(), &VERSION_1), None, "no limit");
        write("memory.limit_in_bytes", "1000\n");
        assert_eq!(headroom_of(root.path(), &VERSION_1), Some(800));
        cgroup(root.path(), "1000", 300, 0);
        write("memory.high", "max\n");
        assert_eq!(headroom_of(root.path(), &VERSION_2), Some(700));
        write("memory.high", "500\n");
        assert_eq!(headroom_of(root.path(), &VERSION_2), Some(200));
    }

    /// Writes a cgroup's files: its limit, its usage, and the cache in that usage.
    fn cgroup(directory: &Path, limit: &str, used: u64, cache: u64) {
        let stat = format!("anon 1\nfile 2\ninactive_file {cache}\nactive_file 7\n");
        for (file, text) in [("max", limit.to_owned()), ("current", used.to_string()), ("stat", stat)] {
            fs::write(directory.join(format!("memory.{file}")), text + "\n").expect("written");
        }
    }

    #[test]
    fn the_tightest_cgroup_decides_and_cache_counts_as_free() {
        let root = tempfile::tempdir().expect("scratch");
        let (outer, inner) = (root.path().join("outer"), root.path().join("outer/inner"));
        fs::create_dir_all(&inner).expect("directories");
        assert_eq!(headroom_of(&inner, &VERSION_2), None, "without the memory controller");
        cgroup(&outer, "max", 900, 0);
        cgroup(&inner, "1000", 300, 100);
        assert_eq!(headroom_of(&inner, &VERSION_2), Some(800));
        cgroup(&outer, "950", 900, 0);
        assert_eq!(headroom_of(&inner, &VERSION_2), Some(50));
        cgroup(&outer, "800", 900, 0);
        assert_eq!(headroom_of(&inner, &VERSION_2), Some(0));
    }

    #[test]
    fn only_growth_counts() {
        let directory = tempfile::tempdir().expect("scratch");
        let write = |text: &str| fs::write(directory.path().join("memory.events"), text).expect("written");
        write("low 0\nhigh 5\nmax 1\noom 0\noom_kill 0\noom_group_kill 0\n");
        let mut events = MemoryEvents::open(directory.path()).expect("there");
        write("low 9\nhigh 7\nmax 1\noom 1\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(events.take().expect("read"), Shortages { high: 2, max: 0, oom: 1 });
        assert_eq!(events.take().expect("read"), Shortages::default());
    }
}
