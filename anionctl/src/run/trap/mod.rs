// SPDX-License-Identifier: Apache-2.0
//! `--trap`: a program whose system calls about the device nodes are answered here.
//!
//! The program gets a filter before it begins, and so do all processes that it starts. The kernel
//! stops the calls that the filter names and tells this process of each (seccomp_unotify(2)): those
//! about a node are answered here, all others the kernel carries out as if it had not asked. Where
//! to read: `filter` is what is trapped, `serve` what is answered, `caller` how the program's
//! memory and descriptors are reached, `supervise` how the program is started and waited for.
//!
//! What the program may do is not limited by this: it decides nothing that the kernel or the
//! service does not decide again.

mod caller;
mod calls;
mod filter;
mod serve;
mod status;
mod supervise;
#[expect(unsafe_code, reason = "system calls that no library has; every block argues for itself")]
mod sys;

pub(super) use supervise::{Signals, run};
