// SPDX-License-Identifier: Apache-2.0
//! Tests loading, importing and freeing.

use super::{Outcome, bodies, check_eq};
use crate::mapper::suite::{BAD_BUFFER, RGBA_8888, Suite, wanted};
use crate::mapper::sys::Native;
use anyhow::{Result, anyhow, ensure};

bodies! {
    "VersionChecks" version_checks,
    "AllV5CallbacksDefined" all_callbacks_are_defined,
    "DualLoadIsIdentical" dual_load_is_identical,
    "CanAllocate" can_allocate,
    "ImportFreeBuffer" import_free,
    "ImportFreeBufferSingleton" import_free_by_another_load,
    "ImportBufferNegative" bad_handles_are_not_imported,
    "FreeBufferNegative" freeing_a_handle_that_was_not_imported_fails,
}

fn version_checks(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.library.version()?, 5, "ANDROID_HAL_MAPPER_VERSION");
    check_eq!(suite.library.functions()?.0, 5, "AIMapper.version");
    Ok(Outcome::Passed)
}

fn all_callbacks_are_defined(suite: &Suite) -> Result<Outcome> {
    let (_, functions) = suite.library.functions()?;
    check_eq!(functions.iter().position(|function| *function == 0), None, "functions that are null");
    Ok(Outcome::Passed)
}

fn dual_load_is_identical(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.library.load()?.address(), suite.mapper.address(), "the second load's mapper");
    Ok(Outcome::Passed)
}

fn can_allocate(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    ensure!(raw.stride >= 64, "stride is {}, but a row has 64 pixels", raw.stride);
    let usable = suite.import(&raw)?;
    check_eq!(usable.word(23)?, raw.stride, "STRIDE");
    usable.free()?;
    Ok(Outcome::Passed)
}

fn import_free(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let one = suite.import(&raw)?;
    ensure!(one.address != raw.native.address(), "the imported handle is the raw one");
    let two = suite.import(&raw)?;
    ensure!(one.address != two.address, "both imports are one handle");
    let again = suite.mapper.import_again(one.address).map_err(|code| anyhow!("importBuffer: {code}"))?;
    let three = suite.adopt(again, None)?;
    ensure!(three.address != one.address, "the import of an imported handle is that handle");
    one.free()?;
    two.free()?;
    check_eq!(three.word(23)?, raw.stride, "STRIDE of the last import");
    three.free()?;
    Ok(Outcome::Passed)
}

fn import_free_by_another_load(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let other = suite.library.load()?;
    let address = other.import(&raw.native).map_err(|code| anyhow!("importBuffer: {code}"))?;
    suite.adopt(address, Some(&raw))?.free()?;
    let buffer = suite.import(&raw)?;
    check_eq!(other.free(buffer.into_address()), 0, "freeBuffer by the other");
    Ok(Outcome::Passed)
}

fn bad_handles_are_not_imported(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.mapper.import_nothing(), Err(BAD_BUFFER), "null");
    check_eq!(suite.mapper.import(&Native::new(Vec::new(), &[])?), Err(BAD_BUFFER), "an empty handle");
    Ok(Outcome::Passed)
}

fn freeing_a_handle_that_was_not_imported_fails(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.mapper.free(0), BAD_BUFFER, "null");
    let empty = Native::new(Vec::new(), &[])?;
    check_eq!(suite.mapper.free(empty.address()), BAD_BUFFER, "an empty handle");
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    check_eq!(suite.mapper.free(raw.native.address()), BAD_BUFFER, "a handle that was not imported");
    Ok(Outcome::Passed)
}
