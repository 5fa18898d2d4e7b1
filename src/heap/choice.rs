// SPDX-License-Identifier: Apache-2.0
//! Selects the source of a heap: the first source in its configuration that works. Each is tested.
//! Skipped sources are kept with the reason.

use super::devices::Connected;
use super::machine::Machine;
use super::unavailable::{NoSource, PassedOver, Unavailable};
use crate::config::spec::{Device, HeapSpec};
use crate::pool::{BlockSizes, Layout};
use crate::source::blocks::BlockSource;
use crate::source::carveout::CarveoutSource;
use crate::source::dma_heap::CMA_NAMES;
use crate::source::export::Exporter;
use crate::source::ion::Wanted;
use crate::source::ordered::OrderedSources;
use crate::source::udmabuf::UdmabufSource;
use crate::source::{FileSource, Opened};
use crate::units::{HeapName, HeapType, Invalid, RequestedBytes};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Size of the sparse file of a heap's blocks, as a multiple of the machine's memory: more than
/// memory can ever fill, so that no free range is too short.
const BLOCK_ROOM: i64 = 4;

/// The source of a heap.
pub(super) struct Chosen {
    /// The source, opened.
    pub(super) opened: Opened,
    /// The skipped sources.
    pub(super) passed_over: Vec<PassedOver>,
}

/// A source that may serve a heap.
enum Candidate<'a> {
    /// The first of these names that the kernel has.
    DmaHeap(Vec<HeapName>),
    Ion(Wanted<'a>),
    Udmabuf,
    UdmabufHugetlb,
    Hugetlb,
    Memfd,
    Ashmem,
}

/// Formats it with the words of the configuration, as far as it has one.
impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DmaHeap(names) => match names.as_slice() {
                [name] => write!(f, "dma-heap:{name}"),
                _ => f.write_str("dma-heap"),
            },
            Self::Ion(Wanted::Named(name)) => write!(f, "ion:{name}"),
            Self::Ion(Wanted::System(_) | Wanted::Contiguous(_)) => f.write_str("ion"),
            Self::Udmabuf => f.write_str("udmabuf"),
            Self::UdmabufHugetlb => f.write_str("udmabuf-hugetlb"),
            Self::Hugetlb => f.write_str("hugetlb"),
            Self::Memfd => f.write_str("memfd"),
            Self::Ashmem => f.write_str("ashmem"),
        }
    }
}

/// Opens the source of `spec` on this machine.
///
/// # Errors
/// The reason if no source works, with every source that was tried.
pub(super) fn choose(spec: &HeapSpec, machine: &Machine) -> Result<Chosen, Unavailable> {
    if let Some(why) = &spec.unavailable {
        return Err(Unavailable::Configured(why.clone()));
    }
    if spec.kind == HeapType::Custom {
        return in_order(spec, machine);
    }
    let words = std::iter::once(&spec.device).chain(&spec.fallbacks);
    let (mut passed_over, mut dry) = (Vec::new(), None);
    for candidate in words.flat_map(|word| candidates(word, spec)) {
        match connect(&candidate, spec, machine) {
            Ok(opened) if opened.is_dry => {
                dry.get_or_insert((opened, passed_over.len()));
                passed_over.push(PassedOver { device: candidate.to_string(), why: NoSource::Exhausted });
            }
            Ok(opened) => return Ok(Chosen { opened, passed_over }),
            Err(why) => passed_over.push(PassedOver { device: candidate.to_string(), why }),
        }
    }
    let Some((opened, place)) = dry else { return Err(none_works(spec, passed_over)) };
    // Uses the source without free memory: its holders may release some later.
    if let Some(PassedOver { device, .. }) = passed_over.get(place) {
        log::warn!(
            "heap {}: {device} had no free memory when it was tested; requests fail until it has",
            spec.name
        );
    }
    passed_over.truncate(place);
    Ok(Chosen { opened, passed_over })
}

