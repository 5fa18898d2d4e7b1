// SPDX-License-Identifier: Apache-2.0
//! Builds the policy for the guest that enforces it.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::labels::{file_contexts, label_of};
use super::policy::Sources;
use super::release::{ANDROID_16, Variant};
use super::{own, read};
use crate::process::workspace_root;

/// A policy, and the labels of the guest's files.
#[derive(Debug)]
pub(crate) struct Enforced {
    pub(crate) binary: Vec<u8>,
    /// Lines of a path and its context.
    pub(crate) labels: String,
}

/// A user build whose graphics allocator is Anion, so that there are applications that are clients.
/// In this release's policy memfds are files, as in the guest's kernel.
const VARIANT: Variant = Variant { debuggable: false, graphics: true, ..Variant::full(&ANDROID_16) };

/// The files that get their labels from Android's files of labels.
const LABELLED: [&str; 7] = [
    "/vendor/bin/hw/vendor.anion.allocator-service",
    "/vendor/etc/anion",
    "/vendor/etc/anion/heaps.dts",
    "/vendor/lib64/hw/mapper.anion.so",
    "/dev/dma_heap",
    "/dev/dma_heap/system",
    "/dev/udmabuf",
];

/// The labels of other files, which the platform in miniature does not list.
const OTHERS: [(&str, &str); 15] = [
    ("/dev/null", "null_device"),
    ("/dev/full", "null_device"),
    ("/dev/zero", "zero_device"),
    ("/dev/random", "random_device"),
    ("/dev/urandom", "random_device"),
    ("/dev/console", "console_device"),
    ("/dev/ttyS0", "console_device"),
    ("/dev/binder", "binder_device"),
    ("/dev/shm", "tmpfs"),
    ("/vendor", "vendor_file"),
    ("/vendor/bin", "vendor_file"),
    ("/vendor/bin/hw", "vendor_file"),
    ("/vendor/etc", "vendor_file"),
    ("/vendor/lib64", "vendor_file"),
    ("/vendor/lib64/hw", "vendor_file"),
];

/// Returns the policy, in which `without`, if any, is removed from the files of `sepolicy/`.
///
/// # Errors
/// If no file of `sepolicy/` contains `without`, or the policy does not compile.
pub(crate) fn for_guest(without: Option<&str>) -> Result<Enforced> {
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let mut sources = Sources::read(&workspace_root().join("sepolicy"), &own(""))?;
    if let Some(rule) = without {
        let (changed, is_there) = sources.replaced(rule, "");
        ensure!(is_there, "no file of sepolicy/ contains the rule {rule:?}");
        sources = changed;
    }
    let binary = sources.for_guest(&read(&own("guest.te"))?).compile(VARIANT, scratch.path())?;
    let binary = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let contexts = scratch.path().join("all_file_contexts");
    fs::write(&contexts, file_contexts(VARIANT, scratch.path())?).context("cannot write the labels")?;
    let mut labels: String =
        OTHERS.iter().map(|(path, kind)| format!("{path} u:object_r:{kind}:s0\n")).collect();
    for path in LABELLED {
        labels += &format!("{path} {}\n", label_of(path, &contexts)?);
    }
    Ok(Enforced { binary, labels })
}
