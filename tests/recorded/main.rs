// SPDX-License-Identifier: Apache-2.0
//! What `anionctl` records of a real service for other programs: metrics, traces and reports, read
//! as those programs would.

#[path = "../common/mod.rs"]
mod common;
mod metrics;
mod report;
mod trace;
