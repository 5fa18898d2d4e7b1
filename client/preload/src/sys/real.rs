// SPDX-License-Identifier: Apache-2.0
//! The C library's own functions, or those of the next library with the same names.
//!
//! A thread that is cancelled (pthread_cancel(3)) in one of them unwinds through the calling
//! function of this library. So neither kind may have an ABI that aborts on unwinding, and the
//! callers have nothing to drop.

use super::list::{Dirent, Dirent64, Dirp};
use super::status::{Stat, Stat64, Statx};
use super::{Rest, Text, set_errno};
use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The result of a function without a result.
type Nothing = ();

/// The address of a function, resolved once.
struct Address {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Address {
    const fn new(name: &'static str) -> Self {
        let Ok(name) = CStr::from_bytes_with_nul(name.as_bytes()) else { panic!("names end with a NUL") };
        Self { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns the function; `None` if no library has it.
    fn function<F: Copy>(&self) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.get();
        // SAFETY: only `real!` calls this, with the prototype of the C library's function of this
        // name; for a variadic function, the program's arguments are in the same places. A pointer
        // to a function has the size of other pointers (asserted), and is not NULL.
        (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
    }

    /// Returns the address; NULL if no library has the function.
    fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name is NUL-terminated. It is called from this library, after which RTLD_NEXT
        // begins to search.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Declares functions, each with the result to return if the C library has none of this name.
macro_rules! real {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $failed:expr;)*) => {
        #[expect(non_upper_case_globals, reason = "named as the functions are")]
        mod addresses {
            $(pub(super) static $name: super::Address = super::Address::new(concat!(stringify!($name), "\0"));)*
        }

        /// Resolves all of them.
        pub(crate) fn find_all() {
            $(addresses::$name.get();)*
        }

        $(
            #[doc = concat!("Calls ", stringify!($name), "(3) as the program did.")]
            pub(crate) fn $name($($argument: $type),*) -> $result {
                match addresses::$name.function::<extern "C-unwind" fn($($type),*) -> $result>() {
                    Some(function) => function($($argument),*),
                    None => {
                        set_errno(libc::ENOSYS);
                        $failed
                    }
                }
            }
        )*
    };
}

real! {
    open(path: Text<'_>, flags: c_int, mode: Rest) -> c_int = -1;
    open64(path: Text<'_>, flags: c_int, mode: Rest) -> c_int = -1;
    __open_2(path: Text<'_>, flags: c_int) -> c_int = -1;
    __open64_2(path: Text<'_>, flags: c_int) -> c_int = -1;
    openat(directory: c_int, path: Text<'_>, flags: c_int, mode: Rest) -> c_int = -1;
    openat64(directory: c_int, path: Text<'_>, flags: c_int, mode: Rest) -> c_int = -1;
    __openat_2(directory: c_int, path: Text<'_>, flags: c_int) -> c_int = -1;
    __openat64_2(directory: c_int, path: Text<'_>, flags: c_int) -> c_int = -1;
    fopen(path: Text<'_>, mode: Text<'_>) -> *mut libc::FILE = ptr::null_mut();
    fopen64(path: Text<'_>, mode: Text<'_>) -> *mut libc::FILE = ptr::null_mut();
    close(fd: c_int) -> c_int = -1;
    ioctl(fd: c_int, request: c_ulong, argument: Rest) -> c_int = -1;
    access(path: Text<'_>, mode: c_int) -> c_int = -1;
    eaccess(path: Text<'_>, mode: c_int) -> c_int = -1;
    euidaccess(path: Text<'_>, mode: c_int) -> c_int = -1;
    faccessat(directory: c_int, path: Text<'_>, mode: c_int, flags: c_int) -> c_int = -1;
    stat(path: Text<'_>, status: Stat<'_>) -> c_int = -1;
    stat64(path: Text<'_>, status: Stat64<'_>) -> c_int = -1;
    lstat(path: Text<'_>, status: Stat<'_>) -> c_int = -1;
    lstat64(path: Text<'_>, status: Stat64<'_>) -> c_int = -1;
    fstat(fd: c_int, status: Stat<'_>) -> c_int = -1;
    fstat64(fd: c_int, status: Stat64<'_>) -> c_int = -1;
    fstatat(directory: c_int, path: Text<'_>, status: Stat<'_>, flags: c_int) -> c_int = -1;
    fstatat64(directory: c_int, path: Text<'_>, status: Stat64<'_>, flags: c_int) -> c_int = -1;
    statx(directory: c_int, path: Text<'_>, flags: c_int, mask: c_uint, status: Statx<'_>) -> c_int = -1;
    __xstat(version: c_int, path: Text<'_>, status: Stat<'_>) -> c_int = -1;
    __xstat64(version: c_int, path: Text<'_>, status: Stat64<'_>) -> c_int = -1;
    __lxstat(version: c_int, path: Text<'_>, status: Stat<'_>) -> c_int = -1;
    __lxstat64(version: c_int, path: Text<'_>, status: Stat64<'_>) -> c_int = -1;
    __fxstat(version: c_int, fd: c_int, status: Stat<'_>) -> c_int = -1;
    __fxstat64(version: c_int, fd: c_int, status: Stat64<'_>) -> c_int = -1;
    __fxstatat(version: c_int, directory: c_int, path: Text<'_>, status: Stat<'_>, flags: c_int) -> c_int = -1;
    __fxstatat64(version: c_int, directory: c_int, path: Text<'_>, status: Stat64<'_>, flags: c_int) -> c_int = -1;
    getxattr(path: Text<'_>, name: Text<'_>, value: Rest, size: usize) -> isize = -1;
    lgetxattr(path: Text<'_>, name: Text<'_>, value: Rest, size: usize) -> isize = -1;
    opendir(path: Text<'_>) -> Dirp = Dirp::NULL;
    fdopendir(fd: c_int) -> Dirp = Dirp::NULL;
    readdir(directory: Dirp) -> *mut libc::dirent = ptr::null_mut();
    readdir64(directory: Dirp) -> *mut libc::dirent64 = ptr::null_mut();
    readdir_r(directory: Dirp, entry: Dirent<'_>, result: &mut *mut libc::dirent) -> c_int = libc::ENOSYS;
    readdir64_r(directory: Dirp, entry: Dirent64<'_>, result: &mut *mut libc::dirent64) -> c_int = libc::ENOSYS;
    rewinddir(directory: Dirp) -> Nothing = Nothing::default();
    telldir(directory: Dirp) -> c_long = -1;
    seekdir(directory: Dirp, place: c_long) -> Nothing = Nothing::default();
    dirfd(directory: Dirp) -> c_int = -1;
    closedir(directory: Dirp) -> c_int = -1;
}

const _: () = assert!(size_of::<Text<'_>>() == size_of::<*const c_char>());
