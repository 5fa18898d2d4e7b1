// SPDX-License-Identifier: Apache-2.0
//! Tests metadata that clients set.

use super::{Outcome, bodies, check_eq};
use crate::mapper::decode::{Reader, encode};
use crate::mapper::suite::{RGBA_8888, Suite, UNSUPPORTED, wanted};
use anyhow::Result;

bodies! {
    "GetSetDataspace" dataspace,
    "GetSetBlendMode" blend_mode,
    "GetSetSmpte2086" smpte2086,
    "GetCta861_3" cta861_3,
    "GetSmpte2094_10" smpte2094_10,
    "GetSmpte2094_40" smpte2094_40,
}

const SMPTE2086: i64 = 19;
const CTA861_3: i64 = 20;

/// Sets a number through one import and reads it through another.
fn number(suite: &Suite, number: i64, initial: i32, values: &[i32]) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let (one, other) = (suite.import(&raw)?, suite.import(&raw)?);
    check_eq!(one.word(number)?, initial, "type {number} at first");
    for value in values {
        let encoded = encode(number, &value.to_le_bytes());
        check_eq!(suite.mapper.set_standard(one.address, number, &encoded), 0, "setting {value}");
        check_eq!(one.word(number)?, *value, "type {number} through the same import");
        check_eq!(other.word(number)?, *value, "type {number} through another import");
    }
    one.free()?;
    other.free()?;
    Ok(Outcome::Passed)
}

fn dataspace(suite: &Suite) -> Result<Outcome> {
    // DISPLAY_P3, SRGB, and back.
    number(suite, 17, 0, &[10 << 16 | 2 << 22 | 1 << 27, 1 << 16 | 2 << 22 | 1 << 27, 0])
}

fn blend_mode(suite: &Suite) -> Result<Outcome> {
    number(suite, 18, 0, &[1, 2, 3, 0])
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Sets a value that is initially unset, and unsets it.
fn optional(suite: &Suite, number: i64, payloads: &[Vec<u8>]) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let (one, other) = (suite.import(&raw)?, suite.import(&raw)?);
    check_eq!(one.get(number), Ok(Vec::new()), "type {number} at first");
    for payload in payloads {
        let value = encode(number, payload);
        check_eq!(suite.mapper.set_standard(one.address, number, &value), 0, "setting {payload:?}");
        for buffer in [&one, &other] {
            let found = buffer.encoded(number)?;
            Reader::new(&found, number)?;
            check_eq!(found, value, "type {number}");
        }
    }
    check_eq!(suite.mapper.set_standard(other.address, number, &[]), 0, "unsetting");
    check_eq!(one.get(number), Ok(Vec::new()), "type {number} after that");
    one.free()?;
    other.free()?;
    Ok(Outcome::Passed)
}

fn smpte2086(suite: &Suite) -> Result<Outcome> {
    let display = [0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290, 100.0, 0.1];
    optional(suite, SMPTE2086, &[floats(&display), floats(&[0.0; 10])])
}

fn cta861_3(suite: &Suite) -> Result<Outcome> {
    optional(suite, CTA861_3, &[floats(&[78.0, 62.0]), floats(&[0.0, 0.0])])
}

/// Sets byte strings of several lengths. Mappers may lack this type.
fn bytes(suite: &Suite, number: i64, name: &str) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let supported = buffer.get(number) != Err(-UNSUPPORTED);
    buffer.free()?;
    if !supported {
        return Ok(Outcome::Unsupported(format!("the mapper has no {name}")));
    }
    let counted = |bytes: &[u8]| {
        let mut payload = i64::try_from(bytes.len()).unwrap_or_default().to_le_bytes().to_vec();
        payload.extend(bytes);
        payload
    };
    optional(suite, number, &[counted(b"TEST_BYTES"), counted(&[0xb5; 900]), counted(b"")])
}

fn smpte2094_10(suite: &Suite) -> Result<Outcome> {
    bytes(suite, 22, "SMPTE2094_10")
}

fn smpte2094_40(suite: &Suite) -> Result<Outcome> {
    bytes(suite, 21, "SMPTE2094_40")
}
