// SPDX-License-Identifier: Apache-2.0
//! Properties that hold for any numbers of a handle.

use crate::metadata::{self, MAX_RESERVED, Place};
use crate::*;
use anion_layout::{Format, Usage};
use anion_memory::{Access, BufferId};
use proptest::prelude::*;

fn request() -> Request {
    Request {
        format: Format::Yv12,
        width: 64,
        height: 64,
        layers: 1,
        usage: Usage(0x33),
        stride_align: 64,
        reserved_size: 0,
    }
}

fn sealed(bytes: u64) -> File {
    File { bytes, kind: Kind::Sealed(0x7), is_writable: true }
}

prop_compose! {
    /// A handle of any buffer.
    fn handles()(
        id: u64,
        (width, height) in (1..5000_u32, 1..5000_u32),
        format in 0..Format::all().count(),
        layers in 1..=MAX_LAYERS,
        usage: u64,
        align in 0..=12_u32,
        reserved_size in 0..=MAX_RESERVED,
        more in 0..1_u64 << 40,
        is_writable: bool,
    ) -> Option<Handle> {
        let format = Format::all().nth(format).expect("a format");
        let (usage, stride_align) = (Usage(usage), 1 << align);
        let request = Request { format, width, height, layers, usage, stride_align, reserved_size };
        let (_, needed) = request.needed().ok()?;
        let access = if is_writable { Access::ReadWrite } else { Access::ReadOnly };
        Some(Handle::new(BufferId(id), request, needed + more, access).expect("large enough"))
    }
}

proptest! {
    #[test]
    fn numbers_are_read_as_they_were_written(handle in handles()) {
        let Some(handle) = handle else { return Ok(()) };
        let ints = handle.to_ints();
        prop_assert_eq!(ints.len(), INTS);
        prop_assert_eq!(Handle::parse(&ints), Ok(handle));
        for plane in handle.layout().planes() {
            prop_assert!(plane.offset + plane.bytes <= handle.size());
        }
    }

    #[test]
    fn numbers_that_were_changed_are_refused_or_are_another_buffers(
        handle in handles(),
        changes in prop::collection::vec((0..INTS, prop_oneof![any::<i32>(), -2..70, Just(i32::MAX)]), 1..4),
    ) {
        let Some(handle) = handle else { return Ok(()) };
        let mut ints = handle.to_ints();
        for (index, value) in changes {
            ints[index] = value;
        }
        if let Ok(other) = Handle::parse(&ints) {
            prop_assert_eq!(other.to_ints(), ints, "no number is skipped");
            let end = other.layout().planes().iter().map(|plane| plane.offset + plane.bytes).max();
            prop_assert!(end.is_some_and(|end| end * u64::from(other.request().layers) <= other.size()));
        }
    }

    #[test]
    fn any_numbers_are_read_without_a_panic(ints in prop::collection::vec(any::<i32>(), 0..INTS * 2)) {
        prop_assert!(Handle::parse(&ints).is_err());
    }

    #[test]
    fn files_that_pass_are_as_large_as_the_handle_says_and_stay_so(
        handle in handles(),
        seals in 0..0x40_i32,
        less in 0..3_u64,
        is_writable: bool,
    ) {
        let Some(handle) = handle else { return Ok(()) };
        let buffer = File {
            bytes: handle.size().saturating_add(1).saturating_sub(less),
            kind: Kind::Sealed(seals),
            is_writable,
        };
        let metadata = sealed(metadata::size(handle.request().reserved_size));
        let may_write = is_writable && seals & 0x18 == 0;
        let is_good = seals & 0x6 == 0x6
            && buffer.bytes >= handle.size()
            && (may_write || handle.access() == Access::ReadOnly);
        prop_assert_eq!(handle.check(&buffer, &metadata).is_ok(), is_good);
    }
}

/// Together with the test of `anion-mapper` that has files, as many cases as a fuzzer runs in some
/// minutes.
#[test]
fn a_million_forged_handles_are_refused_or_fit_together() {
    let request = Request { format: Format::Ycbcr420_888, reserved_size: 64, ..request() };
    let handle = Handle::new(BufferId(7), request, 1 << 20, Access::ReadWrite).expect("a handle");
    let good = handle.to_ints();
    let (mut random, mut read) = (1_u64, 0);
    let mut next = || {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (random ^ random >> 29).to_le_bytes()
    };
    for _ in 0..1_000_000 {
        let mut ints = [0; INTS];
        ints.copy_from_slice(&good);
        let [a, b, c, d, kind, at, two, other] = next();
        let any = i32::from_le_bytes([a, b, c, d]);
        let at = usize::from(at) % INTS;
        ints[at] = match kind % 4 {
            0 => any,
            1 => any & 0x3f,
            2 => ints[at].wrapping_add(any % 4),
            _ => ints[at] ^ 1 << (any & 31),
        };
        if two & 1 == 1 {
            ints[usize::from(other) % INTS] = any >> 7;
        }
        if let Ok(other) = Handle::parse(&ints) {
            assert_eq!(other.to_ints(), ints);
            let end = other.layout().planes().iter().map(|plane| plane.offset + plane.bytes).max();
            assert!(end.is_some_and(|end| end * u64::from(other.request().layers) <= other.size()));
            read += 1;
        }
    }
    assert!(read > 10_000, "only {read} were read");
}

