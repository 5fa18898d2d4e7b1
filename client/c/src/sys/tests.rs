// SPDX-License-Identifier: Apache-2.0
use super::*;
use std::ffi::CString;

fn message(failure: Failure) -> String {
    match failure {
        Failure::Argument(message) => message,
        other => panic!("another failure: {other:?}"),
    }
}

fn text(text: &CStr) -> Text<'_> {
    Text(text.as_ptr(), PhantomData)
}

#[test]
fn texts_are_utf8_or_refused_by_name() {
    assert_eq!(Text::default().get("name").expect("NULL"), None);
    assert_eq!(text(c"system").get("name").expect("UTF-8"), Some("system"));
    let refused = message(text(c"\xff").get("label").expect_err("no UTF-8"));
    assert!(refused.starts_with("label is not UTF-8"), "{refused}");

    assert!(Texts::default().get("heaps").expect("NULL").is_empty());
    let pointers = [c"camera".as_ptr(), c"system".as_ptr(), ptr::null(), c"behind".as_ptr()];
    let texts = Texts(pointers.as_ptr(), PhantomData).get("heaps").expect("UTF-8");
    assert_eq!(texts, ["camera", "system"]);
}

/// A request of another version of the header: with fewer fields, or with one more.
#[repr(C)]
struct Other<'a> {
    request: anion_request<'a>,
    newer: u64,
}

#[test]
fn structures_of_other_versions_are_read_as_far_as_they_are_known() {
    let read = |other: &Other<'_>| RequestIn((&raw const *other).cast(), PhantomData).read();
    let whole = size_of::<anion_request<'_>>();
    let mut other = Other { request: anion_request::default(), newer: 0 };
    other.request.bytes = 4096;
    other.request.flags = 7;
    for (size, bytes, flags) in [(whole, 4096, 7), (whole + 8, 4096, 7), (16, 4096, 0), (8, 0, 0)] {
        other.request.struct_size = size;
        let copy = read(&other).expect("readable");
        assert_eq!((copy.bytes, copy.flags), (bytes, flags), "{size} bytes");
    }
    other.request.struct_size = 0;
    let refused = message(read(&other).err().expect("no size"));
    assert!(refused.contains("struct_size is 0"), "{refused}");
    (other.request.struct_size, other.newer) = (whole + 8, 1 << 56);
    let refused = message(read(&other).err().expect("what it does not know"));
    assert!(refused.contains(&format!("byte {} is set", whole + 7)), "{refused}");
    assert_eq!(message(RequestIn(ptr::null(), PhantomData).read().err().expect("NULL")), "request is NULL");
    assert!(SettingsIn(ptr::null(), PhantomData).read().is_ok(), "the defaults");
}

#[test]
fn a_descriptor_is_duplicated_or_refused() {
    let copy = duplicate(0).or_else(|_| duplicate(1)).expect("an open descriptor");
    drop(copy);
    for bad in [-1, i32::MAX] {
        assert_eq!(duplicate(bad).expect_err("no descriptor").raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn a_record_keeps_what_it_points_to_until_it_is_freed() {
    let mut record = Record::<*const *const c_char>::default();
    let names: Vec<String> = (0..1000).map(|number| format!("heap {number}")).collect();
    record.head = record.texts(&names);
    let head = record.into_c();
    // SAFETY: it was just made, and is freed below.
    let list = Texts(unsafe { head.read() }, PhantomData);
    assert_eq!(list.get("names").expect("UTF-8"), names);
    free_record(head);
    free_record(ptr::null_mut::<c_int>());

    let mut record = Record::<*const c_char>::default();
    record.head = record.text("a\0b");
    let expected = CString::new("a?b").expect("no NUL");
    assert_eq!(Text(record.head, PhantomData).get("text").expect("UTF-8"), expected.to_str().ok());
}
