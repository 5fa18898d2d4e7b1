// SPDX-License-Identifier: Apache-2.0
//! Words for the interface's enumerations. Values that are unknown to this build, of a newer
//! service, appear as `unknown(N)`.

use anion_client::Refusal;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Backing::Backing;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapFlags::HeapFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapType::HeapType;
use vendor_anion_allocator::aidl::vendor::anion::allocator::PressureLevel::PressureLevel;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReleaseMechanism::ReleaseMechanism;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Verdict::Verdict;

/// Every heap flag and its word.
const HEAP_FLAGS: [(HeapFlags, &str); 6] = [
    (HeapFlags::CACHED, "cached"),
    (HeapFlags::CONTIGUOUS, "contiguous"),
    (HeapFlags::ZEROED, "zeroed"),
    (HeapFlags::DEFERRED_FREE, "deferred-free"),
    (HeapFlags::SECURE, "secure"),
    (HeapFlags::READ_ONLY, "read-only"),
];

/// Returns the kind of descriptor, in the words of dumps and configurations.
pub(crate) fn backing(backing: Backing) -> String {
    let known = match backing {
        Backing::MEMFD => anion_client::Backing::Memfd,
        Backing::ASHMEM => anion_client::Backing::Ashmem,
        Backing::UDMABUF => anion_client::Backing::Udmabuf,
        Backing::DMA_HEAP => anion_client::Backing::DmaHeap,
        Backing::ION => anion_client::Backing::Ion,
        Backing::HUGETLB => anion_client::Backing::Hugetlb,
        Backing(other) => return unknown(other),
    };
    known.name().to_owned()
}

/// Returns the kind of heap, in the words of dumps and configurations.
pub(crate) fn heap_type(heap_type: HeapType) -> String {
    let known = match heap_type {
        HeapType::SYSTEM => anion_client::HeapType::System,
        HeapType::SYSTEM_CONTIG => anion_client::HeapType::SystemContig,
        HeapType::CARVEOUT => anion_client::HeapType::Carveout,
        HeapType::CHUNK => anion_client::HeapType::Chunk,
        HeapType::DMA => anion_client::HeapType::Dma,
        HeapType::CUSTOM => anion_client::HeapType::Custom,
        HeapType(other) => return unknown(other),
    };
    known.name().to_owned()
}

/// Returns the set flags of a heap, lowest bit first.
pub(crate) fn heap_flags(bits: i32) -> Vec<String> {
    let known = HEAP_FLAGS.iter().filter(|(flag, _)| bits & flag.0 != 0).map(|(_, word)| (*word).to_owned());
    let rest = bits & !HEAP_FLAGS.iter().fold(0, |all, (flag, _)| all | flag.0);
    known.chain((rest != 0).then(|| format!("unknown({rest:#x})"))).collect()
}

/// Returns how the service detects releases of a heap's buffers.
pub(crate) fn release_mechanism(mechanism: ReleaseMechanism) -> String {
    match mechanism {
        ReleaseMechanism::CLOSE_EVENTS => "close-events",
        ReleaseMechanism::LEASES => "leases",
        ReleaseMechanism::REFERENCE_COUNTS => "reference-counts",
        ReleaseMechanism::TOKEN => "token",
        ReleaseMechanism(other) => return unknown(other),
    }
    .to_owned()
}

/// Returns the pressure level, in the words of dumps.
pub(crate) fn pressure(level: PressureLevel) -> String {
    match level {
        PressureLevel::NONE => "none",
        PressureLevel::MODERATE => "moderate",
        PressureLevel::CRITICAL => "critical",
        PressureLevel(other) => return unknown(other),
    }
    .to_owned()
}

/// Returns the verdict of a heap on a request.
pub(crate) fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::WOULD_SERVE => "would serve",
        Verdict::UNKNOWN_HEAP => "unknown heap",
        Verdict::UNAVAILABLE => "unavailable",
        Verdict::NOT_PERMITTED => "not permitted",
        Verdict::UNSUPPORTED => "unsupported",
        Verdict::NO_ROOM => "no room",
        Verdict::QUOTA_EXCEEDED => "quota exceeded",
        Verdict(other) => return unknown(other),
    }
    .to_owned()
}

/// Returns the name that the interface gives to an error code.
pub(crate) fn error_code(code: i32) -> String {
    Refusal::from(code).to_string()
}

/// Returns a value that is unknown to this build.
fn unknown(value: i32) -> String {
    format!("unknown({value})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vendor_anion_allocator::aidl::vendor::anion::allocator::ErrorCode::ErrorCode;

    #[test]
    fn every_value_of_the_interface_has_a_word() {
        let words = (Backing::enum_values().map(backing).into_iter())
            .chain(HeapType::enum_values().map(heap_type))
            .chain(ReleaseMechanism::enum_values().map(release_mechanism))
            .chain(Verdict::enum_values().map(verdict))
            .chain(ErrorCode::enum_values().map(|code| error_code(code.0)))
            .chain(HeapFlags::enum_values().into_iter().flat_map(|flag| heap_flags(flag.0)));
        for word in words {
            assert!(!word.starts_with("unknown("), "{word}");
        }
    }

    #[test]
    fn values_of_a_newer_service_are_shown_as_numbers() {
        assert_eq!(backing(Backing(99)), "unknown(99)");
        assert_eq!(heap_flags(1 | 1 << 20), ["cached", "unknown(0x100000)"]);
        assert_eq!(heap_flags(0), Vec::<String>::new());
    }
}