#[test]
fn refusals_name_what_is_wrong() {
    let handle = Handle::new(BufferId(7), request(), 12288, Access::ReadWrite).expect("a handle");
    let needed = handle.layout().bytes;
    let refused = |change: fn(&mut Vec<i32>)| {
        let mut ints = handle.to_ints();
        change(&mut ints);
        Handle::parse(&ints).expect_err("refused").to_string()
    };
    assert_eq!(refused(|ints| ints.truncate(3)), "the handle has 3 numbers, but it must have 46");
    assert_eq!(refused(|ints| ints[0] = 1), "number 0 of the handle is 0x1, but it must be 0x67494e41");
    assert_eq!(refused(|ints| ints[1] = 2), "number 1 of the handle is 0x2, but it must be 0x1");
    assert_eq!(refused(|ints| ints[7] = 0), "format is 0x0, which has no layout here");
    assert_eq!(refused(|ints| ints[6] = 0), "layers are 0, but they must be 1 to 2048");
    assert_eq!(refused(|ints| ints[19] = 2), "access is 2, but it must be 0 or 1");
    assert_eq!(refused(|ints| ints[5] = 63), "height is 63, but of YV12 it must be a multiple of 2");
    assert_eq!(
        refused(|ints| ints[18] = 1),
        "the reserved region has 4294967296 bytes, but it must be at most 1073741824"
    );
    assert_eq!(
        refused(|ints| ints[15] = 1),
        format!("size is 1 bytes, but the image's layers need {needed}")
    );
    assert_eq!(refused(|ints| ints[45] = 1), "number 45 of the handle is 0x1, but it must be 0x0");
}

#[test]
fn files_whose_size_can_change_are_refused() {
    let handle = Handle::new(BufferId(7), request(), 12288, Access::ReadWrite).expect("a handle");
    let good = sealed(12288);
    assert_eq!(handle.check(&good, &good), Ok(()));
    let dma_buf = File { kind: Kind::DmaBuf, ..good };
    assert_eq!(handle.check(&dma_buf, &good), Ok(()));
    let refused =
        |buffer: File, metadata: File| handle.check(&buffer, &metadata).expect_err("refused").to_string();
    let other = File { kind: Kind::Other, ..good };
    assert_eq!(refused(other, good), "the file of the buffer is neither a memfd nor a dma-buf");
    assert_eq!(refused(good, other), "the file of the metadata is neither a memfd nor a dma-buf");
    assert_eq!(refused(good, dma_buf), "the file of the metadata is neither a memfd nor a dma-buf");
    for seals in [0, 1, 2, 4] {
        let open = File { kind: Kind::Sealed(seals), ..good };
        let text = format!("has the seals {seals:#x}, but SHRINK and GROW must be among them");
        assert!(refused(open, good).ends_with(&text));
        assert!(refused(good, open).ends_with(&text));
    }
    assert_eq!(
        refused(sealed(12287), good),
        "the file of the buffer has 12287 bytes, but the handle needs 12288"
    );
    assert_eq!(refused(good, sealed(0)), "the file of the metadata has 0 bytes, but the handle needs 4096");
    let read_only = File { is_writable: false, ..good };
    assert_eq!(refused(read_only, good), "the file of the buffer cannot be written to");
    assert_eq!(refused(good, read_only), "the file of the metadata cannot be written to");
}

/// Returns every range of the metadata.
fn places() -> Vec<Place> {
    let optional = [metadata::SMPTE2086, metadata::CTA861_3];
    let bounded = [metadata::SMPTE2094_40, metadata::SMPTE2094_10];
    let mut all = vec![metadata::HEAD, metadata::NAME, metadata::DATASPACE, metadata::BLEND_MODE];
    all.extend(optional.iter().flat_map(|part| [part.is_set, part.value]));
    all.extend(bounded.iter().flat_map(|part| [part.is_set, part.length, part.value]));
    all
}

#[test]
fn places_of_the_metadata_do_not_overlap() {
    let mut end = 0;
    for place in places() {
        assert!(place.offset >= end, "{place:?}");
        assert_eq!(place.offset % 4, 0, "{place:?}");
        end = place.offset + place.bytes;
    }
    assert!(end as u64 <= metadata::BYTES);
    const { assert!(metadata::BYTES <= metadata::RESERVED_AT) };
    assert_eq!(metadata::size(0), 4096);
    assert_eq!(metadata::size(8), 65544);
    assert_eq!(metadata::size(u64::MAX), u64::MAX, "no file has it");
}

#[test]
fn the_first_bytes_have_name_and_dataspace_and_nothing_set() {
    let page = metadata::initial(b"camera", 0x1000);
    assert_eq!(page[..8], *b"ANIm\x01\0\0\0");
    assert_eq!(page[16..23], *b"camera\0");
    assert_eq!(page[144..], [0, 0x10, 0, 0]);
    let long = metadata::initial(&[b'x'; 300], 0);
    assert_eq!(long[16 + 126..16 + 128], [b'x', 0], "it ends within its place");
    assert_eq!(metadata::initial(b"a\0b", 0)[16..20], [b'a', 0, 0, 0]);
    assert!((page.len() as u64) < metadata::BYTES);
}