/// Returns the sources that one word of the configuration means.
fn candidates<'a>(word: &'a Device, spec: &'a HeapSpec) -> Vec<Candidate<'a>> {
    // The board's name for the heap comes first: another kernel heap may have other memory.
    let named = |names: &[&str]| {
        let mut all = spec.kernel_names.clone();
        // The kernel's heap of this name is always cached.
        all.retain(|name| spec.cached || name.as_str() != "system");
        all.extend(names.iter().filter_map(|name| HeapName::new(name).ok()));
        let mut seen = BTreeSet::new();
        all.retain(|name| seen.insert(name.clone()));
        Candidate::DmaHeap(all)
    };
    match (word, spec.kind) {
        (Device::Auto, HeapType::System) => {
            let system = if spec.cached { "system" } else { "system-uncached" };
            let ion = Candidate::Ion(Wanted::System(&spec.kernel_names));
            vec![named(&[system]), ion, Candidate::Udmabuf, Candidate::Memfd]
        }
        (Device::Auto, HeapType::Dma) => {
            vec![named(&CMA_NAMES), Candidate::Ion(Wanted::Contiguous(&spec.kernel_names))]
        }
        (Device::Auto, HeapType::SystemContig) | (Device::Hugetlb, _) => vec![Candidate::Hugetlb],
        (Device::Auto | Device::Memfd, _) => vec![Candidate::Memfd],
        (Device::Ashmem, _) => vec![Candidate::Ashmem],
        (Device::Udmabuf, _) => vec![Candidate::Udmabuf],
        (Device::UdmabufHugetlb, _) => vec![Candidate::UdmabufHugetlb],
        (Device::DmaHeap(name), _) => vec![Candidate::DmaHeap(vec![name.clone()])],
        (Device::Ion(name), _) => vec![Candidate::Ion(Wanted::Named(name))],
    }
}

fn none_works(spec: &HeapSpec, passed_over: Vec<PassedOver>) -> Unavailable {
    if spec.kind == HeapType::Dma && spec.device == Device::Auto && spec.fallbacks.is_empty() {
        Unavailable::NoContiguous(passed_over)
    } else {
        Unavailable::NoneWorks(passed_over)
    }
}

/// Opens the sources of a custom heap's list that this machine has. Each request tries them in
/// order.
fn in_order(spec: &HeapSpec, machine: &Machine) -> Result<Chosen, Unavailable> {
    let (mut sources, mut passed_over) = (Vec::new(), Vec::new());
    for candidate in spec.devices.iter().flat_map(|word| candidates(word, spec)) {
        match connect(&candidate, spec, machine) {
            Ok(opened) => sources.push(opened),
            Err(why) => passed_over.push(PassedOver { device: candidate.to_string(), why }),
        }
    }
    match OrderedSources::open(sources) {
        Some(opened) => Ok(Chosen { opened, passed_over }),
        None if passed_over.is_empty() => Err(Unavailable::NoList),
        None => Err(Unavailable::NoneOfList(passed_over)),
    }
}

/// Opens one source. If the heap's whole size is set aside, this takes the memory.
fn connect(candidate: &Candidate<'_>, spec: &HeapSpec, machine: &Machine) -> Connected {
    let sets_aside = matches!(spec.kind, HeapType::Carveout | HeapType::Chunk | HeapType::Dma);
    let size = spec.size.filter(|_| sets_aside);
    let huge_pages = || machine.hugetlb.clone().map_err(NoSource::HugePages);
    let files = match candidate {
        Candidate::DmaHeap(names) => return machine.devices.dma_heap(names, spec.recycle),
        Candidate::Ion(wanted) => return machine.devices.ion(*wanted, spec.cached, spec.recycle),
        _ if spec.secure => return Err(NoSource::NotSecure),
        Candidate::Memfd | Candidate::Udmabuf | Candidate::Ashmem if spec.kind == HeapType::SystemContig => {
            return Err(NoSource::NotContiguous);
        }
        Candidate::Ashmem if size.is_some() => return Err(NoSource::NotSetAside),
        Candidate::Ashmem => return machine.devices.ashmem(),
        Candidate::UdmabufHugetlb => huge_pages()?,
        Candidate::Hugetlb => {
            let files = huge_pages()?;
            machine.huge_releases.clone().map_err(NoSource::Releases)?;
            files
        }
        Candidate::Memfd | Candidate::Udmabuf => Arc::clone(&machine.memfd),
    };
    // Before memory is taken: a heap that cannot make its buffers must not keep memory.
    let exporter = match candidate {
        Candidate::Udmabuf | Candidate::UdmabufHugetlb => {
            let largest = if machine.raises_limits { size.unwrap_or(machine.memory_bytes / 2) } else { 0 };
            Some(machine.devices.udmabuf(files.as_ref(), largest)?)
        }
        _ => None,
    };
    match (size, exporter) {
        (Some(size), exporter) => reserve(spec, size, files, exporter, machine),
        (None, Some(exporter)) => dma_bufs(spec, files, exporter, machine),
        (None, None) => Ok(files.into()),
    }
}

