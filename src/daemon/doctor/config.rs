// SPDX-License-Identifier: Apache-2.0
//! Checks which heaps of a configuration this machine can serve.

use super::finding::Finding;
use super::rehearsal;
use crate::config::spec::{Config, GraphicsRule, HeapSpec};
use crate::config::{DEFAULT_FILE, Loaded, Severity};
use crate::daemon::services::describe;
use crate::daemon::{accounts, configuration};
use crate::heap::{Heap, Needs, build};
use crate::units::{Access, PageSize, RequestedBytes};
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The result of checking a configuration against the machine.
#[derive(Debug, Serialize)]
pub(crate) struct Survey {
    /// The file, or `built in`.
    pub(crate) origin: String,
    /// By descending id.
    pub(crate) heaps: Vec<WantedHeap>,
    /// Errors of the configuration itself.
    pub(crate) errors: Vec<String>,
    /// Usages that the graphics allocator would serve, as a line of the report; `None` if the
    /// configuration cannot be read.
    #[serde(skip)]
    pub(crate) graphics: Option<Finding>,
}

/// A heap of the configuration.
#[derive(Debug, Serialize)]
pub(crate) struct WantedHeap {
    pub(crate) id: u8,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// As configured; several devices in their order.
    pub(crate) device: String,
    /// Kind of its buffers.
    pub(crate) backing: &'static str,
    /// The skipped sources with the reasons; empty if none was skipped.
    pub(crate) passed_over: String,
    pub(crate) available: bool,
    /// The reason if it is unavailable; else empty.
    pub(crate) unavailable_reason: String,
}

impl Survey {
    /// Returns the survey of a configuration that cannot be checked against this machine.
    pub(crate) fn failed(files: &[PathBuf], error: &anyhow::Error) -> Self {
        let file = files.first().map(PathBuf::as_path).or(DEFAULT_FILE.map(Path::new));
        let origin = file.map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
        Self { origin, heaps: Vec::new(), errors: vec![format!("{error:#}")], graphics: None }
    }

    /// Returns whether the service would start and serve the whole configuration.
    pub(crate) fn is_served(&self) -> bool {
        self.errors.is_empty() && !self.heaps.is_empty() && self.heaps.iter().all(|heap| heap.available)
    }
}

impl WantedHeap {
    /// Returns whether the finding `what` makes the heap unavailable, or makes it skip a source.
    pub(crate) fn lacks(&self, what: &str) -> bool {
        let (word, is_of_auto) = match what {
            "udmabuf" => ("udmabuf", true),
            "ion" => ("ion:", false),
            "ashmem" => ("ashmem", false),
            "huge pages" => ("hugetlb", false),
            dma_heap if dma_heap.starts_with("dma-heap") => ("dma-heap:", true),
            _ => return false,
        };
        let is_wanted = self.device.contains(word) || (is_of_auto && self.device.contains("auto"));
        is_wanted
            && (self.passed_over.contains(word) || self.unavailable_reason.contains(word) || !self.available)
    }
}

/// Checks the configuration in `files`, a device tree and its overlays, else the service's default
/// one, against this machine. Tries each source with one page, and sets nothing aside.
///
/// # Errors
/// If the configuration cannot be read, or this machine lacks a requirement of every heap.
pub(crate) fn survey(files: &[PathBuf], page: PageSize) -> anyhow::Result<Survey> {
    let (loaded, origin) = configuration::read(files, page, &accounts::look_up)?;
    let machine = rehearsal::machine(page).context("cannot prepare memory")?;
    let Loaded { config: Config { heaps, graphics: rules, .. }, diagnostics } = loaded;
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let heaps: Vec<Heap> = heaps.into_iter().map(|spec| build(spec, Vec::new(), &machine)).collect();
    Ok(Survey {
        origin,
        errors: errors.map(ToString::to_string).collect(),
        heaps: heaps.iter().map(wanted).collect(),
        graphics: Some(graphics(&rules, &heaps)),
    })
}

/// Returns the finding about the images that the graphics allocator could serve here.
fn graphics(rules: &[GraphicsRule], heaps: &[Heap]) -> Finding {
    let (what, off) = ("graphics allocator", "off without aniond --graphics");
    let is_served = |rule: &&GraphicsRule| {
        let needs = Needs {
            bytes: RequestedBytes(1),
            alignment: 0,
            cached: false,
            dma_buf: rule.dma_bufs_only,
            access: Access::ReadWrite,
        };
        heaps.iter().any(|heap| rule.heaps.contains(heap.name()) && heap.accept(&needs).is_ok())
    };
    let (served, not): (Vec<_>, Vec<_>) = rules.iter().partition(is_served);
    let listed =
        |rules: &[&GraphicsRule]| rules.iter().map(|rule| describe(rule)).collect::<Vec<_>>().join("; ");
    match (served.is_empty(), not.is_empty()) {
        (true, true) => Finding::limited(what, "no heap serves images", off)
            .change("a graphics node in the configuration, or a system heap"),
        (_, true) => Finding::ok(what, listed(&served), off),
        (_, false) => Finding::limited(what, format!("no heap here can serve {}", listed(&not)), off)
            .change("available heaps, with dma-bufs if the rule requires them"),
    }
}

