// SPDX-License-Identifier: Apache-2.0
//! Results that callers read as structures: a structure, and the data of its pointers.

use std::any::Any;
use std::ffi::c_char;
use std::ptr;

/// A structure, and the data that its pointers refer to. Callers see only the head.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Record<T> {
    pub(crate) head: T,
    /// Vectors, whose elements do not move when this object moves.
    kept: Vec<Box<dyn Any>>,
}

impl<T> Record<T> {
    /// Keeps `items`, and returns the address of the first one.
    pub(crate) fn keep<I: 'static>(&mut self, items: Vec<I>) -> *const I {
        let first = items.as_ptr();
        self.kept.push(Box::new(items));
        first
    }

    /// Keeps a text, and returns it as a C string. Replaces a NUL in it with a question mark.
    pub(crate) fn text(&mut self, text: &str) -> *const c_char {
        let bytes = text.replace('\0', "?").into_bytes();
        self.keep([bytes, vec![0]].concat()).cast()
    }

    /// Keeps texts, and returns an array of them with NULL at its end.
    pub(crate) fn texts(&mut self, texts: &[String]) -> *const *const c_char {
        let mut pointers: Vec<*const c_char> = texts.iter().map(|text| self.text(text)).collect();
        pointers.push(ptr::null());
        self.keep(pointers)
    }

    /// Keeps structures, and returns an array of pointers to them: a later version may append
    /// fields to the structures.
    pub(crate) fn pointers<I: 'static>(&mut self, items: Vec<I>) -> *const *const I {
        let count = items.len();
        let first = self.keep(items);
        self.keep((0..count).map(|index| first.wrapping_add(index)).collect())
    }

    /// Returns the address of the head for the caller, to be freed with `sys::free_record`.
    pub(crate) fn into_c(self) -> *mut T {
        Box::into_raw(Box::new(self)).cast()
    }
}
