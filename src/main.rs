// SPDX-License-Identifier: Apache-2.0
//! The allocator service: `anion::daemon` is all of it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    anion::daemon::main()
}
