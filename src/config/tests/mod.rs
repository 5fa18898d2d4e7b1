// SPDX-License-Identifier: Apache-2.0
//! Tests of the whole floor: from source to configuration and findings.

mod accounts;
mod graphics;
mod growth;
mod hostile;
mod manual;
mod overlay;
mod own;
mod readers;
mod sources;
mod text;
mod vendor;

use super::diagnostic::Report;
use super::{Loaded, LookUp, dts, no_accounts, translated};
use crate::units::PageSize;

const PAGE: u64 = 4096;

fn page() -> PageSize {
    PageSize::new(PAGE).expect("a power of two")
}

/// Loads device-tree source.
fn load(text: &str) -> Loaded {
    load_with(text, &no_accounts)
}

/// Loads device-tree source on a machine that has these accounts.
fn load_with(text: &str, look_up: LookUp<'_>) -> Loaded {
    let mut report = Report::default();
    let tree = dts::read(text, &mut report);
    translated(tree.as_ref(), page(), look_up, report)
}

/// Loads heaps in an own node at `/anion`.
fn own(heaps: &str) -> Loaded {
    load(&own_text(heaps))
}

/// Returns the text of heaps in an own node at `/anion`.
fn own_text(heaps: &str) -> String {
    format!("/dts-v1/;\n/ {{ anion {{ compatible = \"anion,heaps-v1\";\n{heaps}\n}}; }};")
}

fn findings(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.heaps.iter().map(|heap| heap.name.as_str()).collect()
}

/// Returns one line for each heap: id, name, kind, size, availability.
fn summary(loaded: &Loaded) -> Vec<String> {
    let line = |heap: &super::spec::HeapSpec| {
        let size = heap.size.map_or("-".to_owned(), |size| format!("{size:#x}"));
        let state = heap.unavailable.as_deref().unwrap_or("ok");
        format!("{} {} {} {size} {state}", heap.id, heap.name, heap.kind.name())
    };
    loaded.config.heaps.iter().map(line).collect()
}
