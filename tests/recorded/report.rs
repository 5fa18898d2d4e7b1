// SPDX-License-Identifier: Apache-2.0
//! Tests the report: a self-contained page with the expected charts.

use crate::common::anionctl::{Holder, json};
use crate::common::{CLIENT_HEAPS, Daemon};
use roxmltree::{Document, Node, ParsingOptions};

/// Returns the charts of this class in the section of a heap.
fn pictures<'a, 'i>(page: &'a Document<'i>, heap: &str, class: &str) -> Vec<Node<'a, 'i>> {
    let section = page.descendants().find(|node| node.attribute("id") == Some(heap)).expect("a section");
    let is_picture = |node: &Node<'_, '_>| node.has_tag_name(("http://www.w3.org/2000/svg", "svg"));
    let pictures = section.descendants().filter(is_picture);
    pictures.filter(|node| node.attribute("class") == Some(class)).collect()
}

#[test]
fn every_heap_has_its_pictures_and_nothing_comes_from_elsewhere() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let (_held, _) = Holder::start(&daemon, &["--size", "1M", "--count", "3", "--heap", "camera"]);
    let file = daemon.directory().join("report.html");
    let written = json(&daemon, &["report", "--html", file.to_str().expect("text")]);
    assert_eq!(written["heaps"], 2);
    let text = std::fs::read_to_string(&file).expect("the page");
    for elsewhere in ["<script", "<link", "<img", "src=", "href=", "url("] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let page = Document::parse_with_options(&text, options).expect("well-formed");
    for heap in ["camera", "system"] {
        assert_eq!(pictures(&page, heap, "steps").len(), 1, "{heap}");
        assert_eq!(pictures(&page, heap, "bars").len(), 1, "{heap}");
    }
    // The held bytes rose from zero to the highest line.
    let steps = pictures(&page, "camera", "steps")[0];
    let line = steps.descendants().find(|node| node.attribute("class") == Some("line")).expect("a line");
    assert!(line.attribute("d").is_some_and(|path| path.contains(" 14.0")), "{line:?}");
    assert!(steps.descendants().any(|node| node.text() == Some("3.0 MiB")));
    let bars = pictures(&page, "camera", "bars")[0];
    assert!(bars.descendants().any(|node| node.attribute("class") == Some("bar")));
    // 61 of 64 MiB are free: the same part of the map is drawn as free.
    let map = pictures(&page, "camera", "map")[0];
    let width = |class: &str| {
        let of_class = map.descendants().filter(move |node| node.attribute("class") == Some(class));
        of_class.filter_map(|node| node.attribute("width")?.parse::<f64>().ok()).sum::<f64>()
    };
    let all = width("free") + width("held") + width("pooled");
    assert!((width("free") / all - 61.0 / 64.0).abs() < 0.001, "{} of {all}", width("free"));
    assert!(pictures(&page, "system", "map").is_empty(), "nothing is set aside for it");
}
