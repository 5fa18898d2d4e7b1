// SPDX-License-Identifier: Apache-2.0
//! The open directories that this library lists: the objects that `DIR *` points to.

use anion_nodes::Entry;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// An open directory: the C library's, or a list of this library's.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Dirp(*mut c_void);

/// The program's memory for a `struct dirent`.
#[repr(transparent)]
pub struct Dirent<'a>(*mut libc::dirent, PhantomData<&'a mut libc::dirent>);

/// The program's memory for a `struct dirent64`.
#[repr(transparent)]
pub struct Dirent64<'a>(*mut libc::dirent64, PhantomData<&'a mut libc::dirent64>);

/// One open directory of dma-heaps.
pub(crate) struct List {
    pub(crate) fd: OwnedFd,
    pub(crate) entries: Vec<Entry>,
    /// The next entry: 0 and 1 are the directory itself and its parent.
    pub(crate) next: usize,
    line: Line,
}

/// The last entry, in both forms.
struct Line {
    old: libc::dirent,
    new: libc::dirent64,
}

/// Most lists that can be open at the same time.
const MAX_LISTS: usize = 64;

static LISTS: [AtomicPtr<List>; MAX_LISTS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_LISTS];
/// The number of open lists.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Dirp {
    /// No directory.
    pub(crate) const NULL: Self = Self(ptr::null_mut());

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Returns an object for a new list; `None` if too many are open.
    pub(crate) fn new(fd: OwnedFd, entries: Vec<Entry>) -> Option<Self> {
        // SAFETY: both structures consist of integers, for which zero is a valid value.
        let line = unsafe { std::mem::zeroed::<Line>() };
        let list = Box::into_raw(Box::new(List { fd, entries, next: 0, line }));
        let free = |slot: &&AtomicPtr<List>| {
            slot.compare_exchange(ptr::null_mut(), list, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if LISTS.iter().find(free).is_none() {
            // SAFETY: made by `Box::into_raw` above, and in no slot.
            drop(unsafe { Box::from_raw(list) });
            return None;
        }
        COUNT.fetch_add(1, Ordering::AcqRel);
        Some(Self(list.cast()))
    }

    fn slot(self) -> Option<&'static AtomicPtr<List>> {
        if COUNT.load(Ordering::Acquire) == 0 || self.is_null() {
            return None;
        }
        LISTS.iter().find(|slot| slot.load(Ordering::Acquire) == self.0.cast())
    }

    /// Returns its list; `None` if it is the C library's.
    pub(crate) fn list<'a>(self) -> Option<&'a mut List> {
        let list = self.slot()?.load(Ordering::Acquire);
        // SAFETY: the pointer in a slot was made by `Box::into_raw`, and only `close` frees it. As
        // for readdir(3), a program uses an open directory in one thread at a time, and not after
        // it has closed it.
        Some(unsafe { &mut *list })
    }

    /// Closes its list, and the descriptor of the list. Returns whether it had one.
    pub(crate) fn close(self) -> bool {
        let Some(slot) = self.slot() else { return false };
        let list = slot.swap(ptr::null_mut(), Ordering::AcqRel);
        COUNT.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: made by `Box::into_raw`, and removed from its slot, so no other code finds it.
        drop(unsafe { Box::from_raw(list) });
        true
    }
}

/// Fills in one form of an entry.
macro_rules! fill {
    ($line:expr, $inode:expr, $next:expr, $kind:expr, $name:expr, $type:ty) => {
        $line.d_ino = $inode.into();
        $line.d_off = i64::try_from($next).unwrap_or(i64::MAX).into();
        $line.d_reclen = u16::try_from(size_of::<$type>()).unwrap_or(0);
        $line.d_type = $kind;
        $line.d_name.fill(0);
        for (to, from) in $line.d_name.iter_mut().zip($name.bytes()) {
            *to = from.cast_signed();
        }
    };
}

impl List {
    /// Advances to the next entry. Returns whether there is one.
    fn advance(&mut self) -> bool {
        let (name, inode, kind) = match self.next {
            0 => (".", 2, libc::DT_DIR),
            1 => ("..", 1, libc::DT_DIR),
            next => match self.entries.get(next - 2) {
                Some(entry) => (entry.name.as_str(), entry.inode, libc::DT_CHR),
                None => return false,
            },
        };
        self.next += 1;
        fill!(self.line.old, inode, self.next, kind, name, libc::dirent);
        fill!(self.line.new, inode, self.next, kind, name, libc::dirent64);
        true
    }

    /// Returns the next entry, which is valid until the following call; NULL at the end.
    pub(crate) fn read(&mut self) -> *mut libc::dirent {
        if self.advance() { &raw mut self.line.old } else { ptr::null_mut() }
    }

    /// Returns the same in the 64-bit form.
    pub(crate) fn read64(&mut self) -> *mut libc::dirent64 {
        if self.advance() { &raw mut self.line.new } else { ptr::null_mut() }
    }

    /// Writes the next entry to the program's memory, and its address to `result`: NULL at the end.
    pub(crate) fn read_to(&mut self, entry: Dirent<'_>, result: &mut *mut libc::dirent) {
        *result = ptr::null_mut();
        if self.advance() {
            // SAFETY: values come from C alone (the field is private), where this is room for one.
            unsafe { entry.0.write(self.line.old) };
            *result = entry.0;
        }
    }

    /// Does the same in the 64-bit form.
    pub(crate) fn read64_to(&mut self, entry: Dirent64<'_>, result: &mut *mut libc::dirent64) {
        *result = ptr::null_mut();
        if self.advance() {
            // SAFETY: values come from C alone (the field is private), where this is room for one.
            unsafe { entry.0.write(self.line.new) };
            *result = entry.0;
        }
    }
}
