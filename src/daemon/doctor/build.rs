// SPDX-License-Identifier: Apache-2.0
//! Reads the build configuration of the running kernel: its modules, built-in drivers, and missing
//! ones.

use super::root::Root;
#[cfg(not(soong))]
use flate2::read::GzDecoder;
#[cfg(not(soong))]
use std::fs::File;
#[cfg(not(soong))]
use std::io::Read;

/// Limit of the bytes of a kernel's configuration that are read. Real ones have about 350 KiB.
#[cfg(not(soong))]
const MOST_BYTES: u64 = 4 << 20;

/// Whether the kernel has a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Built {
    /// It is part of the kernel.
    In,
    /// It is a module.
    Module,
    /// The kernel was built without it.
    Without,
    /// The kernel's configuration cannot be read.
    Unknown,
}

/// Returns how the running kernel was built with respect to `option`, such as `CONFIG_UDMABUF`.
/// Reads /proc/config.gz, else the configuration that the distribution installed.
pub(crate) fn option(root: &Root, option: &str) -> Built {
    let Some(text) = configuration(root) else { return Built::Unknown };
    let value = text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
    match value.map(str::trim) {
        Some("y") => Built::In,
        Some("m") => Built::Module,
        _ => Built::Without,
    }
}

/// Returns the kernel's own copy of its configuration.
#[cfg(not(soong))]
fn packed(root: &Root) -> Option<String> {
    let file = File::open(root.path("/proc/config.gz")).ok()?;
    let mut text = String::new();
    GzDecoder::new(file).take(MOST_BYTES).read_to_string(&mut text).ok().map(|_| text)
}

/// Returns `None`: on a device init loads the modules, not the administrator.
#[cfg(soong)]
fn packed(_: &Root) -> Option<String> {
    None
}

fn configuration(root: &Root) -> Option<String> {
    packed(root).or_else(|| {
        let release = root.text("/proc/sys/kernel/osrelease")?;
        let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
        places.iter().find_map(|path| root.text(path))
    })
}

#[cfg(all(test, not(soong)))]
mod tests {
    use super::super::root::tests::Fake;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const TEXT: &str = "CONFIG_UDMABUF=m\nCONFIG_DMABUF_HEAPS=y\n# CONFIG_ION is not set\n";

    fn answers(root: &Root) -> [Built; 3] {
        ["CONFIG_UDMABUF", "CONFIG_DMABUF_HEAPS", "CONFIG_ION"].map(|name| option(root, name))
    }

    #[test]
    fn the_distribution_s_file_tells_and_without_one_nothing_is_known() {
        let fake = Fake::new(&[("/proc/sys/kernel/osrelease", "6.1.0\n"), ("/boot/config-6.1.0", TEXT)]);
        assert_eq!(answers(&fake.root), [Built::Module, Built::In, Built::Without]);
        let other = Fake::new(&[("/proc/sys/kernel/osrelease", "6.2.0\n"), ("/boot/config-6.1.0", TEXT)]);
        assert_eq!(answers(&other.root), [Built::Unknown; 3]);
    }

    #[test]
    fn the_kernel_s_own_copy_comes_first() {
        let fake = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.1.0\n"),
            ("/boot/config-6.1.0", "CONFIG_ION=y\n"),
            ("/proc/config.gz", ""),
        ]);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(TEXT.as_bytes()).expect("in memory");
        std::fs::write(fake.root.path("/proc/config.gz"), packed.finish().expect("in memory"))
            .expect("written");
        assert_eq!(answers(&fake.root), [Built::Module, Built::In, Built::Without]);
    }
}
