// SPDX-License-Identifier: Apache-2.0
//! The service under test: its name and its endpoint.

use anion_ipc::{Connection, Endpoint, FromIBinder, connect, connect_for_callbacks};
use anyhow::{Context, Result};
use std::fmt;
use std::io;
use std::str::FromStr;

/// A service that is registered under a name at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    /// The registered name: `vendor.anion.allocator.IHeapAllocator/INSTANCE`.
    pub(crate) name: String,
}

impl Target {
    /// Connects. Over a socket, `connections` is the number of calls that are answered at the same
    /// time.
    ///
    /// # Errors
    /// As [`connect`].
    pub(crate) fn connect<I: FromIBinder + ?Sized>(&self, connections: u32) -> io::Result<Connection<I>> {
        connect(&self.endpoint, &self.name, connections)
    }

    /// Connects so that the service can call this process.
    ///
    /// # Errors
    /// As [`connect_for_callbacks`].
    pub(crate) fn connect_for_callbacks<I: FromIBinder + ?Sized>(&self) -> io::Result<Connection<I>> {
        connect_for_callbacks(&self.endpoint, &self.name)
    }
}

/// `NAME@ENDPOINT`, the argument of a child.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.endpoint)
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, endpoint) = text.split_once('@').with_context(|| format!("{text:?} names no endpoint"))?;
        Ok(Self { endpoint: endpoint.parse()?, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_understands_what_it_is_told() {
        let target =
            Target { endpoint: Endpoint::Socket("/tmp/a@b.sock".into()), name: "a.IB/default".into() };
        assert_eq!(target.to_string().parse::<Target>().expect("valid"), target);
        assert!("/tmp/a.sock".parse::<Target>().is_err());
    }
}
