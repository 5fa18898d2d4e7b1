// SPDX-License-Identifier: Apache-2.0
//! Parses the values of the command line: sizes, masks, times.

use std::num::ParseIntError;
use std::time::{Duration, TryFromFloatSecsError};

/// Why a flag does not accept a value.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordError {
    #[error("{0}; a size is a number with an optional K, M or G")]
    Size(parse_size::Error),
    /// Larger than the interface's integers.
    #[error("a size is at most {max} bytes", max = i64::MAX)]
    LargeSize,
    #[error("{0}; a mask has 32 bits and is written 0x… or as a decimal number")]
    Mask(ParseIntError),
    /// A number of seconds that is no valid duration.
    #[error(transparent)]
    Seconds(#[from] TryFromFloatSecsError),
    #[error(transparent)]
    Duration(#[from] humantime::DurationError),
    #[error("the shortest interval is {} ms", SHORTEST_INTERVAL.as_millis())]
    ShortInterval,
}

/// Reads a size in bytes with an optional suffix; suffixes count in 1024.
pub(super) fn parse_size(text: &str) -> Result<i64, WordError> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text).map_err(WordError::Size)?;
    i64::try_from(bytes).map_err(|_| WordError::LargeSize)
}

/// Reads a heap id mask, hexadecimal with 0x or decimal.
pub(super) fn parse_mask(text: &str) -> Result<u32, WordError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(WordError::Mask)
}

/// Reads a duration: a bare number is in seconds; otherwise units as in `1m 30s` or `200ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, WordError> {
    Ok(match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)?,
        Err(_) => humantime::parse_duration(text)?,
    })
}

/// Shortest interval of `watch`: a shorter one would measure the queries themselves.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Reads a duration that is at least the shortest interval of `watch`.
pub(super) fn parse_interval(text: &str) -> Result<Duration, WordError> {
    let interval = parse_duration(text)?;
    if interval < SHORTEST_INTERVAL { Err(WordError::ShortInterval) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_count_in_1024() {
        for (text, bytes) in
            [("4096", 4096), ("8M", 8 << 20), ("64KiB", 64 << 10), ("64k", 64 << 10), ("1.5G", 3 << 29)]
        {
            assert_eq!(parse_size(text).expect(text), bytes);
        }
        for bad in ["", "M", "-1", "8X", "16E"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn masks_are_hexadecimal_or_decimal() {
        for (text, mask) in [("0x6", 6), ("0xFFFFFFFF", u32::MAX), ("10", 10)] {
            assert_eq!(parse_mask(text).expect(text), mask);
        }
        for bad in ["", "0x", "0x1ffffffff", "-1", "six"] {
            assert!(parse_mask(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bare_durations_are_seconds() {
        for (text, milliseconds) in [("60", 60_000), ("0.5", 500), ("200ms", 200)] {
            assert_eq!(parse_duration(text).expect(text), Duration::from_millis(milliseconds));
        }
        for bad in ["", "-1", "inf", "NaN", "1e99", "soon"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_interval("0").is_err());
        let short = parse_interval("9ms").expect_err("too short").to_string();
        assert_eq!(short, "the shortest interval is 10 ms");
    }
}
