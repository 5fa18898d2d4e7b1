// SPDX-License-Identifier: Apache-2.0
//! Reads device-tree source whose comments are not UTF-8, as in files of some vendors: `dtc` does
//! not check comments.

use std::borrow::Cow;

/// Returns the text. If it is not valid UTF-8, replaces every non-ASCII byte of its comments by
/// `?`. All other bytes keep their positions.
///
/// # Errors
/// If the rest is not UTF-8: the offset of the first wrong byte.
pub(super) fn text(bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    String::from_utf8(without_comments(bytes))
        .map(Cow::Owned)
        .map_err(|error| error.utf8_error().valid_up_to())
}

/// Kind of text that a byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    /// Text between two of this quotation mark.
    Quoted(u8),
    Line,
    Block,
}

/// Replaces non-ASCII bytes in comments.
fn without_comments(bytes: &[u8]) -> Vec<u8> {
    let mut plain = bytes.to_vec();
    let (mut part, mut at) = (Part::Code, 0);
    while let Some(byte) = bytes.get(at).copied() {
        let next = bytes.get(at + 1).copied();
        let taken;
        (part, taken) = match (part, byte, next) {
            (Part::Code, b'/', Some(b'/')) => (Part::Line, 2),
            (Part::Code, b'/', Some(b'*')) => (Part::Block, 2),
            (Part::Code, b'"' | b'\'', _) => (Part::Quoted(byte), 1),
            (Part::Quoted(_), b'\\', _) => (part, 2),
            (Part::Quoted(mark), _, _) if mark == byte => (Part::Code, 1),
            (Part::Block, b'*', Some(b'/')) => (Part::Code, 2),
            (Part::Line, b'\n', _) => (Part::Code, 1),
            _ => {
                if matches!(part, Part::Line | Part::Block) && !byte.is_ascii() {
                    plain[at] = b'?';
                }
                (part, 1)
            }
        };
        at += taken;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_may_have_any_bytes() {
        let source = b"a; /* caf\xe9 \" */ b = \"/* \\\" //\"; // \xff\xfe\nc;";
        let text = text(source).expect("comments alone are not UTF-8");
        assert_eq!(text, "a; /* caf? \" */ b = \"/* \\\" //\"; // ??\nc;");
        assert!(matches!(super::text("/* café */".as_bytes()), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn other_bytes_must_be_utf_8() {
        for (source, offset) in [
            (&b"/* \xe9 */ caf\xe9"[..], 11),
            (b"a = \"caf\xe9\";", 8),
            (b"// \xe9\n\xe9", 5),
            (b"'\xe9'", 1),
            (b"\"\\\"\xe9", 3),
        ] {
            assert_eq!(text(source), Err(offset), "{}", source.escape_ascii());
        }
    }
}
