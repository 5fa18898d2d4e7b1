// SPDX-License-Identifier: Apache-2.0
//! Checks the labels of files, properties and services.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::compiled::Compiled;
use super::policy::macros_expanded;
use super::release::Variant;
use super::{lines, own, read};
use crate::process::{output_of, workspace_root};
use crate::tally::Tally;

/// The files and names of the service, and the types of their labels.
const LABELS: [(&str, &str); 4] = [
    ("/vendor/bin/hw/vendor.anion.allocator-service", "hal_anion_default_exec"),
    ("/system/vendor/etc/anion/heaps.dtb", "anion_config_file"),
    ("/vendor/etc/anion", "anion_config_file"),
    ("/dev/dma_heap/system", "dmabuf_system_heap_device"),
];

/// The same for devices, if the product uses them.
const UDMABUF: (&str, &str) = ("/dev/udmabuf", "udmabuf_device");
const ION: (&str, &str) = ("/dev/ion", "ion_device");

/// The same if Anion is the graphics allocator.
const GRAPHICS_LABELS: [(&str, &str); 2] = [
    ("/vendor/lib64/hw/mapper.anion.so", "same_process_hal_file"),
    ("/system/vendor/lib/hw/mapper.anion.so", "same_process_hal_file"),
];

/// Checks that labels name existing types, that no path has two, and that libselinux finds the
/// labels of installed files.
///
/// # Errors
/// With the first label that is wrong.
pub(super) fn check(compiled: &Compiled, variant: Variant, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let directory = workspace_root().join("sepolicy");
    let files = file_contexts(variant, scratch)?;
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
            ensure!(compiled.types.contains(kind), "{name}: the policy has no type {kind}");
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
    let udmabuf = variant.switches.then_some(UDMABUF);
    let ion = (variant.uses_ion() && variant.release.labels_ion).then_some(ION);
    for (path, kind) in LABELS.iter().chain(of_graphics).copied().chain(udmabuf).chain(ion) {
        let found = label_of(path, &whole)?;
        ensure!(
            found == format!("u:object_r:{kind}:s0"),
            "{path} has the label {found}, not u:object_r:{kind}:s0"
        );
        *tally += Tally::one(true);
    }
    Ok(())
}

/// Returns libselinux's label for a path, from a file of labels.
pub(super) fn label_of(path: &str, labels: &Path) -> Result<String> {
    let mut lookup = Command::new("selabel_lookup");
    let found = output_of(lookup.args(["-b", "file", "-k", path, "-f"]).arg(labels))?;
    found.split_whitespace().last().map(str::to_owned).with_context(|| format!("{path} has no label"))
}

/// Returns the labels of files: the platform's, and those of the variant's folders.
pub(super) fn file_contexts(variant: Variant, scratch: &Path) -> Result<String> {
    let directory = workspace_root().join("sepolicy");
    let mut texts = vec![
        macros_expanded(&read(&own("file_contexts.m4"))?, variant, scratch)?,
        read(&directory.join("file_contexts"))?,
    ];
    if variant.declares_udmabuf() {
        texts.push(read(&directory.join("udmabuf-until-16-qpr1/file_contexts"))?);
    }
    if variant.graphics {
        texts.push(read(&directory.join("graphics/file_contexts"))?);
    }
    Ok(texts.join("\n"))
}
