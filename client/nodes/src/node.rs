// SPDX-License-Identifier: Apache-2.0
//! The nodes and their places.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The place of ION's node.
pub const ION: &str = "/dev/ion";
/// The place of the directory of dma-heaps.
pub const DMA_HEAPS: &str = "/dev/dma_heap";

/// Most bytes of a heap's name.
const MAX_NAME: usize = 31;

/// A text that can be a heap's name: 1 to 31 bytes of UTF-8 without a slash or NUL. It needs no
/// allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapName {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl HeapName {
    /// Returns the name; `None` if no heap can have it.
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_possible = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
        let mut bytes = [0; MAX_NAME];
        bytes.get_mut(..name.len()).filter(|_| is_possible)?.copy_from_slice(name);
        std::str::from_utf8(name).ok()?;
        Some(Self { bytes, length: name.len() })
    }

    /// Returns it as a text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Debug for HeapName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A node that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// `/dev/ion`.
    Ion,
    /// `/dev/dma_heap`.
    DmaHeapDirectory,
    /// A node of that directory. No heap need have this name.
    DmaHeap(HeapName),
}

/// What stat(2) shows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStatus {
    /// Type and permissions: anybody may open a node, as the service decides who gets buffers.
    pub mode: libc::mode_t,
    /// The device number of a node; 0 for the directory.
    pub rdev: libc::dev_t,
}

/// ION's number, of those that the kernel gives out to devices without one: no driver has it on
/// all machines.
const ION_DEVICE: (libc::c_uint, libc::c_uint) = (10, 62);
/// The major number of dma-heaps, of those that the kernel gives out.
const DMA_HEAP_MAJOR: libc::c_uint = 251;

impl Node {
    /// Returns what stat(2) shows of it. All dma-heaps have the same device number.
    pub fn status(self) -> NodeStatus {
        let device = |(major, minor)| libc::makedev(major, minor);
        match self {
            Self::Ion => NodeStatus { mode: libc::S_IFCHR | 0o666, rdev: device(ION_DEVICE) },
            Self::DmaHeap(_) => NodeStatus { mode: libc::S_IFCHR | 0o666, rdev: device((DMA_HEAP_MAJOR, 0)) },
            Self::DmaHeapDirectory => NodeStatus { mode: libc::S_IFDIR | 0o755, rdev: 0 },
        }
    }

    /// Returns the node that `name` means in the directory; `None` if it is none that is served.
    pub fn below_directory(name: &Path) -> Option<Self> {
        if name.is_absolute() {
            node_at(name)
        } else {
            walk([OsStr::new("dev"), OsStr::new("dma_heap")], name)
        }
    }
}

/// Returns the node at an absolute path, which need not be normalised: symbolic links are not
/// followed. Makes no system call and allocates nothing.
pub fn node_at(path: &Path) -> Option<Node> {
    if path.is_absolute() { walk([], path) } else { None }
}

/// Follows `path` from the directory that `start` names.
fn walk<const N: usize>(start: [&OsStr; N], path: &Path) -> Option<Node> {
    let mut steps: [&[u8]; 3] = [b""; 3];
    let mut depth = 0;
    let words = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    for word in start.iter().map(|word| word.as_bytes()).chain(words) {
        match word {
            b"" | b"." => {}
            b".." => depth = usize::saturating_sub(depth, 1),
            word => {
                if let Some(step) = steps.get_mut(depth) {
                    *step = word;
                }
                depth += 1;
            }
        }
    }
    match (steps.get(..depth)?, path.as_os_str().as_bytes().ends_with(b"/")) {
        ([b"dev", b"dma_heap"], _) => Some(Node::DmaHeapDirectory),
        ([b"dev", b"ion"], false) => Some(Node::Ion),
        ([b"dev", b"dma_heap", name], false) => HeapName::new(name).map(Node::DmaHeap),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap(name: &str) -> Option<Node> {
        HeapName::new(name.as_bytes()).map(Node::DmaHeap)
    }

    #[test]
    fn nodes_are_found_at_every_spelling_of_their_places() {
        let cases = [
            ("/dev/ion", Some(Node::Ion)),
            ("//dev/./ion", Some(Node::Ion)),
            ("/a/b/c/d/../../../../dev/x/../ion", Some(Node::Ion)),
            ("/../dev/ion", Some(Node::Ion)),
            ("/dev/ion/", None),
            ("/dev/ion/x", None),
            ("dev/ion", None),
            ("/dev/ions", None),
            ("/dev", None),
            ("/dev/dma_heap", Some(Node::DmaHeapDirectory)),
            ("/dev/dma_heap/", Some(Node::DmaHeapDirectory)),
            ("/dev/dma_heap/linux,cma", heap("linux,cma")),
            ("/dev/dma_heap/system/", None),
            ("/dev/dma_heap/system/x", None),
            ("/dev/dma_heap/a-name-of-more-than-31-bytes-xxxx", None),
        ];
        for (path, node) in cases {
            assert_eq!(node_at(Path::new(path)), node, "{path}");
        }
        assert_eq!(Node::below_directory(Path::new("system")), heap("system"));
        assert_eq!(Node::below_directory(Path::new("../ion")), Some(Node::Ion));
        assert_eq!(Node::below_directory(Path::new(".")), Some(Node::DmaHeapDirectory));
        assert_eq!(Node::below_directory(Path::new("/dev/ion")), Some(Node::Ion));
    }

    #[test]
    fn a_heap_has_a_name_of_1_to_31_bytes() {
        assert_eq!(HeapName::new(&[b'x'; 31]).expect("a name").as_str().len(), 31);
        for bad in [&b""[..], &[b'x'; 32], b"a/b", b"a\0", b"\xff"] {
            assert!(HeapName::new(bad).is_none(), "{bad:?}");
        }
    }
}
