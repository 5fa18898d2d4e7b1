// SPDX-License-Identifier: Apache-2.0
//! Restores faults that Anion's policy had on releases of Android. The checks must find each.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::policy::Sources;
use super::release::{AFTER_17, ANDROID_16, ANDROID_16_QPR2, ANDROID_17, Variant};
use crate::tally::Tally;

/// A fault, and the expected error.
struct Fault {
    about: &'static str,
    /// The text that is replaced, and its replacement. An empty text means that a line of the
    /// vendor's is added.
    from: &'static str,
    to: &'static str,
    variant: Variant,
    /// The expected part of the error.
    complaint: &'static str,
}

const USE_UDMABUF: &str = "allow hal_anion_default udmabuf_device:chr_file rw_file_perms;";

const FAULTS: [Fault; 9] = [
    Fault {
        about: "a neverallow on transitions that does not exclude netutils_wrapper",
        from: "-crash_dump -netutils_wrapper",
        to: "-crash_dump",
        variant: Variant::base(&ANDROID_16),
        complaint: "netutils_wrapper:process { transition }",
    },
    Fault {
        about: "a rule of the base for udmabuf, whose type the platform does not declare",
        from: "",
        to: USE_UDMABUF,
        variant: Variant::base(&ANDROID_16),
        complaint: "udmabuf_device",
    },
    Fault {
        about: "a vendor's rule for udmabuf, whose type is private to the platform",
        from: "",
        to: USE_UDMABUF,
        variant: Variant::full(&ANDROID_16_QPR2),
        complaint: "udmabuf_device",
    },
    Fault {
        about: "system_ext's rule for udmabuf without the service in its attribute",
        from: "typeattribute hal_anion_default anion_udmabuf_server;",
        to: "",
        variant: Variant::full(&ANDROID_17),
        complaint: "udmabuf_device",
    },
    Fault {
        about: "a neverallow on running the service that includes the platform's own domains",
        from: "-coredomain -hal_anion_default } hal_anion_default_exec",
        to: "-hal_anion_default } hal_anion_default_exec",
        variant: Variant::full(&ANDROID_16),
        complaint: "overlay_remounter",
    },
    Fault {
        about: "memfds that applications with categories can only read",
        from: ", mlstrustedobject",
        to: "",
        variant: Variant { graphics: true, ..Variant::base(&ANDROID_16) },
        complaint: "line of expected-levels.txt does not hold",
    },
    Fault {
        about: "a neverallow on capabilities that includes one of every graphics allocator",
        from: "`~sys_nice'",
        to: "`*'",
        variant: Variant { graphics: true, ..Variant::base(&ANDROID_16) },
        complaint: "capability { sys_nice }",
    },
    Fault {
        about: "a rule of the base for /dev/ion, whose type a later release removes",
        from: "",
        to: "allow hal_anion_default ion_device:chr_file r_file_perms;",
        variant: Variant::base(&AFTER_17),
        complaint: "ion_device",
    },
    Fault {
        about: "memfds that the service cannot open again on releases with a class for memfds",
        from: "allow hal_anion_default hal_anion_default_tmpfs:memfd_file { open setattr };",
        to: "",
        variant: Variant::full(&ANDROID_17),
        complaint: "memfd_file",
    },
];

/// Restores each fault, and checks that it is found with the expected error.
///
/// # Errors
/// With the first fault that is not found, or found with another error.
pub(super) fn are_found(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    for fault in &FAULTS {
        let (faulty, is_made) = match fault.from {
            "" => (sources.with(fault.to), true),
            from => sources.replaced(from, fault.to),
        };
        ensure!(
            is_made,
            "{}: the sources do not contain {:?}, which the fault replaces",
            fault.about,
            fault.from
        );
        let error =
            super::answers(&faulty, fault.variant, scratch, &mut Tally::default()).err().with_context(
                || format!("the checks do not detect this fault in {}: {}", fault.variant, fault.about),
            )?;
        let error = format!("{error:#}");
        ensure!(
            error.contains(fault.complaint),
            "{}: the checks report another error:\n{error}",
            fault.about
        );
        *tally += Tally::one(true);
    }
    declarations_collide(sources, scratch)?;
    *tally += Tally::one(true);
    println!("the checks detect each of {} restored faults", FAULTS.len() + 1);
    Ok(())
}

/// Checks that the compiler refuses `sepolicy/udmabuf-until-16-qpr1` on a platform that declares
/// the type.
fn declarations_collide(sources: &Sources, scratch: &Path) -> Result<()> {
    let error = sources
        .with_declared_udmabuf()
        .compile(Variant::full(&ANDROID_16_QPR2), scratch)
        .err()
        .context("the policy compiles with two declarations of udmabuf's type")?;
    let error = format!("{error:#}");
    ensure!(
        error.contains("udmabuf_device"),
        "two declarations of udmabuf's type cause another error:\n{error}"
    );
    Ok(())
}