/// Opens a source of dma-bufs: of blocks if the heap has orders, else of one file each.
fn dma_bufs(
    spec: &HeapSpec,
    files: Arc<dyn FileSource>,
    exporter: Arc<dyn Exporter>,
    machine: &Machine,
) -> Connected {
    // Orders count ordinary pages.
    let is_ordinary = files.capabilities().granularity == machine.page.bytes();
    let sizes = BlockSizes::new(&spec.pool_orders, machine.page).filter(|_| is_ordinary);
    let Some(sizes) = sizes else { return Ok(UdmabufSource::open(files, exporter)) };
    let room = i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX).saturating_mul(BLOCK_ROOM);
    // All of it is mapped for cleaning, so addresses limit it.
    let room = room.min(i64::try_from(usize::MAX / 8).unwrap_or(i64::MAX));
    let room = RequestedBytes(room).round_up(sizes.granularity())?;
    Ok(BlockSource::open(files.as_ref(), exporter, Arc::clone(&machine.pages), sizes, room)?)
}

/// Sets the heap's whole size aside.
fn reserve(
    spec: &HeapSpec,
    size: u64,
    files: Arc<dyn FileSource>,
    exporter: Option<Arc<dyn Exporter>>,
    machine: &Machine,
) -> Connected {
    let layout = match spec.kind {
        // Chunks need not be adjacent.
        HeapType::Chunk => Layout::Scattered,
        _ => Layout::OnePiece { alignment: spec.alignment },
    };
    let too_large = |_| Invalid::new("size", size, format!("it must be at most {}", i64::MAX));
    let capacity = RequestedBytes(i64::try_from(size).map_err(too_large)?).round_up(machine.page.bytes())?;
    let source = CarveoutSource::reserve(capacity, layout, files, Arc::clone(&machine.pages))?;
    let source = match exporter {
        Some(exporter) => source.exporting(exporter, spec.shared.is_some()),
        None => source,
    };
    Ok(source.opened())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::devices::scripted::ScriptedDevices;
    use crate::heap::unavailable::listed;
    use crate::source::memfd::MemfdSource;
    use crate::source::scripted::{Script, ScriptedExporter};
    use crate::units::{Backing, PageSize};

    fn source(backing: Backing) -> Arc<MemfdSource> {
        let page = crate::sys::memory::page_size().expect("page size");
        let factory = crate::sys::memfd::MemfdFactory::probe().expect("memfd");
        Arc::new(MemfdSource::with(factory, page, backing).expect("memfd"))
    }

    fn exporter() -> Option<Arc<dyn Exporter>> {
        Some(Arc::new(ScriptedExporter::new(Arc::new(Script::default()))))
    }

    fn here(backing: Backing) -> Option<Opened> {
        Some(Opened::from(source(backing) as Arc<dyn FileSource>))
    }

    fn machine(devices: ScriptedDevices) -> Machine {
        let page: PageSize = crate::sys::memory::page_size().expect("page size");
        Machine { devices: Arc::new(devices), ..Machine::plain(page, 1 << 30, source(Backing::Memfd)) }
    }

    fn dma_heap(name: &str) -> Device {
        Device::DmaHeap(HeapName::new(name).expect("valid"))
    }

    /// Returns the source of `spec`, and the skipped sources.
    fn chosen(spec: &HeapSpec, devices: ScriptedDevices) -> (Backing, String) {
        let chosen = choose(spec, &machine(devices)).unwrap_or_else(|why| panic!("{why}"));
        (chosen.opened.capabilities.backings[0], listed(&chosen.passed_over))
    }

    /// Returns the reason why no source serves `spec`.
    fn refused(spec: &HeapSpec, devices: ScriptedDevices) -> String {
        choose(spec, &machine(devices)).err().expect("nothing serves it").to_string()
    }

    #[test]
    fn auto_takes_the_first_that_works_of_dma_heap_ion_udmabuf_and_memfd() {
        let none = ScriptedDevices::none;
        let auto = HeapSpec::plain(0, "system", HeapType::System, None);
        let all = || ScriptedDevices {
            dma_heap: here(Backing::DmaHeap),
            ion: here(Backing::Ion),
            udmabuf: exporter(),
            ..none()
        };
        let (no_dma_heap, no_ion) = ("dma-heap:system: no dma-heap in this test", "ion: no ion in this test");
        let no_udmabuf = "udmabuf: no udmabuf in this test";
        assert_eq!(chosen(&auto, all()), (Backing::DmaHeap, String::new()));
        let without = ScriptedDevices { dma_heap: None, ..all() };
        assert_eq!(chosen(&auto, without), (Backing::Ion, no_dma_heap.to_owned()));
        let without = ScriptedDevices { udmabuf: exporter(), ..none() };
        assert_eq!(chosen(&auto, without), (Backing::Udmabuf, format!("{no_dma_heap}; {no_ion}")));
        let expected = (Backing::Memfd, format!("{no_dma_heap}; {no_ion}; {no_udmabuf}"));
        assert_eq!(chosen(&auto, none()), expected);
        let uncached = HeapSpec { cached: false, ..auto };
        let (_, passed_over) = chosen(&uncached, none());
        assert!(passed_over.starts_with("dma-heap:system-uncached: "), "{passed_over}");
    }

    #[test]
    fn the_boards_names_come_before_those_that_every_kernel_has() {
        let tried = |kind, cached, kernel_names: &[&str]| {
            let names = kernel_names.iter().map(|name| HeapName::new(name).expect("valid")).collect();
            let spec = HeapSpec { cached, kernel_names: names, ..HeapSpec::plain(0, "adsp", kind, None) };
            match candidates(&spec.device, &spec).remove(0) {
                Candidate::DmaHeap(names) => {
                    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
                other => panic!("{other}"),
            }
        };
        let defaults = "default_cma_region linux,cma reserved default-pool";
        assert_eq!(tried(HeapType::Dma, true, &[]), defaults);
        let names = ["qcom,display", "display_region@0"];
        assert_eq!(tried(HeapType::Dma, true, &names), format!("qcom,display display_region@0 {defaults}"));
        let own = "reserved default_cma_region linux,cma default-pool";
        assert_eq!(tried(HeapType::Dma, true, &["reserved"]), own);
        assert_eq!(tried(HeapType::System, true, &["video_system"]), "video_system system");
        assert_eq!(tried(HeapType::System, true, &["system"]), "system");
        assert_eq!(tried(HeapType::System, false, &["system"]), "system-uncached");
    }

    #[test]
    fn auto_of_other_kinds_stays_within_its_kind() {
        let devices = || ScriptedDevices { dma_heap: here(Backing::DmaHeap), ..ScriptedDevices::none() };
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        let carveout = HeapSpec::plain(0, "camera", HeapType::Carveout, Some(page));
        assert_eq!(chosen(&carveout, devices()), (Backing::Memfd, String::new()));
        let contig = HeapSpec::plain(0, "contig", HeapType::SystemContig, None);
        assert_eq!(refused(&contig, devices()), "the kernel has no huge pages");
        let cma = HeapSpec::plain(0, "cma", HeapType::Dma, Some(page));
        assert_eq!(chosen(&cma, devices()), (Backing::DmaHeap, String::new()));
        let why = refused(&cma, ScriptedDevices::none());
        for part in ["dma-heap: no dma-heap", "ion: no ion", "device = \"auto\", \"memfd\""] {
            assert!(why.contains(part), "{part} is missing: {why}");
        }
    }

    #[test]
    fn a_list_falls_back_as_it_says_and_tells() {
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        let spec = |kind, device, fallbacks| HeapSpec {
            device,
            fallbacks,
            ..HeapSpec::plain(0, "listed", kind, Some(page))
        };
        let list = spec(HeapType::System, dma_heap("system"), vec![Device::Udmabuf, Device::Memfd]);
        let devices = ScriptedDevices { udmabuf: exporter(), ..ScriptedDevices::none() };
        let passed_over = "dma-heap:system: no dma-heap in this test".to_owned();
        assert_eq!(chosen(&list, devices), (Backing::Udmabuf, passed_over));

        let own_cma = spec(HeapType::Dma, Device::Auto, vec![Device::Memfd]);
        let (backing, passed_over) = chosen(&own_cma, ScriptedDevices::none());
        assert_eq!(backing, Backing::Memfd);
        assert_eq!(passed_over, "dma-heap: no dma-heap in this test; ion: no ion in this test");
    }

    #[test]
    fn without_any_that_works_every_reason_is_told() {
        let spec = |device, fallbacks| HeapSpec {
            device,
            fallbacks,
            ..HeapSpec::plain(0, "listed", HeapType::System, None)
        };
        let single = spec(dma_heap("camera"), vec![]);
        assert_eq!(refused(&single, ScriptedDevices::none()), "no dma-heap in this test");
        let list = spec(dma_heap("camera"), vec![Device::Hugetlb]);
        let expected = "none of its devices works: dma-heap:camera: no dma-heap in this test; \
                        hugetlb: the kernel has no huge pages";
        assert_eq!(refused(&list, ScriptedDevices::none()), expected);
    }

    #[test]
    fn a_custom_heap_reports_the_devices_that_it_skips() {
        let heap = HeapSpec {
            devices: vec![Device::Udmabuf, Device::Memfd, Device::Hugetlb],
            ..HeapSpec::plain(0, "mixed", HeapType::Custom, None)
        };
        let expected = "udmabuf: no udmabuf in this test; hugetlb: the kernel has no huge pages".to_owned();
        assert_eq!(chosen(&heap, ScriptedDevices::none()), (Backing::Memfd, expected));
    }
}
