// SPDX-License-Identifier: Apache-2.0
//! Errors for C: a negative errno, and an object with the text.

use ::anion_client::{Error, Refusal, errno_of};
use std::any::Any;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, ptr};

/// The request is malformed. -EINVAL, as for arguments that the library itself refuses.
pub const ANION_BAD_REQUEST: i32 = 1;
/// No heap has this name, or is in this mask. -ENODEV.
pub const ANION_UNKNOWN_HEAP: i32 = 2;
/// The uid has no permission. -EPERM.
pub const ANION_NOT_PERMITTED: i32 = 3;
/// The heaps exist, but cannot give this kind of buffer on this machine. -EOPNOTSUPP.
pub const ANION_UNSUPPORTED: i32 = 4;
/// Memory, room or descriptors are exhausted. A later call may succeed. -ENOMEM.
pub const ANION_NO_MEMORY: i32 = 5;
/// The request would exceed the quota of the caller's uid. -EDQUOT.
pub const ANION_QUOTA_EXCEEDED: i32 = 6;
/// The descriptor is no live buffer of this service. -ENOENT.
pub const ANION_NOT_OURS: i32 = 7;
/// The kernel refused an operation of the service that should work. -EIO.
pub const ANION_BACKEND: i32 = 8;

/// Cause of a failed call.
pub struct anion_error {
    code: c_int,
    refusal: i32,
    message: CString,
}

/// Returns the negative errno that the call returned. In addition to those of the refusals:
/// -EINVAL, the library refuses an argument; -ENOTCONN, no service answers, or it did not start
/// again within the patience; -ETIMEDOUT, the service runs and did not answer; -EPROTO, its answer
/// violates the interface; -EMFILE, this process has no free descriptor for the answer; -ECHILD,
/// the object belongs to this process's parent; -ENOTRECOVERABLE, a bug of the library; else the
/// errno of a system call.
#[unsafe(no_mangle)]
pub extern "C" fn anion_error_code(error: Option<&anion_error>) -> c_int {
    error.map_or(0, |error| error.code)
}

/// Returns the service's refusal as an ANION_ code; 0 if the service was not called or did not
/// answer.
#[unsafe(no_mangle)]
pub extern "C" fn anion_error_refusal(error: Option<&anion_error>) -> i32 {
    error.map_or(0, |error| error.refusal)
}

/// Returns the reason in words.
#[unsafe(no_mangle)]
pub extern "C" fn anion_error_message(error: Option<&anion_error>) -> *const c_char {
    error.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn anion_error_free(error: Option<Box<anion_error>>) {
    drop(error);
}

/// Cause of a failure, before it is converted for C.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client library returned an error.
    Client(Error),
    /// An argument violates the header.
    Argument(String),
    /// A system call failed.
    System(String, io::Error),
    /// A bug.
    Panic(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    /// Returns a function that converts a system call's error to a failure; `what` names the call
    /// or the argument.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::System(what, cause)
    }

    fn refusal(&self) -> i32 {
        let Self::Client(error) = self else { return 0 };
        error.refusal().map_or(0, |refusal| match refusal {
            Refusal::BadRequest => ANION_BAD_REQUEST,
            Refusal::UnknownHeap => ANION_UNKNOWN_HEAP,
            Refusal::NotPermitted => ANION_NOT_PERMITTED,
            Refusal::Unsupported => ANION_UNSUPPORTED,
            Refusal::NoMemory => ANION_NO_MEMORY,
            Refusal::QuotaExceeded => ANION_QUOTA_EXCEEDED,
            Refusal::NotOurs => ANION_NOT_OURS,
            Refusal::Other(code) => code,
            _ => ANION_BACKEND,
        })
    }

    /// Returns the errno for C, as a positive number.
    fn errno(&self) -> c_int {
        match self {
            Self::Argument(_) => libc::EINVAL,
            Self::System(_, cause) => errno_of(cause),
            Self::Panic(_) => libc::ENOTRECOVERABLE,
            Self::Client(error) => error.errno(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Client(error) => error.to_string(),
            Self::Argument(message) | Self::Panic(message) => message.clone(),
            Self::System(what, cause) => format!("{what}: {cause}"),
        }
    }
}

/// Returns the argument `name`, which must not be NULL.
///
/// # Errors
/// If it is NULL.
pub(crate) fn given<T>(argument: Option<T>, name: &str) -> Result<T, Failure> {
    argument.ok_or_else(|| Failure::Argument(format!("{name} is NULL")))
}

/// Runs `run`, returns its result as a status for C, and stores the error if the caller passes a
/// pointer for it. Catches panics.
pub(crate) fn attempt(
    error: Option<&mut MaybeUninit<*mut anion_error>>,
    run: impl FnOnce() -> Result<c_int, Failure>,
) -> c_int {
    // A panic leaves only the library's own objects incomplete, and no code panics in those.
    let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(bug(&*panic)));
    let (status, failure) = match outcome {
        Ok(status) => (status, None),
        Err(failure) => (-failure.errno(), Some(failure)),
    };
    if let Some(place) = error {
        let object = failure.map(|failure| anion_error {
            code: status,
            refusal: failure.refusal(),
            message: CString::new(failure.message().replace('\0', "?")).unwrap_or_default(),
        });
        place.write(object.map_or(ptr::null_mut(), |object| Box::into_raw(Box::new(object))));
    }
    status
}

