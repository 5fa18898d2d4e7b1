// SPDX-License-Identifier: Apache-2.0
//! Formats tables for people. On a terminal, a table omits its least important columns until it
//! fits, and breaks no line. In a pipe or a file it has every column, so that `grep` finds whole
//! rows.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// Characters between two columns.
const GAP: usize = 2;
/// Fewest characters of a text that is cut.
const SHORTEST: usize = 8;

/// The contents of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
    /// Sentences: if they do not fit, they follow the table, wrapped.
    Text,
}

/// A column: its name, contents and rank. Columns of the highest rank are omitted first; those of
/// rank 0 stay.
pub(crate) type Column = (&'static str, Side, u8);

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns an empty table with these columns.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns the table as lines of at most `width` columns, without a limit for `None`. Names the
    /// omitted columns.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let widths: Vec<_> = (0..self.columns.len()).map(|column| self.width_of(column)).collect();
        let mut shown: Vec<_> = (0..self.columns.len()).collect();
        let limit = width.unwrap_or(usize::MAX);
        while total(&widths, &shown) > limit
            && let Some(place) = self.least_important(&shown)
        {
            shown.remove(place);
        }
        let mut text = self.lines(&shown, &widths, limit);
        let left_out: Vec<_> = (0..self.columns.len()).filter(|column| !shown.contains(column)).collect();
        for column in left_out.iter().filter(|column| self.columns[**column].1 == Side::Text) {
            text += &self.below(*column, limit);
        }
        let names = left_out.iter().map(|column| self.columns[*column]);
        let names: Vec<_> = names.filter(|column| column.1 != Side::Text).map(|column| column.0).collect();
        if !names.is_empty() {
            text += &format!("\n{}", wrap(&format!("(no room for {})", names.join(", ")), limit, 0));
        }
        text
    }

    /// Returns the widest cell of a column, with its name.
    fn width_of(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.fold(self.columns[column].0.chars().count(), usize::max)
    }

    /// Returns the index in `shown` of the next column to omit; `None` if all must stay.
    fn least_important(&self, shown: &[usize]) -> Option<usize> {
        let ranks = shown.iter().map(|column| self.columns[*column].2).enumerate();
        ranks
            .filter(|(_, rank)| *rank > 0)
            .max_by_key(|(place, rank)| (*rank, *place))
            .map(|(place, _)| place)
    }

    /// Returns the shown columns as lines. If they do not fit, cuts the widest words.
    fn lines(&self, shown: &[usize], widths: &[usize], limit: usize) -> String {
        let words = shown.iter().filter(|column| self.columns[**column].1 != Side::Right);
        let widest = words.max_by_key(|column| widths[**column]).copied();
        let excess = total(widths, shown).saturating_sub(limit);
        let cut = |column: usize, cell: &str| match widest {
            Some(widest) if widest == column && excess > 0 => {
                shortened(cell, widths[column].saturating_sub(excess).max(SHORTEST))
            }
            _ => cell.to_owned(),
        };
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(shown.iter().map(|column| self.columns[*column].0));
        for row in &self.rows {
            table.add_row(shown.iter().map(|column| cut(*column, &row[*column])));
        }
        for (place, (column, number)) in table.column_iter_mut().zip(shown).enumerate() {
            let gap = if place + 1 < shown.len() { GAP } else { 0 };
            column.set_padding((0, u16::try_from(gap).unwrap_or(0)));
            column.set_cell_alignment(match self.columns[*number].1 {
                Side::Left | Side::Text => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            });
        }
        table.trim_fmt()
    }

    /// Returns the sentences of a column, each after the first words of its row.
    fn below(&self, column: usize, limit: usize) -> String {
        let key = self.columns.iter().position(|(_, side, _)| *side == Side::Left).unwrap_or(0);
        let told = self.rows.iter().filter(|row| !["", "-"].contains(&row[column].as_str()));
        told.map(|row| format!("\n{}", wrap(&format!("{}: {}", row[key], row[column]), limit, 2))).collect()
    }
}

/// Returns the total width of the columns.
fn total(widths: &[usize], shown: &[usize]) -> usize {
    let cells: usize = shown.iter().map(|column| widths[*column]).sum();
    cells + GAP * shown.len().saturating_sub(1)
}

/// Returns the text with at most `width` characters, with an ellipsis if it was cut.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Returns the text in lines of at most `width` characters, broken between words. Later lines are
/// indented by `indent`. A longer word has a line of its own.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let is_begun = !line.trim().is_empty();
        if is_begun && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if is_begun {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[
            ("ID", Side::Right, 2),
            ("HEAP", Side::Left, 0),
            ("SIZE", Side::Right, 1),
            ("REASON", Side::Text, 3),
        ]);
        let cells =
            |id: &str, heap: &str, size: &str, reason: &str| [id, heap, size, reason].map(str::to_owned);
        table.add_row(cells("20", "camera", "8.0 MiB", "it has no room for so much"));
        table.add_row(cells("5", "system", "64.0 KiB", "-"));
        table
    }

    #[test]
    fn a_pipe_gets_every_column_of_every_row() {
        let expected = "ID  HEAP        SIZE  REASON\n\
                        20  camera   8.0 MiB  it has no room for so much\n \
                        5  system  64.0 KiB  -";
        assert_eq!(example().text(None), expected);
    }

    #[test]
    fn a_terminal_gets_what_fits_and_is_told_what_does_not() {
        let text = example().text(Some(24));
        let expected = "ID  HEAP        SIZE\n20  camera   8.0 MiB\n 5  system  64.0 KiB\n\
                        camera: it has no room\n  for so much";
        assert_eq!(text, expected);
        let text = example().text(Some(20));
        assert!(text.starts_with("ID  HEAP        SIZE\n"), "{text}");
        let text = example().text(Some(16));
        assert!(text.starts_with("HEAP        SIZE\ncamera   8.0 MiB\n"), "{text}");
        assert!(text.ends_with("(no room for ID)"), "{text}");
        for width in 8..60 {
            let text = example().text(Some(width));
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{width}: {text}");
        }
    }

    #[test]
    fn words_are_cut_where_nothing_can_be_left_out() {
        let mut table = Table::new(&[("NAME", Side::Left, 0), ("SIZE", Side::Right, 0)]);
        table.add_row(["a-name-of-20-letters".to_owned(), "1".to_owned()]);
        assert_eq!(table.text(Some(20)), "NAME            SIZE\na-name-of-20-…     1");
    }
}
