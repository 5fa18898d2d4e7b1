// SPDX-License-Identifier: Apache-2.0
//! The labels of files, properties and services.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::compiled::Compiled;
use super::policy::Variant;
use super::{lines, own, read};
use crate::process::{output_of, workspace_root};
use crate::tally::Tally;

/// What the service installs and uses, and its label's type.
const LABELS: [(&str, &str); 4] = [
    ("/vendor/bin/hw/vendor.anion.allocator-service", "hal_anion_default_exec"),
    ("/system/vendor/etc/anion/heaps.dtb", "anion_config_file"),
    ("/vendor/etc/anion", "anion_config_file"),
    ("/dev/udmabuf", "udmabuf_device"),
];

/// The same where Anion is the graphics allocator.
const GRAPHICS_LABELS: [(&str, &str); 2] = [
    ("/vendor/lib64/hw/mapper.anion.so", "same_process_hal_file"),
    ("/system/vendor/lib/hw/mapper.anion.so", "same_process_hal_file"),
];

/// Labels name types that exist, no path has two, and libselinux finds those of what is installed.
///
/// # Errors
/// With the first label that is wrong.
pub(super) fn check(compiled: &Compiled, variant: Variant, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let directory = workspace_root().join("sepolicy");
    let files = file_contexts(&directory, variant)?;
    let mut texts = vec![("file_contexts", files.clone())];
    for name in ["genfs_contexts", "property_contexts", "service_contexts"] {
        texts.push((name, read(&directory.join(name))?));
    }
    if variant.graphics {
        texts.push(("graphics/service_contexts", read(&directory.join("graphics/service_contexts"))?));
    }
    for (name, text) in &texts {
        for line in lines(text) {
            let context = line.split_whitespace().find_map(|word| word.strip_prefix("u:object_r:"));
            let kind = context.and_then(|context| context.strip_suffix(":s0"));
            let kind = kind.with_context(|| format!("{name}: no context u:object_r:TYPE:s0 in: {line}"))?;
            ensure!(compiled.types.contains(kind), "{name}: there is no type {kind}");
            *tally += Tally::one(true);
        }
    }
    let mut paths = BTreeSet::new();
    for path in lines(&files).filter_map(|line| line.split_whitespace().next()) {
        ensure!(paths.insert(path), "file_contexts: {path} has two labels");
    }
    let whole = scratch.join("all_file_contexts");
    fs::write(&whole, &files).context("cannot write the labels")?;
    let of_graphics = if variant.graphics { &GRAPHICS_LABELS[..] } else { &[] };
    for &(path, kind) in LABELS.iter().chain(of_graphics) {
        let mut lookup = Command::new("selabel_lookup");
        let found = output_of(lookup.args(["-b", "file", "-k", path, "-f"]).arg(&whole))?;
        ensure!(found.trim().ends_with(&format!("u:object_r:{kind}:s0")), "{path} is labelled: {found}");
        *tally += Tally::one(true);
    }
    Ok(())
}

/// Returns the labels of files, with those of the platform or of `sepolicy/udmabuf`, and those of
/// `sepolicy/graphics` where it is taken.
fn file_contexts(directory: &Path, variant: Variant) -> Result<String> {
    let udmabuf =
        if variant.own_udmabuf { directory.join("udmabuf/file_contexts") } else { own("file_contexts") };
    let mut texts = vec![read(&directory.join("file_contexts"))?, read(&udmabuf)?];
    if variant.graphics {
        texts.push(read(&directory.join("graphics/file_contexts"))?);
    }
    Ok(texts.join("\n"))
}
