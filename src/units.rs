// SPDX-License-Identifier: Apache-2.0
//! Floor 0: checked numbers and names. Nothing here allocates buffers, locks or makes a system
//! call.
//!
//! A number from a client or a file is untrusted until one of these types contains it. Each type
//! has one constructor, which checks the value. Its error names the field, the value and the limit.

// Types that the client library shares.
pub use anion_memory::{Access, Backing, BufferId, HeapType};

use std::fmt;

/// Most buffers in one request; an RPC message carries at most this many descriptors.
pub const MAX_COUNT: usize = 64;
/// Longest buffer label and heap name, in bytes (ION's 32 including the terminator).
pub const MAX_NAME_BYTES: usize = 31;
/// Heap ids are bits of a 32-bit mask.
pub const MAX_HEAPS: usize = 32;

/// A value that was refused: the field, the requested value and the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but {rule}")]
pub struct Invalid {
    /// Name of the field in the caller's terms.
    pub field: &'static str,
    /// The refused value as text.
    pub value: String,
    /// The rule that it breaks, with its limit.
    pub rule: String,
}

impl Invalid {
    /// Returns an error about `field`.
    pub fn new(field: &'static str, value: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), rule: rule.into() }
    }
}

/// The machine's page size in bytes: a power of two. Code must not assume 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u64);

impl PageSize {
    /// Checks the value.
    ///
    /// # Errors
    /// If `bytes` is not a power of two.
    pub fn new(bytes: u64) -> Result<Self, Invalid> {
        if bytes.is_power_of_two() {
            Ok(Self(bytes))
        } else {
            Err(Invalid::new("page size", bytes, "it must be a power of two"))
        }
    }

    /// Returns the bytes of one page.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Returns whether `bytes` is a whole number of pages.
    pub fn divides(self, bytes: u64) -> bool {
        bytes.is_multiple_of(self.0)
    }
}

/// A size that a client requested, unchecked: it may be 0, negative, huge or unaligned.
#[derive(Debug, Clone, Copy)]
pub struct RequestedBytes(pub i64);

/// Size of a buffer in bytes: more than 0 and a multiple of its allocation granularity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackedBytes(u64);

impl RequestedBytes {
    /// Returns the request as a positive number.
    ///
    /// # Errors
    /// If it is 0 or negative.
    pub fn positive(self) -> Result<u64, Invalid> {
        u64::try_from(self.0)
            .ok()
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| Invalid::new("size", self.0, "it must be greater than 0"))
    }

    /// Rounds up to a multiple of `granularity` bytes. Only this function makes a [`BackedBytes`].
    ///
    /// # Errors
    /// If it is 0 or negative, or if the rounded size exceeds the largest file size (`i64::MAX`).
    pub fn round_up(self, granularity: u64) -> Result<BackedBytes, Invalid> {
        self.positive()?
            .checked_next_multiple_of(granularity)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(BackedBytes)
            .ok_or_else(|| {
                Invalid::new("size", self.0, format!("rounded up to {granularity} it exceeds {}", i64::MAX))
            })
    }
}

impl BackedBytes {
    /// Returns the number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Number of buffers of a request: 1 to [`MAX_COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(usize);

impl Count {
    /// One buffer.
    pub const ONE: Self = Self(1);

    /// Checks the value.
    ///
    /// # Errors
    /// If `count` is outside 1 to [`MAX_COUNT`].
    pub fn new(count: i32) -> Result<Self, Invalid> {
        usize::try_from(count)
            .ok()
            .filter(|n| (1..=MAX_COUNT).contains(n))
            .map(Self)
            .ok_or_else(|| Invalid::new("count", count, format!("it must be 1 to {MAX_COUNT}")))
    }

    /// Returns the number of buffers.
    pub fn get(self) -> usize {
        self.0
    }
}

/// A heap's id: 0 to 31. It is the heap's bit in a [`HeapMask`] and its priority: heaps with higher
/// ids are tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapId(u8);

impl HeapId {
    /// Checks the value.
    ///
    /// # Errors
    /// If `id` is above 31.
    pub fn new(id: u32) -> Result<Self, Invalid> {
        u8::try_from(id)
            .ok()
            .filter(|id| usize::from(*id) < MAX_HEAPS)
            .map(Self)
            .ok_or_else(|| Invalid::new("heap-id", id, "it must be 0 to 31"))
    }

