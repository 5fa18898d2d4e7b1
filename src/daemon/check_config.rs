// SPDX-License-Identifier: Apache-2.0
//! `--check-config`: prints the heaps of a configuration and its errors, for people or as JSON.
//!
//! Only the diagnostics have positions, so the same tree gives the same tables from text, from a
//! blob and from a directory.

use std::io::Write;
use std::path::PathBuf;

use super::accounts;
use crate::config::spec::{ClientPolicy, Config, GraphicsRule, HeapSpec, Policy, Quota};
use crate::config::{self, DeviceTree, Diagnostic, LoadError, Loaded, Severity, usage_words};
use crate::units::{HeapName, PageSize, Uid};
use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

/// Prints the heaps and errors of each of `files`. Returns whether no file has errors.
///
/// # Errors
/// If `out` cannot be written, or the page size is unknown. A file that cannot be read is a
/// finding, not an error of this function.
pub(crate) fn run(files: &[PathBuf], json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    let page = crate::sys::memory::page_size().context("cannot determine the page size")?;
    let checked = groups(files, page);
    let good = checked.iter().all(Checked::is_good);
    if json {
        let files: Vec<Value> = checked.iter().map(Checked::to_json).collect();
        serde_json::to_writer_pretty(&mut *out, &json!({ "ok": good, "files": files }))?;
        writeln!(out)?;
    } else {
        for file in &checked {
            file.print(out)?;
        }
    }
    Ok(good)
}

/// Reads the files. An overlay is applied to the tree before it.
fn groups(files: &[PathBuf], page: PageSize) -> Vec<Checked> {
    let mut groups: Vec<(Vec<PathBuf>, Result<DeviceTree, LoadError>)> = Vec::new();
    for file in files {
        let read = config::read(file);
        match (read, groups.pop()) {
            (Ok(overlay), Some((mut files, Ok(tree)))) if overlay.is_overlay() && !tree.is_overlay() => {
                files.push(file.clone());
                groups.push((files, tree.apply(overlay)));
            }
            (read, last) => {
                groups.extend(last);
                groups.push((vec![file.clone()], read));
            }
        }
    }
    let checked = |(files, read): (Vec<PathBuf>, Result<DeviceTree, LoadError>)| Checked {
        files,
        loaded: read.map(|read| read.translate(page, &accounts::look_up)).map_err(anyhow::Error::from),
    };
    groups.into_iter().map(checked).collect()
}

/// A file with its overlays, and the result of reading them.
struct Checked {
    files: Vec<PathBuf>,
    loaded: anyhow::Result<Loaded>,
}

