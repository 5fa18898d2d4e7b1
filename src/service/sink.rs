// SPDX-License-Identifier: Apache-2.0
//! Writes into a descriptor that a client chose. It may be a pipe or a terminal without a reader,
//! or a file of a hostile file system, so a separate thread writes, and the call waits for it a
//! limited time.
//!
//! A write that takes longer is interrupted. A write to a file system that does not answer cannot
//! be interrupted: its thread keeps counting against the limit of its uid, which is a part of the
//! limit of all.

use crate::sys::interrupt::interrupt;
use crate::units::Uid;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Time that a call waits for its dump to be read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Limits of writes at once, each with a thread: of all uids and of one. Parts are kept for uids
/// without a write, and for privileged uids.
const MAX_WRITES: usize = 64;
const MAX_WRITES_OF_UID: usize = 2;
const KEPT_FOR_NEW: usize = 16;
const KEPT_FOR_PRIVILEGED: usize = 8;
/// Number of times that a late write is interrupted, and the pause after each: a signal has no
/// effect between two system calls.
const INTERRUPTIONS: u32 = 10;
const INTERRUPTION_PAUSE: Duration = Duration::from_millis(50);
/// Calls of one uid that may wait for its earlier dumps to be written, and for how long. Each call
/// occupies a thread of the transport; kernel binder has few.
const MAX_WAITING_OF_UID: usize = 4;
const TURN_PATIENCE: Duration = Duration::from_secs(1);
/// POSIX's PIPE_BUF on Linux. If poll reports room, a pipe takes this many bytes without blocking.
const PIECE: usize = 4096;

/// Running writes.
#[derive(Debug, Default)]
pub(super) struct Sinks(Arc<Writes>);

#[derive(Debug, Default)]
struct Writes {
    of_uids: Mutex<HashMap<Uid, Turns>>,
    /// Signals that a write has ended.
    ended: Condvar,
}

/// The uid that requested the dump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    pub(super) uid: Uid,
    pub(super) is_privileged: bool,
}

/// Counts of one uid's calls.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Turns {
    writing: usize,
    waiting: usize,
}

impl Sinks {
    /// Writes all of `text` and closes `fd`.
    ///
    /// # Errors
    /// `WouldBlock` if too many of the client's dumps are still being written, `TimedOut` if this
    /// one is not read in time, else as write(2).
    pub(super) fn write(&self, writer: Writer, fd: OwnedFd, text: String) -> io::Result<()> {
        let turn = self.take_turn(writer, TURN_PATIENCE)?;
        let deadline = Instant::now() + PATIENCE;
        let (done, written) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("anion-dump".to_owned()).spawn(move || {
            let outcome = write_all(fd, text.as_bytes(), deadline);
            drop(turn);
            // The caller has stopped waiting if this took too long.
            let _ = done.send(outcome);
        })?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut outcome = written.recv_timeout(patience);
        for _ in 0..INTERRUPTIONS {
            if outcome.is_ok() {
                break;
            }
            interrupt(&thread);
            outcome = written.recv_timeout(INTERRUPTION_PAUSE);
        }
        outcome.unwrap_or_else(|_| Err(not_taken()))
    }

    /// Waits up to `patience` for earlier dumps: two dumps at once are no sign of a stuck one.
    fn take_turn(&self, writer: Writer, patience: Duration) -> io::Result<Turn> {
        let uid = writer.uid;
        let mut of_uids = lock(&self.0.of_uids);
        let turns = of_uids.entry(uid).or_default();
        if turns.waiting >= MAX_WAITING_OF_UID {
            return Err(too_many(uid, *turns));
        }
        turns.waiting += 1;
        let (mut of_uids, _) = self
            .0
            .ended
            .wait_timeout_while(of_uids, patience, |of_uids| !has_room(of_uids, writer))
            .unwrap_or_else(PoisonError::into_inner);
        let has_room = has_room(&of_uids, writer);
        let turns = of_uids.entry(uid).or_default();
        turns.waiting -= 1;
        if !has_room {
            let refusal = too_many(uid, *turns);
            if *turns == Turns::default() {
                of_uids.remove(&uid);
            }
            return Err(refusal);
        }
        turns.writing += 1;
        Ok(Turn { writes: Arc::clone(&self.0), uid })
    }
}

fn has_room(of_uids: &HashMap<Uid, Turns>, writer: Writer) -> bool {
    let own = of_uids.get(&writer.uid).map_or(0, |turns| turns.writing);
    let limit = match own {
        _ if writer.is_privileged => MAX_WRITES,
        0 => MAX_WRITES - KEPT_FOR_PRIVILEGED,
        _ => MAX_WRITES - KEPT_FOR_PRIVILEGED - KEPT_FOR_NEW,
    };
    own < MAX_WRITES_OF_UID && of_uids.values().map(|turns| turns.writing).sum::<usize>() < limit
}

fn too_many(uid: Uid, turns: Turns) -> io::Error {
    let why = if turns.writing > 0 {
        format!("{} earlier dumps of uid {uid} have not been read yet", turns.writing)
    } else {
        format!("as many dumps as uid {uid} may wait for have not been read yet, limit {MAX_WRITES} in all")
    };
    io::Error::new(io::ErrorKind::WouldBlock, why)
}

