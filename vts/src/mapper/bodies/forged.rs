// SPDX-License-Identifier: Apache-2.0
//! Tests handles and metadata that a hostile process has written.

use super::{Outcome, bodies, check_eq};
use crate::mapper::decode::Reader;
use crate::mapper::suite::{Buffer, READ, RGBA_8888, Raw, Suite, wanted};
use crate::mapper::sys::Native;
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

bodies! {
    "ForgedHandles" forged_handles_and_metadata_do_no_harm,
}

/// A generator of the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap_or(1)).unwrap_or_default()
    }

    /// Returns a number of a handle: any, a small one, or a limit value.
    fn number(&mut self, was: i32) -> i32 {
        let [a, b, c, d, kind, ..] = self.next().to_le_bytes();
        let any = i32::from_le_bytes([a, b, c, d]);
        match kind % 6 {
            0 => any,
            1 => any & 0xff,
            2 => was.wrapping_add(any % 3),
            3 => was ^ 1 << (any & 31),
            4 => [0, -1, i32::MIN, i32::MAX][self.below(4)],
            _ => any & 0xffff,
        }
    }
}

/// Files by device and inode: those of this test, since the process has others, too.
type Own = Vec<(u64, u64)>;

fn own(raw: &Raw) -> Result<Own> {
    let identity = |fd: &OwnedFd| {
        let file = File::from(fd.try_clone()?).metadata()?;
        Ok((file.dev(), file.ino()))
    };
    raw.native.fds().iter().map(identity).collect()
}

/// Returns the numbers of descriptors and of mappings of these files in this process.
fn in_use(own: &Own) -> Result<(usize, usize)> {
    let is_own = |path: std::path::PathBuf| {
        fs::metadata(path).is_ok_and(|file| own.contains(&(file.dev(), file.ino())))
    };
    let descriptors = fs::read_dir("/proc/self/fd")?.flatten().filter(|entry| is_own(entry.path())).count();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let inode = |line: &str| line.split_whitespace().nth(4)?.parse::<u64>().ok();
    let mappings =
        maps.lines().filter_map(inode).filter(|inode| own.iter().any(|own| own.1 == *inode)).count();
    Ok((descriptors, mappings))
}

/// Returns a memfd of `bytes` bytes with these seals.
fn file(bytes: u64, seals: SealFlag) -> Result<OwnedFd> {
    let file = File::from(memfd_create(c"forged", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?);
    file.set_len(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Returns handles with the numbers of `raw` and other files. All must be refused.
fn with_other_files(raw: &Raw) -> Result<Vec<Native>> {
    let [pixels, metadata] = raw.native.fds() else { anyhow::bail!("the handle has not two files") };
    let size = fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(pixels)))?.len();
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let copy = OwnedFd::try_clone;
    let executable = File::open(std::env::current_exe()?)?;
    let others = [
        [copy(metadata)?, copy(pixels)?],
        [copy(pixels)?, copy(pixels)?],
        [null()?, copy(metadata)?],
        [copy(pixels)?, null()?],
        [executable.into(), copy(metadata)?],
        [nix::unistd::pipe()?.0, copy(metadata)?],
        // Files that could shrink while they are mapped.
        [file(size, SealFlag::empty())?, copy(metadata)?],
        [file(size, SealFlag::F_SEAL_GROW)?, copy(metadata)?],
        [copy(pixels)?, file(size, SealFlag::empty())?],
        // Too small; read-only; without metadata.
        [file(size - 1, fixed)?, copy(metadata)?],
        [file(0, fixed)?, copy(metadata)?],
        [copy(pixels)?, file(100, fixed)?],
        [file(size, fixed | SealFlag::F_SEAL_WRITE)?, copy(metadata)?],
        [file(size, fixed | SealFlag::F_SEAL_FUTURE_WRITE)?, copy(metadata)?],
        [copy(pixels)?, file(1 << 20, fixed)?],
        [copy(pixels)?, file(1 << 20, fixed | SealFlag::F_SEAL_WRITE)?],
    ];
    others.into_iter().map(|files| Native::new(files.into(), raw.native.ints())).collect()
}

fn forged_handles_and_metadata_do_no_harm(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let own = own(&raw)?;
    let kept = suite.import(&raw)?;
    let mut others = with_other_files(&raw)?;
    for (at, other) in others.iter().enumerate() {
        ensure!(suite.mapper.import(other).is_err(), "handle {at} with other files is imported");
    }
    let copies: Result<Vec<_>, _> = raw.native.fds().iter().map(OwnedFd::try_clone).collect();
    let mut good = Native::new(copies?, raw.native.ints())?;
    let written = File::from(raw.native.fds()[1].try_clone()?);
    let before = in_use(&own)?;
    let (mut random, mut imported) = (Random(1), 0);
    for _ in 0..suite.rounds {
        let at = random.below(4 * others.len());
        let handle = others.get_mut(at).unwrap_or(&mut good);
        imported += usize::from(forge(suite, handle, &mut random)?);
        overwrite_metadata(&written, &mut random)?;
        read_metadata(suite, &kept, &mut random)?;
    }
    ensure!(imported > suite.rounds / 100, "only {imported} of {} were imported", suite.rounds);
    check_eq!(in_use(&own)?, before, "descriptors and mappings of the buffer after that");
    kept.free()?;
    Ok(Outcome::Passed)
}

/// Changes numbers of a handle and imports it. Returns whether that succeeded. Uses and frees the
/// imported buffer.
fn forge(suite: &Suite, handle: &mut Native, random: &mut Random) -> Result<bool> {
    let count = handle.ints().len();
    let mut was = Vec::new();
    for _ in 0..=random.below(3) {
        let at = random.below(count);
        let value = random.number(handle.ints()[at]);
        was.push((at, handle.set_int(at, value)));
    }
    let imported = suite.mapper.import(handle);
    if let Ok(address) = imported {
        touch(&suite.adopt(address, None)?)?;
    }
    for (at, value) in was.into_iter().rev() {
        handle.set_int(at, value);
    }
    Ok(imported.is_ok())
}

/// Reads the last byte of a buffer, if the buffer permits reading.
fn touch(buffer: &Buffer<'_>) -> Result<()> {
    if let Ok(pixels) = buffer.lock(READ) {
        let last = usize::try_from(buffer.long(10)?)?.checked_sub(1).context("an empty buffer")?;
        check_eq!(pixels.get(last), 0, "the last byte");
        buffer.unlocked()?;
    }
    Ok(())
}

/// Writes to the metadata as any process with the buffer can.
fn overwrite_metadata(file: &File, random: &mut Random) -> Result<()> {
    let bytes = random.next().to_le_bytes();
    // Keeps the start of the file, so that it can be imported.
    let at = 8 + random.below(3304 - 8);
    Ok(file.write_all_at(&bytes[..random.below(9)], u64::try_from(at)?)?)
}

/// Reads metadata with any values.
fn read_metadata(suite: &Suite, buffer: &Buffer<'_>, random: &mut Random) -> Result<()> {
    let number = i64::try_from(1 + random.below(23))?;
    let mut value = [0; 4096];
    let length = suite.mapper.get_standard(buffer.address, number, &mut value);
    let length = usize::try_from(length).map_err(|_| anyhow!("type {number}: {length}"))?;
    let value = value.get(..length).with_context(|| format!("type {number} has {length} bytes"))?;
    if !value.is_empty() {
        Reader::new(value, number)?;
    }
    Ok(())
}
