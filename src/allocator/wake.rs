// SPDX-License-Identifier: Apache-2.0
//! Background threads that sleep until something wakes them.

use super::Allocator;
use crate::pulse::{Pulse, Watched};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The handle that wakes a background thread.
pub(super) struct Wake {
    event: EventFd,
    /// Whether the thread was woken and has not begun to sleep since. Waking it again would be a
    /// useless system call.
    is_awake: AtomicBool,
    is_stopped: AtomicBool,
    pulse: Arc<Pulse>,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let [is_awake, is_stopped] = [false; 2].map(AtomicBool::new);
        Ok(Self { event, is_awake, is_stopped, pulse: Arc::default() })
    }

    /// Wakes the thread to check for work. The caller must add the work before.
    pub(super) fn wake(&self) {
        if !self.is_awake.swap(true, Ordering::SeqCst) {
            // A full counter is readable already.
            let _ = self.event.write(1);
        }
    }

    /// Makes [`Wake::wake`] do nothing until the thread checks for work again, which it does by
    /// itself after a pause.
    pub(super) fn needs_no_wake(&self) {
        self.is_awake.store(true, Ordering::SeqCst);
    }

    /// Returns the thread's progress. The watchdog's check wakes the thread for a step.
    pub(super) fn watched(self: &Arc<Self>, task: &'static str) -> Watched {
        let wake = Arc::clone(self);
        Watched::woken_by(task, &self.pulse, move || {
            // A full counter is readable already.
            let _ = wake.event.write(1);
        })
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let _ = self.event.write(1);
    }

    /// Runs one `step` on the thread. The step returns how long the thread may sleep unless it is
    /// woken; `None` without a limit. Returns `None` if the thread must end, since the allocator is
    /// dropped.
    pub(super) fn step(
        &self,
        allocator: &Weak<Allocator>,
        step: impl FnOnce(&Allocator) -> Option<Duration>,
    ) -> Option<Option<Duration>> {
        if self.is_stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.pulse.step();
        self.looking();
        // Held for one step only, so that the allocator can be dropped in between.
        let allocator = allocator.upgrade()?;
        Some(step(&allocator))
    }

    /// Clears earlier wake-ups: the thread is about to check for work. [`Wake::wait`] has read the
    /// event before. With this order, a thread that wakes it in between has already added its work
    /// and need not write again.
    fn looking(&self) {
        self.is_awake.store(false, Ordering::SeqCst);
    }

    /// Sleeps until it is woken, one of `others` is ready, or `pause` is over; without a pause it
    /// has no limit. Returns the events of `others`.
    pub(super) fn wait<'a>(
        &'a self,
        others: impl Iterator<Item = PollFd<'a>>,
        pause: Option<Duration>,
    ) -> Vec<PollFlags> {
        // Rounded up: a pause that ends too early would cause another one.
        let milliseconds = pause.map(|pause| pause.as_millis() + u128::from(!pause.is_zero()));
        let timeout = milliseconds.map_or(PollTimeout::NONE, |milliseconds| {
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
        fds.extend(others);
        // After an interrupted wait the thread waits again.
        let _ = poll(&mut fds, timeout);
        if fds[0].any() == Some(true) {
            let _ = self.event.read();
        }
        fds[1..].iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect()
    }

    /// Starts a thread that runs `begin` once and then `step` repeatedly, as [`Wake::step`]
    /// describes. The thread ends when the allocator is dropped.
    pub(super) fn start(
        name: &str,
        wake: &Arc<Self>,
        allocator: &Arc<Allocator>,
        begin: impl FnOnce() + Send + 'static,
        step: impl Fn(&Allocator) -> Option<Duration> + Send + 'static,
    ) -> io::Result<()> {
        let (wake, allocator) = (Arc::clone(wake), Arc::downgrade(allocator));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            begin();
            while let Some(pause) = wake.step(&allocator, &step) {
                if pause != Some(Duration::ZERO) {
                    wake.wait(std::iter::empty(), pause);
                }
            }
        })?;
        Ok(())
    }
}
