// SPDX-License-Identifier: Apache-2.0
//! Tests what `anionctl` records of a real service for other programs: metrics, traces and reports,
//! read with independent parsers.

#[path = "../common/mod.rs"]
mod common;
mod metrics;
mod report;
mod trace;
