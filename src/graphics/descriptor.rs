// SPDX-License-Identifier: Apache-2.0
//! Converts a buffer descriptor of Android's to checked values.

use super::MAX_BUFFERS;
use super::refusal::Refusal;
use crate::config::spec::GraphicsRule;
use crate::heap::Heap;
use crate::units::{Count, Invalid, Label, MAX_NAME_BYTES};
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::BufferDescriptorInfo::BufferDescriptorInfo;
use anion_handle::{Request as Image, metadata};
use anion_layout::{Format, Usage};

/// The only supported option: it sets the initial value of the metadata of this name.
const DATASPACE: &str = "android.hardware.graphics.common.Dataspace";

/// Most bytes of the region that clients can reserve.
const MAX_RESERVED: i64 = 1 << 20;

/// A request, and the rule that serves it.
#[derive(Debug)]
pub(super) struct Wanted<'r> {
    /// The rule that covers the usage.
    pub(super) rule: &'r GraphicsRule,
    /// The first printable bytes of the name.
    pub(super) label: Label,
    /// First bytes of the metadata.
    pub(super) metadata: Vec<u8>,
    /// The image, without the alignment of a heap.
    image: Image,
}

impl<'r> Wanted<'r> {
    /// Checks everything that does not depend on the heap.
    ///
    /// # Errors
    /// The first unsupported field.
    pub(super) fn of(raw: &BufferDescriptorInfo, rules: &'r [GraphicsRule]) -> Result<Self, Refusal> {
        let usage = Usage(raw.usage.0.cast_unsigned());
        let format = Format::from_value(raw.format.0).ok_or_else(|| {
            Invalid::new(
                "format",
                format!("{:#x}", raw.format.0),
                "it must be one that has a linear layout here",
            )
        })?;
        if raw.layerCount != 1 {
            return Err(Invalid::new("layerCount", raw.layerCount, "it must be 1").into());
        }
        let reserved_size = u64::try_from(raw.reservedSize).ok().filter(|_| raw.reservedSize <= MAX_RESERVED);
        let image = Image {
            format,
            width: side("width", raw.width)?,
            height: side("height", raw.height)?,
            layers: 1,
            usage,
            stride_align: anion_layout::STRIDE_ALIGN,
            reserved_size: reserved_size.ok_or_else(|| {
                Invalid::new("reservedSize", raw.reservedSize, format!("it must be 0 to {MAX_RESERVED}"))
            })?,
        };
        let dataspace = dataspace(raw)?;
        Ok(Self {
            rule: rule(usage, rules)?,
            label: label(&raw.name)?,
            metadata: metadata::initial(&raw.name, dataspace),
            image,
        })
    }

    /// Returns the image with the alignment of `heap`.
    pub(super) fn image(&self, heap: &Heap) -> Image {
        Image { stride_align: heap.spec().stride_align, ..self.image }
    }
}

/// Checks the number of requested buffers.
pub(super) fn count(raw: i32) -> Result<Count, Invalid> {
    let count = Count::new(raw).ok().filter(|count| count.get() <= MAX_BUFFERS);
    count.ok_or_else(|| Invalid::new("count", raw, format!("it must be 1 to {MAX_BUFFERS}")))
}

fn side(name: &'static str, raw: i32) -> Result<u32, Invalid> {
    u32::try_from(raw).map_err(|_| Invalid::new(name, raw, "it must not be negative"))
}

/// Returns the first rule that covers the usage.
fn rule(usage: Usage, rules: &[GraphicsRule]) -> Result<&GraphicsRule, Invalid> {
    let shown = || format!("{:#x}", usage.0);
    let vendor = rules.iter().fold(0, |all, rule| all | rule.usages) & Usage::VENDOR;
    let unknown = usage.unknown(vendor);
    if unknown != 0 {
        return Err(Invalid::new("usage", shown(), format!("{unknown:#x} of it has no meaning here")));
    }
    let covering = rules.iter().find(|rule| rule.covers(usage));
    covering.ok_or_else(|| {
        Invalid::new("usage", shown(), "it must be covered by a rule of the configuration (graphics node)")
    })
}

/// Returns the initial dataspace.
fn dataspace(raw: &BufferDescriptorInfo) -> Result<i32, Invalid> {
    let mut dataspace = 0;
    for option in &raw.additionalOptions {
        if option.name != DATASPACE {
            let name: String = option.name.chars().take(64).collect();
            return Err(Invalid::new(
                "additionalOptions",
                format!("{name:?}"),
                format!("only {DATASPACE} is known"),
            ));
        }
        let rule = || format!("of {DATASPACE} it must be a number of 32 bits");
        dataspace = i32::try_from(option.value)
            .map_err(|_| Invalid::new("additionalOptions", option.value, rule()))?;
    }
    Ok(dataspace)
}

