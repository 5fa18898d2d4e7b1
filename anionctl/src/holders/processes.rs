// SPDX-License-Identifier: Apache-2.0
//! Finds the processes that hold buffers, using only /proc: their descriptors and mappings.
//!
//! Descriptors in unread messages, and imports of devices, belong to no process; the reference
//! count of a dma-buf includes both.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Prefix in /proc of the names of Anion's memfds.
const OURS: &str = "/memfd:anion:";
/// Prefix in /proc of the names of dma-bufs.
const DMA_BUF: &str = "/dmabuf:";
/// Suffix in /proc of the names of files without a path.
const DELETED: &str = " (deleted)";
/// The flag of a kernel thread in /proc/PID/stat (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The kind of a buffer's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Memfd,
    DmaBuf,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Memfd => "memfd",
            Self::DmaBuf => "dma-buf",
        }
    }
}

/// The file of a buffer: its kind, and its inode number on the kernel's file system for this kind.
pub(super) type FileId = (Kind, u64);

/// The facts of /proc about a buffer's file.
#[derive(Debug, Default)]
pub(super) struct FileFacts {
    pub(super) name: String,
    /// Bytes; 0 if only mappings were found.
    pub(super) size: u64,
    /// The exporter of a dma-buf.
    pub(super) exporter: Option<String>,
    /// All references to a dma-buf, including those of devices and messages.
    pub(super) references: Option<u64>,
    /// By process id.
    pub(super) holds: BTreeMap<i32, Hold>,
}

/// How one process holds a buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) descriptors: u64,
    pub(super) mappings: u64,
    pub(super) mapped_bytes: u64,
}

/// A process that holds a buffer.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) command: String,
    pub(super) uid: u32,
}

/// The buffers and processes that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: BTreeMap<FileId, FileFacts>,
    pub(super) processes: BTreeMap<i32, Process>,
    /// Processes that this process may not inspect.
    pub(super) closed: u64,
}

/// Inspects every process below `root`, which is /proc.
///
/// # Errors
/// If `root` cannot be read. A process that ends during the scan is skipped.
pub(super) fn scan(root: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let directory = root.join(&name);
        let looked = look_into(&directory, pid, &mut found);
        let is_closed = looked.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if is_closed && !is_kernel_thread(&directory) {
            found.closed += 1;
        }
    }
    Ok(found)
}

/// Adds the buffers of a process.
fn look_into(directory: &Path, pid: i32, found: &mut Found) -> io::Result<()> {
    let before = found.files.values().map(|file| file.holds.len()).sum::<usize>();
    for entry in fs::read_dir(directory.join("fd"))? {
        let number = entry?.file_name();
        let link = directory.join("fd").join(&number);
        // A descriptor that was closed since is skipped.
        if let Ok(target) = fs::read_link(&link) {
            add_descriptor(&link, &target, &directory.join("fdinfo").join(&number), pid, found);
        }
    }
    let maps = fs::read(directory.join("maps"))?;
    for (file, name, bytes) in String::from_utf8_lossy(&maps).lines().filter_map(mapping) {
        let facts = found.files.entry(file).or_default();
        facts.name = name;
        let hold = facts.holds.entry(pid).or_default();
        hold.mappings += 1;
        hold.mapped_bytes += bytes;
    }
    if found.files.values().map(|file| file.holds.len()).sum::<usize>() > before {
        let status = fs::read_to_string(directory.join("status"))?;
        found.processes.insert(pid, process(&status));
    }
    Ok(())
}

