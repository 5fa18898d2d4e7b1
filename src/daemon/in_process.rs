// SPDX-License-Identifier: Apache-2.0
//! Runs the service within the fuzzer's process: like the program, but without the settings that
//! apply to a whole process.

use super::accounts;
use super::args::Arguments;
use super::configuration;
use super::services::Services;
use super::transport::{Serving, Transports};
use crate::allocator::{Allocator, Caller};
use crate::units::Uid;
use anyhow::Context;
use clap::Parser;
use nix::unistd::geteuid;
use std::process;
use std::sync::Arc;

/// A service that is served until the process ends.
pub struct InProcess {
    allocator: Arc<Allocator>,
    _serving: Serving,
}

impl InProcess {
    /// Serves as the program does with these arguments. What they say of the process has no effect.
    ///
    /// # Errors
    /// As the program's.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments = Arguments::try_parse_from(["aniond"].iter().chain(arguments))?;
        // Transports keep them, as those of the program.
        let arguments: &'static Arguments = Box::leak(Box::new(arguments));
        let (config, origin) = configuration::load(&arguments.config, &accounts::look_up)?;
        let transports = Transports::open(&arguments.transport, &config.policy, &[])?;
        let rules = config.graphics.clone();
        let allocator = Allocator::new(config, &arguments.cgroup).context("cannot make the heaps")?;
        let services = Services::new(&allocator, origin, arguments.transport.graphics.as_ref(), &rules);
        let serving = transports.serve(&services, || Ok(()), true)?;
        Ok(Self { allocator, _serving: serving })
    }

    /// Returns the bytes that all clients hold or have reserved.
    pub fn held_bytes(&self) -> u64 {
        let usage = self.allocator.usage(&own());
        usage.iter().map(|usage| usage.bytes + usage.reserved_bytes).sum()
    }

    /// Returns the memory that the service keeps for later clients to the kernel, with its
    /// descriptors.
    pub fn trim(&self) {
        // The service's own uid is permitted, and no heap is named.
        let _ = self.allocator.trim(&own(), None, 0);
    }
}

/// Returns this process as a caller.
fn own() -> Caller {
    let pid = i32::try_from(process::id()).unwrap_or(i32::MAX);
    Caller { uid: Uid(geteuid().as_raw()), pid, context: None }
}
