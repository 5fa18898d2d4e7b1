// SPDX-License-Identifier: Apache-2.0
//! What the service charges this user, for the examples that give buffers to devices.

use anion_client::{Buffer, Client, Request};
use anyhow::{Context, Result, ensure};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How long a device may take for a frame, and the service to learn of a release; each takes well
/// under a second on an idle machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a line at once.
///
/// # Errors
/// As standard output's.
pub(super) fn say(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What the service charges this user, and the heap that is to serve it.
pub(super) struct Account<'a> {
    pub(super) client: &'a Client,
    /// Any whose buffers are dma-bufs, if none is named.
    pub(super) heap: Option<&'a str>,
    /// What the buffers are called in dumps.
    pub(super) name: &'a str,
}

impl Account<'_> {
    /// Allocates `count` buffers that devices take, each of `bytes` bytes.
    ///
    /// # Errors
    /// The service's answer.
    pub(super) fn allocate(&self, bytes: u64, count: u32) -> Result<Vec<Buffer>> {
        let request = Request::new(bytes).count(count).name(self.name).dma_buf();
        let request = self.heap.into_iter().fold(request, |request, heap| request.heap(heap));
        self.client
            .allocate(&request)
            .context("no buffers that a device takes: it takes dma-bufs, and memfds are none")
    }

    /// Returns the bytes that this user is charged with.
    ///
    /// # Errors
    /// As the call's.
    pub(super) fn charged(&self) -> Result<u64> {
        let uid = nix::unistd::Uid::effective().as_raw();
        let usage = self.client.call(|service| service.getUsage())?;
        let row = usage.iter().find(|row| row.uid.cast_unsigned() == uid);
        Ok(row.map_or(0, |row| row.bytes.cast_unsigned()))
    }

    /// Waits until this user is charged with `bytes` bytes, and says so.
    ///
    /// # Errors
    /// If fewer are charged at any moment, or more after [`PATIENCE`].
    pub(super) fn wait_for(&self, when: &str, bytes: u64) -> Result<()> {
        self.settle(when, bytes)?;
        Ok(say(format_args!("usage {when}: {bytes} bytes"))?)
    }

    /// Waits for the same, and until the service has looked at this user's buffers twice since: it
    /// has noticed that other ones, of `each` bytes, were released.
    ///
    /// # Errors
    /// The same, and if another buffer cannot be allocated.
    pub(super) fn wait_for_looks(&self, when: &str, bytes: u64, each: u64) -> Result<()> {
        for _ in 0..2 {
            drop(self.allocate(each, 1)?);
            self.settle(when, bytes)?;
        }
        Ok(say(format_args!("usage {when}: {bytes} bytes"))?)
    }

    /// Waits until this user is charged with `bytes` bytes; fewer at any moment are an error.
    fn settle(&self, when: &str, bytes: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.charged()?;
            ensure!(now >= bytes, "{when}: {now} bytes are charged instead of {bytes}");
            if now == bytes {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{when}: {now} bytes are still charged after {PATIENCE:?}, not {bytes}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
