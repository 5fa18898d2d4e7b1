// SPDX-License-Identifier: Apache-2.0
//! Records which ranges of memory that is set aside are free: ION's `gen_pool` of its carveout and
//! chunk heaps. It has only numbers; the owner of the memory acts on them.
//!
//! First fit by address keeps long free ranges at the end. Free ranges are indexed by address and
//! by length, so the cost of a step is logarithmic in their number, times the number of different
//! lengths. That number stays small: `n` different lengths, each a multiple of the allocation
//! granularity, need `n²/2` of these.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Requirements of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// In one range that starts at a multiple of this many bytes, a power of two.
    OnePiece {
        /// The multiple.
        alignment: u64,
    },
    /// In any number of ranges, so fragmentation does not matter.
    Scattered,
}

/// Free bytes of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeBytes {
    /// All free bytes.
    pub total: u64,
    /// Most free bytes that one request can have.
    pub largest: u64,
}

/// Ranges of `0..capacity`, free or not. Adjacent free ranges are always joined.
#[derive(Debug, Clone)]
pub struct Arena {
    layout: Layout,
    free: u64,
    /// Start to length of each free range.
    by_start: BTreeMap<u64, u64>,
    /// Length to starts of the free ranges of this length; never an empty set.
    by_length: BTreeMap<u64, BTreeSet<u64>>,
}

impl Arena {
    /// Returns an arena of `capacity` bytes, all of them free.
    pub fn new(capacity: u64, layout: Layout) -> Self {
        let mut arena = Self { layout, free: 0, by_start: BTreeMap::new(), by_length: BTreeMap::new() };
        arena.free(0..capacity);
        arena
    }

    /// Allocates `bytes` bytes, more than 0, at the lowest addresses that fit: one range, or
    /// several by address if the layout is scattered. `None` if the free ranges do not suffice;
    /// nothing is allocated then.
    pub fn allocate(&mut self, bytes: u64) -> Option<Vec<Range<u64>>> {
        match self.layout {
            _ if bytes == 0 || bytes > self.free => None,
            Layout::OnePiece { alignment } => self.take_piece(bytes, alignment).map(|range| vec![range]),
            Layout::Scattered => Some(self.take_pieces(bytes)),
        }
    }

    fn take_piece(&mut self, bytes: u64, alignment: u64) -> Option<Range<u64>> {
        let fits = |start: u64, length: u64| {
            let aligned = start.checked_next_multiple_of(alignment)?;
            (aligned - start <= length.checked_sub(bytes)?).then_some((start, aligned))
        };
        let lowest_of_length =
            |(length, starts): (&u64, &BTreeSet<u64>)| starts.iter().find_map(|start| fits(*start, *length));
        let (start, aligned) = self.by_length.range(bytes..).filter_map(lowest_of_length).min()?;
        self.take(start, aligned..aligned + bytes);
        Some(aligned..aligned + bytes)
    }

    /// Takes ranges of `bytes` bytes together. That many must be free in total.
    fn take_pieces(&mut self, bytes: u64) -> Vec<Range<u64>> {
        let (mut taken, mut missing) = (Vec::new(), bytes);
        while missing > 0 {
            let Some((start, length)) = self.by_start.first_key_value().map(|(s, l)| (*s, *l)) else { break };
            let range = start..start + length.min(missing);
            missing -= range.end - range.start;
            self.take(start, range.clone());
            taken.push(range);
        }
        taken
    }

    /// Removes `range` from the free range at `start`, which contains it.
    fn take(&mut self, start: u64, range: Range<u64>) {
        let Some(length) = self.remove(start) else { return };
        let end = start + length;
        self.insert(start..range.start);
        self.insert(range.end..end);
    }

    /// Frees a range. Returns whether all of it was in use; if not, nothing changes.
    pub fn free(&mut self, range: Range<u64>) -> bool {
        let (mut start, mut end) = (range.start, range.end);
        let before = self.by_start.range(..start).next_back().map(|(start, length)| (*start, start + length));
        let after = self.by_start.range(start..).next().map(|(start, length)| (*start, start + length));
        if before.is_some_and(|(_, end)| end > range.start)
            || after.is_some_and(|(start, _)| start < range.end)
        {
            return false;
        }
        if let Some((before_start, _)) = before.filter(|(_, before_end)| *before_end == range.start) {
            self.remove(before_start);
            start = before_start;
        }
        if let Some((after_start, after_end)) = after.filter(|(after_start, _)| *after_start == range.end) {
            self.remove(after_start);
            end = after_end;
        }
        self.insert(start..end);
        true
    }

