// SPDX-License-Identifier: Apache-2.0
//! The descriptors that systemd passes to the service: sockets, and what the previous service
//! stored.

use super::carry;
use anyhow::Context;
use std::os::fd::RawFd;
use std::{env, process};

/// Passed descriptors, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Sockets that clients connect to.
    pub(super) sockets: Vec<RawFd>,
    /// The state of the previous service: one memfd.
    pub(super) state: Vec<RawFd>,
    /// The sockets with the descriptors of its buffers.
    pub(super) buffers: Vec<RawFd>,
}

impl Passed {
    /// Returns the descriptors that the environment announces to this process. The variables stay
    /// in the environment: they name their process, and the service starts no other program that
    /// could use them.
    ///
    /// # Errors
    /// If a variable is malformed, or an announced descriptor is not open.
    pub(super) fn announced() -> anyhow::Result<Self> {
        let mut passed = Self::default();
        if is_for_another() {
            return Ok(passed);
        }
        let announced = sd_notify::listen_fds_with_names();
        for (number, name) in announced.context("cannot take a descriptor that LISTEN_FDS announces")? {
            let kind = match name.as_str() {
                carry::STATE => &mut passed.state,
                carry::BUFFERS => &mut passed.buffers,
                _ => &mut passed.sockets,
            };
            kind.push(number);
        }
        Ok(passed)
    }
}

/// Returns whether LISTEN_FDS is not for this process: a variable is empty, or LISTEN_PID names
/// another process, which is logged. If a wrapper starts the service without exec, LISTEN_PID names
/// the wrapper.
fn is_for_another() -> bool {
    let variable = |name| env::var(name).unwrap_or_default();
    let (sockets, pid) = (variable("LISTEN_FDS"), variable("LISTEN_PID"));
    if sockets.is_empty() || pid.is_empty() {
        return true;
    }
    let is_ours = pid.parse().map_or(true, |pid: u32| pid == process::id());
    if !is_ours {
        log::warn!(
            "LISTEN_FDS is for process {pid} (LISTEN_PID), but this is process {}: a program that \
             systemd starts must exec the service",
            process::id()
        );
    }
    !is_ours
}
