// SPDX-License-Identifier: Apache-2.0
//! Draws the screen: a status line, the heaps, the users, a line of keys.

use super::super::{HeapChange, UsageChange, bytes_rate, count_rate};
use super::{Focus, Sort, State};
use crate::output;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Row, Table};
use std::cmp::Reverse;
use std::collections::VecDeque;

/// From an empty to a full cell of a sparkline.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Widest column of names.
const NAME: u16 = 16;
/// Width of a column of numbers.
const NUMBER: u16 = 10;
/// Narrowest sparkline.
const SPARKLINE: u16 = 10;

/// A column of numbers: its name, the function that formats a row, and the fewest columns of the
/// screen at which it is shown.
type Column<T> = (&'static str, fn(&T) -> String, u16);

const HEAP_COLUMNS: [Column<HeapChange>; 6] = [
    ("HELD", |heap| output::size(heap.stats.live_bytes), 0),
    ("CHANGE/s", |heap| bytes_rate(heap.live_bytes_per_s), 60),
    ("ALLOCS/s", |heap| count_rate(heap.allocations_per_s), 72),
    ("POOLED", |heap| output::size(heap.stats.pooled_bytes), 84),
    ("P99", |heap| heap.interval.as_ref().map_or_else(|| "-".to_owned(), |latency| latency.bound(99)), 96),
    ("FAILED", |heap| heap.stats.failures.total().to_string(), 110),
];

const USER_COLUMNS: [Column<UsageChange>; 5] = [
    ("HELD", |user| output::size(user.usage.bytes), 0),
    ("CHANGE/s", |user| bytes_rate(user.bytes_per_s), 60),
    ("BUFFERS", |user| user.usage.buffers.to_string(), 72),
    ("PEAK", |user| output::size(user.usage.peak_bytes), 84),
    ("QUOTA", |user| output::limit(user.usage.quota_bytes, output::size), 96),
];

impl State {
    /// Draws the screen.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let heaps = self.changes.as_ref().map_or(0, |changes| changes.heaps.len());
        let wanted = u16::try_from(heaps).unwrap_or(u16::MAX).saturating_add(2);
        let parts =
            [Constraint::Length(1), Constraint::Max(wanted), Constraint::Min(3), Constraint::Length(1)];
        let [status, heaps, users, keys] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(self.status(), status);
        self.draw_heaps(frame, heaps);
        self.draw_users(frame, users);
        let help = format!("q quit  s sort by {}  Tab other table  ↑↓ scroll", self.sort.next().word());
        frame.render_widget(Line::styled(help, Style::new().fg(Color::DarkGray)), keys);
    }

    fn status(&self) -> Line<'_> {
        if let Some(why) = &self.gone {
            let style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
            return Line::styled(format!("waiting for the service: {why}"), style);
        }
        let Some(changes) = &self.changes else { return Line::raw("") };
        let pressure = format!("memory pressure: {}", changes.pressure);
        let style = if changes.pressure == "none" { Style::new() } else { Style::new().fg(Color::Red) };
        Line::styled(format!("{pressure} · by {} · {}", self.sort.word(), changes.endpoint), style)
    }

    fn draw_heaps(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(changes) = &self.changes else { return };
        let mut heaps: Vec<&HeapChange> = changes.heaps.iter().collect();
        match self.sort {
            Sort::Id => heaps.sort_by_key(|heap| Reverse(heap.stats.heap_id)),
            Sort::Name => heaps.sort_by(|one, other| one.stats.heap.cmp(&other.stats.heap)),
            Sort::Held => heaps.sort_by_key(|heap| Reverse(heap.stats.live_bytes)),
            Sort::Allocations => {
                let rate = |heap: &HeapChange| heap.allocations_per_s.unwrap_or(0.0);
                heaps.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
            }
        }
        let columns: Vec<_> = HEAP_COLUMNS.iter().filter(|(.., width)| area.width >= *width).collect();
        let taken = NAME + (NUMBER + 1) * u16::try_from(columns.len()).unwrap_or(0) + 1;
        let room = area.width.saturating_sub(taken);
        let row = |heap: &&HeapChange| {
            let mut cells = vec![Text::raw(heap.stats.heap.clone())];
            cells.extend(columns.iter().map(|(_, value, _)| Text::raw(value(heap)).right_aligned()));
            cells.push(Text::raw(self.sparkline(heap.stats.heap_id, room)));
            Row::new(cells)
        };
        let names = columns.iter().map(|(name, ..)| *name);
        let header = self.header("HEAP", names, Some("HISTORY"), Focus::Heaps);
        let widths = widths(columns.len()).chain((room >= SPARKLINE).then_some(Constraint::Length(room)));
        let rows = heaps.iter().skip(self.offsets[Focus::Heaps as usize]).map(row);
        frame.render_widget(Table::new(rows, widths).header(header), area);
    }

    fn draw_users(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(changes) = &self.changes else { return };
        let columns: Vec<_> = USER_COLUMNS.iter().filter(|(.., width)| area.width >= *width).collect();
        let row = |user: &UsageChange| {
            let mut cells = vec![Text::raw(user.usage.user.clone())];
            cells.extend(columns.iter().map(|(_, value, _)| Text::raw(value(user)).right_aligned()));
            Row::new(cells)
        };
        let header = self.header("USER", columns.iter().map(|(name, ..)| *name), None, Focus::Users);
        let rows = changes.usage.iter().skip(self.offsets[Focus::Users as usize]).map(row);
        frame.render_widget(Table::new(rows, widths(columns.len())).header(header), area);
    }

    fn header<'a>(
        &self,
        first: &'a str,
        names: impl Iterator<Item = &'a str>,
        last: Option<&'a str>,
        focus: Focus,
    ) -> Row<'a> {
        let numbers = names.map(|name| Text::raw(name).right_aligned());
        let cells = [Text::raw(first)].into_iter().chain(numbers).chain(last.map(Text::raw));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        Row::new(cells).style(if self.focus == focus { bold.add_modifier(Modifier::REVERSED) } else { bold })
    }

    /// Returns the bytes that clients held of a heap at the last reports, at most `room` of them.
    fn sparkline(&self, heap: i32, room: u16) -> String {
        self.history.get(&heap).map_or_else(String::new, |history| levels(history, usize::from(room)))
    }
}

/// Returns the widths of the columns of a table: a name and `numbers` numbers.
fn widths(numbers: usize) -> impl Iterator<Item = Constraint> {
    [Constraint::Length(NAME)].into_iter().chain((0..numbers).map(|_| Constraint::Length(NUMBER)))
}

/// Returns the last `room` values as characters; the highest value is a full one.
fn levels(history: &VecDeque<u64>, room: usize) -> String {
    let shown = history.iter().skip(history.len().saturating_sub(room));
    let highest = shown.clone().copied().max().unwrap_or(0).max(1);
    let level = |value: &u64| {
        let place = u128::from(*value) * (LEVELS.len() as u128 - 1) / u128::from(highest);
        LEVELS[usize::try_from(place).unwrap_or(0).min(LEVELS.len() - 1)]
    };
    shown.map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_has_the_latest_values_and_its_own_scale() {
        let history: VecDeque<u64> = [9, 0, 4, 7, 2].into();
        assert_eq!(levels(&history, 4), "▁▅█▃");
        assert_eq!(levels(&history, 100).chars().count(), 5);
        assert_eq!(levels(&[0, 0].into(), 4), "▁▁");
        assert_eq!(levels(&[u64::MAX].into(), 4), "█");
    }
}