impl Checked {
    /// Returns the names of the files, joined.
    fn name(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" + ")
    }

    fn is_good(&self) -> bool {
        self.loaded.as_ref().is_ok_and(|loaded| !loaded.has_errors())
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let file = self.name();
        let loaded = match &self.loaded {
            Ok(loaded) => loaded,
            // The error names the file.
            Err(error) => return writeln!(out, "error: {error:#}"),
        };
        let Config { heaps, policy, graphics } = &loaded.config;
        writeln!(out, "{file}: {}", counted(heaps.len(), "heap"))?;
        if !heaps.is_empty() {
            writeln!(out, "{}", heap_table(heaps))?;
        }
        if has_limits(policy) {
            writeln!(out, "{}", client_table(policy))?;
        }
        if *graphics != config::default_graphics(heaps) {
            writeln!(out, "{}", graphics_table(graphics))?;
        }
        for diagnostic in &loaded.diagnostics {
            // With a position the line begins with FILE:LINE:COLUMN, which editors can open.
            let gap = if diagnostic.position.is_some() { "" } else { " " };
            writeln!(out, "{file}:{gap}{diagnostic}")?;
        }
        let count = |severity| loaded.diagnostics.iter().filter(|d| d.severity == severity).count();
        let errors = counted(count(Severity::Error), "error");
        writeln!(out, "{file}: {errors}, {}", counted(count(Severity::Warning), "warning"))
    }

    fn to_json(&self) -> Value {
        let file = self.files[0].display().to_string();
        let overlays: Vec<_> = self.files[1..].iter().map(|file| file.display().to_string()).collect();
        match &self.loaded {
            Err(error) => json!({ "file": file, "overlays": overlays, "error": format!("{error:#}") }),
            Ok(Loaded { config, diagnostics }) => json!({
                "file": file,
                "overlays": overlays,
                "heaps": config.heaps.iter().map(heap_json).collect::<Vec<_>>(),
                "policy": policy_json(&config.policy),
                "graphics": config.graphics.iter().map(graphics_json).collect::<Vec<_>>(),
                "diagnostics": diagnostics.iter().map(diagnostic_json).collect::<Vec<_>>(),
            }),
        }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

fn heap_table(heaps: &[HeapSpec]) -> Table {
    let mut table = table(&[
        "id",
        "name",
        "aliases",
        "type",
        "device",
        "size",
        "base",
        "alignment",
        "flags",
        "users",
        "state",
    ]);
    for heap in heaps {
        table.add_row([
            heap.id.to_string(),
            heap.name.to_string(),
            joined(&heap.aliases),
            heap.kind.name().to_owned(),
            devices(heap),
            heap.size.map_or_else(none, bytes),
            heap.base.map_or_else(none, |base| format!("{base:#x}")),
            bytes(heap.alignment),
            flags(heap).join(" "),
            heap.allow_uids.as_deref().map_or_else(|| "all".to_owned(), users),
            heap.unavailable.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("unavailable: {why}")),
        ]);
    }
    table
}

fn flags(heap: &HeapSpec) -> Vec<String> {
    let mut flags = vec![if heap.cached { "cached" } else { "uncached" }.to_owned()];
    if heap.deferred_free {
        flags.push("deferred-free".to_owned());
    }
    if heap.secure {
        flags.push("secure".to_owned());
    }
    if heap.recycle {
        flags.push("recycle".to_owned());
    }
    if heap.client_seals {
        flags.push("client-seals".to_owned());
    }
    if heap.shared.is_some() {
        flags.push("shared across domains".to_owned());
    }
    if heap.is_default_pool {
        flags.push("linux,cma-default".to_owned());
    }
    if heap.stride_align != anion_layout::STRIDE_ALIGN {
        flags.push(format!("rows of images at {}", bytes(heap.stride_align.into())));
    }
    flags.extend(heap.chunk_size.map(|chunk| format!("chunks of {}", bytes(chunk))));
    if !heap.pool_orders.is_empty() {
        flags.push(format!(
            "pool-orders {}",
            heap.pool_orders.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
        ));
    }
    flags.extend(heap.pool_limit.map(|limit| format!("pool-limit {}", bytes(limit))));
    flags
}

fn has_limits(policy: &Policy) -> bool {
    policy.default != Quota::default() || !policy.clients.is_empty()
}

fn client_table(policy: &Policy) -> Table {
    let mut table = table(&["client", "users", "max bytes", "max buffers", "rights", "reserves"]);
    let limit =
        |limit: Option<u64>, show: fn(u64) -> String| limit.map_or_else(|| "unlimited".to_owned(), show);
    let quota = |quota: &Quota| (limit(quota.max_bytes, bytes), limit(quota.max_buffers, |n| n.to_string()));
    for ClientPolicy { name, uids, quota: own, privileged, reserves } in &policy.clients {
        let (max_bytes, max_buffers) = quota(own);
        let rights = if *privileged { "privileged".to_owned() } else { none() };
        let reserves: Vec<String> =
            reserves.iter().map(|reserve| format!("{} of {}", bytes(reserve.bytes), reserve.heap)).collect();
        table.add_row([name.clone(), users(uids), max_bytes, max_buffers, rights, joined(&reserves)]);
    }
    let (max_bytes, max_buffers) = quota(&policy.default);
    table.add_row(["(others)".to_owned(), none(), max_bytes, max_buffers, none(), none()]);
    table
}

