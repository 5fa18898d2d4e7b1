// SPDX-License-Identifier: Apache-2.0
//! Tests that overlays change a tree as `fdtoverlay` does, in text and in blobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{LoadError, dtb, load_all, no_accounts, overlay, read};
use super::{findings, page, readers, summary};

const BASE: &str = "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
    aliases { memory = \"/reserved-memory\"; };
    mem: reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
      pool: pool { compatible = \"shared-dma-pool\"; reusable; size = <0 0x800000>; };
      off: off { compatible = \"shared-dma-pool\"; reusable; size = <0 0x400000>; status = \"disabled\"; }; };
    soc: soc { user { memory-region = <&off>; }; }; };";

/// Adds a pool and a container, which refer to the base and to the overlay itself.
const CAMERA: &str = "/dts-v1/; /plugin/;
    &mem { camera: camera@90000000 { compatible = \"shared-dma-pool\"; reusable; reg = <0 0x90000000 0 0x1000000>; }; };
    &soc { ion { compatible = \"qcom,msm-ion\"; #address-cells = <1>; #size-cells = <0>;
        qcom,ion-heap@22 { reg = <22>; memory-region = <&pool>; qcom,ion-heap-type = \"DMA\"; };
        qcom,ion-heap@27 { reg = <27>; memory-region = <&camera>; qcom,ion-heap-type = \"DMA\"; }; };
      user { memory-region = <&camera>, <&pool>; }; };
    &off { status = \"okay\"; };
    &{/soc} { by-path; };";

/// Changes what the first has added, and uses an alias.
const LATER: &str = "/dts-v1/; /plugin/;
    &camera { reg = <0 0x90000000 0 0x2000000>; };
    / { fragment@7 { target-path = \"/soc/ion\"; __overlay__ {
          qcom,ion-heap@28 { reg = <28>; memory-region = <&camera>; qcom,ion-heap-type = \"DMA\"; }; }; };
        fragment@8 { target-path = \"memory/pool\"; __overlay__ { linux,cma-default; }; }; };";

const HEAPS: [&str; 3] =
    ["28 audio cma 0x2000000 ok", "27 qsecom cma 0x2000000 ok", "22 adsp cma 0x800000 ok"];

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    path
}

fn texts(folder: &Path) -> Vec<PathBuf> {
    [("base.dts", BASE), ("camera.dtso", CAMERA), ("later.dtso", LATER)]
        .map(|(name, text)| written(folder, name, text))
        .to_vec()
}

#[test]
fn overlays_in_text_change_a_tree_in_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = load_all(&texts(folder.path()), page(), &no_accounts).expect("they fit").expect("files");
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(summary(&loaded), HEAPS);
    let adsp = &loaded.config.heaps[2];
    assert!(adsp.is_default_pool, "by the alias");
}

#[test]
#[ignore = "needs dtc and fdtoverlay"]
fn the_result_is_that_of_fdtoverlay() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs: Vec<PathBuf> = texts(folder.path())
        .into_iter()
        .map(|text| {
            let blob = text.with_extension("blob");
            let status =
                Command::new("dtc").args(["-q", "-@", "-O", "dtb", "-o"]).arg(&blob).arg(&text).status();
            assert!(status.expect("dtc runs").success(), "{}", text.display());
            blob
        })
        .collect();
    let whole = folder.path().join("whole.blob");
    let mut fdtoverlay = Command::new("fdtoverlay");
    fdtoverlay.arg("-i").arg(&blobs[0]).arg("-o").arg(&whole).args(&blobs[1..]);
    assert!(fdtoverlay.status().expect("fdtoverlay runs").success());
    let tree = |path: &PathBuf| dtb::read(&fs::read(path).expect("readable")).expect("a good blob");
    let mut changed = tree(&blobs[0]);
    for blob in &blobs[1..] {
        overlay::apply(&mut changed, &tree(blob)).expect("it fits");
    }
    assert_eq!(readers::content(&changed), readers::content(&tree(&whole)));
    let loaded = load_all(&blobs, page(), &no_accounts).expect("they fit").expect("files");
    assert_eq!((summary(&loaded), findings(&loaded)), (HEAPS.map(str::to_owned).to_vec(), vec![]));
    // A blob below a text, and a text below a blob.
    let texts = texts(folder.path());
    for files in [[&blobs[0], &texts[1], &blobs[2]], [&texts[0], &blobs[1], &texts[2]]] {
        let loaded =
            load_all(&files.map(Clone::clone), page(), &no_accounts).expect("they fit").expect("files");
        assert_eq!(summary(&loaded), HEAPS, "{files:?}");
    }
}

#[test]
fn an_overlay_that_does_not_fit_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = written(folder.path(), "base.dts", BASE);
    let refused = |text: &str| {
        let file = written(folder.path(), "overlay.dtso", text);
        match load_all(&[base.clone(), file], page(), &no_accounts) {
            Err(LoadError::Overlay { source, .. }) => source.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (text, expected) in [
        ("/dts-v1/; / { a { }; };", "it is no overlay: no node has __overlay__"),
        ("/plugin/; &nothing { };", "it refers to &nothing, which the tree below it does not define"),
        ("/plugin/; &soc { a = <&gone>; };", "it refers to &gone, which the tree below it does not define"),
        ("/plugin/; &{/gone} { };", "/fragment@0 changes /gone, which the tree below it does not have"),
        ("/ { f { __overlay__ { }; }; };", "/f has neither target nor target-path"),
        (
            "/ { f { target = <0x99>; __overlay__ { }; }; };",
            "/f changes phandle 0x99, which the tree below it does not have",
        ),
        (
            "/ { f { target-path = \"/\"; __overlay__ { }; }; __fixups__ { soc = \"/f:x\"; }; };",
            "__fixups__ names /f:x, which is no cell of the overlay",
        ),
        (
            "/ { f { target-path = \"/\"; __overlay__ { a; }; }; __fixups__ { soc = \"/f/__overlay__:a:0\"; }; };",
            "__fixups__ names /f/__overlay__:a:0, which is no cell of the overlay",
        ),
        (
            "/ { f { target-path = \"/\"; __overlay__ { }; }; __local_fixups__ { g { x = <0>; }; }; };",
            "__local_fixups__ names /__local_fixups__/g, which is no cell of the overlay",
        ),
        (
            "/ { f { target-path = \"/\"; __overlay__ { a { phandle = <0xfffffffd>; }; }; }; };",
            "the phandles of both trees together are more than 32 bits",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn an_overlay_alone_and_a_base_without_labels_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let camera = written(folder.path(), "camera.dtso", CAMERA);
    let alone = read(&camera).expect("readable");
    assert!(alone.is_overlay());
    let alone = findings(&alone.translate(page(), &no_accounts));
    let expected = "error: /: this is an overlay, which changes another device tree: give that one before it";
    assert!(alone.contains(&expected.to_owned()), "{alone:?}");
    let base = written(folder.path(), "base.dts", "/dts-v1/; / { soc { }; };");
    let error = load_all(&[base, camera], page(), &no_accounts).expect_err("no labels");
    let source = std::error::Error::source(&error).expect("why").to_string();
    assert_eq!(
        source,
        "it refers to &mem, but the tree below it has no labels (__symbols__): compile that with dtc -@"
    );
}

#[test]
fn a_node_that_both_trees_number_keeps_its_phandle() {
    let folder = tempfile::tempdir().expect("a folder");
    let base =
        written(folder.path(), "base.dts", "/dts-v1/; / { soc: soc { phandle = <5>; }; u = <&soc>; };");
    let text = "/dts-v1/; /plugin/; &{/} { own: soc { x = <&own>; }; y = <&own>; };";
    let tree = read(&base).expect("readable");
    let tree = tree.apply(read(&written(folder.path(), "o.dtso", text)).expect("readable")).expect("it fits");
    let tree = tree.tree.expect("no syntax error");
    let bytes = |path, key| {
        let property = tree.property(tree.find(path).expect("there"), key).expect("there");
        property.value.clone()
    };
    let five = super::super::tree::Value::Bytes(vec![0, 0, 0, 5]);
    for (path, key) in [("/soc", "phandle"), ("/soc", "x"), ("/", "u"), ("/", "y")] {
        assert_eq!(bytes(path, key), five, "{path} {key}");
    }
}
