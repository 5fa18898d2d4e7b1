// SPDX-License-Identifier: Apache-2.0
//! Reads the service's charges for this user, for the examples that give buffers to devices.

use anion_client::{Buffer, Client, Request};
use anyhow::{Context, Result, ensure};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Longest time for a device to deliver a frame, and for the service to detect a release. Each
/// takes well under a second on an idle machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Prints a line at once.
///
/// # Errors
/// The error of standard output.
pub(super) fn say(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The service's charges for this user, and the heap of the example.
pub(super) struct Account<'a> {
    pub(super) client: &'a Client,
    /// Any heap whose buffers are dma-bufs, if none is named.
    pub(super) heap: Option<&'a str>,
    /// The label of the buffers in dumps.
    pub(super) name: &'a str,
}

impl Account<'_> {
    /// Allocates `count` dma-bufs for devices, each of `bytes` bytes.
    ///
    /// # Errors
    /// The service's refusal.
    pub(super) fn allocate(&self, bytes: u64, count: u32) -> Result<Vec<Buffer>> {
        let request = Request::new(bytes).count(count).name(self.name).dma_buf();
        let request = self.heap.into_iter().fold(request, |request, heap| request.heap(heap));
        self.client.allocate(&request).context("no heap returned dma-bufs, which devices require")
    }

    /// Returns the bytes that are charged to this user.
    ///
    /// # Errors
    /// The error of the call.
    pub(super) fn charged(&self) -> Result<u64> {
        let uid = nix::unistd::Uid::effective().as_raw();
        let usage = self.client.call(|service| service.getUsage())?;
        let row = usage.iter().find(|row| row.uid.cast_unsigned() == uid);
        Ok(row.map_or(0, |row| row.bytes.cast_unsigned()))
    }

    /// Waits until `bytes` bytes are charged to this user, and prints it.
    ///
    /// # Errors
    /// If fewer are charged at any moment, or more after [`PATIENCE`].
    pub(super) fn wait_for(&self, when: &str, bytes: u64) -> Result<()> {
        self.settle(when, bytes)?;
        Ok(say(format_args!("usage {when}: {bytes} bytes"))?)
    }

    /// Waits for the same, and until the service has since checked this user's buffers twice: it
    /// has detected the release of other buffers, of `each` bytes.
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

    /// Waits until `bytes` bytes are charged to this user; fewer at any moment are an error.
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
