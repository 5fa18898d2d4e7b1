// SPDX-License-Identifier: Apache-2.0
//! System calls.

#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

pub mod dma_buf;
pub mod lease;
pub mod map;
