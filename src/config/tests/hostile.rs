// SPDX-License-Identifier: Apache-2.0
//! Tests that any input is read without a panic or an endless loop, and that the result keeps its
//! promises.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::super::diagnostic::Report;
use super::super::tree::Tree;
use super::super::{Loaded, Severity, directory, dtb, dts, no_accounts, translated};
use super::{PAGE, page};
use crate::units::HeapType;

const TEXTS: [&str; 3] = [
    include_str!("../../../etc/anion/heaps.dts"),
    include_str!("../../../tests/dts/kirin.dtsi"),
    include_str!("../../../tests/dts/msm.dts"),
];

/// Pieces with a meaning for one of the readers.
const SPLICES: [&str; 18] = [
    "/*",
    "\"",
    "<",
    ">",
    "{",
    "};",
    "&",
    "(",
    "/bits/ 8",
    "#include \"x\"",
    "0xffffffffffffffff",
    "\0",
    "é",
    "@",
    "/delete-node/ ",
    "compatible = \"anion,heaps-v1\";",
    "size = <0xffffffff 0xffffffff>;",
    "reg = <31>;",
];

/// One change: at an offset, removes some bytes and inserts others.
type Change = (prop::sample::Index, usize, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let splice = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        prop::sample::select(SPLICES.to_vec()).prop_map(|splice| splice.as_bytes().to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..16, splice), 1..8)
}

fn changed(original: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (index, cut, splice) in changes {
        let at = index.index(bytes.len() + 1);
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, splice.iter().copied());
    }
    bytes
}

fn load_text(text: &str) -> Loaded {
    let mut report = Report::default();
    let tree = dts::read(text, &mut report);
    translated(tree.as_ref(), page(), &no_accounts, report)
}

fn load_tree(tree: &Tree) -> Loaded {
    translated(Some(tree), page(), &no_accounts, Report::default())
}

/// Checks what the higher floors depend on.
fn keeps_its_promises(loaded: &Loaded) -> Result<(), TestCaseError> {
    let heaps = &loaded.config.heaps;
    prop_assert!(heaps.is_sorted_by(|a, b| a.id > b.id));
    let mut names = BTreeSet::new();
    for heap in heaps {
        for name in [&heap.name].into_iter().chain(&heap.aliases) {
            prop_assert!(names.insert(name.clone()), "{name} twice");
        }
        prop_assert!(heap.alignment.is_power_of_two() && heap.alignment >= PAGE);
        prop_assert!(heap.size.is_none_or(|size| size > 0 && size % PAGE == 0));
        let needs_size = matches!(heap.kind, HeapType::Carveout | HeapType::Chunk);
        prop_assert!(heap.size.is_some() || !needs_size || heap.unavailable.is_some());
        prop_assert!(heap.chunk_size.is_some() || heap.kind != HeapType::Chunk || heap.unavailable.is_some());
        if let (Some(size), Some(chunk)) = (heap.size, heap.chunk_size) {
            prop_assert!(chunk.is_power_of_two() && size % chunk == 0);
        }
        prop_assert!(heap.allow_uids.as_ref().is_none_or(|uids| !uids.is_empty()));
    }
    let mut uids = BTreeSet::new();
    for client in &loaded.config.policy.clients {
        prop_assert!(client.uids.iter().all(|uid| uids.insert(*uid)));
        for reserve in &client.reserves {
            let heap = heaps.iter().find(|heap| heap.name == reserve.heap);
            prop_assert!(heap.and_then(|heap| heap.size).is_some_and(|size| reserve.bytes <= size));
        }
    }
    let silent = loaded.diagnostics.iter().all(|d| d.severity != Severity::Error);
    prop_assert!(!heaps.is_empty() || !silent, "nothing came out and nothing was said");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changed_text(which in 0..TEXTS.len(), changes in changes()) {
        let bytes = changed(TEXTS[which].as_bytes(), &changes);
        keeps_its_promises(&load_text(&String::from_utf8_lossy(&bytes)))?;
    }

    #[test]
    fn text_of_words(words in prop::collection::vec(prop::sample::select(SPLICES.to_vec()), 0..64)) {
        keeps_its_promises(&load_text(&words.join(" ")))?;
        keeps_its_promises(&load_text(&format!("/ {{ a = {}", words.join(""))))?;
    }

    #[test]
    fn changed_blobs(which in 0..TEXTS.len(), changes in changes()) {
        let tree = dts::read(TEXTS[which], &mut Report::default()).expect("good");
        let blob = changed(&super::readers::blob(&tree), &changes);
        if let Ok(tree) = dtb::read(&blob) {
            keeps_its_promises(&load_tree(&tree))?;
        }
    }

    /// Returns blobs with words changed in place: most other changes break the header.
    #[test]
    fn blobs_with_other_words(
        which in 0..TEXTS.len(),
        words in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0_u32..64, any::<u32>()]), 1..4),
    ) {
        let tree = dts::read(TEXTS[which], &mut Report::default()).expect("good");
        let mut blob = super::readers::blob(&tree);
        for (index, word) in words {
            let at = 4 * index.index(blob.len() / 4);
            blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Ok(tree) = dtb::read(&blob) {
            keeps_its_promises(&load_tree(&tree))?;
        }
    }
}

proptest! {
    // Each case writes files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_directories(
        which in 0..TEXTS.len(),
        files in prop::collection::vec((any::<prop::sample::Index>(), changes()), 1..4),
    ) {
        let tree = dts::read(TEXTS[which], &mut Report::default()).expect("good");
        let folder = tempfile::tempdir().expect("a folder");
        super::readers::write_directory(&tree, tree.root(), folder.path());
        let mut paths: Vec<_> = tree.walk().into_iter().flat_map(|node| {
            let directory = folder.path().join(&tree.path(node)[1..]);
            tree.properties(node).map(move |(name, _)| directory.join(name)).collect::<Vec<_>>()
        }).collect();
        paths.sort();
        for (index, changes) in files {
            let path = &paths[index.index(paths.len())];
            let bytes = fs::read(path).expect("there");
            fs::write(path, changed(&bytes, &changes)).expect("written");
        }
        let tree = directory::read(folder.path(), &mut Report::default()).expect("good names");
        keeps_its_promises(&load_tree(&tree))?;
    }
}