/// Does the same for a function that creates an object: stores the object, or NULL.
pub(crate) fn make<T>(
    place: Option<&mut MaybeUninit<*mut T>>,
    name: &str,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
    run: impl FnOnce() -> Result<*mut T, Failure>,
) -> c_int {
    attempt(error, || {
        let place = given(place, name)?;
        place.write(ptr::null_mut());
        place.write(run()?);
        Ok(0)
    })
}

/// Stores an object for the caller.
pub(crate) fn boxed<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

fn bug(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::Panic(format!("a bug of libanion: {}", text.unwrap_or("it panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(failure: Failure) -> (c_int, Box<anion_error>) {
        let mut place = MaybeUninit::uninit();
        let status = attempt(Some(&mut place), || Err(failure));
        (status, crate::sys::given_out(place))
    }

    #[test]
    fn every_failure_has_its_errno_and_its_text() {
        let refused = |refusal| Failure::Client(Error::Refused { refusal, message: "why".to_owned() });
        let cases = [
            (refused(Refusal::BadRequest), libc::EINVAL, ANION_BAD_REQUEST),
            (refused(Refusal::UnknownHeap), libc::ENODEV, ANION_UNKNOWN_HEAP),
            (refused(Refusal::NotPermitted), libc::EPERM, ANION_NOT_PERMITTED),
            (refused(Refusal::Unsupported), libc::EOPNOTSUPP, ANION_UNSUPPORTED),
            (refused(Refusal::NoMemory), libc::ENOMEM, ANION_NO_MEMORY),
            (refused(Refusal::QuotaExceeded), libc::EDQUOT, ANION_QUOTA_EXCEEDED),
            (refused(Refusal::NotOurs), libc::ENOENT, ANION_NOT_OURS),
            (refused(Refusal::Backend), libc::EIO, ANION_BACKEND),
            (refused(Refusal::Other(99)), libc::EIO, 99),
            (Failure::Client(Error::NoAnswer("why".to_owned())), libc::ETIMEDOUT, 0),
            (Failure::Client(Error::Contract("why".to_owned())), libc::EPROTO, 0),
            (Failure::Client(Error::Inherited("why")), libc::ECHILD, 0),
            (Failure::Argument("why\0not".to_owned()), libc::EINVAL, 0),
            (Failure::System("why".to_owned(), io::ErrorKind::PermissionDenied.into()), libc::EACCES, 0),
        ];
        for (failure, errno, refusal) in cases {
            let (status, error) = failing(failure);
            assert_eq!((status, anion_error_code(Some(&error))), (-errno, -errno));
            assert_eq!(anion_error_refusal(Some(&error)), refusal);
            assert!(error.message.to_str().expect("UTF-8").contains("why"));
        }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let mut place = MaybeUninit::uninit();
        let status = attempt(Some(&mut place), || panic!("broken {}", 1));
        assert_eq!(status, -libc::ENOTRECOVERABLE);
        let error = crate::sys::given_out(place);
        assert_eq!(error.message.to_str(), Ok("a bug of libanion: broken 1"));
    }

    #[test]
    fn success_leaves_no_error() {
        let mut place = MaybeUninit::uninit();
        assert_eq!(attempt(Some(&mut place), || Ok(3)), 3);
        assert!(crate::sys::is_null(place));
        assert_eq!((anion_error_code(None), anion_error_refusal(None)), (0, 0));
    }
}
