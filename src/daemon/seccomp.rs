// SPDX-License-Identifier: Apache-2.0
//! The system calls that a serving process may make.
//!
//! A call that is not in the policy ends the service. If it returned an error instead, a process
//! whose code was replaced by an attacker, or whose libraries take untested paths, would continue.
//! Clients' buffers survive the end, and systemd or init restarts the service. The call's number is
//! written to standard error (`crate::sys::seccomp`).

#[cfg_attr(
    not(any(test, all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))),
    expect(dead_code, reason = "policies are read everywhere, and compiled where there is a compiler")
)]
mod policy;

use anyhow::{Context, bail};
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use policy::Policy;

/// Value of `--seccomp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SystemCalls {
    /// All system calls.
    Any,
    /// The system calls of the built-in policy.
    BuiltIn,
    /// The system calls of a policy file.
    File(PathBuf),
}

impl SystemCalls {
    /// Reads the option's value. Every word is valid.
    #[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
    pub(crate) fn parse(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::Any,
            "built-in" => Self::BuiltIn,
            file => Self::File(file.into()),
        })
    }
}

/// A compiled filter.
#[derive(Debug)]
pub(crate) struct Filter {
    origin: String,
    allowed: usize,
    programs: Vec<kernel::Program>,
}

impl Filter {
    /// Reads and compiles the policy; `None` if every call is allowed. Called early, so that an
    /// invalid policy stops the start and not a serving process.
    ///
    /// # Errors
    /// If the file cannot be read, names a call that this architecture does not have, or this build
    /// has no filters.
    pub(crate) fn load(calls: &SystemCalls) -> anyhow::Result<Option<Self>> {
        let (origin, text) = match calls {
            SystemCalls::Any => return Ok(None),
            SystemCalls::BuiltIn => {
                let Some(text) = kernel::BUILT_IN else { bail!(kernel::UNSUPPORTED) };
                ("built-in".to_owned(), text.to_owned())
            }
            SystemCalls::File(path) => {
                let text = fs::read_to_string(path);
                let place = path.display().to_string();
                let text = text.with_context(|| format!("cannot read the seccomp policy {place}"))?;
                (place, text)
            }
        };
        let policy = Policy::parse(&text).with_context(|| format!("seccomp policy {origin}"))?;
        let programs = kernel::compile(&policy).with_context(|| format!("seccomp policy {origin}"))?;
        Ok(Some(Self { origin, allowed: policy.allowed.len(), programs }))
    }

    /// Restricts all threads of this process to the allowed calls from now on. This cannot be
    /// undone.
    ///
    /// # Errors
    /// If the kernel has no filters.
    pub(crate) fn enforce(&self) -> anyhow::Result<()> {
        crate::sys::seccomp::report_forbidden_calls().context("cannot report forbidden system calls")?;
        kernel::enforce(&self.programs).context("cannot filter system calls")?;
        log::info!("{} system calls are allowed ({}); any other ends the service", self.allowed, self.origin);
        Ok(())
    }
}

/// Reads a policy and compiles it, for the fuzzer.
#[cfg(feature = "testing")]
pub(crate) fn read(text: &str) {
    // An error is an answer as good as a filter is.
    let _ = Policy::parse(text).map(|policy| kernel::compile(&policy));
}

/// With a compiler for the kernel's filters.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod kernel {
    use super::policy::Policy;
    use anyhow::Context;
    use seccompiler::{BpfProgram, apply_filter_all_threads, compile_from_json};
    use std::env::consts::ARCH;

    pub(super) type Program = BpfProgram;
    pub(super) const UNSUPPORTED: &str = "no seccomp policy is built in";
    #[cfg(target_arch = "x86_64")]
    pub(super) const BUILT_IN: Option<&str> = Some(include_str!("../../seccomp/aniond-x86_64.policy"));
    #[cfg(target_arch = "aarch64")]
    pub(super) const BUILT_IN: Option<&str> = Some(include_str!("../../seccomp/aniond-arm64.policy"));

    /// Returns the programs in the order in which they must be enforced.
    pub(super) fn compile(policy: &Policy) -> anyhow::Result<Vec<Program>> {
        compile_for(policy, ARCH)
    }

    /// Returns the programs for the named architecture, which may differ from this machine's.
    pub(super) fn compile_for(policy: &Policy, architecture: &str) -> anyhow::Result<Vec<Program>> {
        let architecture = architecture.try_into().context("no system calls are known")?;
        let filters = policy.to_filters().into_iter().map(|filter| {
            let json = serde_json::json!({ "filter": filter }).to_string();
            let mut programs = compile_from_json(json.as_bytes(), architecture)?;
            programs.remove("filter").context("no program was made")
        });
        filters.collect()
    }

    pub(super) fn enforce(programs: &[Program]) -> anyhow::Result<()> {
        programs.iter().try_for_each(|program| Ok(apply_filter_all_threads(program)?))
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod kernel {
    use super::policy::Policy;
    use anyhow::bail;

    pub(super) type Program = std::convert::Infallible;
    pub(super) const UNSUPPORTED: &str = "seccomp filters are not built in on this platform";
    pub(super) const BUILT_IN: Option<&str> = None;

    pub(super) fn compile(_: &Policy) -> anyhow::Result<Vec<Program>> {
        bail!(UNSUPPORTED)
    }

    pub(super) fn enforce(_: &[Program]) -> anyhow::Result<()> {
        bail!(UNSUPPORTED)
    }
}

#[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;
