// SPDX-License-Identifier: Apache-2.0
//! Tests the list of metadata types.

use super::{Outcome, bodies, check_eq};
use crate::mapper::decode::STANDARD;
use crate::mapper::suite::{BAD_BUFFER, BAD_VALUE, RGBA_8888, Suite, UNSUPPORTED, wanted};
use crate::mapper::sys::Described;
use anyhow::{Context, Result, anyhow, ensure};

bodies! {
    "SupportsRequiredGettersSetters" required_getters_and_setters_are_listed,
    "CheckRequiredSettersIfHasGetters" readable_hdr_metadata_can_be_set,
    "ListSupportedWorks" listed_metadata_types_can_be_read_and_set_as_listed,
    "GetMetadataBadValue" null_has_no_metadata,
    "GetUnsupportedMetadata" unknown_types_are_unsupported,
}

fn listed(suite: &Suite) -> Result<Vec<Described>> {
    suite.mapper.list().map_err(|code| anyhow!("listSupportedMetadataTypes returns {code}"))
}

fn required_getters_and_setters_are_listed(suite: &Suite) -> Result<Outcome> {
    let list = listed(suite)?;
    for number in (1..=20).chain([23]) {
        let entry = list.iter().find(|entry| entry.name == STANDARD && entry.number == number);
        let entry = entry.with_context(|| format!("type {number} is not listed"))?;
        ensure!(entry.is_gettable, "type {number} cannot be read");
        ensure!(entry.is_settable || !(17..=20).contains(&number), "type {number} cannot be set");
    }
    Ok(Outcome::Passed)
}

fn readable_hdr_metadata_can_be_set(suite: &Suite) -> Result<Outcome> {
    let list = listed(suite)?;
    for entry in list.iter().filter(|entry| entry.name == STANDARD && [21, 22].contains(&entry.number)) {
        ensure!(entry.is_settable || !entry.is_gettable, "type {} can be read and not set", entry.number);
    }
    Ok(Outcome::Passed)
}

fn listed_metadata_types_can_be_read_and_set_as_listed(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    for entry in listed(suite)? {
        let (name, number) = (entry.name.as_str(), entry.number);
        ensure!(name == STANDARD || entry.has_description, "{name} {number} is not described");
        check_eq!(entry.reserved, [0; 32], "reserved bytes of {name} {number}");
        let mut value = vec![0; 4096];
        let length = suite.mapper.get(buffer.address, name, number, &mut value);
        if !entry.is_gettable {
            ensure!(length < 0, "{name} {number} is not gettable, but get returns a value");
            ensure!(!entry.is_settable, "{name} {number} is settable and not gettable");
            continue;
        }
        let length = usize::try_from(length).map_err(|_| anyhow!("{name} {number}: {length}"))?;
        value.truncate(length);
        let code = suite.mapper.set(buffer.address, name, number, &value);
        check_eq!(
            code == 0,
            entry.is_settable,
            "setting {name} {number} to its present value returns {code}"
        );
    }
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn null_has_no_metadata(suite: &Suite) -> Result<Outcome> {
    for number in 1..=23 {
        for bytes in [0, 512] {
            let code = suite.mapper.get_standard(0, number, &mut vec![0; bytes]);
            check_eq!(code, -BAD_BUFFER, "type {number} of null, by number");
            let code = suite.mapper.get(0, STANDARD, number, &mut vec![0; bytes]);
            check_eq!(code, -BAD_BUFFER, "type {number} of null, by name");
        }
    }
    Ok(Outcome::Passed)
}

fn unknown_types_are_unsupported(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let mut value = [0; 512];
    for (name, number) in [("FAKE", 1), ("", 1), (STANDARD, 0), (STANDARD, 24), (STANDARD, -1)] {
        check_eq!(
            suite.mapper.get(buffer.address, name, number, &mut value),
            -UNSUPPORTED,
            "{name} {number}"
        );
        check_eq!(suite.mapper.set(buffer.address, name, number, &value), UNSUPPORTED, "{name} {number}");
    }
    for number in [0, 24, i64::MAX] {
        check_eq!(suite.mapper.get_standard(buffer.address, number, &mut value), -UNSUPPORTED, "{number}");
    }
    let width = buffer.encoded(3)?;
    check_eq!(suite.mapper.set_standard(buffer.address, 3, &width), BAD_VALUE, "setting WIDTH");
    check_eq!(suite.mapper.set_standard(0, 17, &width), BAD_BUFFER, "setting something of null");
    buffer.free()?;
    Ok(Outcome::Passed)
}
