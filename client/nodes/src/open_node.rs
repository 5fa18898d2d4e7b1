// SPDX-License-Identifier: Apache-2.0
//! The descriptor of an open node.

use crate::node::{HeapName, Node};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::sys::uio::pread;
use nix::unistd::{dup, write};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The first bytes of the file of an open node.
const MAGIC: &[u8; 16] = b"anion open node\n";
/// The bytes of that file: the magic, the kind of node, and a heap's name with NULs after it.
pub const LENGTH: usize = MAGIC.len() + 1 + NAME;
const NAME: usize = 31;

/// A descriptor of an open node.
#[derive(Debug, Clone, Copy)]
pub struct OpenNode<'a> {
    /// The node.
    pub node: Node,
    pub(crate) fd: BorrowedFd<'a>,
}

impl<'a> OpenNode<'a> {
    /// Returns the node of a descriptor; `None` if it is no open node, or not open. Allocates
    /// nothing. Makes two system calls; one for files without seals.
    pub fn of(fd: BorrowedFd<'a>) -> Option<Self> {
        let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS).ok()?);
        if !seals.contains(seals_of_nodes()) {
            return None;
        }
        // A file that is one byte longer is no node.
        let mut content = [0; LENGTH + 1];
        if pread(fd, &mut content, 0) != Ok(LENGTH) {
            return None;
        }
        Some(Self { node: node_of(&content[..LENGTH])?, fd })
    }

    /// Returns the inode: duplicates of a descriptor have the same, each open(2) creates another.
    ///
    /// # Errors
    /// As fstat(2).
    pub(crate) fn inode(&self) -> Result<libc::ino_t, Errno> {
        Ok(fstat(self.fd)?.st_ino)
    }
}

/// Returns the seals of nodes: the content cannot change, and no seal can be added.
fn seals_of_nodes() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

fn content_of(node: Node) -> [u8; LENGTH] {
    let mut content = [0; LENGTH];
    content[..MAGIC.len()].copy_from_slice(MAGIC);
    let (kind, name) = match &node {
        Node::Ion => (b'i', ""),
        Node::DmaHeapDirectory => (b'd', ""),
        Node::DmaHeap(name) => (b'h', name.as_str()),
    };
    content[MAGIC.len()] = kind;
    content[MAGIC.len() + 1..][..name.len()].copy_from_slice(name.as_bytes());
    content
}

fn node_of(content: &[u8]) -> Option<Node> {
    let (kind, name) = content.strip_prefix(MAGIC)?.split_first()?;
    match kind {
        b'i' => Some(Node::Ion),
        b'd' => Some(Node::DmaHeapDirectory),
        b'h' => HeapName::new(name.split(|byte| *byte == 0).next()?).map(Node::DmaHeap),
        _ => None,
    }
}

/// Creates the descriptor of an open node, with the access mode, `O_CLOEXEC`, `O_NONBLOCK` and
/// `O_PATH` of `flags`. A write-only descriptor can be read, too.
///
/// # Errors
/// As open(2) of such a node, and as memfd_create(2).
pub(crate) fn make(node: Node, flags: OFlag) -> Result<OwnedFd, Errno> {
    let access = flags & OFlag::O_ACCMODE;
    let creates = flags.contains(OFlag::O_CREAT);
    if node == Node::DmaHeapDirectory {
        if access != OFlag::O_RDONLY || creates {
            return Err(Errno::EISDIR);
        }
    } else if creates && flags.contains(OFlag::O_EXCL) {
        return Err(Errno::EEXIST);
    } else if flags.contains(OFlag::O_DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    let name = match &node {
        Node::Ion => "anion:ion".to_owned(),
        Node::DmaHeapDirectory => "anion:dma_heap".to_owned(),
        Node::DmaHeap(name) => format!("anion:dma_heap/{}", name.as_str()),
    };
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let file = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    if write(&file, &content_of(node))? != LENGTH {
        return Err(Errno::EIO);
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals_of_nodes()))?;
    let access = if access == OFlag::O_RDONLY { access } else { OFlag::O_RDWR };
    let kept = flags & (OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_PATH);
    let fd = reopen(file.as_fd(), access | kept)?;
    // The program gets the lowest free number, as with any open(2).
    drop(file);
    let lowest = dup(&fd)?;
    if flags.contains(OFlag::O_CLOEXEC) {
        fcntl(&lowest, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(lowest)
}

/// Opens the file of a descriptor again. The new description counts among the file's readers or
/// writers, unlike that of memfd_create(2).
///
/// # Errors
/// As open(2); `ENOENT` if /proc is not mounted.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
    let place: PathBuf = format!("/proc/self/fd/{}", fd.as_raw_fd()).into();
    open(&place, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn a_descriptor_tells_its_node_and_its_copies_are_the_same_open_node() {
        let heap = Node::DmaHeap(HeapName::new(b"camera").expect("a name"));
        for node in [Node::Ion, Node::DmaHeapDirectory, heap] {
            let fd = make(node, OFlag::O_RDONLY | OFlag::O_CLOEXEC).expect("opened");
            let open = OpenNode::of(fd.as_fd()).expect("a node");
            assert_eq!(open.node, node);
            let copy = fd.try_clone().expect("a copy");
            let inode = |fd: &OwnedFd| OpenNode::of(fd.as_fd()).expect("a node").inode().expect("fstat");
            assert_eq!(inode(&copy), inode(&fd));
            let other = make(node, OFlag::O_RDONLY).expect("opened");
            assert_ne!(inode(&other), inode(&fd));
        }
    }

    #[test]
    fn flags_are_kept_and_judged_as_for_a_device() {
        let flags = |fd: &OwnedFd, command| fcntl(fd, command).expect("flags");
        let fd = make(Node::Ion, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK).expect("opened");
        let status = OFlag::from_bits_retain(flags(&fd, FcntlArg::F_GETFL));
        assert!(status.contains(OFlag::O_RDWR | OFlag::O_NONBLOCK), "{status:?}");
        assert_eq!(flags(&fd, FcntlArg::F_GETFD), 0);
        let cases = [
            (Node::Ion, OFlag::O_DIRECTORY, Errno::ENOTDIR),
            (Node::Ion, OFlag::O_CREAT | OFlag::O_EXCL, Errno::EEXIST),
            (Node::DmaHeapDirectory, OFlag::O_RDWR, Errno::EISDIR),
        ];
        for (node, flags, errno) in cases {
            assert_eq!(make(node, flags).err(), Some(errno), "{node:?} {flags:?}");
        }
    }

    #[test]
    fn other_files_are_no_nodes() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&content_of(Node::Ion)).expect("written");
        assert!(OpenNode::of(file.as_fd()).is_none(), "it is not sealed");
        let null = File::open("/dev/null").expect("open");
        assert!(OpenNode::of(null.as_fd()).is_none());
    }
}
