// SPDX-License-Identifier: Apache-2.0
//! The third-party crates in the `rustlibs` of Android.bp.
//!
//! `tests/android_bp.rs` uses it too.

/// The source of a crate in an Android tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is in AOSP's external/rust/android-crates-io, with this version and these features.
    Aosp,
    /// AOSP lacks it, or its version is too old or has too few features. docs/android.md describes
    /// how to import it.
    Imported,
}

/// A module of a Rust library, and its crate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    /// Its name in `rustlibs`.
    pub(crate) module: &'static str,
    /// Its name in the registry and in Cargo.toml.
    pub(crate) package: &'static str,
    /// The version in the tree.
    pub(crate) version: &'static str,
    /// The features in the tree. Required default features are listed, too.
    pub(crate) features: &'static [&'static str],
    pub(crate) origin: Origin,
}

const fn aosp(
    module: &'static str,
    package: &'static str,
    version: &'static str,
    features: &'static [&'static str],
) -> Library {
    Library { module, package, version, features, origin: Origin::Aosp }
}

const fn imported(
    module: &'static str,
    package: &'static str,
    version: &'static str,
    features: &'static [&'static str],
) -> Library {
    Library { module, package, version, features, origin: Origin::Imported }
}

/// Every module that Android.bp may name. Versions and features of AOSP's modules are those of its
/// tree in early 2026.
pub(crate) const LIBRARIES: &[Library] = &[
    aosp("libandroid_logger", "android_logger", "0.15.0", &["default"]),
    aosp("libanyhow", "anyhow", "1.0.97", &["std"]),
    aosp("libclap", "clap", "4.5.53", &["derive", "error-context", "help", "std", "string", "usage"]),
    aosp("libcommand_fds", "command-fds", "0.3.0", &[]),
    aosp("libenv_logger", "env_logger", "0.11.6", &[]),
    aosp("libhumantime", "humantime", "2.3.0", &[]),
    // The imported nix needs a newer libc than the 0.2.168 of that tree. The old one stays for all
    // other users.
    imported("liblibc_anion", "libc", "0.2.180", &["std", "extra_traits"]),
    aosp("liblog_rust", "log", "0.4.26", &["std"]),
    aosp("libproptest", "proptest", "1.5.0", &["default"]),
    aosp("libserde", "serde", "1.0.219", &["derive", "rc", "std"]),
    aosp("libserde_json", "serde_json", "1.0.142", &["std"]),
    aosp("libsignal_hook", "signal-hook", "0.3.17", &["channel", "iterator"]),
    aosp("libstrsim", "strsim", "0.11.1", &[]),
    aosp("libtempfile", "tempfile", "3.23.0", &["default", "getrandom"]),
    aosp("libthiserror", "thiserror", "2.0.11", &["std"]),
    imported("libbytesize_anion", "bytesize", "2.7.0", &["std"]),
    imported("libcomfy_table_anion", "comfy-table", "8.0.1", &[]),
    imported("liblibtest_mimic_anion", "libtest-mimic", "0.8.2", &[]),
    imported(
        "libnix_anion",
        "nix",
        "0.31.0",
        &[
            "event", "feature", "fs", "inotify", "ioctl", "mman", "poll", "process", "resource", "signal",
            "socket", "time", "uio", "user",
        ],
    ),
    imported("libparse_size_anion", "parse-size", "1.1.0", &["std"]),
];

/// Returns the library with the name `module` in `rustlibs`.
pub(crate) fn library(module: &str) -> Option<&'static Library> {
    LIBRARIES.iter().find(|library| library.module == module)
}