/// Adds a descriptor if it refers to a buffer.
fn add_descriptor(link: &Path, target: &Path, info: &PathBuf, pid: i32, found: &mut Found) {
    let Some((kind, name)) = buffer_name(&target.to_string_lossy()) else { return };
    // Only the kernel's own file systems answer this call, and they never block.
    let Ok(metadata) = fs::metadata(link) else { return };
    let facts = found.files.entry((kind, metadata.ino())).or_default();
    facts.name = name;
    facts.size = metadata.size();
    facts.holds.entry(pid).or_default().descriptors += 1;
    if kind == Kind::DmaBuf {
        let info = fs::read_to_string(info).unwrap_or_default();
        let of = |key: &str| Some(info.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned());
        facts.size = of("size:").and_then(|size| size.parse().ok()).unwrap_or(facts.size);
        facts.references = of("count:").and_then(|count| count.parse().ok());
        facts.exporter = of("exp_name:");
    }
}

/// Returns the kind and name of a path in /proc if it is a buffer: a memfd of Anion, or any
/// dma-buf.
fn buffer_name(path: &str) -> Option<(Kind, String)> {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    if let Some(name) = path.strip_prefix(DMA_BUF) {
        return Some((Kind::DmaBuf, name.to_owned()));
    }
    path.strip_prefix(OURS).map(|rest| (Kind::Memfd, format!("anion:{rest}")))
}

/// Returns the file, name and bytes of a line of /proc/PID/maps, if it is a mapping of a buffer.
fn mapping(line: &str) -> Option<(FileId, String, u64)> {
    // Address, access, offset, device, inode; the rest of the line is the path.
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let inode = words.nth(3)?.parse().ok()?;
    let (kind, name) = buffer_name(words.next()?.trim_start())?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(((kind, inode), name, address(end)?.checked_sub(address(start)?)?))
}

/// Parses a process from its /proc/PID/status.
fn process(status: &str) -> Process {
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let uid = of("Uid:").split_whitespace().next().and_then(|uid| uid.parse().ok());
    Process { command: of("Name:").trim().to_owned(), uid: uid.unwrap_or(u32::MAX) }
}

/// Returns whether it is a kernel thread, which has no descriptors and no memory of its own.
fn is_kernel_thread(directory: &Path) -> bool {
    let stat = fs::read_to_string(directory.join("stat")).unwrap_or_default();
    // The name in brackets may contain any characters.
    let flags =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_anion_s_memfds_and_dma_bufs_are_buffers() {
        let name = |path| buffer_name(path);
        let memfd = (Kind::Memfd, "anion:camera:preview 1".to_owned());
        assert_eq!(name("/memfd:anion:camera:preview 1 (deleted)"), Some(memfd));
        assert_eq!(name("/dmabuf:"), Some((Kind::DmaBuf, String::new())));
        assert_eq!(name("/memfd:wayland (deleted)"), None);
        assert_eq!(name("/memfd:anionymous (deleted)"), None);
        assert_eq!(name("/home/anion:x"), None);
    }

    #[test]
    fn a_line_of_maps_has_the_file_and_its_length() {
        let line = "7f0000000000-7f0000002000 rw-s 00001000 00:01 1234    /memfd:anion:system:a b (deleted)";
        assert_eq!(mapping(line), Some(((Kind::Memfd, 1234), "anion:system:a b".to_owned(), 8192)));
        for other in ["", "7f00-7f10 r--p 0 00:00 0", "7f00-7f10 r--p 0 08:01 7    /usr/lib/libc.so.6"] {
            assert_eq!(mapping(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_kernel_thread_is_told_by_its_flags() {
        let directory = tempfile::tempdir().expect("made");
        let is_kernels = |stat: &str| {
            fs::write(directory.path().join("stat"), stat).expect("written");
            is_kernel_thread(directory.path())
        };
        assert!(is_kernels("2 (kthreadd) S 0 0 0 0 -1 2129984 0"));
        assert!(!is_kernels("9 (a) b) S 0 0 0 0 -1 4194304 0"));
    }

    #[test]
    fn a_process_is_named_with_its_real_user() {
        let Process { command, uid } = process("Name:\tcamera hal\nState:\tS\nUid:\t1047\t0\t0\t0\n");
        assert_eq!((command.as_str(), uid), ("camera hal", 1047));
    }
}
