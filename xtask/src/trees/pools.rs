// SPDX-License-Identifier: Apache-2.0
//! Reads pools of contiguous memory with an independent reader: `fdtget`, which uses libfdt.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// The properties that are read from each child of `/reserved-memory`, in this order.
const KEYS: [&str; 6] = ["compatible", "reusable", "no-map", "status", "reg", "size"];

/// The output of `fdtget` for a missing property.
const ABSENT: &str = "absent";

/// Enabled pools: name and size.
type Pools = BTreeMap<String, Option<u64>>;

/// Returns the pools that only the service or only libfdt finds in a blob, or whose size differs.
///
/// # Errors
/// If `fdtget` cannot be started.
pub(super) fn differences(blob: &Path, read: &Value) -> Result<Vec<String>> {
    let children = fdtget(Command::new("fdtget").arg("-l").arg(blob).arg("/reserved-memory"))?;
    let names: Vec<&str> = children.lines().filter(|line| !line.is_empty()).collect();
    let (names, hidden): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| !is_hidden(name, &names));
    let (expected, mut found) = (of_libfdt(blob, &names)?, of_service(read));
    found.retain(|name, _| !hidden.contains(&name.as_str()));
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    let differ = names.filter(|name| expected.get(*name) != found.get(*name)).map(|name| {
        format!("pool {name}: libfdt has {:x?}, the service {:x?}", expected.get(name), found.get(name))
    });
    Ok(differ.collect())
}

fn of_service(read: &Value) -> Pools {
    let heaps = read["heaps"].as_array().into_iter().flatten();
    let pools = heaps.filter(|heap| heap["type"] == "cma" && heap["unavailable"].is_null());
    pools.filter_map(|heap| Some((heap["name"].as_str()?.to_owned(), heap["size"].as_u64()))).collect()
}

/// Returns whether libfdt cannot find a node: for a name without unit address it returns any
/// sibling with one.
fn is_hidden(name: &str, siblings: &[&str]) -> bool {
    !name.contains('@')
        && siblings.iter().any(|other| other.split_once('@').is_some_and(|(base, _)| base == name))
}

/// Returns the pools among these children of `/reserved-memory`.
fn of_libfdt(blob: &Path, names: &[&str]) -> Result<Pools> {
    if names.is_empty() {
        return Ok(Pools::new());
    }
    let mut command = Command::new("fdtget");
    command.args(["-t", "bx", "-d", ABSENT]).arg(blob);
    for key in ["#address-cells", "#size-cells"] {
        command.args(["/reserved-memory", key]);
    }
    for name in names {
        for key in KEYS {
            command.arg(format!("/reserved-memory/{name}")).arg(key);
        }
    }
    let printed = fdtget(&mut command)?;
    Ok(pools(names, &printed.lines().collect::<Vec<_>>()))
}

/// Runs `fdtget`, which fails without output if there is no such node.
fn fdtget(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot start fdtget")?;
    String::from_utf8(output.stdout).context("the output of fdtget is not UTF-8")
}

/// Returns the pools among the children of `/reserved-memory`. `lines` has the cell counts, and
/// then [`KEYS`] of each child.
fn pools(names: &[&str], lines: &[&str]) -> Pools {
    let bytes = |line: &&str| -> Option<Vec<u8>> {
        if *line == ABSENT {
            return None;
        }
        Some(line.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect())
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let values: Vec<Option<Vec<u8>>> = lines.iter().map(bytes).collect();
    let Some((counts, children)) = values.split_at_checked(2) else { return Pools::new() };
    let count = |at: usize| counts[at].as_deref().map_or(0, number).try_into().unwrap_or(0_usize) * 4;
    let (address, size) = (count(0), count(1));
    let pool = |(name, values): (&&str, &[Option<Vec<u8>>])| {
        let [compatible, reusable, no_map, status, reg, given] = values else { return None };
        let has = |value: &Option<Vec<u8>>, word: &[u8]| {
            value.as_deref().is_some_and(|text| text.split(|byte| *byte == 0).any(|part| part == word))
        };
        let is_on = status.is_none() || has(status, b"okay") || has(status, b"ok");
        let is_pool = has(compatible, b"shared-dma-pool") && reusable.is_some() && no_map.is_none();
        let bytes = match (reg, given) {
            (Some(reg), _) => reg.get(address..address + size),
            (None, Some(given)) => Some(given.as_slice()),
            (None, None) => None,
        };
        let bytes = bytes.map(number).filter(|bytes| *bytes > 0);
        (is_on && is_pool && bytes.is_some()).then(|| ((*name).to_owned(), bytes))
    };
    names.iter().zip(children.chunks(KEYS.len())).filter_map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_libfdt_takes_for_another_is_not_asked_for() {
        let names = ["framebuffer@9f000000", "framebuffer", "frame"];
        assert_eq!(names.map(|name| is_hidden(name, &names)), [false, true, false]);
    }

    #[test]
    fn pools_are_told_from_other_memory() {
        let shared = "73 68 61 72 65 64 2d 64 6d 61 2d 70 6f 6f 6c 0";
        let lines = [
            ["0 0 0 2", "0 0 0 1"].as_slice(),
            &[shared, "", ABSENT, ABSENT, ABSENT, "0 80 0 0"],
            &[shared, "", ABSENT, "6f 6b 61 79 0", "0 0 0 0 90 0 0 0 0 40 0 0", ABSENT],
            &[shared, ABSENT, "", ABSENT, ABSENT, "0 80 0 0"],
            &[shared, "", ABSENT, "64 69 73 61 62 6c 65 64 0", ABSENT, "0 80 0 0"],
            &[ABSENT, "", ABSENT, ABSENT, ABSENT, "0 80 0 0"],
        ];
        let found = pools(&["a", "b@90000000", "coherent", "off", "other"], &lines.concat());
        let expected = [("a".to_owned(), Some(0x80_0000)), ("b@90000000".to_owned(), Some(0x40_0000))];
        assert_eq!(found, Pools::from(expected));
    }
}
