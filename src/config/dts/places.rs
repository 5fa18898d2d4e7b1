// SPDX-License-Identifier: Apache-2.0
//! Converts byte offsets to lines and columns.

use crate::config::diagnostic::Position;
use crate::config::steps;

/// Converts byte offsets to positions. With ascending offsets it reads the text once.
pub(super) struct Places<'t> {
    text: &'t str,
    offset: usize,
    position: Position,
}

impl<'t> Places<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, offset: 0, position: Position { line: 1, column: 1 } }
    }

    pub(super) fn at(&mut self, offset: usize) -> Position {
        if offset < self.offset {
            *self = Self::new(self.text);
        }
        steps::take(offset.saturating_sub(self.offset));
        for character in self.text.get(self.offset..offset).unwrap_or_default().chars() {
            if character == '\n' {
                self.position = Position { line: self.position.line.saturating_add(1), column: 1 };
            } else {
                self.position.column = self.position.column.saturating_add(1);
            }
        }
        self.offset = offset;
        self.position
    }
}
