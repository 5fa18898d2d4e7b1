// SPDX-License-Identifier: Apache-2.0
//! Reads property values: `<cells>`, `"strings"`, `[bytes]`, references and lists of them.

use winnow::combinator::opt;
use winnow::prelude::*;

use super::expression::element;
use super::lexical::{
    Input, Parsed, Reference, blanks, byte, expected, labels, malformed, number, reference, require, rest,
    skip, string,
};

/// A part of a value. References get their bytes after the whole file is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Bytes as in a blob.
    Bytes(Vec<u8>),
    /// The target's phandle.
    Phandle(Reference<'t>),
    /// The target's path as a string.
    Path(Reference<'t>),
    /// A macro, which this reader cannot expand.
    Macro(&'t str),
    /// The content of another file.
    Incbin,
}

/// Width of the cells in a `<…>`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bits(u32);

impl Bits {
    /// Returns `value` as big-endian bytes. Like `dtc`, accepts values that fit as unsigned or as
    /// negative numbers.
    fn encode(self, value: u64) -> Option<Vec<u8>> {
        let beyond = u64::MAX.checked_shl(self.0).unwrap_or(0);
        let fits = value & beyond == 0 || value & beyond == beyond;
        let bytes = value.to_be_bytes();
        fits.then(|| bytes[bytes.len() - self.0 as usize / 8..].to_vec())
    }
}

/// Reads everything between `=` and `;`.
pub(super) fn list<'t>(input: &mut Input<'t>) -> Parsed<Vec<Piece<'t>>> {
    let mut pieces = Vec::new();
    loop {
        labels(input)?;
        one(input, &mut pieces)?;
        labels(input)?;
        if !skip(input, ",")? {
            return Ok(pieces);
        }
    }
}

fn one<'t>(input: &mut Input<'t>, pieces: &mut Vec<Piece<'t>>) -> Parsed<()> {
    let ahead = rest(input);
    if ahead.starts_with('"') {
        let mut bytes = string(input)?;
        bytes.push(0);
        append(pieces, &bytes);
    } else if ahead.starts_with('&') {
        pieces.push(Piece::Path(reference(input)?));
    } else if skip(input, "[")? {
        bytes(input, pieces)?;
    } else if ahead.starts_with('<') || ahead.starts_with("/bits/") {
        cells(input, pieces)?;
    } else if skip(input, "/incbin/")? {
        incbin(input)?;
        pieces.push(Piece::Incbin);
    } else {
        return expected(input, "a value: <cells>, \"text\", [bytes] or a &reference");
    }
    blanks(input)
}

/// Appends bytes to the last piece if it has bytes, so that a long list of cells is one piece.
fn append(pieces: &mut Vec<Piece<'_>>, more: &[u8]) {
    match pieces.last_mut() {
        Some(Piece::Bytes(bytes)) => bytes.extend_from_slice(more),
        _ => pieces.push(Piece::Bytes(more.to_vec())),
    }
}

fn bytes<'t>(input: &mut Input<'t>, pieces: &mut Vec<Piece<'t>>) -> Parsed<()> {
    append(pieces, &[]);
    loop {
        labels_between_bytes(input)?;
        if skip(input, "]")? {
            return Ok(());
        }
        match opt(byte).parse_next(input)? {
            Some(byte) => append(pieces, &[byte]),
            None => return expected(input, "two hexadecimal digits or `]`"),
        }
    }
}

/// Reads labels between bytes. A label ends with a colon, so a byte such as `ab` is none.
fn labels_between_bytes(input: &mut Input<'_>) -> Parsed<()> {
    blanks(input)?;
    labels(input).map(|_| ())
}

fn cells<'t>(input: &mut Input<'t>, pieces: &mut Vec<Piece<'t>>) -> Parsed<()> {
    let bits = if skip(input, "/bits/")? { width(input)? } else { Bits(32) };
    require(input, "<", "before the cells")?;
    append(pieces, &[]);
    loop {
        labels(input)?;
        if skip(input, ">")? {
            return Ok(());
        }
        let start = *input;
        let ahead = rest(input);
        if ahead.starts_with('&') {
            if bits != Bits(32) {
                return malformed(&start, "a reference is a cell of 32 bits, but /bits/ sets another width");
            }
            pieces.push(Piece::Phandle(reference(input)?));
            continue;
        }
        if ahead.starts_with([';', '}', '"', '[', '{', '=']) || ahead.is_empty() {
            return expected(input, "a cell or `>`");
        }
        match element(input)? {
            Err(name) => pieces.push(Piece::Macro(name)),
            Ok(value) => match bits.encode(value) {
                Some(bytes) => append(pieces, &bytes),
                None => {
                    return malformed(&start, format!("{value:#x} does not fit a cell of {} bits", bits.0));
                }
            },
        }
    }
}

