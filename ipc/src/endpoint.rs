// SPDX-License-Identifier: Apache-2.0
//! Addresses of the service.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Paths of binder devices, in the order in which they are tried.
const BINDER_DEVICES: [&str; 2] = ["/dev/binderfs/binder", "/dev/binder"];

/// A way to reach the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// RPC binder over the Unix socket at this path.
    Socket(PathBuf),
    /// Kernel binder through this device and its service manager.
    Binder(PathBuf),
}

/// Reason why an endpoint could not be parsed or chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// Returns kernel binder through the machine's default device; `None` if there is none.
    pub fn default_binder() -> Option<Self> {
        BINDER_DEVICES.iter().map(Path::new).find(|path| path.exists()).map(|path| Self::Binder(path.into()))
    }

    /// Returns an error for every device except the one that AOSP's library opens by itself.
    ///
    /// # Errors
    /// `Unsupported`, with the endpoint's name.
    #[cfg(soong)]
    pub(crate) fn require_own_device(&self) -> std::io::Result<()> {
        match self {
            Self::Binder(device) if BINDER_DEVICES.iter().any(|own| device == Path::new(own)) => Ok(()),
            _ => Err(std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                format!("{self}: on Android clients and services meet at {}", BINDER_DEVICES.join(" or ")),
            )),
        }
    }
}

/// Reads `unix:PATH`, a path that starts with `/` or `.`, `binder` or `binder:DEVICE`.
impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text == "binder" {
            return Self::default_binder().ok_or_else(|| {
                EndpointError(format!(
                    "no binder device here: neither {} exists",
                    BINDER_DEVICES.join(" nor ")
                ))
            });
        }
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Socket(path.into())),
            Some(("binder", device)) if device.starts_with('/') => Ok(Self::Binder(device.into())),
            _ if text.starts_with(['/', '.']) => Ok(Self::Socket(text.into())),
            _ => Err(EndpointError(format!(
                "endpoint is {text:?}, but it must be a socket path, unix:PATH, binder or binder:DEVICE"
            ))),
        }
    }
}

/// Writes a socket as its path, the form that `--socket` takes, and kernel binder as
/// `binder:DEVICE`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Binder(device) => write!(f, "binder:{}", device.display()),
        }
    }
}

/// Socket of the machine's service, below `/run` or a user's own directory.
const SOCKET: &str = "anion/allocator.sock";

/// Returns the default socket of a service that this user starts: `/run/anion/allocator.sock` for
/// root, else `anion/allocator.sock` in `$XDG_RUNTIME_DIR`.
///
/// # Errors
/// If the user is not root and `XDG_RUNTIME_DIR` is not set.
pub fn default_socket() -> Result<PathBuf, EndpointError> {
    if own_uid() == Some(0) {
        return Ok(machine_socket());
    }
    let directory = runtime_directory();
    let directory = directory.ok_or_else(|| {
        EndpointError("XDG_RUNTIME_DIR is not set; give the socket with --socket or ANION_SOCKET".into())
    })?;
    Ok(directory.join(SOCKET))
}

/// Returns the socket of the machine's service.
pub(crate) fn machine_socket() -> PathBuf {
    Path::new("/run").join(SOCKET)
}

/// Returns the socket of a service that this user runs for itself: `anion/allocator.sock` in
/// `$XDG_RUNTIME_DIR`.
///
/// # Errors
/// If `XDG_RUNTIME_DIR` is not set, or names a directory of another user: any user could serve
/// there.
pub(crate) fn user_socket() -> Result<PathBuf, EndpointError> {
    let directory =
        runtime_directory().ok_or_else(|| EndpointError("XDG_RUNTIME_DIR is not set".to_owned()))?;
    let owner = std::fs::metadata(&directory).map(|found| found.uid()).ok();
    match (owner, own_uid()) {
        (Some(owner), Some(own)) if owner != own => Err(EndpointError(format!(
            "XDG_RUNTIME_DIR is {}, which belongs to uid {owner} and not to uid {own}",
            directory.display()
        ))),
        _ => Ok(directory.join(SOCKET)),
    }
}

/// Returns the directory that `XDG_RUNTIME_DIR` names.
pub(crate) fn runtime_directory() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Returns this process's effective uid: the owner of its /proc entry.
pub(crate) fn own_uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_schemes_are_told_apart() {
        assert_eq!("/run/a.sock".parse(), Ok(Endpoint::Socket("/run/a.sock".into())));
        assert_eq!("unix:a.sock".parse(), Ok(Endpoint::Socket("a.sock".into())));
        assert_eq!("binder:/dev/vndbinder".parse(), Ok(Endpoint::Binder("/dev/vndbinder".into())));
        for bad in ["", "unix:", "binder:", "binder:vnd", "tcp:1", "name"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["/run/a.sock", "./a.sock", "binder:/dev/vndbinder"] {
            assert_eq!(text.parse::<Endpoint>().expect("valid").to_string(), text);
        }
    }
}
