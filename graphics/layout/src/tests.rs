// SPDX-License-Identifier: Apache-2.0
//! Layouts of all formats: exact values, and properties for any size.

extern crate std;

use crate::{ComponentKind, Format, Image, LONGEST_SIDE, Layout, Unsupported, Usage};
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

fn layout(format: Format, width: u32, height: u32) -> Layout {
    Image::new(format, width, height).layout().expect("a layout")
}

/// Offset, stride and bytes of a plane.
type Place = (u64, u64, u64);

fn places(layout: &Layout) -> Vec<Place> {
    layout.planes().iter().map(|plane| (plane.offset, plane.stride, plane.bytes)).collect()
}

#[test]
fn layouts_of_a_small_image_are_exact() {
    let cases: [(Format, &str, u32, &[Place]); 19] = [
        (Format::Rgba8888, "AB24", 64, &[(0, 256, 16384)]),
        (Format::Rgbx8888, "XB24", 64, &[(0, 256, 16384)]),
        (Format::Rgb888, "BG24", 64, &[(0, 192, 12288)]),
        (Format::Rgb565, "RG16", 64, &[(0, 128, 8192)]),
        (Format::Bgra8888, "AR24", 64, &[(0, 256, 16384)]),
        (Format::RgbaFp16, "AB4H", 64, &[(0, 512, 32768)]),
        (Format::Rgba1010102, "AB30", 64, &[(0, 256, 16384)]),
        (Format::R8, "R8  ", 64, &[(0, 64, 4096)]),
        (Format::Y8, "R8  ", 64, &[(0, 64, 4096)]),
        (Format::Y16, "R16 ", 64, &[(0, 128, 8192)]),
        (Format::Raw16, "R16 ", 64, &[(0, 128, 8192)]),
        (Format::Raw10, "none", 128, &[(0, 128, 8192)]),
        (Format::Raw12, "none", 128, &[(0, 128, 8192)]),
        (Format::Ycbcr420_888, "NV12", 64, &[(0, 64, 4096), (4096, 64, 2048)]),
        (Format::Ycrcb420Sp, "NV21", 64, &[(0, 64, 4096), (4096, 64, 2048)]),
        (Format::Ycbcr422Sp, "NV16", 64, &[(0, 64, 4096), (4096, 64, 4096)]),
        (Format::YcbcrP010, "P010", 64, &[(0, 128, 8192), (8192, 128, 4096)]),
        (Format::YcbcrP210, "P210", 64, &[(0, 128, 8192), (8192, 128, 8192)]),
        (Format::Yv12, "YV12", 128, &[(0, 128, 8192), (8192, 64, 2048), (10240, 64, 2048)]),
    ];
    for (format, fourcc, stride, planes) in cases {
        let layout = layout(format, 64, 64);
        assert_eq!(layout.fourcc.to_string(), fourcc, "{format}");
        assert_eq!((layout.format, layout.stride, &places(&layout)[..]), (format, stride, planes));
    }
}

#[test]
fn rows_of_odd_images_are_padded() {
    let odd = layout(Format::Ycbcr420_888, 1281, 721);
    assert_eq!(places(&odd), [(0, 1344, 1344 * 721), (1344 * 721, 1344, 1344 * 361)]);
    assert_eq!((odd.planes()[1].width, odd.planes()[1].height), (641, 361));
    let narrow = Image::new(Format::Rgb888, 10, 1).stride_align(64).layout().expect("a layout");
    assert_eq!((narrow.stride, narrow.planes()[0].stride), (64, 192), "whole pixels and whole alignments");
    let tight = Image::new(Format::Rgb888, 10, 1).stride_align(1).layout().expect("a layout");
    assert_eq!((tight.stride, tight.bytes), (10, 30));
    let sensor = Image::new(Format::Raw16, 10, 2).stride_align(1).layout().expect("a layout");
    assert_eq!(sensor.stride, 16, "multiples of 16 pixels");
    let film = Image::new(Format::Yv12, 176, 144).stride_align(16).layout().expect("a layout");
    assert_eq!(places(&film), [(0, 192, 27648), (27648, 96, 6912), (34560, 96, 6912)]);
}

#[test]
fn the_usage_decides_what_is_left_to_it() {
    let of = |usage| Image::new(Format::ImplementationDefined, 64, 64).usage(Usage(usage)).layout();
    for (usage, format) in [
        (Usage::CAMERA_OUTPUT | 0x33, Format::Ycbcr420_888),
        (Usage::CAMERA_INPUT, Format::Ycbcr420_888),
        (Usage::VIDEO_ENCODER, Format::Rgbx8888),
        (0x33, Format::Rgbx8888),
    ] {
        assert_eq!(of(usage).expect("a layout").format, format, "{usage:#x}");
    }
}

