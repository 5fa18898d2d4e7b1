// SPDX-License-Identifier: Apache-2.0
//! Closes connections that are not served.
//!
//! Closing a connection also closes the descriptors that a client has sent over it, and the client
//! controls how long this takes: a TCP socket with `SO_LINGER`, a file of a file system that does
//! not answer. So the accepting thread closes a connection itself only if its queue has no
//! descriptor. Separate threads close the others. Each uid has at most a few such threads; its
//! other connections wait.

use super::sys::has_queued_descriptors;
use std::collections::{HashMap, VecDeque};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Most threads that close connections of one uid at once.
const MAX_THREADS: usize = 2;
/// Stack of a thread that only calls close(2).
const STACK_BYTES: usize = 64 << 10;

/// Connections that are being closed, by uid.
#[derive(Debug, Clone, Default)]
pub(super) struct Closers(Arc<Mutex<HashMap<u32, Closing>>>);

/// Connections of one uid that are being closed.
#[derive(Debug, Default)]
struct Closing {
    waiting: VecDeque<UnixStream>,
    threads: usize,
}

impl Closers {
    /// Ends a connection of `uid`. Never waits for the descriptors in its queue.
    pub(super) fn close(&self, uid: u32, stream: UnixStream) {
        // From here on the kernel adds nothing to the queue.
        let is_shut = stream.shutdown(Shutdown::Both).is_ok();
        if is_shut && has_queued_descriptors(stream.as_fd()).is_ok_and(|has| !has) {
            return;
        }
        self.lock().entry(uid).or_default().waiting.push_back(stream);
        self.start(uid);
    }

    /// Starts the threads that could not be started when connections were to be closed. Returns
    /// whether there were such connections.
    pub(super) fn resume(&self) -> bool {
        let is_stuck = |closing: &Closing| closing.threads == 0 && !closing.waiting.is_empty();
        let all = self.lock();
        let stuck: Vec<u32> =
            all.iter().filter(|(_, closing)| is_stuck(closing)).map(|(uid, _)| *uid).collect();
        drop(all);
        stuck.iter().for_each(|uid| self.start(*uid));
        !stuck.is_empty()
    }

    /// Starts a thread that closes the connections of `uid`, unless it has enough of them.
    fn start(&self, uid: u32) {
        let mut all = self.lock();
        let closing = all.entry(uid).or_default();
        if closing.threads >= MAX_THREADS {
            return;
        }
        closing.threads += 1;
        drop(all);
        let closers = self.clone();
        let work = move || while closers.close_next(uid) {};
        let spawned =
            thread::Builder::new().name("anion-closer".to_owned()).stack_size(STACK_BYTES).spawn(work);
        if spawned.is_err() {
            // [`Closers::resume`] tries again.
            self.end(uid);
        }
    }

    /// Returns how many connections wait to be closed.
    pub(super) fn waiting(&self) -> usize {
        self.lock().values().map(|closing| closing.waiting.len()).sum()
    }

    /// Closes one connection of `uid`. If none waits, returns false and counts the thread as ended.
    fn close_next(&self, uid: u32) -> bool {
        let next = self.lock().get_mut(&uid).and_then(|closing| closing.waiting.pop_front());
        if next.is_none() {
            self.end(uid);
        }
        // The lock is released here.
        next.is_some()
    }

    fn end(&self, uid: u32) {
        let mut all = self.lock();
        let Some(closing) = all.get_mut(&uid) else { return };
        closing.threads -= 1;
        if closing.threads == 0 && closing.waiting.is_empty() {
            all.remove(&uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Closing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::sys::pass_descriptors;
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{ErrorKind, IoSlice, Read, Write};
    use std::os::fd::AsRawFd;

    fn send_descriptor(stream: &UnixStream, fd: impl AsFd) {
        let rights = [fd.as_fd().as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), None)
            .expect("sent");
    }

    #[test]
    fn descriptors_are_found_wherever_they_are_in_the_queue() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let queued = || has_queued_descriptors(ours.as_fd()).expect("known");
        assert!(!queued());
        theirs.write_all(&[0; 10_000]).expect("sent");
        assert!(!queued());
        send_descriptor(&theirs, &theirs);
        assert!(queued() && queued(), "a look takes nothing");
        assert_eq!((&ours).read(&mut [0; 10_000]).expect("read"), 10_000);
    }

    #[test]
    fn descriptors_are_refused_until_they_may_pass() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let error =
            |passes| pass_descriptors(ours.as_fd(), passes).err().and_then(|error| error.raw_os_error());
        let rights = [theirs.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        let send =
            || sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), None);
        // Before Linux 6.16 the option does not exist, and descriptors pass.
        match (error(false), send()) {
            (None, sent) => assert_eq!(sent, Err(nix::Error::EPERM)),
            (code, sent) => assert_eq!((code, sent), (Some(libc::ENOPROTOOPT), Ok(1))),
        }
        error(true);
        assert_eq!(send(), Ok(1));
    }

    #[test]
    fn another_thread_closes_a_connection_and_the_descriptors_in_its_queue() {
        let closers = Closers::default();
        let (mut kept, sent) = UnixStream::pair().expect("a pair");
        for has_descriptor in [false, true] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            if has_descriptor {
                send_descriptor(&theirs, &sent);
            }
            closers.close(1, ours);
            // Unread data ends the connection with an error.
            let end = (&theirs).read(&mut [0]).map_err(|error| error.kind());
            assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        }
        drop(sent);
        assert_eq!(kept.read(&mut [0]).expect("the end"), 0, "the last copy is closed");
        while !closers.lock().is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_connection_whose_thread_could_not_be_started_is_closed_later() {
        let closers = Closers::default();
        assert!(!closers.resume());
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        closers.lock().entry(1).or_default().waiting.push_back(ours);
        assert!(closers.resume());
        assert_eq!(theirs.read(&mut [0]).expect("the end"), 0);
        while !closers.lock().is_empty() {
            thread::yield_now();
        }
        assert!(!closers.resume());
    }

    #[test]
    fn connections_of_a_uid_wait_for_its_threads() {
        let closers = Closers::default();
        closers.lock().entry(1).or_default().threads = MAX_THREADS;
        for uid in [1, 1, 2] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            send_descriptor(&theirs, &theirs);
            closers.close(uid, ours);
        }
        while closers.lock().contains_key(&2) {
            thread::yield_now();
        }
        assert_eq!(closers.waiting(), 2);
        while closers.close_next(1) {}
        assert_eq!((closers.waiting(), closers.lock()[&1].threads), (0, MAX_THREADS - 1));
    }

    #[test]
    fn connections_that_wait_without_a_thread_get_one_later() {
        let closers = Closers::default();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        closers.lock().entry(1).or_default().waiting.push_back(ours);
        closers.resume();
        assert_eq!((&theirs).read(&mut [0]).expect("the end"), 0, "it is closed");
        while !closers.lock().is_empty() {
            thread::yield_now();
        }
        closers.resume();
        assert!(closers.lock().is_empty(), "no thread is needed");
    }
}