/// Returns the first printable bytes of a name, up to the length of a label.
fn label(name: &[u8]) -> Result<Label, Invalid> {
    let printable = name.iter().take_while(|byte| **byte != 0).copied().map(char::from);
    let printable = printable.filter(|c| c.is_ascii_graphic() || *c == ' ');
    Label::new(&printable.take(MAX_NAME_BYTES).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CPU: i64 = 0x33;

    fn rules() -> Vec<GraphicsRule> {
        let page = crate::units::PageSize::new(4096).expect("a power of two");
        config::embedded(page).config.graphics
    }

    fn raw() -> BufferDescriptorInfo {
        let mut raw = BufferDescriptorInfo { width: 64, height: 64, layerCount: 1, ..Default::default() };
        raw.name[..4].copy_from_slice(b"name");
        (raw.format.0, raw.usage.0) = (1, CPU);
        raw
    }

    fn refused(change: impl FnOnce(&mut BufferDescriptorInfo)) -> String {
        let mut raw = raw();
        change(&mut raw);
        Wanted::of(&raw, &rules()).expect_err("not served").to_string()
    }

    #[test]
    fn a_descriptor_that_is_served_has_all_its_parts() {
        let rules = rules();
        let wanted = Wanted::of(&raw(), &rules).expect("served");
        assert_eq!((wanted.label.as_str(), wanted.rule.heaps[0].as_str()), ("name", "system"));
        assert_eq!(wanted.metadata, metadata::initial(b"name", 0));
    }

    #[test]
    fn every_field_out_of_range_is_named_with_its_value() {
        assert!(refused(|raw| raw.width = -1).starts_with("width is -1"));
        assert!(refused(|raw| raw.height = i32::MIN).starts_with("height is -2147483648"));
        for layers in [0, 2, -1] {
            assert!(refused(|raw| raw.layerCount = layers).starts_with("layerCount is "));
        }
        for format in [0, -1, 0x14, 0x30, 0x37, 0x100] {
            assert!(refused(|raw| raw.format.0 = format).starts_with("format is "), "{format:#x}");
        }
        for reserved in [-1, MAX_RESERVED + 1, i64::MIN, i64::MAX] {
            assert!(refused(|raw| raw.reservedSize = reserved).starts_with("reservedSize is "));
        }
    }

    #[test]
    fn usages_that_mean_nothing_and_those_without_a_rule_are_told_apart() {
        for bit in (33..48).chain([19, 21, 28, 48, 63]) {
            let why = refused(|raw| raw.usage.0 |= 1 << bit);
            assert!(why.ends_with(&format!("{:#x} of it has no meaning here", 1u64 << bit)), "{why}");
        }
        for bit in [8, 9, 11, 12, 14, 15, 20, 24, 25, 26] {
            assert!(refused(|raw| raw.usage.0 |= 1 << bit).contains("(graphics node)"), "{bit}");
        }
        for bit in [10, 13, 16, 17, 18, 22, 23, 27, 32] {
            let mut raw = raw();
            raw.usage.0 |= 1 << bit;
            Wanted::of(&raw, &rules()).unwrap_or_else(|why| panic!("{bit}: {why}"));
        }
    }

    #[test]
    fn the_dataspace_is_the_one_option_that_is_known() {
        let with = |name: &str, value| {
            let mut raw = raw();
            let option = Default::default();
            raw.additionalOptions = vec![option];
            (raw.additionalOptions[0].name, raw.additionalOptions[0].value) = (name.to_owned(), value);
            raw
        };
        let rules = rules();
        let wanted = Wanted::of(&with(DATASPACE, 0x1234), &rules).expect("known");
        assert_eq!(wanted.metadata, metadata::initial(b"name", 0x1234));
        for (name, value) in [("", 0), ("Dataspace", 1), (DATASPACE, 1 << 31), (DATASPACE, i64::MIN)] {
            let why = Wanted::of(&with(name, value), &rules).expect_err("unknown").to_string();
            assert!(why.starts_with("additionalOptions is "), "{why}");
        }
    }

    #[test]
    fn a_label_has_what_is_printable_of_a_name() {
        let of = |name: &[u8]| label(name).expect("a label").to_string();
        assert_eq!(of(b"Surface#0\0left over"), "Surface#0");
        assert_eq!(of(b"\xffa\nb\x7fc d"), "abc d");
        assert_eq!(of(&[b'x'; 128]), "x".repeat(31));
        assert_eq!(of(&[0; 128]), "");
    }

    #[test]
    fn as_many_buffers_as_a_message_carries_can_be_had_at_once() {
        for bad in [0, -1, 33, i32::MAX, i32::MIN] {
            assert!(count(bad).is_err(), "{bad}");
        }
        assert_eq!(count(32).expect("the most").get(), 32);
    }
}
