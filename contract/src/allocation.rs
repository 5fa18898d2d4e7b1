// SPDX-License-Identifier: Apache-2.0
//! Requests to an allocator, and the expected answers.

/// The heap that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heap {
    /// The heap under test.
    This,
    /// A heap that does not exist.
    Absent,
    /// No heap.
    Unnamed,
    /// All heaps: the first that can serve it does.
    Any,
}

/// The size of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Bytes(u64),
    /// More than half of the machine's memory, and more than the heap's size.
    TooMuch,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) heap: Heap,
    pub(crate) size: Size,
    /// Whether it sets bits without a meaning in the interface.
    pub(crate) unknown_flags: bool,
    /// Whether it is for a read-only buffer.
    pub(crate) read_only: bool,
}

/// The expected answer. Errors have the names of errno.h and `ErrorCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A buffer of the heap's smallest size.
    Least,
    Fails(&'static str),
}
use Answer::{Fails, Least};

/// A request and the answer of each party; `None` if it cannot be made, or must not.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) request: Request,
    pub(crate) ion: Option<Answer>,
    pub(crate) dma_heap: Option<Answer>,
    pub(crate) anion: Option<Answer>,
    /// The reason why Anion's answer differs, or a party has none.
    pub(crate) why: &'static str,
}

impl Request {
    /// Returns a request for the smallest buffer of the heap under test.
    pub(crate) const fn least() -> Self {
        Self { heap: Heap::This, size: Size::Bytes(1), unknown_flags: false, read_only: false }
    }
}

/// The table.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "one_byte_is_rounded_up",
        request: Request::least(),
        ion: Some(Least),
        dma_heap: Some(Least),
        anion: Some(Least),
        why: "",
    },
    Row {
        name: "no_bytes",
        request: Request { size: Size::Bytes(0), ..Request::least() },
        ion: Some(Fails("EINVAL")),
        dma_heap: Some(Fails("EINVAL")),
        anion: Some(Fails("BAD_REQUEST")),
        why: "",
    },
    Row {
        name: "a_size_that_rounding_wraps",
        request: Request { size: Size::Bytes(u64::MAX), ..Request::least() },
        ion: Some(Fails("EINVAL")),
        dma_heap: Some(Fails("EINVAL")),
        anion: Some(Fails("BAD_REQUEST")),
        why: "",
    },
    Row {
        name: "more_than_there_can_be",
        request: Request { size: Size::TooMuch, ..Request::least() },
        ion: Some(Fails("ENOMEM")),
        dma_heap: None,
        anion: Some(Fails("NO_MEMORY")),
        why: "the dma-heap of system memory has no limit: it would exhaust the memory before it failed",
    },
    Row {
        name: "an_absent_heap",
        request: Request { heap: Heap::Absent, ..Request::least() },
        ion: Some(Fails("ENODEV")),
        dma_heap: Some(Fails("ENOENT")),
        anion: Some(Fails("UNKNOWN_HEAP")),
        why: "",
    },
    Row {
        name: "no_heap",
        request: Request { heap: Heap::Unnamed, ..Request::least() },
        ion: Some(Fails("ENODEV")),
        dma_heap: None,
        anion: Some(Fails("BAD_REQUEST")),
        why: "an empty mask selects heaps by name; a request with neither mask nor names is malformed",
    },
    Row {
        name: "any_heap",
        request: Request { heap: Heap::Any, ..Request::least() },
        ion: Some(Least),
        dma_heap: None,
        anion: Some(Least),
        why: "a program selects a dma-heap by opening it",
    },
    Row {
        name: "unknown_flags",
        request: Request { unknown_flags: true, ..Request::least() },
        ion: Some(Least),
        dma_heap: Some(Fails("EINVAL")),
        anion: Some(Fails("BAD_REQUEST")),
        why: "Anion refuses unknown flags as dma-heaps do: a client must not rely on an ignored flag",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_its_reason() {
        let names = [("EINVAL", "BAD_REQUEST"), ("ENOMEM", "NO_MEMORY"), ("ENODEV", "UNKNOWN_HEAP")];
        let is_same = |ion: Answer, anion: Answer| match (ion, anion) {
            (Fails(ion), Fails(anion)) => names.contains(&(ion, anion)),
            (ion, anion) => ion == anion,
        };
        for row in ROWS {
            let agrees = row.ion.zip(row.anion).is_some_and(|(ion, anion)| is_same(ion, anion));
            let is_whole = row.dma_heap.is_some();
            assert_eq!(agrees && is_whole, row.why.is_empty(), "{}", row.name);
        }
    }
}
