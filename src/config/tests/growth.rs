// SPDX-License-Identifier: Apache-2.0
//! Tests that four times the text takes about four times the steps, whatever the text is. Counts
//! steps, not seconds.

use super::super::diagnostic::Report;
use super::super::{dtb, dts, no_accounts, steps, translated};
use super::{page, readers};

/// A text of about `n` items.
type Text = fn(usize) -> String;

fn repeated(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect()
}

fn own(heaps: &str) -> String {
    format!("/ {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} }}; }};")
}

/// Returns reserved memory of `n` pools.
fn pools(n: usize) -> String {
    let pool =
        |i| format!("r{i}: pool@{i} {{ compatible = \"shared-dma-pool\"; reusable; size = <0x400000>; }};");
    format!("/ {{ reserved-memory {{ #address-cells = <1>; #size-cells = <1>; {} }}; }};", repeated(n, pool))
}

/// Texts that could take more than linear time.
const TEXTS: &[(&str, Text)] = &[
    ("references by path to nodes that are not there", |n| {
        format!(
            "/ {{ {} }}; / {{ {} }};",
            repeated(n, |i| format!("a@{i}{{}};")),
            repeated(n, |i| format!("p{i}=&{{/z}};"))
        )
    }),
    ("references by path without unit address", |n| {
        format!(
            "/ {{ {} }}; / {{ {} }};",
            repeated(n, |i| format!("a@{i}{{}};")),
            repeated(n, |i| format!("p{i}=<&{{/a}}>;"))
        )
    }),
    ("extensions of nodes by path", |n| {
        format!(
            "/ {{ {} }}; {}",
            repeated(n, |i| format!("a{i}@1{{}};")),
            repeated(n, |i| format!("&{{/a{i}}} {{ x; }};"))
        )
    }),
    ("references to a node with a long path", |n| {
        let name = "x".repeat(1000);
        format!("/ {{ l: {name} {{ }}; {} }};", repeated(n, |i| format!("p{i}=&l;")))
    }),
    ("labels", |n| format!("/ {{ {} }};", repeated(n, |i| format!("l{i}: m{i}: a{i} {{ x = <&l{i}>; }};")))),
    ("labels of one node", |n| format!("/ {{ {} a {{ }}; }};", repeated(n, |i| format!("l{i}: ")))),
    ("nodes that are given again and again", |n| repeated(n, |i| format!("/ {{ a {{ x{i}; }}; }};"))),
    ("nodes that are deleted", |n| {
        format!("/ {{ {} }};", repeated(n, |i| format!("a{i} {{ b {{ }}; }}; /delete-node/ a{i};")))
    }),
    ("deletions of what is not there", |n| {
        format!("/ {{ {} }};", repeated(n, |i| format!("/delete-node/ a{i}; /delete-property/ b{i};")))
    }),
    ("properties that are given twice", |n| format!("/ {{ {} }};", repeated(n, |_| "a;".to_owned()))),
    ("undefined references", |n| format!("/ {{ {} }};", repeated(n, |i| format!("p{i} = <&u{i}>;")))),
    ("undefined extensions", |n| repeated(n, |i| format!("&u{i} {{ x; }};"))),
    ("macros", |n| format!("/ {{ {} }};", repeated(n, |i| format!("p{i} = <M{i}>;")))),
    ("deep nodes", |n| {
        format!("/ {{ {} }};", repeated(n, |_| format!("{}{}", "a {".repeat(60), "};".repeat(60))))
    }),
    ("lines and comments", |n| format!("/ {{ {} }};", repeated(n, |i| format!("/* x */\n\n// y\np{i};\n")))),
    ("cells", |n| format!("/ {{ p = <{}>; }};", repeated(n, |i| format!("{i} ")))),
    ("a long unknown key", |n| own(&format!("s {{ type = \"system\"; {} = <1>; }};", "k".repeat(30 * n)))),
    ("unknown keys", |n| {
        own(&format!("s {{ type = \"system\"; {} }};", repeated(n, |i| format!("key{i};"))))
    }),
    ("heaps", |n| own(&repeated(n, |i| format!("h{i} {{ type = \"system\"; }};")))),
    ("heaps with a long list", |n| {
        own(&format!(
            "h {{ type = \"system\"; aliases = \"x\"{}; }};",
            repeated(n, |i| format!(", \"a{i}\""))
        ))
    }),
    ("heaps and pools", |n| {
        pools(n) + &own(&repeated(n, |i| format!("h{i} {{ type = \"cma\"; memory-region = <&r{i}>; }};")))
    }),
    ("heaps of one pool that says much", |n| {
        let long = format!(
            "/ {{ reserved-memory {{ r: r {{ compatible = \"x\"{}; status = \"{}\"; reg = <{}>; }}; }}; }};",
            repeated(n, |i| format!(", \"a{i}\"")),
            "x".repeat(n),
            "1 ".repeat(n)
        );
        long + &own(&repeated(n, |i| format!("h{i} {{ type = \"cma\"; memory-region = <&r>; }};")))
    }),
    ("clients", |n| {
        let aliases = repeated(n, |i| format!(", \"a{i}\""));
        let reserves = repeated(n, |i| format!(", \"a{i}\""));
        own(&format!(
            "h {{ type = \"carveout\"; size = <0x1000>; aliases = \"x\"{aliases}; }};
            clients {{ c {{ uids = <1>; reserve-heaps = \"x\"{reserves}; reserve-bytes = <{}>; }}; }};",
            "1 ".repeat(n + 1)
        ))
    }),
    ("clients of the same uids", |n| {
        own(&format!("clients {{ {} }};", repeated(n, |i| format!("c{i} {{ uids = <1 2 3>; }};"))))
    }),
    ("pools", |n| pools(n)),
    ("containers of every vendor, and pools", |n| {
        let container = |i| {
            format!(
            "a{i} {{ compatible = \"qcom,msm-ion\"; h {{ reg = <27>; qcom,ion-heap-type = \"DMA\"; }}; }};
             b{i} {{ compatible = \"hisilicon,hisi-ion\"; h {{ heap-name = \"x\"; heap-id = <1>; heap-type = \"ion_dma\"; }}; }};
             c{i} {{ compatible = \"amlogic, ion_dev\"; memory-region = <&r0>; }};
             d{i} {{ compatible = \"nvidia,carveouts\"; memory-region = <&r0 &r1 &r2>; }};
             e{i} {{ compatible = \"mediatek,trusted_mem\"; memory-region = <&r0>; }};
             f{i} {{ compatible = \"acme,ion\"; }};
             g{i} {{ compatible = \"fsl,mxc-ion\"; }};")
        };
        pools(n) + &format!("/ {{ {} }};", repeated(n, container))
    }),
    ("one container of many heaps, and pools", |n| {
        let heap = |i| format!("h{i} {{ reg = <27>; qcom,ion-heap-type = \"DMA\"; }};");
        pools(n) + &format!("/ {{ ion {{ compatible = \"qcom,msm-ion\"; {} }}; }};", repeated(n, heap))
    }),
    ("a heap of the TEE with many keys", |n| {
        format!(
            "/ {{ a {{ compatible = \"mediatek,trusted_mem\"; {} }}; }};",
            repeated(n, |i| format!("key{i};"))
        )
    }),
    ("many compatible strings", |n| {
        format!(
            "/ {{ {} }};",
            repeated(n, |i| {
                format!("a{i} {{ compatible = \"a,b\", \"c,d\", \"e,f\"; b {{ x-heap-y; }}; }};")
            })
        )
    }),
];

/// Returns the steps for a text, and for a blob of it.
fn steps_of(text: &str) -> (u64, u64) {
    let mut tree = None;
    let by_text = steps::of(|| {
        let mut report = Report::default();
        tree = dts::read(text, &mut report);
        translated(tree.as_ref(), page(), &no_accounts, report);
    });
    let tree = tree.unwrap_or_else(|| panic!("a syntax error in {}", &text[..text.len().min(200)]));
    let blob = readers::blob(&tree);
    let by_blob = steps::of(|| {
        // Blobs have shorter names than texts may have.
        if let Ok(tree) = dtb::read(&blob) {
            translated(Some(&tree), page(), &no_accounts, Report::default());
        }
    });
    (by_text, by_blob)
}

#[test]
fn four_times_the_text_takes_about_four_times_the_steps() {
    const N: usize = 150;
    for (what, text) in TEXTS {
        let (small, large) = (steps_of(&text(N)), steps_of(&text(4 * N)));
        for (form, small, large) in [("text", small.0, large.0), ("blob", small.1, large.1)] {
            assert!(
                large <= 5 * small + 2000,
                "{what}: {small} steps, and {large} for four times the {form}"
            );
        }
    }
}
