// SPDX-License-Identifier: Apache-2.0
//! The root directory below which the machine's files are read.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

/// The directory that replaces `/`.
#[derive(Debug)]
pub(crate) struct Root(PathBuf);

/// State of a device's path.
#[derive(Debug)]
pub(crate) enum Device {
    /// No file.
    Absent,
    /// A file that this process cannot use, and the reason.
    Closed(io::Error),
    /// A character device that this process could open.
    Open,
}

/// The function that opens a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    ReadWrite,
}

impl Root {
    /// Returns the root of the running machine.
    pub(crate) fn machine() -> Self {
        Self::at("/")
    }

    /// Returns another directory.
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Returns the path of the file of this absolute path.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// Returns the file's text, trimmed; `None` if it cannot be read.
    pub(crate) fn text(&self, absolute: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(absolute)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Returns the number in the file.
    pub(crate) fn number(&self, absolute: &str) -> Option<u64> {
        self.text(absolute)?.parse().ok()
    }

    /// Returns the names in a directory, sorted; none if the directory does not exist.
    ///
    /// # Errors
    /// If the directory exists and cannot be read.
    pub(crate) fn names(&self, absolute: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(absolute)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Opens a device and closes it again. Makes no ioctl: another driver may use the same number.
    pub(crate) fn device(&self, absolute: &str, mode: Mode) -> Device {
        let path = self.path(absolute);
        // Checked before opening: opening a file of another kind may have an effect.
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Device::Absent,
            Err(error) => return Device::Closed(error),
            Ok(meta) if !meta.file_type().is_char_device() => {
                return Device::Closed(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is no character device",
                ));
            }
            Ok(_) => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(mode == Mode::ReadWrite).custom_flags(nix::libc::O_NONBLOCK);
        match options.open(path) {
            Ok(_) => Device::Open,
            Err(error) => Device::Closed(error),
        }
    }
}

/// A directory that tests fill with the files of a machine.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct Fake {
        directory: tempfile::TempDir,
        pub(crate) root: Root,
    }

    impl Fake {
        /// Returns a root with these files and their texts.
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let root = Root::at(directory.path());
            let fake = Self { directory, root };
            for (path, text) in files {
                let path = fake.make_parent(path);
                fs::write(path, text).expect("written");
            }
            fake
        }

        /// Adds a character device that can be opened.
        pub(crate) fn with_device(self, path: &str) -> Self {
            std::os::unix::fs::symlink("/dev/null", self.make_parent(path)).expect("linked");
            self
        }

        fn make_parent(&self, path: &str) -> PathBuf {
            let path = self.root.path(path);
            assert!(path.starts_with(self.directory.path()));
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            path
        }
    }

    #[test]
    fn absent_closed_and_open_devices_are_distinguished() {
        let fake = Fake::new(&[("/dev/file", "1\n")]).with_device("/dev/device");
        assert!(matches!(fake.root.device("/dev/absent", Mode::Read), Device::Absent));
        assert!(matches!(fake.root.device("/dev/device", Mode::ReadWrite), Device::Open));
        let Device::Closed(error) = fake.root.device("/dev/file", Mode::Read) else { panic!("no device") };
        assert_eq!(error.to_string(), "it is no character device");
        assert_eq!((fake.root.number("/dev/file"), fake.root.number("/dev/absent")), (Some(1), None));
        assert_eq!(fake.root.names("/dev").expect("readable"), ["device", "file"]);
        assert!(fake.root.names("/sys").expect("none").is_empty());
    }
}