#[test]
fn refusals_name_side_value_and_limit() {
    let refusal =
        |format, width, height| Image::new(format, width, height).layout().expect_err("refused").to_string();
    assert_eq!(refusal(Format::Rgba8888, 0, 1), "width is 0, but of RGBA_8888 it must be 1 to 32768");
    assert_eq!(refusal(Format::Yv12, 2, 32770), "height is 32770, but of YV12 it must be 1 to 32768");
    assert_eq!(refusal(Format::Blob, 100, 2), "height is 2, but of BLOB it must be 1 to 1");
    assert_eq!(refusal(Format::Raw10, 6, 2), "width is 6, but of RAW10 it must be a multiple of 4");
    assert_eq!(refusal(Format::Raw16, 2, 3), "height is 3, but of RAW16 it must be a multiple of 2");
    for align in [0, 3, 8192, u32::MAX] {
        let refused = Image::new(Format::R8, 1, 1).stride_align(align).layout();
        assert_eq!(refused, Err(Unsupported::StrideAlign(align)));
    }
    let largest = Image::new(Format::Blob, i32::MAX.unsigned_abs(), 1).layout().expect("a layout");
    assert_eq!((largest.bytes, largest.stride), (0x7fff_ffff, 0x7fff_ffff));
    assert!(Image::new(Format::Blob, 1 << 31, 1).layout().is_err());
}

proptest! {
    #[test]
    fn planes_have_room_and_do_not_overlap(
        index in 0..Format::all().count(),
        (width, height) in prop_oneof![
            (1..300_u32, 1..300_u32),
            (LONGEST_SIDE - 40..=LONGEST_SIDE, LONGEST_SIDE - 40..=LONGEST_SIDE),
            (any::<u32>(), Just(1)),
        ],
        align in 0..=12_u32,
    ) {
        let format = Format::all().nth(index).expect("a format");
        let align = 1 << align;
        let image = Image::new(format, width, height).stride_align(align);
        let Ok(layout) = image.layout() else {
            prop_assume!(false);
            unreachable!();
        };
        let mut end = 0;
        for plane in layout.planes() {
            prop_assert_eq!(plane.offset, end, "planes follow each other");
            end = plane.offset.checked_add(plane.bytes).expect("no overflow");
            prop_assert_eq!(plane.bytes, plane.stride * u64::from(plane.height));
            // The samples of some sensor formats are not whole bytes.
            let bits = match plane.sample_increment {
                0 if format == Format::Raw10 => 10,
                0 => 12,
                bits => bits,
            };
            prop_assert!(plane.stride * 8 >= u64::from(plane.width) * u64::from(bits));
            if format != Format::Blob {
                prop_assert_eq!(plane.stride % u64::from(align), 0);
            }
            let sampled = |samples: u32, per: u32| u64::from(samples) * u64::from(per);
            prop_assert!(sampled(plane.width, plane.horizontal_subsampling) >= u64::from(width));
            prop_assert!(sampled(plane.height, plane.vertical_subsampling) >= u64::from(height));
            let mut filled = 0;
            for component in plane.components() {
                let Some(size) = component.size else { continue };
                prop_assert!(component.offset >= filled, "components do not overlap");
                filled = component.offset + size;
            }
            prop_assert!(filled <= bits);
        }
        prop_assert_eq!(layout.bytes, end);
    }
}

#[test]
fn every_format_has_its_components_once() {
    use ComponentKind::{A, B, Cb, Cr, G, R, Raw, Y};
    for format in Format::all() {
        let layout = layout(format, 64, if format == Format::Blob { 1 } else { 64 });
        let kinds: Vec<ComponentKind> =
            layout.planes().iter().flat_map(|plane| plane.components()).map(|part| part.kind).collect();
        let expected: &[ComponentKind] = match format {
            Format::Rgba8888 | Format::RgbaFp16 | Format::Rgba1010102 => &[R, G, B, A],
            Format::Rgbx8888 | Format::Rgb888 | Format::ImplementationDefined => &[R, G, B],
            Format::Rgb565 => &[B, G, R],
            Format::Bgra8888 => &[B, G, R, A],
            Format::Ycbcr420_888 | Format::Ycbcr422Sp | Format::YcbcrP010 | Format::YcbcrP210 => &[Y, Cb, Cr],
            Format::Ycrcb420Sp | Format::Yv12 => &[Y, Cr, Cb],
            Format::Raw16 | Format::Raw10 | Format::Raw12 => &[Raw],
            Format::Blob | Format::R8 => &[R],
            Format::Y8 | Format::Y16 => &[Y],
        };
        assert_eq!(kinds, expected, "{format}");
    }
}
