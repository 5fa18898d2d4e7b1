// SPDX-License-Identifier: Apache-2.0
//! The picture of a frame, which the producer draws and the consumer checks.

use super::{ROWS, STRIDE};
use anion_client::{CpuAccess, Mapping};
use anyhow::{Result, bail};

/// The picture: a diagonal gradient that moves with every frame. Each row also has the frame's
/// number in its first bytes and its own number in its last, so that no two rows of a run are
/// equal: an old frame, a shifted row or a shared page is always detected.
pub(super) struct Picture {
    ramp: Vec<u8>,
}

impl Picture {
    /// Computes the gradient.
    pub(super) fn new() -> Self {
        Self { ramp: (0..=u8::MAX).cycle().take(STRIDE + usize::from(u8::MAX)).collect() }
    }

    /// Draws a frame, as a camera does by DMA.
    pub(super) fn draw(&self, mapping: &Mapping, frame: u32) -> Result<()> {
        let view = mapping.begin(CpuAccess::Write)?;
        for number in 0..ROWS {
            view.write_at(number * STRIDE, &self.row(frame, number))?;
        }
        Ok(view.end()?)
    }

    /// Compares every byte of a frame with the picture.
    pub(super) fn verify(&self, mapping: &Mapping, frame: u32) -> Result<()> {
        let view = mapping.begin(CpuAccess::Read)?;
        let mut found = [0; STRIDE];
        for number in 0..ROWS {
            view.read_at(number * STRIDE, &mut found)?;
            let expected = self.row(frame, number);
            if found != expected {
                let at =
                    found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
                bail!("frame {frame}, row {number}, byte {at} is {}, expected {}", found[at], expected[at]);
            }
        }
        Ok(view.end()?)
    }

    /// Returns the bytes of a row.
    fn row(&self, frame: u32, number: usize) -> [u8; STRIDE] {
        let phase = (frame as usize + number) % usize::from(u8::MAX);
        let mut row = [0; STRIDE];
        row.copy_from_slice(&self.ramp[phase..phase + STRIDE]);
        row[..4].copy_from_slice(&frame.to_le_bytes());
        row[STRIDE - 4..].copy_from_slice(&(number as u64).to_le_bytes()[..4]);
        row
    }
}
