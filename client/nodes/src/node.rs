// SPDX-License-Identifier: Apache-2.0
//! The nodes and their paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The path of ION's node.
pub const ION: &str = "/dev/ion";
/// The path of the directory of dma-heaps.
pub const DMA_HEAPS: &str = "/dev/dma_heap";

/// Most bytes of a heap's name.
const MAX_NAME: usize = 31;

/// A text that can be a heap's name: 1 to 31 bytes of UTF-8 without a slash or NUL. Stored without
/// an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapName {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl HeapName {
    /// Returns the name; `None` if it is not valid.
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_possible = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
        let mut bytes = [0; MAX_NAME];
        bytes.get_mut(..name.len()).filter(|_| is_possible)?.copy_from_slice(name);
        std::str::from_utf8(name).ok()?;
        Some(Self { bytes, length: name.len() })
    }

    /// Returns a 32-bit hash (FNV-1a) of the name, at least 3.
    fn number(&self) -> u64 {
        let hash = self
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        u64::from(hash.max(3))
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
    /// A node of that directory. A heap with this name may not exist.
    DmaHeap(HeapName),
}

/// The values of stat(2) for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStatus {
    /// Type and permissions: every user may open a node, since the service checks permissions for
    /// each buffer.
    pub mode: libc::mode_t,
    /// The device number of a node; 0 for the directory.
    pub rdev: libc::dev_t,
    /// Its own inode number; those of heaps are computed from their names.
    pub inode: u64,
}

/// ION's device number, from the range that the kernel assigns dynamically: no driver has it on all
/// machines.
const ION_DEVICE: (libc::c_uint, libc::c_uint) = (10, 62);
/// The major number of dma-heaps, from the range that the kernel assigns dynamically.
const DMA_HEAP_MAJOR: libc::c_uint = 251;

impl Node {
    /// Returns the values of stat(2) for the node. All dma-heaps have the same device number.
    pub fn status(self) -> NodeStatus {
        let (mode, rdev, inode) = match &self {
            Self::Ion => (libc::S_IFCHR | 0o666, libc::makedev(ION_DEVICE.0, ION_DEVICE.1), 1),
            Self::DmaHeapDirectory => (libc::S_IFDIR | 0o755, 0, 2),
            Self::DmaHeap(name) => (libc::S_IFCHR | 0o666, libc::makedev(DMA_HEAP_MAJOR, 0), name.number()),
        };
        NodeStatus { mode, rdev, inode }
    }
}

/// Returns the node at an absolute path, which may be not normalised. Does not follow symbolic
/// links. Makes no system call and allocates nothing.
pub fn node_at(path: &Path) -> Option<Node> {
    if path.is_absolute() { node_below(Path::new("/"), path) } else { None }
}

/// Returns the node at `path` relative to the absolute path `directory`. Otherwise as [`node_at`].
pub fn node_below(directory: &Path, path: &Path) -> Option<Node> {
    let start = if path.is_absolute() { Path::new("/") } else { directory };
    let mut steps: [&[u8]; 3] = [b""; 3];
    let mut depth = 0;
    let [start, path] = [start, path].map(|path| path.as_os_str().as_bytes());
    for word in start.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
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
    match (steps.get(..depth)?, path.ends_with(b"/")) {
        ([b"dev", b"dma_heap"], _) => Some(Node::DmaHeapDirectory),
        ([b"dev", b"ion"], false) => Some(Node::Ion),
        ([b"dev", b"dma_heap", name], false) => HeapName::new(name).map(Node::DmaHeap),
        _ => None,
    }
}

/// Returns whether an absolute path leads to the directory of devices through that of dma-heaps,
/// which the machine may lack.
pub fn is_above_dma_heaps(path: &Path) -> bool {
    let below = path.as_os_str().as_bytes().strip_suffix(b"/..");
    below.is_some_and(|below| node_at(Path::new(OsStr::from_bytes(below))) == Some(Node::DmaHeapDirectory))
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
        let below = |path| node_below(Path::new(DMA_HEAPS), Path::new(path));
        assert_eq!(below("system"), heap("system"));
        assert_eq!(below("../ion"), Some(Node::Ion));
        assert_eq!(below("."), Some(Node::DmaHeapDirectory));
        assert_eq!(below("/dev/ion"), Some(Node::Ion));
    }

    #[test]
    fn a_heap_has_a_name_of_1_to_31_bytes() {
        assert_eq!(HeapName::new(&[b'x'; 31]).expect("a name").as_str().len(), 31);
        for bad in [&b""[..], &[b'x'; 32], b"a/b", b"a\0", b"\xff"] {
            assert!(HeapName::new(bad).is_none(), "{bad:?}");
        }
    }
}