fn width(input: &mut Input<'_>) -> Parsed<Bits> {
    let start = *input;
    let width = opt(number).parse_next(input)?;
    blanks(input)?;
    match width {
        Some(8) => Ok(Bits(8)),
        Some(16) => Ok(Bits(16)),
        Some(32) => Ok(Bits(32)),
        Some(64) => Ok(Bits(64)),
        _ => expected(&start, "8, 16, 32 or 64 after /bits/"),
    }
}

/// Reads `("file")` or `("file", offset, size)`.
fn incbin(input: &mut Input<'_>) -> Parsed<()> {
    require(input, "(", "after /incbin/")?;
    string(input)?;
    while skip(input, ",")? {
        // Ignored, since the file is not read.
        let _range = element(input)?;
    }
    require(input, ")", "after the file name")
}

#[cfg(test)]
mod tests {
    use super::super::lexical::Syntax;
    use super::*;

    fn value(text: &str) -> Result<Vec<Piece<'_>>, Syntax> {
        let mut input = Input::new(text);
        list(&mut input).map_err(|error| error.into_inner().expect("complete input"))
    }

    fn plain(bytes: &[u8]) -> Result<Vec<Piece<'static>>, Syntax> {
        Ok(vec![Piece::Bytes(bytes.to_vec())])
    }

    #[test]
    fn every_form_gives_the_bytes_of_a_blob() {
        assert_eq!(value("<1 0x2>;"), plain(&[0, 0, 0, 1, 0, 0, 0, 2]));
        assert_eq!(value("<(-1)>"), plain(&[255; 4]));
        assert_eq!(value("/bits/ 16 <1 (-2)>, /bits/ 8 <'a'>"), plain(&[0, 1, 255, 254, b'a']));
        assert_eq!(value("/bits/ 64 <0x0123456789abcdef>"), plain(&0x0123_4567_89ab_cdef_u64.to_be_bytes()));
        assert!(value("[00 ffA0 1 2]").is_err());
        assert_eq!(value("[00 ffA0 /* spacing */ 12]"), plain(&[0, 255, 160, 18]));
        assert_eq!(value(r#""a\x41\101\n", "b""#), plain(b"aAA\n\0b\0"));
        assert_eq!(value("start: <1 mid: 2> end:"), plain(&[0, 0, 0, 1, 0, 0, 0, 2]));
        assert_eq!(value("<>"), plain(&[]));
    }

    #[test]
    fn references_and_macros_wait() {
        let bytes = || Piece::Bytes(vec![]);
        assert_eq!(value("<&pool>"), Ok(vec![bytes(), Piece::Phandle(Reference::Label("pool"))]));
        assert_eq!(value("&{/soc/a@1}"), Ok(vec![Piece::Path(Reference::Path("/soc/a@1"))]));
        assert_eq!(value("<IRQ(1, 2)>"), Ok(vec![bytes(), Piece::Macro("IRQ")]));
        assert_eq!(value("/incbin/(\"f\", 0, 16)"), Ok(vec![Piece::Incbin]));
    }

    #[test]
    fn faults_are_named() {
        for (text, expected) in [
            ("<0x100000000>", "0x100000000 does not fit a cell of 32 bits"),
            ("/bits/ 8 <256>", "0x100 does not fit a cell of 8 bits"),
            ("/bits/ 12 <1>", "expected 8, 16, 32 or 64 after /bits/, found `12`"),
            ("/bits/ 64 <&a>", "a reference is a cell of 32 bits, but /bits/ sets another width"),
            ("<1;", "expected a cell or `>`, found `;`"),
            ("[0]", "expected two hexadecimal digits or `]`, found `0`"),
            ("\"open", "this string does not end"),
            ("\"\\777\"", "this escape is above \\377, the largest byte"),
            ("<&>", "expected a label or {/path} after `&`, found `>`"),
            ("/* open", "expected a value: <cells>, \"text\", [bytes] or a &reference, found `/`"),
            ("12", "expected a value: <cells>, \"text\", [bytes] or a &reference, found `12`"),
        ] {
            assert_eq!(value(text).expect_err(text).message, expected);
        }
    }
}