    /// Returns the id as a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for HeapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of heap ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapMask(pub u32);

impl HeapMask {
    /// Returns whether the mask contains `id`.
    pub fn contains(self, id: HeapId) -> bool {
        self.0 & (1 << id.get()) != 0
    }
}

/// A heap's name: 1 to 31 bytes of ASCII letters, digits and `,._+-@`, never only dots. So it is
/// valid as the name of a device tree node and of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapName(String);

impl HeapName {
    /// Checks the value.
    ///
    /// # Errors
    /// If `name` is empty, longer than 31 bytes, made of dots alone, or has another character.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let quoted = || format!("{:?}", name.chars().take(2 * MAX_NAME_BYTES).collect::<String>());
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Invalid::new(
                "heap name",
                quoted(),
                format!("it must have 1 to {MAX_NAME_BYTES} bytes"),
            ));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || ",._+-@".contains(c);
        if !name.chars().all(allowed) || name.chars().all(|c| c == '.') {
            return Err(Invalid::new(
                "heap name",
                quoted(),
                "only ASCII letters, digits and ,._+-@ are allowed",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A buffer's label, for display: at most 31 bytes of printable ASCII; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label(String);

impl Label {
    /// Checks the value.
    ///
    /// # Errors
    /// If `label` is longer than 31 bytes or has a character that is not printable ASCII.
    pub fn new(label: &str) -> Result<Self, Invalid> {
        let quoted = || format!("{:?}", label.chars().take(2 * MAX_NAME_BYTES).collect::<String>());
        if label.len() > MAX_NAME_BYTES {
            return Err(Invalid::new(
                "name",
                quoted(),
                format!("it must have at most {MAX_NAME_BYTES} bytes"),
            ));
        }
        if !label.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(Invalid::new("name", quoted(), "only printable ASCII is allowed"));
        }
        Ok(Self(label.to_owned()))
    }

    /// Returns the label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A user id, as a transport or a configuration file stated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u32);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    #[test]
    fn zero_and_negative_sizes_are_refused_by_name() {
        for bytes in [0, -1, i64::MIN] {
            let error = RequestedBytes(bytes).round_up(PAGE).expect_err("not positive");
            assert_eq!(error.field, "size");
            assert!(error.to_string().contains(&bytes.to_string()), "{error}");
        }
    }

    #[test]
    fn sizes_round_up_to_the_granularity() {
        assert_eq!(RequestedBytes(1).round_up(PAGE).expect("fits").get(), PAGE);
        assert_eq!(RequestedBytes(4096).round_up(PAGE).expect("fits").get(), PAGE);
        assert_eq!(RequestedBytes(4097).round_up(65536).expect("fits").get(), 65536);
    }

    #[test]
    fn a_size_that_leaves_the_range_when_rounded_is_refused() {
        assert!(RequestedBytes(i64::MAX).round_up(PAGE).is_err());
        assert!(RequestedBytes(i64::MAX - 4095).round_up(1).is_ok());
    }

    #[test]
    fn counts_end_at_the_descriptor_limit_of_a_message() {
        for bad in [0, -1, 65, i32::MAX, i32::MIN] {
            assert!(Count::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Count::new(64).expect("the limit itself").get(), 64);
    }

    #[test]
    fn heap_id_32_is_refused() {
        assert!(HeapId::new(31).is_ok());
        assert!(HeapId::new(32).is_err());
        assert!(HeapMask(1 << 31).contains(HeapId::new(31).expect("in range")));
    }

    #[test]
    fn names_cannot_leave_a_directory() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", "12345678901234567890123456789012"] {
            assert!(HeapName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["linux,cma", "qcom,system", "carveout_gralloc", "default-pool", "a@1"] {
            assert!(HeapName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn labels_are_printable_and_short() {
        assert!(Label::new("").is_ok());
        assert!(Label::new("preview stream 0").is_ok());
        assert!(Label::new("line\nbreak").is_err());
        assert!(Label::new(&"x".repeat(32)).is_err());
    }
}