fn wanted(heap: &Heap) -> WantedHeap {
    WantedHeap {
        id: heap.id().get(),
        name: heap.name().to_string(),
        kind: heap.spec().kind.name(),
        device: device(heap.spec()),
        backing: heap.backing().name(),
        passed_over: heap.passed_over(),
        available: heap.unavailable().is_none(),
        unavailable_reason: heap.unavailable().unwrap_or_default().to_owned(),
    }
}

fn device(spec: &HeapSpec) -> String {
    let first = spec.devices.is_empty().then_some(&spec.device);
    let words = first.into_iter().chain(&spec.fallbacks).chain(&spec.devices);
    words.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::{available_bytes, page_size};
    use std::io::Write;

    fn survey_of(heaps: &str) -> Survey {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let text = format!("/dts-v1/; / {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} }}; }};");
        file.write_all(text.as_bytes()).expect("written");
        survey(&[file.path().to_owned()], page_size().expect("sysconf")).expect("surveyed")
    }

    #[test]
    fn every_heap_is_tried_and_says_what_it_lacks() {
        let survey = survey_of(
            "plain { type = \"system\"; heap-id = <1>; device = \"memfd\"; };
             none { type = \"system\"; heap-id = <2>; device = \"dma-heap:no-such-heap\"; };",
        );
        let [none, plain] = survey.heaps.as_slice() else { panic!("two heaps: {survey:?}") };
        assert_eq!((plain.name.as_str(), plain.available, plain.backing), ("plain", true, "memfd"));
        assert_eq!((none.name.as_str(), none.available), ("none", false));
        assert!(none.unavailable_reason.contains("no-such-heap"), "{none:?}");
        assert!(!survey.is_served() && survey.errors.is_empty());
    }

    #[test]
    fn the_survey_says_what_the_graphics_allocator_would_serve() {
        let of = |rules: &str| {
            let heaps = "plain { type = \"system\"; device = \"memfd\"; };";
            survey_of(&format!("{heaps} {rules}")).graphics.expect("read")
        };
        let default = of("");
        assert_eq!(default.state.word(), "ok");
        assert!(
            default.found.starts_with("cpu camera") && default.found.contains("from plain"),
            "{default:?}"
        );
        let without = of("graphics { gpu { usages = \"gpu\"; heaps = \"plain\"; dma-bufs-only; }; };");
        assert_eq!(without.state.word(), "limited");
        assert!(without.found.contains("no heap here can serve gpu from plain"), "{without:?}");
        assert_eq!(of("graphics { };").found, "no heap serves images");
    }

    #[test]
    fn memory_to_be_set_aside_is_counted_over_all_heaps_and_not_taken() {
        let survey = loop {
            let before = available_bytes().expect("/proc");
            let survey = survey_of_two_carveouts(before * 6 / 10);
            // Other processes allocate and free memory meanwhile; a change of that size proves
            // nothing.
            if available_bytes().expect("/proc").abs_diff(before) < before / 10 {
                break survey;
            }
        };
        let available: Vec<_> = survey.heaps.iter().map(|heap| heap.available).collect();
        assert_eq!(available, [true, false], "{survey:?}");
        assert!(survey.heaps[1].unavailable_reason.contains("can be set aside"), "{survey:?}");
    }

    /// Returns a survey of two carveouts, each of about this size.
    fn survey_of_two_carveouts(bytes: u64) -> Survey {
        let size = bytes / (1 << 20) * (1 << 20);
        let cells = format!("<{:#x} {:#x}>", size >> 32, size & 0xffff_ffff);
        let heap = |name: &str, id: u8| {
            format!(
                "{name} {{ type = \"carveout\"; heap-id = <{id}>; size = {cells}; device = \"memfd\"; }};"
            )
        };
        survey_of(&(heap("one", 1) + &heap("two", 2)))
    }

    #[test]
    fn a_configuration_with_errors_is_not_served_and_one_that_is_not_there_fails() {
        let survey = survey_of("odd { type = \"no such type\"; heap-id = <1>; };");
        assert!(!survey.is_served(), "{survey:?}");
        assert!(survey.errors.iter().any(|error| error.contains("no such type")), "{survey:?}");
        let failure = super::survey(&["/nowhere".into()], page_size().expect("sysconf"));
        let message = format!("{:#}", failure.expect_err("nothing there"));
        assert!(message.starts_with("cannot read /nowhere: No such file"), "{message}");
    }

    #[test]
    fn the_default_configuration_is_served_here() {
        let survey = super::survey(&[], page_size().expect("sysconf")).expect("surveyed");
        assert!(survey.is_served(), "{survey:?}");
        assert_eq!(survey.origin, "built in");
    }
}
