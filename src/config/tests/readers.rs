// SPDX-License-Identifier: Apache-2.0
//! Tests that the three readers agree, and that the content determines the reader.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};
use proptest::prelude::*;

use super::super::diagnostic::Report;
use super::super::tree::{NodeId, Tree, Value};
use super::super::{LoadError, Severity, directory, dtb, dts, load};
use super::{page, summary};

/// Everything in a tree, by path.
pub(super) type Content = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

pub(super) fn content(tree: &Tree) -> Content {
    let properties = |node| {
        let all = tree.properties(node).map(|(name, property)| match &property.value {
            Value::Bytes(bytes) => (name.to_owned(), bytes.clone()),
            Value::Unusable(reason) => panic!("{name} {reason}"),
        });
        all.collect()
    };
    tree.walk().into_iter().map(|node| (tree.path(node), properties(node))).collect()
}

/// Returns the same tree in the independent library.
fn model(tree: &Tree) -> DeviceTree {
    fn copy(tree: &Tree, from: NodeId, to: &mut DeviceTreeNode) {
        for (name, property) in tree.properties(from) {
            if let Value::Bytes(bytes) = &property.value {
                to.add_property(DeviceTreeProperty::new_unchecked(name, bytes.as_slice()));
            }
        }
        for child in tree.children(from) {
            let mut node = DeviceTreeNode::new_unchecked(tree.name(child));
            copy(tree, child, &mut node);
            to.add_child(node);
        }
    }
    let mut model = DeviceTree::new();
    copy(tree, tree.root(), &mut model.root);
    model
}

/// Returns the tree as a blob that the independent library wrote.
pub(super) fn blob(tree: &Tree) -> Vec<u8> {
    model(tree).to_dtb()
}

/// Returns the content that the independent library reads in a blob.
fn library_content(blob: &[u8]) -> Content {
    let mut content = Content::new();
    let fdt = Fdt::new(blob).expect("a good blob");
    let mut ahead = vec![(String::new(), fdt.root())];
    while let Some((path, node)) = ahead.pop() {
        let properties = node.properties().map(|p| (p.name().to_owned(), p.value().to_vec()));
        let shown = if path.is_empty() { "/".to_owned() } else { path.clone() };
        content.insert(shown, properties.collect());
        ahead.extend(node.children().map(|child| (format!("{path}/{}", child.name()), child)));
    }
    content
}

pub(super) fn write_directory(tree: &Tree, node: NodeId, at: &Path) {
    for (name, property) in tree.properties(node) {
        if let Value::Bytes(bytes) = &property.value {
            fs::write(at.join(name), bytes).expect("written");
        }
    }
    for child in tree.children(node) {
        let below = at.join(tree.name(child));
        fs::create_dir(&below).expect("made");
        write_directory(tree, child, &below);
    }
}

fn text_tree(text: &str) -> Tree {
    dts::read(text, &mut Report::default()).expect("no syntax error")
}

const FIXTURES: [&str; 3] = [
    include_str!("../../../etc/anion/heaps.dts"),
    include_str!("../../../tests/dts/kirin.dtsi"),
    include_str!("../../../tests/dts/msm.dts"),
];

#[test]
fn text_blob_and_directory_give_the_same_tree_and_heaps() {
    for text in FIXTURES {
        let tree = text_tree(text);
        let folder = tempfile::tempdir().expect("a folder");
        let blob = model(&tree).to_dtb();
        assert_eq!(content(&dtb::read(&blob).expect("a good blob")), content(&tree));
        let at = folder.path().join("device-tree");
        fs::create_dir(&at).expect("made");
        write_directory(&tree, tree.root(), &at);
        let read = directory::read(&at, &mut Report::default()).expect("a good directory");
        assert_eq!(content(&read), content(&tree));
        // The content determines the form: the names are wrong.
        let (text_path, blob_path) = (folder.path().join("tree.dtb"), folder.path().join("tree.dts"));
        fs::write(&text_path, text).expect("written");
        fs::write(&blob_path, blob).expect("written");
        let [text, blob, directory] =
            [&text_path, &blob_path, &at].map(|path| load(path, page()).expect("readable"));
        assert!(!text.config.heaps.is_empty());
        assert_eq!(summary(&text), summary(&blob));
        assert_eq!(summary(&text), summary(&directory));
    }
}

#[test]
fn boards_have_the_same_heaps_in_every_form() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dts/boards");
    for entry in fs::read_dir(folder).expect("the folder of boards") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("readable");
        let text = super::super::comments::text(&bytes).expect("text");
        let tree = text_tree(&text);
        let scratch = tempfile::tempdir().expect("a folder");
        let blob_path = scratch.path().join("blob");
        fs::write(&blob_path, blob(&tree)).expect("written");
        let at = scratch.path().join("device-tree");
        fs::create_dir(&at).expect("made");
        write_directory(&tree, tree.root(), &at);
        let [text, blob, directory] =
            [&path, &blob_path, &at].map(|path| summary(&load(path, page()).expect("readable")));
        assert_eq!((&text, &text), (&blob, &directory), "{}", path.display());
    }
}

