// SPDX-License-Identifier: Apache-2.0
#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

pub(crate) mod inherited_fd;
