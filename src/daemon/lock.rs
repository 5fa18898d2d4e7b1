// SPDX-License-Identifier: Apache-2.0
//! Ownership of a path: a lock between processes that start at once; a process removes only its own
//! files.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file and the path that leads to it.
#[derive(Debug)]
pub(super) struct KnownFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl KnownFile {
    /// Returns the file at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, &fs::symlink_metadata(path)?))
    }

    fn new(path: &Path, file: &Metadata) -> Self {
        Self { path: path.to_owned(), device: file.dev(), inode: file.ino() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path still leads to this file. A new file at the path can have the same
    /// inode number only once this file is closed.
    pub(super) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (self.device, self.inode) == (found.dev(), found.ino()))
    }
}

/// A file that this process made. Dropping it removes the file, unless another one has replaced it.
#[derive(Debug)]
pub(super) struct OwnedPath(pub(super) KnownFile);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if self.0.is_in_place()
            && let Err(error) = fs::remove_file(&self.0.path)
        {
            log::warn!("cannot remove {}: {error}", self.0.path.display());
        }
    }
}

/// A lock file that this process holds, with its pid in it. The file is removed before the lock is
/// released.
#[derive(Debug)]
pub(super) struct LockFile {
    // Fields are dropped in this order.
    path: OwnedPath,
    /// Holds the lock until it is closed. `nix`'s `Flock` would release it by a call that may fail.
    _file: File,
    /// Whether an ending process held the lock before. That process may never end: one of its
    /// threads closes a file whose file system does not answer.
    pub(super) is_taken_over: bool,
}

impl LockFile {
    /// Takes the lock at `path`; `None` if another process holds it. A lock of an ending process
    /// counts as free.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut is_taken_over = false;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    if !remove_if_left_behind(path, &file)? {
                        return Ok(None);
                    }
                    is_taken_over = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            // The previous holder may have removed the file between opening and locking; then no
            // other process can find the locked file.
            let found = OwnedPath(KnownFile::new(path, &file.metadata()?));
            if found.0.is_in_place() {
                file.set_len(0)?;
                file.write_all(Holder::this_process()?.to_text().as_bytes())?;
                return Ok(Some(Self { path: found, _file: file, is_taken_over }));
            }
        }
    }

    /// Returns whether the path still leads to this lock.
    pub(super) fn is_in_place(&self) -> bool {
        self.path.0.is_in_place()
    }

    /// Returns the pid that the holder of the lock at `path` wrote; `None` if it has not written it
    /// yet, or is of a release that does not write it.
    pub(super) fn holder(path: &Path) -> Option<u32> {
        Holder::from_text(&fs::read_to_string(path).ok()?).map(|holder| holder.pid)
    }
}

/// Removes the lock file if its holder is an ending process. Returns whether no such file is left.
/// A second lock on the same file makes processes do this one after another, so that none removes a
/// file that another has just made.
fn remove_if_left_behind(path: &Path, mut file: &File) -> io::Result<bool> {
    let mut text = String::new();
    file.rewind()?;
    file.take(256).read_to_string(&mut text)?;
    if !Holder::from_text(&text).is_some_and(|holder| holder.is_ending()) {
        return Ok(false);
    }
    let all = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap_or(1),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&all)) {
        Ok(_) => {}
        // Another process is about to serve at the path.
        Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let found = KnownFile::new(path, &file.metadata()?);
    if found.is_in_place() {
        log::warn!("{}: took over the lock of a process that is ending and does not exit", path.display());
        fs::remove_file(path)?;
    }

    Ok(true)
}

/// Holder of a lock, from the content of the file.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    /// Its start time in /proc: the kernel reuses pids.
    started: u64,
    /// The pid namespace of the pid.
    namespace: String,
}

impl Holder {
    fn this_process() -> io::Result<Self> {
        let pid = std::process::id();
        let started = Process::find(pid)?.started;
        Ok(Self { pid, started, namespace: namespace()? })
    }

    fn to_text(&self) -> String {
        format!("{} {} {}\n", self.pid, self.started, self.namespace)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (pid, started) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, started, namespace: words.next()?.to_owned() })
    }

    /// Returns whether the pid names this process here, and the process is ending.
    fn is_ending(&self) -> bool {
        let is_here = namespace().is_ok_and(|own| own == self.namespace);
        is_here
            && Process::find(self.pid)
                .is_ok_and(|process| process.started == self.started && process.is_ending)
    }
}

/// Returns the identity of this process's pid namespace.
fn namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.display().to_string())
}

/// Content of /proc/PID/stat (proc_pid_stat(5)).
struct Process {
    started: u64,
    is_ending: bool,
}

/// The kernel's flag for a thread that is ending (include/linux/sched.h).
const PF_EXITING: u64 = 4;

impl Process {
    /// Returns the process with this pid. It is ending if its first thread is, independently of the
    /// others.
    pub(super) fn find(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field, the name of the command, can contain any character.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |field: usize| {
            let text = fields.get(field - 3).ok_or(io::ErrorKind::InvalidData)?;
            text.parse::<u64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self { started: number(22)?, is_ending: number(9)? & PF_EXITING != 0 })
    }
}

/// Returns whether the process with this pid is ending.
pub(super) fn is_ending(pid: i32) -> bool {
    let pid = u32::try_from(pid);
    pid.is_ok_and(|pid| Process::find(pid).is_ok_and(|process| process.is_ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.lock");
        let held = LockFile::take(&path).expect("possible").expect("free");
        assert!(LockFile::take(&path).expect("possible").is_none());
        assert_eq!(LockFile::holder(&path), Some(std::process::id()));
        drop(held);
        assert!(!path.exists());
        assert!(LockFile::take(&path).expect("possible").is_some());
    }

    #[test]
    fn the_lock_of_a_process_that_is_ending_is_taken_over_and_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.lock");
        let held = LockFile::take(&path).expect("possible").expect("free");
        // A zombie has the same state as a process whose thread cannot end.
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let pid = child.id();
        while !is_ending(i32::try_from(pid).expect("a pid")) {
            std::thread::yield_now();
        }
        let ending = Holder { pid, started: Process::find(pid).expect("it").started, ..holder() };
        assert!(ending.is_ending());
        for other in [
            Holder { started: ending.started + 1, ..holder() },
            Holder { pid, namespace: "another".to_owned(), ..holder() },
            holder(),
        ] {
            fs::write(&path, other.to_text()).expect("written");
            assert!(LockFile::take(&path).expect("possible").is_none(), "{other:?}");
        }
        fs::write(&path, ending.to_text()).expect("written");
        let taken = LockFile::take(&path).expect("possible").expect("it is free");
        assert!(taken.is_taken_over);
        drop(held);
        assert!(LockFile::take(&path).expect("possible").is_none(), "the first one removes nothing");
        child.wait().expect("it ended");
    }

    fn holder() -> Holder {
        Holder::this_process().expect("known")
    }

    #[test]
    fn a_file_that_took_our_place_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("ours"), directory.path().join("theirs"));
        fs::write(&path, "ours").expect("written");
        let owned = OwnedPath(KnownFile::of(&path).expect("it exists"));
        fs::write(&other, "theirs").expect("written");
        fs::rename(&other, &path).expect("replaced");
        drop(owned);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "theirs");
    }
}
