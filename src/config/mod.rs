// SPDX-License-Identifier: Apache-2.0
//! Floor 2: the configuration. Device trees in, checked heap descriptions and client policy out. Pure: what is
//! read from files arrives as text, bytes or a directory listing, and nothing is allocated or opened for use.

pub mod spec;
