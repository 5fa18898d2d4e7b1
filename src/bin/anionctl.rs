// SPDX-License-Identifier: Apache-2.0
//! The command line: `anionctl` is all of it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    anionctl::main()
}
