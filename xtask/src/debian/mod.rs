// SPDX-License-Identifier: Apache-2.0
//! Uses packages of Debian without installing them: kernels, programs of newer releases, and
//! packages of other architectures.

mod apt;
mod packages;

pub(crate) use apt::{Apt, Suite, mirror, only_entry};
pub(crate) use packages::{Bundle, Tree, is_cached, move_to, newest, obtain, scratch_in, unpack_once};

/// The newest Debian, with the architectures that the project is checked for.
pub(crate) const SID: Suite = Suite { archive: "Debian", name: "sid", foreign: &["arm64", "armhf", "i386"] };