    fn insert(&mut self, range: Range<u64>) {
        let Some(length) = range.end.checked_sub(range.start).filter(|length| *length > 0) else { return };
        self.free += length;
        self.by_start.insert(range.start, length);
        self.by_length.entry(length).or_default().insert(range.start);
    }

    fn remove(&mut self, start: u64) -> Option<u64> {
        let length = self.by_start.remove(&start)?;
        self.free -= length;
        if let Some(starts) = self.by_length.get_mut(&length) {
            starts.remove(&start);
            if starts.is_empty() {
                self.by_length.remove(&length);
            }
        }
        Some(length)
    }

    /// Returns the free ranges by address; adjacent ones are joined.
    pub fn free_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.by_start.iter().map(|(start, length)| *start..start + length)
    }

    /// Returns the free bytes.
    pub fn free_bytes(&self) -> FreeBytes {
        let longest = self.by_length.last_key_value().map_or(0, |(length, _)| *length);
        let largest = match self.layout {
            Layout::OnePiece { .. } => longest,
            Layout::Scattered => self.free,
        };
        FreeBytes { total: self.free, largest }
    }

    /// Returns the largest request in bytes, a multiple of `granularity`, of which `count` could be
    /// allocated in sequence. All present and past allocations must be multiples of `granularity`,
    /// and the layout's alignment must divide it.
    pub fn largest_fit(&self, count: u64, granularity: u64) -> u64 {
        let holds = |bytes: u64| match self.layout {
            Layout::Scattered => u128::from(bytes) * u128::from(count) <= u128::from(self.free),
            Layout::OnePiece { .. } => {
                let pieces = |(length, starts): (&u64, &BTreeSet<u64>)| length / bytes * starts.len() as u64;
                self.by_length.range(bytes..).map(pieces).fold(0, u64::saturating_add) >= count
            }
        };
        // `fits` times the granularity surely fits; `beyond` times surely does not.
        let (mut fits, mut beyond) = (0, self.free_bytes().largest / granularity + 1);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            if holds(middle * granularity) {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        fits * granularity
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one piece is one range")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: usize = 48;
    const ONE_PIECE: Layout = Layout::OnePiece { alignment: 1 };

    #[test]
    fn the_lowest_hole_that_fits_is_taken_and_neighbours_join() {
        let mut arena = Arena::new(100, ONE_PIECE);
        let mut take = |bytes| arena.allocate(bytes).expect("free").remove(0);
        let (a, b, c, d) = (take(10), take(20), take(10), take(60));
        assert_eq!([&a, &b, &c, &d], [&(0..10), &(10..30), &(30..40), &(40..100)]);
        assert!(arena.free(b.clone()) && arena.free(d.clone()));
        assert_eq!(arena.free_bytes(), FreeBytes { total: 80, largest: 60 });
        assert_eq!(arena.allocate(15).expect("in the first hole"), [10..25]);
        assert_eq!(arena.allocate(61), None, "fragmented");
        assert!(arena.free(10..25) && arena.free(c));
        assert_eq!(arena.free_bytes(), FreeBytes { total: 90, largest: 90 });
    }

    #[test]
    fn a_piece_starts_at_its_alignment_and_the_gap_stays_free() {
        let mut arena = Arena::new(100, Layout::OnePiece { alignment: 16 });
        assert_eq!(arena.allocate(5).expect("free"), [0..5]);
        assert_eq!(arena.allocate(5).expect("free"), [16..21]);
        assert_eq!(arena.free_bytes(), FreeBytes { total: 90, largest: 79 });
        assert_eq!(arena.allocate(69), None, "the next multiple is 32");
        assert_eq!(arena.allocate(68).expect("free"), [32..100]);
    }

    #[test]
    fn scattered_requests_use_every_hole() {
        let mut arena = Arena::new(40, Layout::Scattered);
        for _ in 0..4 {
            arena.allocate(10).expect("free");
        }
        assert!(arena.free(0..10) && arena.free(20..30));
        assert_eq!(arena.free_bytes(), FreeBytes { total: 20, largest: 20 });
        assert_eq!(arena.allocate(15).expect("two holes"), [0..10, 20..25]);
        assert_eq!((arena.allocate(6), arena.allocate(0)), (None, None));
    }

    #[test]
    fn freeing_a_range_that_is_already_free_fails() {
        let mut arena = Arena::new(40, ONE_PIECE);
        arena.allocate(20).expect("free");
        assert!(!arena.free(10..30) && !arena.free(20..21) && !arena.free(0..40));
        assert!(arena.free(5..10));
        assert!(!arena.free(5..6) && !arena.free(0..6) && !arena.free(9..12));
        assert_eq!(arena.free_bytes(), FreeBytes { total: 25, largest: 20 });
    }

    /// One flag for each byte: slow and obvious.
    struct Model([bool; CAPACITY]);

    impl Model {
        fn lowest(&self, bytes: usize, alignment: usize) -> Option<Range<usize>> {
            let starts = (0..CAPACITY).step_by(alignment).filter(|start| start + bytes <= CAPACITY);
            starts.map(|start| start..start + bytes).find(|range| !self.0[range.clone()].contains(&true))
        }

        fn allocate(&mut self, bytes: usize, layout: Layout) -> Option<Vec<usize>> {
            let free = (0..CAPACITY).filter(|at| !self.0[*at]);
            let taken: Vec<usize> = match layout {
                Layout::OnePiece { alignment } => self.lowest(bytes, index(alignment))?.collect(),
                Layout::Scattered => free.take(bytes).collect(),
            };
            if bytes == 0 || taken.len() < bytes {
                return None;
            }
            taken.iter().for_each(|at| self.0[*at] = true);
            Some(taken)
        }

        fn free_bytes(&self, layout: Layout) -> FreeBytes {
            let runs = self.0.split(|used| *used).map(<[bool]>::len);
            let (longest, total) = runs.fold((0, 0), |(longest, total), run| (run.max(longest), total + run));
            let largest = if layout == Layout::Scattered { total } else { longest };
            FreeBytes { total: total as u64, largest: largest as u64 }
        }
    }

    fn index(bytes: u64) -> usize {
        usize::try_from(bytes).expect("small")
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(u64),
        /// Frees one of the live ranges, with an index modulo their number.
        Free(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u64..20).prop_map(Step::Allocate),
            2 => (0usize..100).prop_map(Step::Free),
        ];
        prop::collection::vec(step, 0..80)
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        let aligned = (0u32..4).prop_map(|shift| Layout::OnePiece { alignment: 1 << shift });
        prop_oneof![4 => aligned, 1 => Just(Layout::Scattered)]
    }

    proptest! {
        #[test]
        fn every_sequence_agrees_with_a_flag_for_each_byte(layout in layouts(), steps in steps()) {
            let (mut arena, mut model) = (Arena::new(CAPACITY as u64, layout), Model([false; CAPACITY]));
            let mut live = Vec::<Vec<Range<u64>>>::new();
            for step in steps {
                match step {
                    Step::Allocate(bytes) => {
                        let taken = arena.allocate(bytes);
                        let flat = taken.iter().flatten().flat_map(|range| index(range.start)..index(range.end));
                        let flat = taken.as_ref().map(|_| flat.collect::<Vec<_>>());
                        prop_assert_eq!(flat, model.allocate(index(bytes), layout));
                        live.extend(taken);
                    }
                    Step::Free(which) if !live.is_empty() => {
                        for range in live.remove(which % live.len()) {
                            model.0[index(range.start)..index(range.end)].fill(false);
                            prop_assert!(arena.free(range.clone()));
                            prop_assert!(!arena.free(range));
                        }
                    }
                    Step::Free(_) => {}
                }
                prop_assert_eq!(arena.free_bytes(), model.free_bytes(layout));
            }
        }

        /// Checks that the result of `largest_fit` fits, and that one granularity more does not.
        #[test]
        fn the_largest_fit_fits_and_no_more(layout in layouts(), steps in steps(), count in 1u64..5) {
            const GRANULARITY: u64 = 8;
            let mut arena = Arena::new(CAPACITY as u64 * GRANULARITY, layout);
            let mut live = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate(multiples) => live.extend(arena.allocate(multiples * GRANULARITY)),
                    Step::Free(which) if !live.is_empty() => {
                        let freed = live.remove(which % live.len()).into_iter().all(|range| arena.free(range));
                        prop_assert!(freed);
                    }
                    Step::Free(_) => {}
                }
            }
            let takes = |bytes| {
                let mut arena = arena.clone();
                (0..count).all(|_| arena.allocate(bytes).is_some())
            };
            let fit = arena.largest_fit(count, GRANULARITY);
            prop_assert!(fit.is_multiple_of(GRANULARITY) && (fit == 0 || takes(fit)));
            prop_assert!(!takes(fit + GRANULARITY));
        }
    }
}
