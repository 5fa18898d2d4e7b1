// SPDX-License-Identifier: Apache-2.0
//! Who owns a path: a lock against two processes that start at once, and removal of nothing but one's own.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that this process made. Removed when dropped, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct OwnedPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OwnedPath {
    /// Owns what is at `path` now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, &fs::symlink_metadata(path)?))
    }

    fn new(path: &Path, file: &Metadata) -> Self {
        Self { path: path.to_owned(), device: file.dev(), inode: file.ino() }
    }

    fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (self.device, self.inode) == (found.dev(), found.ino()))
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A lock file that this process holds. The file is removed before the lock is released.
#[derive(Debug)]
pub(super) struct LockFile {
    // The order of the fields is that of their drops.
    _path: OwnedPath,
    _lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock at `path`; `None` if another process holds it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(path)?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(error.into()),
            };
            // The holder before may have removed the file between opening and locking; then the
            // lock is on a file that no other process can find.
            let path = OwnedPath::new(path, &lock.metadata()?);
            if path.is_in_place() {
                return Ok(Some(Self { _path: path, _lock: lock }));
            }
        }
    }
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
        drop(held);
        assert!(!path.exists());
        assert!(LockFile::take(&path).expect("possible").is_some());
    }

    #[test]
    fn a_file_that_took_our_place_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("ours"), directory.path().join("theirs"));
        fs::write(&path, "ours").expect("written");
        let owned = OwnedPath::of(&path).expect("it exists");
        fs::write(&other, "theirs").expect("written");
        fs::rename(&other, &path).expect("replaced");
        drop(owned);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "theirs");
    }
}
