// SPDX-License-Identifier: Apache-2.0
//! Calls the mapper: the only unsafe code of its suite.

mod abi;
mod calls;
mod library;
mod native;
mod pixels;
mod socket;

pub(crate) use abi::Rect;
pub(crate) use calls::Described;
pub(crate) use library::{Library, Mapper};
pub(crate) use native::Native;
pub(crate) use pixels::Pixels;
pub(crate) use socket::{receive, send};