#[test]
fn blobs_may_have_the_long_names_of_shipping_boards() {
    let long = "qcom,mdss-dsi-panel-hdr-color-primaries";
    let tree =
        text_tree(&format!("/ {{ {long} = <1>; a-node-name-of-more-than-thirty-one-characters@1 {{ }}; }};"));
    let blob = model(&tree).to_dtb();
    assert!(
        Fdt::new(&blob).is_err(),
        "dtoolkit takes long names now: src/config/dtb.rs can become a call of it"
    );
    assert_eq!(content(&dtb::read(&blob).expect("a good blob")), content(&tree));
}

#[test]
fn sources_that_are_no_device_trees_say_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let error = |path: &Path| load(path, page()).expect_err("refused");
    assert!(matches!(error(&folder.path().join("missing")), LoadError::Io { .. }));
    let binary = error(&file("binary", b"ELF\0"));
    assert!(matches!(binary, LoadError::NeitherBlobNorText { offset: 3, .. }), "{binary:?}");
    let latin = error(&file("latin", b"ab\xe9"));
    assert!(matches!(latin, LoadError::NeitherBlobNorText { offset: 2, .. }), "{latin:?}");
    let damaged = error(&file("damaged", b"\xd0\x0d\xfe\xed"));
    assert!(matches!(damaged, LoadError::Blob { .. }), "{damaged:?}");
    let large = error(&file("large", &vec![b' '; (16 << 20) + 1]));
    assert!(matches!(large, LoadError::TooLarge(_)), "{large:?}");
    fs::create_dir(folder.path().join("tree")).expect("made");
    file("tree/na me", b"");
    let strange = error(&folder.path().join("tree"));
    assert!(matches!(strange, LoadError::Directory { .. }), "{strange:?}");
}

#[test]
fn links_in_a_directory_are_not_followed_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("..", folder.path().join("up")).expect("linked");
    let loaded = load(folder.path(), page()).expect("readable");
    let warning = loaded.diagnostics.iter().find(|d| d.severity == Severity::Warning).expect("a warning");
    assert_eq!(warning.message, "\"up\" is neither a file nor a directory, so it is not part of the tree");
}

#[test]
fn damaged_blobs_name_the_damage() {
    let good = model(&text_tree("/ { a = <1>; b { }; };")).to_dtb();
    let with = |at: usize, bytes: [u8; 4]| {
        let mut blob = good.clone();
        blob[at..at + 4].copy_from_slice(&bytes);
        dtb::read(&blob).expect_err("damaged").to_string()
    };
    let structure = u32::from_be_bytes(good[8..12].try_into().expect("4 bytes")) as usize;
    assert_eq!(with(24, [0, 0, 0, 18]), "last_comp_version is 18, but only 16 and 17 are known");
    assert!(with(4, [0xff; 4]).starts_with("header field totalsize is 0xffffffff, but the blob has"));
    assert!(with(8, [0xff; 4]).starts_with("header field off_dt_struct is 0xffffffff"));
    assert!(with(32, [0xff; 4]).starts_with("header field off_dt_strings"));
    assert_eq!(with(structure, [0, 0, 0, 2]), "unexpected token 0x2 at byte 0x0 of the structure block");
    // The length of the property and the offset of its name.
    assert!(with(structure + 12, [0, 0xff, 0, 0]).contains("in the middle of an item"));
    assert!(with(structure + 16, [0, 0xff, 0, 0]).starts_with("the name at byte"));
}

/// Trees of a few nodes and values of all kinds, as text that this reader and the library both
/// print.
fn any_tree() -> impl Strategy<Value = Tree> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "[ -~]{0,12}".prop_map(|text| [text.as_bytes(), &[0]].concat()),
        prop::collection::vec(any::<u32>(), 0..4)
            .prop_map(|cells| cells.iter().flat_map(|c| c.to_be_bytes()).collect()),
    ];
    let item = ("[a-z][a-z0-9,._+-]{0,8}", "[a-z]{1,3}(@[0-9]{1,2})?", value);
    prop::collection::vec((any::<prop::sample::Index>(), item), 0..24).prop_map(|items| {
        let mut tree = Tree::new();
        let mut nodes = vec![tree.root()];
        for (index, (property, child, bytes)) in items {
            let parent = nodes[index.index(nodes.len())];
            let node = tree.child(parent, &child, None).expect("few");
            let property_of_it = super::super::tree::Property { value: Value::Bytes(bytes), position: None };
            tree.set(node, &property, property_of_it).expect("few");
            nodes.push(node);
        }
        tree
    })
}

proptest! {
    #[test]
    fn any_blob_reads_as_the_library_reads_it(tree in any_tree()) {
        let blob = model(&tree).to_dtb();
        prop_assert_eq!(content(&dtb::read(&blob).expect("a good blob")), content(&tree));
        prop_assert_eq!(library_content(&blob), content(&tree));
    }

    #[test]
    fn any_text_that_the_library_prints_reads_as_its_tree(tree in any_tree()) {
        let blob = model(&tree).to_dtb();
        let text = Fdt::new(&blob).expect("a good blob").to_string();
        // The library prints strings without escapes.
        let printable = |bytes: &Vec<u8>| !bytes.iter().any(|byte| b"\"\\".contains(byte));
        prop_assume!(content(&tree).values().flat_map(|properties| properties.values()).all(printable));
        prop_assert_eq!(content(&text_tree(&text)), content(&tree));
    }
}
