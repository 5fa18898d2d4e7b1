// SPDX-License-Identifier: Apache-2.0
//! Names the limits that prevent the start of the service, with their values and the settings that
//! change them.

use crate::sys::cgroup;
use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;

/// Fewest descriptors with which the service starts: it keeps about twenty, and each connection and
/// each buffer needs another one.
const LEAST_DESCRIPTORS: u64 = 32;

/// Raises the soft limit of open files to the hard limit: the service keeps a descriptor for every
/// buffer.
///
/// # Errors
/// If the hard limit is below what the service itself needs.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::useless_conversion, reason = "a limit is a machine word, of 32 bits elsewhere")
)]
pub(crate) fn raise_descriptors() -> anyhow::Result<()> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    match raised {
        Ok((soft, hard)) if soft == hard => log::info!("at most {hard} open files"),
        Ok((soft, hard)) => log::info!("at most {hard} open files, raised from {soft}"),
        Err(error) => log::warn!("cannot raise the limit of open files: {error}"),
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        u64::from(limit) >= LEAST_DESCRIPTORS,
        "the service needs {LEAST_DESCRIPTORS} descriptors at least, and {}",
        rlimit(Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", "ulimit -n, LimitNOFILE=")
    );
    Ok(())
}

/// Returns the end of an error's message: the limits that may have caused it, each with its value
/// and how to change it. Empty if no limit causes such an error.
pub(crate) fn behind(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let is_reason = |errno: &Errno| {
        text.contains(&io::Error::from(*errno).to_string()) || text.contains(&errno.to_string())
    };
    let errno = [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM].into_iter().find(is_reason);
    let limits = match errno {
        Some(Errno::EMFILE) => {
            vec![rlimit(Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE", "ulimit -n, LimitNOFILE=")]
        }
        Some(Errno::ENFILE) => vec!["/proc/sys/fs/file-max has the limit of the machine".to_owned()],
        // A thread, or the memory of its stack, could not be made.
        Some(Errno::EAGAIN) => [threads(), memory()].concat(),
        Some(Errno::ENOMEM) => memory(),
        _ => return String::new(),
    };
    format!("; {}", limits.join("; "))
}

fn threads() -> Vec<String> {
    let mut limits = vec![rlimit(Resource::RLIMIT_NPROC, "RLIMIT_NPROC", "ulimit -u, LimitNPROC=")];
    limits.extend(cgroup::own_pids_limit().map(|limit| format!("{limit} (TasksMax=)")));
    limits
}

fn memory() -> Vec<String> {
    let mut limits = vec![rlimit(Resource::RLIMIT_AS, "RLIMIT_AS", "ulimit -v, LimitAS=")];
    limits.extend(cgroup::own_memory_limit().map(|limit| format!("{limit} (MemoryMax=)")));
    limits
}

fn rlimit(resource: Resource, name: &str, change: &str) -> String {
    let value = match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => "unlimited".to_owned(),
        Ok((soft, _)) => soft.to_string(),
        Err(error) => format!("unknown ({error})"),
    };
    format!("{name} is {value} ({change})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_that_a_limit_may_be_behind_names_it_with_its_value() {
        let of = |errno| behind(&anyhow::Error::new(io::Error::from_raw_os_error(errno)).context("a call"));
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
        assert_eq!(of(libc::EMFILE), format!("; RLIMIT_NOFILE is {limit} (ulimit -n, LimitNOFILE=)"),);
        assert!(of(libc::EAGAIN).contains("RLIMIT_NPROC is ") && of(libc::EAGAIN).contains("RLIMIT_AS is "));
        assert!(of(libc::ENOMEM).contains("RLIMIT_AS is "));
        assert_eq!(of(libc::ENOENT), "");
        let nix: anyhow::Result<()> = Err(Errno::EMFILE).context("a call");
        assert!(behind(&nix.expect_err("failed")).contains("RLIMIT_NOFILE"));
    }
}