fn graphics_table(rules: &[GraphicsRule]) -> Table {
    let mut table = table(&["graphics", "usages", "heaps", "kind"]);
    for rule in rules {
        let kind = if rule.dma_bufs_only { "dma-bufs only".to_owned() } else { none() };
        table.add_row([rule.name.clone(), usage_words(rule.usages), joined(&rule.heaps), kind]);
    }
    table
}

fn graphics_json(rule: &GraphicsRule) -> Value {
    json!({
        "name": rule.name,
        "usages": usage_words(rule.usages),
        "usage_bits": rule.usages,
        "heaps": rule.heaps.iter().map(HeapName::as_str).collect::<Vec<_>>(),
        "dma_bufs_only": rule.dma_bufs_only,
    })
}

fn none() -> String {
    "-".to_owned()
}

fn joined<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { none() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

/// Returns the users by name, or by number if they have no name.
fn users(uids: &[Uid]) -> String {
    joined(&uids.iter().map(|uid| accounts::shown(*uid)).collect::<Vec<_>>())
}

/// Returns an exact size in the largest unit that divides it.
fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} B"), |(shift, name)| format!("{} {name}", bytes >> shift))
}

/// Returns the devices in the order in which the heap tries them: when it is made, or at every
/// request for a custom heap.
fn devices(heap: &HeapSpec) -> String {
    if heap.devices.is_empty() {
        joined(&std::iter::once(&heap.device).chain(&heap.fallbacks).collect::<Vec<_>>())
    } else {
        joined(&heap.devices)
    }
}

fn heap_json(heap: &HeapSpec) -> Value {
    json!({
        "id": heap.id.get(),
        "name": heap.name.as_str(),
        "aliases": heap.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>(),
        "type": heap.kind.name(),
        "device": if heap.devices.is_empty() { Some(heap.device.to_string()) } else { None },
        "fallbacks": heap.fallbacks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "devices": heap.devices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "size": heap.size,
        "base": heap.base,
        "cma_default": heap.is_default_pool,
        "kernel_names": heap.kernel_names.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "alignment": heap.alignment,
        "chunk_size": heap.chunk_size,
        "stride_align": heap.stride_align,
        "cached": heap.cached,
        "deferred_free": heap.deferred_free,
        "pool_orders": heap.pool_orders,
        "pool_limit": heap.pool_limit,
        "secure": heap.secure,
        "recycle": heap.recycle,
        "client_seals": heap.client_seals,
        "allow_uids": heap.allow_uids.as_deref().map(uids_json),
        "share_across_domains": heap.shared,
        "unavailable": heap.unavailable,
        "node": heap.node,
    })
}

fn policy_json(policy: &Policy) -> Value {
    let clients = policy.clients.iter().map(|client| {
        let reserves = client.reserves.iter();
        json!({
            "name": client.name,
            "uids": uids_json(&client.uids),
            "max_bytes": client.quota.max_bytes,
            "max_buffers": client.quota.max_buffers,
            "privileged": client.privileged,
            "reserves": reserves.map(|r| json!({ "heap": r.heap.as_str(), "bytes": r.bytes })).collect::<Vec<_>>(),
        })
    });
    json!({
        "default": { "max_bytes": policy.default.max_bytes, "max_buffers": policy.default.max_buffers },
        "clients": clients.collect::<Vec<_>>(),
    })
}

fn uids_json(uids: &[Uid]) -> Vec<u32> {
    uids.iter().map(|uid| uid.0).collect()
}

fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    json!({
        "severity": diagnostic.severity.to_string(),
        "node": diagnostic.node,
        "line": diagnostic.position.map(|position| position.line),
        "column": diagnostic.position.map(|position| position.column),
        "message": diagnostic.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(4095), "4095 B");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(0x2f4_0000), "48384 KiB");
        assert_eq!(bytes(1 << 40), "1 TiB");
    }
}
