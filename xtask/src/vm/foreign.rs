// SPDX-License-Identifier: Apache-2.0
//! A binder stack that shares nothing with the service's: libgbinder and its tools, from a Debian suite that has them, and
//! a client of a page that is compiled against them. They come with the loader and the C library of their suite, since the
//! programs of the guest are the running Debian's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::initramfs::Initramfs;
use super::kernel::apt::{Apt, Suite};
use crate::process::{run, workspace_root};

const SUITE: Suite = Suite { archive: "Debian", name: "sid" };

/// What the tools and the client load.
const LIBRARIES: [&str; 16] = [
    "libatomic1",
    "libblkid1",
    "libc6",
    "libffi8",
    "libgbinder1",
    "libgcc-s1",
    "libglib2.0-0t64",
    "libglibutil1",
    "libmount1",
    "libpcre2-8-0",
    "libselinux1",
    "libsystemd0",
    "libcap2",
    "zlib1g",
    "libgbinder-tools",
    "gcc-16-base",
];

/// What the client includes.
const HEADERS: [&str; 3] = ["libgbinder-dev", "libglib2.0-dev", "libglibutil-dev"];

/// The tools that the guest's script runs.
const TOOLS: [&str; 2] = ["binder-list", "binder-ping"];

/// Where Debian has libraries of the only architecture that guests have.
const LIBRARY_DIRECTORY: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where the guest has them.
const PLACE: &str = "/foreign";

/// The version of Android whose service manager `rsb_hub` behaves like.
const CONFIGURATION: &str = "[General]\nApiLevel = 36\n";
