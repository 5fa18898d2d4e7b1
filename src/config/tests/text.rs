// SPDX-License-Identifier: Apache-2.0
//! Tests device-tree source: merging, deletions, references, and the positions of messages.

use super::super::diagnostic::Report;
use super::super::dts;
use super::super::tree::{NodeId, Tree, Value};
use super::{findings, load, names};

fn tree(text: &str) -> (Tree, Vec<String>) {
    let mut report = Report::default();
    let tree = dts::read(text, &mut report).expect("no syntax error");
    (tree, report.finish().iter().map(ToString::to_string).collect())
}

fn node(tree: &Tree, path: &str) -> NodeId {
    tree.find(path).unwrap_or_else(|| panic!("{path} is there"))
}

fn bytes(tree: &Tree, path: &str, name: &str) -> Vec<u8> {
    match &tree.property(node(tree, path), name).expect("the property").value {
        Value::Bytes(bytes) => bytes.clone(),
        Value::Unusable(reason) => panic!("{name} {reason}"),
    }
}

#[test]
fn nodes_merge_and_deletions_work_in_file_order() {
    let (tree, findings) = tree(
        "/dts-v1/;
         /memreserve/ 0x1000 0x2000;
         / { a: first: node@1 { x = <1>; y; gone; sub { }; }; old { }; older: older { }; };
         / { node@1 { x = <2>; }; /delete-node/ old; };
         &first { z = \"z\"; /delete-property/ gone; /delete-node/ sub; };
         /delete-node/ &older;
         &{/node@1} { w; };",
    );
    assert_eq!(findings, [""; 0]);
    let children: Vec<&str> = tree.children(tree.root()).map(|child| tree.name(child)).collect();
    assert_eq!(children, ["node@1"]);
    let node = node(&tree, "/node@1");
    let properties: Vec<&str> = tree.properties(node).map(|(name, _)| name).collect();
    assert_eq!(properties, ["w", "x", "y", "z"]);
    assert_eq!(bytes(&tree, "/node@1", "x"), [0, 0, 0, 2]);
    assert_eq!(tree.children(node).count(), 0);
}

#[test]
fn references_become_phandles_and_paths() {
    let (tree, findings) = tree(
        "/dts-v1/; / { user { one = <&a 7>, <&b>; path = &b; both = <&{/deep/b}>; };
         a: a { phandle = <9>; }; deep { b: b { }; }; };",
    );
    assert_eq!(findings, [""; 0]);
    assert_eq!(bytes(&tree, "/user", "one"), [0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 10]);
    assert_eq!(bytes(&tree, "/user", "path"), b"/deep/b\0");
    assert_eq!(bytes(&tree, "/user", "both"), [0, 0, 0, 10]);
    assert_eq!(bytes(&tree, "/deep/b", "phandle"), [0, 0, 0, 10]);
    assert_eq!(tree.by_phandle(10), tree.find("/deep/b"));
}

#[test]
fn comments_and_line_markers_are_blanks() {
    let (tree, findings) = tree(
        "/* head */ // more\n# 1 \"board.dts\"\n/dts-v1/;\n#line 7\n/ { /* { */ a = <1 /* 2 */ 3>; // }\n \
         #address-cells = <1>; 0odd.name,x+y@0,1 { }; /omit-if-no-ref/ n { }; };",
    );
    assert_eq!(findings, [""; 0]);
    assert_eq!(bytes(&tree, "/", "a"), [0, 0, 0, 1, 0, 0, 0, 3]);
    assert_eq!(bytes(&tree, "/", "#address-cells"), [0, 0, 0, 1]);
    assert!(tree.find("/0odd.name,x+y@0,1").is_some() && tree.find("/n").is_some());
}

