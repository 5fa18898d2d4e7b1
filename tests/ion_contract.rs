// SPDX-License-Identifier: Apache-2.0
//! Checks docs/ion.md: every item of ION's header has a row, and every row with a claim names
//! existing code and tests.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The fields, operations, flags and functions in ION's kernel header.
const ITEMS: &str = "
    ion_buffer.list ion_buffer.dev ion_buffer.heap ion_buffer.flags ion_buffer.private_flags ion_buffer.size
    ion_buffer.priv_virt ion_buffer.lock ion_buffer.kmap_cnt ion_buffer.vaddr ion_buffer.sg_table
    ion_buffer.attachments
    ion_device.dev ion_device.lock ion_device.heaps ion_device.debug_root ion_device.heap_cnt
    ion_heap_ops.allocate ion_heap_ops.free ion_heap_ops.map_kernel ion_heap_ops.unmap_kernel
    ion_heap_ops.map_user ion_heap_ops.shrink
    ION_HEAP_FLAG_DEFER_FREE ION_PRIV_FLAG_SHRINKER_FREE
    ion_heap.node ion_heap.dev ion_heap.type ion_heap.ops ion_heap.flags ion_heap.id ion_heap.name
    ion_heap.shrinker ion_heap.free_list ion_heap.free_list_size ion_heap.free_lock ion_heap.waitqueue
    ion_heap.task ion_heap.num_of_buffers ion_heap.num_of_alloc_bytes ion_heap.alloc_bytes_wm ion_heap.stat_lock
    ion_buffer_destroy ion_device_add_heap ion_heap_map_kernel ion_heap_unmap_kernel ion_heap_map_user
    ion_heap_buffer_zero ion_heap_pages_zero ion_heap_init_shrinker ion_heap_init_deferred_free
    ion_heap_freelist_add ion_heap_freelist_drain ion_heap_freelist_shrink ion_heap_freelist_size
    ion_page_pool.high_count ion_page_pool.low_count ion_page_pool.high_items ion_page_pool.low_items
    ion_page_pool.mutex ion_page_pool.gfp_mask ion_page_pool.order ion_page_pool.list
    ion_page_pool_create ion_page_pool_destroy ion_page_pool_alloc ion_page_pool_free ion_page_pool_shrink
";

/// Beginnings of the third cell of rows without a claim.
const DISCLAIMERS: [&str; 2] = ["not yet: ", "no counterpart: "];

/// A table cell: its text, and the parts that are set as code.
#[derive(Debug, Default)]
struct Cell {
    text: String,
    code: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the rows of all tables of docs/ion.md, without their headers: item or quirk, ION, Anion,
/// modules, tests.
fn rows() -> Vec<[Cell; 5]> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), None::<Cell>);
    for event in Parser::new_ext(&read("docs/ion.md"), Options::ENABLE_TABLES) {
        match (event, &mut cell) {
            (Event::Start(Tag::TableCell), _) => cell = Some(Cell::default()),
            (Event::End(TagEnd::TableCell), _) => row.extend(cell.take()),
            (Event::End(TagEnd::TableHead), _) => row.clear(),
            (Event::End(TagEnd::TableRow), _) => {
                let cells = std::mem::take(&mut row);
                rows.push(cells.try_into().expect("five cells, as the table's head has"));
            }
            (Event::Text(text), Some(cell)) => cell.text.push_str(&text),
            (Event::Code(code), Some(cell)) => {
                cell.text.push_str(&code);
                cell.code.push(code.into_string());
            }
            _ => {}
        }
    }
    rows
}

/// Returns the item of a row; `None` for a quirk.
fn item([subject, ..]: &[Cell; 5]) -> Option<&str> {
    subject.code.first().filter(|code| **code == subject.text).map(String::as_str)
}

/// Returns the names of all test functions of the repository: those marked as tests, and those in
/// the lists of vts.
fn tests() -> HashSet<String> {
    let mut names = HashSet::new();
    let mut folders: Vec<PathBuf> =
        ["src", "anionctl/src", "client/src", "ipc", "memory/src", "tests", "vts/src"]
            .map(|top| root().join(top))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&entry);
                let marked = text
                    .split("#[test]\n")
                    .skip(1)
                    .filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
                names.extend(marked.map(|(name, _)| name.to_owned()));
                let listed = text.split_once("\ntests![").and_then(|(_, rest)| rest.split_once(']'));
                let words = listed.into_iter().flat_map(|(list, _)| list.split([' ', ',', '\n']));
                names.extend(words.filter(|word| word.contains('_')).map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn every_item_of_the_header_has_one_row() {
    let rows = rows();
    let items: Vec<_> = ITEMS.split_whitespace().collect();
    for wanted in &items {
        assert_eq!(rows.iter().filter(|row| item(row) == Some(wanted)).count(), 1, "rows of {wanted}");
    }
    for found in rows.iter().filter_map(item) {
        assert!(items.contains(&found), "{found} is no item of the header");
    }
}

#[test]
fn every_claim_names_code_and_tests_that_exist() {
    let known = tests();
    let mut claims = 0;
    for row in rows() {
        let [subject, ion, anion, modules, tests] = &row;
        let subject = &subject.text;
        assert!(!ion.text.is_empty(), "{subject}: what ION does is missing");
        if DISCLAIMERS.iter().any(|words| anion.text.starts_with(words)) {
            let named = [&modules.code[..], &tests.code].concat();
            assert_eq!(named, [""; 0], "{subject}: what does not exist has neither module nor test");
            continue;
        }
        claims += 1;
        assert!(!modules.code.is_empty(), "{subject}: names no module");
        assert!(!tests.code.is_empty(), "{subject}: names no test");
        let code: String = modules.code.iter().map(read).collect();
        // Names in the text must still exist in the named modules.
        for name in anion.code.iter().flat_map(|path| path.split("::")) {
            assert!(code.contains(name), "{subject}: {name} is not in {}", modules.text);
        }
        for test in &tests.code {
            assert!(known.contains(test), "{subject}: there is no test {test}");
        }
    }
    assert!(claims > ITEMS.split_whitespace().count() / 2, "only {claims} rows claim anything");
}
