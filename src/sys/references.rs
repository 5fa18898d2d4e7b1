// SPDX-License-Identifier: Apache-2.0
//! Reads how many references the kernel counts of a dma-buf. Reading fdinfo needs an open file, but
//! a process without free descriptors must still detect releases, since freed dma-bufs release
//! descriptors. So it keeps two descriptors: a *slot*, and the fdinfo of the slot, open. To check a
//! file, dup3(2) puts it into the slot, which needs no other descriptor.

use super::fd::without_proc;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Reads counts of references from the kernel.
#[derive(Debug)]
pub struct ReferenceCounts(Mutex<Spare>);

#[derive(Debug)]
struct Spare {
    /// Refers to `info` between two checks.
    slot: OwnedFd,
    /// The fdinfo of the slot. The kernel generates its text again at every read from the start.
    info: File,
}

impl ReferenceCounts {
    /// Opens the two descriptors.
    ///
    /// # Errors
    /// If descriptors have run out already, or /proc is not mounted.
    pub fn open() -> io::Result<Self> {
        const FDINFO: &str = "/proc/self/fdinfo";
        let mut slot = OwnedFd::from(File::open(FDINFO).map_err(|error| without_proc(FDINFO, error))?);
        let info = File::open(path_of(slot.as_raw_fd()))?;
        replace(&mut slot, &info)?;
        Ok(Self(Mutex::new(Spare { slot, info })))
    }

    /// Returns the number of references: descriptors, mappings, copies in flight and importing
    /// devices, including this descriptor. Concurrent checks can increase it for a moment, never
    /// decrease it.
    ///
    /// # Errors
    /// `InvalidData` if the kernel does not report it; else as reading /proc. Needs no free
    /// descriptor.
    pub fn of(&self, fd: impl AsFd) -> io::Result<u64> {
        match fs::read(path_of(fd.as_fd().as_raw_fd())) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.of_by_slot(fd)
            }
            info => count_in(&info?),
        }
    }

    /// Returns the same as [`ReferenceCounts::of`], always through the slot, which needs no free
    /// descriptor and serves one caller at a time.
    ///
    /// # Errors
    /// As there.
    pub fn of_by_slot(&self, fd: impl AsFd) -> io::Result<u64> {
        let count = count_in(&self.info_by_slot(fd)?)?;
        // Without the slot's own reference.
        count
            .checked_sub(1)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "fdinfo has a count of 0"))
    }

    fn info_by_slot(&self, fd: impl AsFd) -> io::Result<Vec<u8>> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Spare { slot, info } = &mut *spare;
        replace(slot, fd)?;
        let mut text = Vec::new();
        let read = info.rewind().and_then(|()| info.read_to_end(&mut text));
        // Otherwise the slot would count as a holder until the next check.
        replace(slot, &*info)?;
        read.map(|_| text)
    }
}

fn path_of(number: RawFd) -> String {
    format!("/proc/self/fdinfo/{number}")
}

/// Makes `slot` refer to the description behind `fd`.
fn replace(slot: &mut OwnedFd, fd: impl AsFd) -> io::Result<()> {
    let (from, to) = (fd.as_fd().as_raw_fd(), slot.as_raw_fd());
    loop {
        // By number: on Android neither nix nor libc has a function for it.
        // SAFETY: dup3 takes three integers and touches no memory of this process. Both descriptors
        // are open for the duration of their borrows, and no other code uses the one that is
        // replaced, since its owner is borrowed mutably.
        match Errno::result(unsafe { libc::syscall(libc::SYS_dup3, from, to, libc::O_CLOEXEC) }) {
            Err(Errno::EINTR) => {}
            replaced => return Ok(replaced.map(drop)?),
        }
    }
}

/// Returns the number of the first line `count:`. The buffer's name, which any holder can set,
/// follows it.
fn count_in(info: &[u8]) -> io::Result<u64> {
    let line = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"count:"));
    let count = line.and_then(|count| std::str::from_utf8(count).ok()?.trim().parse().ok());
    count.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "fdinfo has no count: it is no dma-buf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::SeekFrom;

    #[test]
    fn a_name_can_neither_hide_nor_forge_the_count() {
        let info = b"pos:\t0\nsize:\t4096\ncount:\t2\nexp_name:\tsystem\nname:\t\xff\xfe\ncount:\t1\n";
        assert_eq!(count_in(info).expect("a count"), 2);
        for none in [&b"pos:\t0\nname:\tcount:\t1\n"[..], b"count:\t\xff\n", b""] {
            assert_eq!(count_in(none).expect_err("no count").kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn the_slot_tells_what_a_descriptor_of_its_own_would() {
        let counts = ReferenceCounts::open().expect("/proc");
        let mut seen = Vec::new();
        for position in [3, 70_000, 0] {
            let mut file = tempfile::tempfile().expect("a file");
            file.seek(SeekFrom::Start(position)).expect("sought");
            let own = fs::read(path_of(file.as_raw_fd())).expect("open");
            let told = counts.info_by_slot(&file).expect("told");
            assert_eq!(String::from_utf8_lossy(&told), String::from_utf8_lossy(&own));
            assert!(told.starts_with(format!("pos:\t{position}\n").as_bytes()), "{seen:?}");
            seen.push(told);
            for asked in [counts.of(&file), counts.of_by_slot(&file)] {
                assert_eq!(asked.expect_err("no dma-buf").kind(), io::ErrorKind::InvalidData);
            }
        }
    }

    #[test]
    fn the_slot_holds_nothing_once_it_was_asked() {
        let counts = ReferenceCounts::open().expect("/proc");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        counts.info_by_slot(&writer).expect("told");
        drop(writer);
        assert_eq!(reader.read(&mut [0]).expect("the other end is gone"), 0);
    }
}