#[test]
fn fragments_say_what_they_lack() {
    let loaded = load(
        "#include <dt-bindings/clock/board.h>\n/include/ \"base.dtsi\"\n#define ID 3\n\
         &soc { ion { compatible = \"rockchip,ion\"; }; };\n\
         / { anion { compatible = \"anion,heaps-v1\";\n\
         good { type = \"system\"; };\n\
         lost { type = \"cma\"; memory-region = <&cam_mem>; };\n\
         named { type = \"system\"; heap-id = <ID>; };\n};\n\
         clock { clocks = <&cam_mem>, <&gcc CLK(1, 2)>; };\n};",
    );
    assert_eq!(names(&loaded), ["good"]);
    assert_eq!(
        findings(&loaded),
        [
            "1:1: error: /: `#include <dt-bindings/clock/board.h>` is not read here: run the file through the C \
             preprocessor (cpp) first",
            "1:1: note: /: there is no /dts-v1/; so it is read as a part of a device tree",
            "2:1: error: /: /include/ \"base.dtsi\" is not read here: compile the whole tree with dtc and give the .dtb",
            "3:1: error: /: `#define ID 3` is not read here: run the file through the C preprocessor (cpp) first",
            "4:1: error: /: &soc is not defined above, so its extension is ignored: add the file that defines \
             it, or compile the whole tree with dtc and give the .dtb",
            "7:22: error: /anion/lost: memory-region refers to &cam_mem, which this file does not define: add the \
             file that defines it, or compile the whole tree with dtc and give the .dtb",
            "8:26: error: /anion/named: heap-id has the macro ID: run the file through the C preprocessor (cpp) first",
        ]
    );
}

#[test]
fn an_unresolved_value_that_no_heap_needs_is_a_warning() {
    let loaded = load(
        "/dts-v1/; / { a { compatible = \"anion,heaps-v1\"; s { type = \"system\"; }; };\n\
         b { clocks = <&gcc>; more = <&gcc>; }; };",
    );
    assert_eq!(names(&loaded), ["s"]);
    assert_eq!(
        findings(&loaded),
        [
            "2:5: warning: /b: clocks refers to &gcc, which this file does not define: add the file that defines it, \
         or compile the whole tree with dtc and give the .dtb"
        ]
    );
}

/// A text with a syntax error yields no heaps: a part of it could permit more than the whole.
#[test]
fn a_syntax_error_is_at_its_character_and_gives_no_heaps() {
    for (text, expected) in [
        ("/ {\n\ta = <1>\n\tb;\n};", "3:2: error: /: expected `;` after the property, found `b`"),
        ("/ {\n a = <1;\n};", "2:8: error: /: expected a cell or `>`, found `;`"),
        (
            "/ {\n a { b = };\n};",
            "2:10: error: /a: expected a value: <cells>, \"text\", [bytes] or a &reference, found `}`",
        ),
        ("/ {\n a = \"open;\n};", "2:6: error: /: this string does not end"),
        ("/ {\n /* é */ a $\n};", "2:12: error: /: expected `;` after the property, found `$`"),
        ("/ {\n a { };", "2:8: error: /: expected `}` to close this node, found the end of the file"),
        ("/ {\n};\n};", "3:1: error: /: expected `/ {` or `&label {`, found `}`"),
        ("/ { } /", "1:7: error: /: expected `;` after `}`, found `/`"),
        (
            "/ { a { };\n#ifdef X\n b { };\n#endif\n};",
            "2:1: error: /: `#ifdef X` is not read here: run the file through the C preprocessor (cpp) first",
        ),
        ("/ { l: a { }; l: b { }; };", "1:20: error: /: label l already belongs to another node"),
        ("/ { /delete-node/ ; };", "1:19: error: /: expected a node's name after /delete-node/, found `;`"),
        ("/* never ends", "1:1: error: /: this comment does not end"),
        ("total nonsense", "1:1: error: /: expected `/ {` or `&label {`, found `total`"),
    ] {
        // A valid heap before the error is not served either.
        let good = "/ { anion { compatible = \"anion,heaps-v1\"; s { type = \"system\"; }; }; }; ";
        assert_eq!(names(&load(&format!("{good}{text}"))), [""; 0], "{text}");
        let alone = load(text);
        let errors: Vec<String> = findings(&alone).into_iter().filter(|f| f.contains("error")).collect();
        assert_eq!(errors, [expected], "{text}");
    }
}

#[test]
fn hostile_nesting_and_repetition_end_in_messages() {
    for (text, expected) in [
        ("/ { ".to_owned() + &"a { ".repeat(1_000_000), "nodes are nested more than 64 deep"),
        ("/ { a = <".to_owned() + &"(".repeat(1_000_000), "this expression is nested more than 64 deep"),
        ("/ { a = <(1".to_owned() + &"<(-&".repeat(1_000_000), "expected a number, found `&`"),
        ("/ { ".to_owned() + &"a;".repeat(1_000_000), "there are more than 262144 nodes and properties"),
        ("&a { };".repeat(1_000_000), "there are more than 262144 nodes and properties"),
    ] {
        let loaded = load(&text);
        let found = loaded.diagnostics.iter().any(|d| d.message.contains(expected));
        assert!(found, "{expected}: {:?}", findings(&loaded).last());
    }
}
