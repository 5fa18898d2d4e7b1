// SPDX-License-Identifier: Apache-2.0
//! The command line of `anionctl run`.

use anion_nodes::Interface;
use clap::{Args, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `anionctl run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Trap the program's system calls instead of loading a library; serves static programs, too,
    /// and ignores --preload
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[arg(long)]
    pub(crate) trap: bool,

    /// Library that serves the program [default: libanion-preload.so beside anionctl, or in
    /// ../lib]
    #[arg(long, value_name = "PATH", env = "ANION_PRELOAD", value_hint = ValueHint::FilePath)]
    pub(crate) preload: Option<PathBuf>,

    /// Interface of /dev/ion: descriptors (Linux 4.12 to 5.10), handles (before 4.12), or both
    /// [default: both]
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) ion: Option<IonInterface>,

    /// The program, and its arguments; takes the rest of the line
    #[arg(
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) program: Vec<OsString>,
}

/// The interface of ION that a program finds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum IonInterface {
    /// The interface of each request that the program makes
    Both,
    /// Allocations are descriptors
    Descriptors,
    /// Allocations are handles
    Handles,
}

impl From<IonInterface> for Interface {
    fn from(ion: IonInterface) -> Self {
        match ion {
            IonInterface::Both => Self::Both,
            IonInterface::Descriptors => Self::Descriptors,
            IonInterface::Handles => Self::Handles,
        }
    }
}