fn not_taken() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it was not read for {PATIENCE:?}"))
}

/// Writes piece by piece when there is room, so that a pipe without a reader does not occupy the
/// thread permanently, and a non-blocking descriptor is no error.
fn write_all(fd: OwnedFd, text: &[u8], deadline: Instant) -> io::Result<()> {
    let mut file = File::from(fd);
    let mut rest = text;
    while !rest.is_empty() {
        wait_for_room(&file, deadline)?;
        match file.write(&rest[..rest.len().min(PIECE)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => rest = &rest[taken..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for_room(file: &File, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        // Also for a descriptor that reports room and then blocks, such as a terminal.
        return Err(not_taken());
    }
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], timeout) {
        Ok(0) => Err(not_taken()),
        // There is room, or a condition that the write reports.
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running write.
struct Turn {
    writes: Arc<Writes>,
    uid: Uid,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of_uids = lock(&self.writes.of_uids);
        if let Some(turns) = of_uids.get_mut(&self.uid) {
            turns.writing -= 1;
            if *turns == Turns::default() {
                of_uids.remove(&self.uid);
            }
        }
        self.writes.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn of(uid: u32) -> Writer {
        Writer { uid: Uid(uid), is_privileged: uid == 0 }
    }

    #[test]
    fn a_pipe_that_is_not_read_is_given_up_and_closed() {
        let sinks = Sinks::default();
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let error = sinks.write(of(1), writer, "x".repeat(1 << 20)).expect_err("it is not read");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("ends, since the writer is closed");
        assert!(!text.is_empty() && text.len() < 1 << 20, "{} bytes", text.len());
        // It ends with the file, or a moment later if the thread had to wait for a processor.
        while !lock(&sinks.0.of_uids).is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).expect("pipe");
        let reading = thread::spawn(move || {
            let mut taken = 0;
            let mut piece = [0; 65536];
            loop {
                thread::sleep(Duration::from_millis(1));
                match nix::unistd::read(&reader, &mut piece) {
                    Ok(0) => return taken,
                    Ok(bytes) => taken += bytes,
                    Err(_) => {}
                }
            }
        });
        // A reader on a busy machine may take longer than a call may wait.
        let deadline = Instant::now() + Duration::from_secs(120);
        write_all(writer, &vec![b'x'; 1 << 20], deadline).expect("read slowly");
        assert_eq!(reading.join().expect("the reader"), 1 << 20);
    }

    #[test]
    fn a_uid_with_too_many_stuck_writes_is_refused_and_others_are_not() {
        let sinks = Sinks::default();
        let at_once = Duration::ZERO;
        let _stuck: Vec<_> =
            (0..MAX_WRITES_OF_UID).map(|_| sinks.take_turn(of(1), at_once).expect("free")).collect();
        let error = sinks.take_turn(of(1), at_once).err().expect("too many");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        sinks.write(of(2), writer, "text".to_owned()).expect("read later");
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("closed by the writer");
        assert_eq!(text, "text");
    }

    // On Android the crate nix cannot open terminals.
    #[cfg(not(soong))]
    #[test]
    fn a_write_to_a_terminal_that_takes_nothing_times_out_and_its_thread_ends() {
        crate::sys::interrupt::prepare().expect("prepared");
        let sinks = Sinks::default();
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let error = sinks.write(of(1), terminal.slave, "x".repeat(1 << 20)).expect_err("it is not read");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        while !lock(&sinks.0.of_uids).is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn some_writes_are_kept_for_uids_without_any_and_for_privileged_ones() {
        let sinks = Sinks::default();
        let take = |uid| sinks.take_turn(of(uid), Duration::ZERO);
        let mut uids = 1..;
        let mut next = || uids.next().expect("endless");
        let mut stuck = Vec::new();
        while stuck.len() < MAX_WRITES - KEPT_FOR_PRIVILEGED - KEPT_FOR_NEW {
            let uid = next();
            stuck.extend([(); 2].map(|()| take(uid).expect("room")));
        }
        for _ in 0..KEPT_FOR_NEW {
            let uid = next();
            stuck.push(take(uid).expect("one"));
            assert!(take(uid).is_err(), "and no second");
        }
        let refusal = take(next()).err().expect("the rest is kept").to_string();
        assert!(refusal.contains("limit 64 in all"), "{refusal}");
        assert!(take(0).is_ok());
    }

    #[test]
    fn a_turn_that_ends_is_given_to_who_waits() {
        let sinks = Sinks::default();
        let turns: Vec<_> =
            (0..MAX_WRITES_OF_UID).map(|_| sinks.take_turn(of(1), Duration::ZERO).expect("free")).collect();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| sinks.take_turn(of(1), Duration::from_secs(60)).map(drop));
            while lock(&sinks.0.of_uids).get(&Uid(1)).is_none_or(|turns| turns.waiting == 0) {
                thread::yield_now();
            }
            drop(turns);
            waiting.join().expect("no panic").expect("a turn became free");
        });
        assert!(lock(&sinks.0.of_uids).is_empty());
    }
}
