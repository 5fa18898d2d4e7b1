// SPDX-License-Identifier: Apache-2.0
//! Writing into a descriptor that a client chose. It may be a pipe that nobody reads or a file of a hostile file
//! system, so the write happens on a thread of its own, and the call waits for it a limited time.

use crate::units::Uid;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How long a call waits for its dump to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Writes that may be stuck at once, in all and for one uid: a thread each.
const MAX_WRITES: usize = 16;
const MAX_WRITES_OF_UID: usize = 2;

/// Writes under way, by uid.
#[derive(Debug, Default)]
pub(super) struct Sinks(Arc<Mutex<HashMap<Uid, usize>>>);

impl Sinks {
    /// Writes all of `text` and closes `fd`.
    ///
    /// # Errors
    /// `WouldBlock` if too many of the client's dumps are still being written, `TimedOut` if nobody takes this one,
    /// else as write(2).
    pub(super) fn write(&self, uid: Uid, fd: OwnedFd, text: String) -> io::Result<()> {
        let turn = self.take_turn(uid)?;
        let (done, written) = mpsc::sync_channel(1);
        thread::Builder::new().name("anion-dump".to_owned()).spawn(move || {
            let outcome = File::from(fd).write_all(text.as_bytes());
            drop(turn);
            // Nobody waits any more if it took too long.
            let _ = done.send(outcome);
        })?;
        written.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody read it for {PATIENCE:?}")))
        })
    }

    fn take_turn(&self, uid: Uid) -> io::Result<Turn> {
        let mut writes = lock(&self.0);
        let of_uid = writes.get(&uid).copied().unwrap_or(0);
        if of_uid >= MAX_WRITES_OF_UID || writes.values().sum::<usize>() >= MAX_WRITES {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{of_uid} earlier dumps of uid {uid} have not been read yet"),
            ));
        }
        writes.insert(uid, of_uid + 1);
        Ok(Turn { writes: Arc::clone(&self.0), uid })
    }
}

fn lock(writes: &Mutex<HashMap<Uid, usize>>) -> MutexGuard<'_, HashMap<Uid, usize>> {
    writes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One write under way.
struct Turn {
    writes: Arc<Mutex<HashMap<Uid, usize>>>,
    uid: Uid,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut writes = lock(&self.writes);
        if let Some(count) = writes.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                writes.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_pipe_that_nobody_reads_gives_up_and_frees_its_turn_when_closed() {
        let sinks = Sinks::default();
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let error = sinks.write(Uid(1), writer, "x".repeat(1 << 20)).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(lock(&sinks.0).get(&Uid(1)), Some(&1), "still stuck");
        drop(reader);
        while lock(&sinks.0).contains_key(&Uid(1)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_uid_with_too_many_stuck_writes_is_refused_and_others_are_not() {
        let sinks = Sinks::default();
        let _stuck: Vec<_> = (0..MAX_WRITES_OF_UID).map(|_| sinks.take_turn(Uid(1)).expect("free")).collect();
        let (_reader, writer) = nix::unistd::pipe().expect("pipe");
        let error = sinks.write(Uid(1), writer, "x".to_owned()).expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        sinks.write(Uid(2), writer, "text".to_owned()).expect("read later");
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("closed by the writer");
        assert_eq!(text, "text");
    }
}
