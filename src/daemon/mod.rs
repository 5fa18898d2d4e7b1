// SPDX-License-Identifier: Apache-2.0
//! The process around the service: arguments, logging, signals, sockets and connections. Nothing here knows a heap.

/// The command line.
pub(crate) mod args;

/// Where messages go.
pub(crate) mod logging;

/// What a configuration file means.
pub(crate) mod check_config;

/// Which heaps are served.
pub(crate) mod configuration;

/// Signals, descriptor limit, panics: what holds for the whole process.
pub(crate) mod process;

/// Which system calls may be made while serving.
pub(crate) mod seccomp;

/// What has to be done before anything else.
pub(crate) mod sys;

/// The listening socket: its own or systemd's.
#[cfg(not(soong))]
pub(crate) mod listener;

/// Who owns the socket's path.
#[cfg(not(soong))]
mod lock;

/// How many connections a client may have.
#[cfg(not(soong))]
mod budget;

/// The thread that accepts connections.
#[cfg(not(soong))]
mod accept;

/// Which transports, and serving over them.
#[cfg_attr(soong, path = "transport_on_device.rs")]
pub(crate) mod transport;

/// Reports to who started the process.
pub(crate) mod supervisor;
