// SPDX-License-Identifier: Apache-2.0
//! Releases of Android, with the differences of their policies, and the choices of products.

use std::fmt;

/// A release, or several with equal policies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) name: &'static str,
    /// The platform's private policy has a type for `/dev/udmabuf`; otherwise nothing declares one.
    pub(super) has_udmabuf: bool,
    /// Debuggable builds have `overlay_remounter`, which runs any program.
    pub(super) has_overlay_remounter: bool,
    /// memfds can be of class `memfd_file`.
    pub(super) has_memfd_class: bool,
    /// There is a type for `/dev/ion`.
    pub(super) has_ion: bool,
    /// `/dev/ion` has a label.
    pub(super) labels_ion: bool,
}

/// The first release that can build Anion's policy. The differences of later ones are in the order
/// of the releases.
const FIRST: Release = Release {
    name: "14 and 15",
    has_udmabuf: false,
    has_overlay_remounter: false,
    has_memfd_class: false,
    has_ion: true,
    labels_ion: true,
};
pub(super) const ANDROID_16: Release = Release { name: "16", has_overlay_remounter: true, ..FIRST };
pub(super) const ANDROID_16_QPR2: Release = Release { name: "16 QPR2", has_udmabuf: true, ..ANDROID_16 };
pub(super) const ANDROID_17: Release =
    Release { name: "17", has_memfd_class: true, labels_ion: false, ..ANDROID_16_QPR2 };
pub(super) const AFTER_17: Release = Release { name: "after 17", has_ion: false, ..ANDROID_17 };

pub(super) const RELEASES: [&Release; 5] = [&FIRST, &ANDROID_16, &ANDROID_16_QPR2, &ANDROID_17, &AFTER_17];

/// The choices of a product of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) release: &'static Release,
    /// It is a userdebug build, for which the platform has rules for root's shell.
    pub(super) debuggable: bool,
    /// The product uses every folder and switch of `sepolicy/` for the release.
    pub(super) switches: bool,
    /// Anion is the product's graphics allocator, and the product adds `sepolicy/graphics`.
    pub(super) graphics: bool,
}

impl Variant {
    /// The two variants that together have all of Anion's rules, except those that a graphics
    /// allocator needs instead of others.
    pub(super) const LARGEST: [Self; 2] = [Self::full(&ANDROID_17), Self::full(&ANDROID_16)];

    /// Returns the debuggable build of a release with all of its folders and switches.
    pub(super) const fn full(release: &'static Release) -> Self {
        Self { release, debuggable: true, switches: true, graphics: false }
    }

    /// Returns the user build of a release with only `sepolicy/`.
    pub(super) const fn base(release: &'static Release) -> Self {
        Self { release, debuggable: false, switches: false, graphics: false }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        RELEASES.into_iter().flat_map(|release| {
            let plain = (0..4_u8).map(move |bits| Self {
                release,
                debuggable: bits & 1 != 0,
                switches: bits & 2 != 0,
                graphics: false,
            });
            let graphics = [Self::base(release), Self::full(release)];
            plain.chain(graphics.map(|variant| Self { graphics: true, ..variant }))
        })
    }

    /// Returns whether it uses `sepolicy/udmabuf-until-16-qpr1`.
    pub(super) fn declares_udmabuf(self) -> bool {
        self.switches && !self.release.has_udmabuf
    }

    /// Returns whether it uses `sepolicy/udmabuf-from-16-qpr2`.
    pub(super) fn uses_platform_udmabuf(self) -> bool {
        self.switches && self.release.has_udmabuf
    }

    /// Returns whether it uses `sepolicy/ion-until-17`.
    pub(super) fn uses_ion(self) -> bool {
        self.switches && self.release.has_ion
    }

    /// Returns whether it sets `anion_memfd_from_17=true`.
    pub(super) fn uses_memfd_class(self) -> bool {
        self.switches && self.release.has_memfd_class
    }

    /// Returns the definitions for m4: those of the platform, and those of `BOARD_SEPOLICY_M4DEFS`.
    pub(super) fn definitions(self) -> [String; 8] {
        let Release { has_udmabuf, has_overlay_remounter, has_memfd_class, has_ion, labels_ion, .. } =
            self.release;
        let build = if self.debuggable { "userdebug" } else { "user" };
        [
            format!("-Dtarget_build_variant={build}"),
            format!("-Dplatform_udmabuf={has_udmabuf}"),
            format!("-Dplatform_overlay_remounter={has_overlay_remounter}"),
            format!("-Dplatform_memfd_class={has_memfd_class}"),
            format!("-Dplatform_ion={has_ion}"),
            format!("-Dplatform_ion_label={labels_ion}"),
            format!("-Danion_memfd_from_17={}", self.uses_memfd_class()),
            format!("-Danion_graphics={}", self.graphics),
        ]
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choose = |is: bool, yes, no| if is { yes } else { no };
        write!(
            f,
            "Android {}, {}, {}{}",
            self.release.name,
            choose(self.debuggable, "userdebug", "user"),
            choose(self.switches, "with the release's rules", "the base alone"),
            choose(self.graphics, ", as the graphics allocator", ""),
        )
    }
}
