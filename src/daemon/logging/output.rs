// SPDX-License-Identifier: Apache-2.0
//! Writes standard error without waiting for its reader.
//!
//! A pipe, a terminal or the journal accepts nothing once its reader stalls. From
//! [`Output::never_wait`] on, lines are queued and a thread writes them. A line that finds the
//! queue full is dropped and counted. A regular file has no reader that could stall: lines are
//! written directly.

use nix::sys::stat::{SFlag, fstat};
use std::collections::VecDeque;
use std::io::{self, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most lines that wait to be written.
const MAX_LINES: usize = 512;
/// Time that the end of the process waits until the queue is empty.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Destination of lines. Dropping it writes the queued lines, for at most [`LAST_WORDS`].
pub(crate) struct Output(Arc<Queue>);

/// The logger's destination.
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Whether a line is being written.
    is_writing: bool,
    has_thread: bool,
    dropped: u64,
}

impl Output {
    /// Returns an output that writes on the calling thread, and the destination of the logger.
    pub(super) fn new() -> (Self, Lines) {
        let queue = Arc::<Queue>::default();
        (Self(Arc::clone(&queue)), Lines(queue))
    }

    /// Returns a function that waits until all lines are written, for at most [`LAST_WORDS`]. Call
    /// it on the thread that ends the process, before the end.
    pub(crate) fn last_words(&self) -> impl Fn() + Send + 'static {
        let queue = Arc::clone(&self.0);
        move || queue.wait_until_written()
    }

    /// Starts the writing thread, so that no other thread waits for standard error. Call it once
    /// signals are blocked. If the thread cannot be started, all threads keep writing themselves.
    pub(crate) fn never_wait(&self) {
        let is_file = fstat(stderr()).is_ok_and(|stat| {
            SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG
        });
        if is_file {
            return;
        }
        let queue = Arc::clone(&self.0);
        let write = move || queue.write_all(|line| drop(stderr().write_all(line)));
        let spawned = thread::Builder::new().name("anion-log".to_owned()).spawn(write);
        self.0.lock().has_thread = spawned.is_ok();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.wait_until_written();
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.0.queue(line) {
            stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all lines are written, for at most [`LAST_WORDS`].
    fn wait_until_written(&self) {
        let is_busy = |state: &mut State| state.has_thread && (state.is_writing || !state.waiting.is_empty());
        drop(self.changed.wait_timeout_while(self.lock(), LAST_WORDS, is_busy));
    }

    /// Queues or drops a line; returns false if no thread writes.
    fn queue(&self, line: &[u8]) -> bool {
        let mut state = self.lock();
        if !state.has_thread {
            return false;
        }
        if state.waiting.len() < MAX_LINES {
            state.waiting.push_back(line.to_vec());
            self.changed.notify_all();
        } else {
            state.dropped += 1;
        }
        true
    }

    /// Writes the queued lines. Never returns.
    fn write_all(&self, write: impl Fn(&[u8])) {
        loop {
            let (line, dropped) = self.next();
            write(&line);
            let mut state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
            drop(state);
            if dropped > 0 {
                log::warn!("{dropped} lines of the log are lost: the reader of standard error stalled");
            }
        }
    }

    /// Waits for a line. Returns it with the number of lines dropped since the previous one.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.is_writing = true;
                return (line, std::mem::take(&mut state.dropped));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted_and_no_thread_waits() {
        let queue = Arc::<Queue>::default();
        assert!(!queue.queue(b"x"), "without a thread everyone writes");
        queue.lock().has_thread = true;
        for _ in 0..MAX_LINES + 7 {
            assert!(queue.queue(b"x"));
        }
        assert_eq!(queue.next(), (b"x".to_vec(), 7));
        assert!(queue.queue(b"y"), "there is room again");
        let mut last = Vec::new();
        for _ in 0..MAX_LINES {
            last = queue.next().0;
        }
        assert_eq!(last, b"y");
    }

    #[test]
    fn the_end_waits_for_what_is_queued() {
        let (output, mut lines) = Output::new();
        output.0.lock().has_thread = true;
        lines.write_all(b"last words").expect("queued");
        let (written, words) = channel();
        let queue = Arc::clone(&output.0);
        // Never ends, as in the program.
        thread::spawn(move || queue.write_all(|line| written.send(line.to_vec()).expect("received")));
        drop(output);
        assert_eq!(words.try_recv().expect("written before the end"), b"last words");
    }
}
