// SPDX-License-Identifier: Apache-2.0
//! Reads the words of device-tree source: blanks, names, labels, references, strings, numbers.

use winnow::combinator::{alt, opt, preceded, terminated};
use winnow::error::{ErrMode, ParserError};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, literal, one_of, take, take_till, take_until, take_while};

/// Text with the offset of its first byte in the file.
pub(super) type Input<'t> = LocatingSlice<&'t str>;

/// `Backtrack` means that another element stands here; `Cut` means that the element is malformed.
pub(super) type Parsed<T> = ModalResult<T, Syntax>;

/// A syntax error with its byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl ParserError<Input<'_>> for Syntax {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        Self { offset: input.current_token_start(), message: format!("unexpected {}", next_word(input)) }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Fails with `Cut` at the beginning of `input`.
pub(super) fn malformed<T>(input: &Input<'_>, message: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(Syntax { offset: input.current_token_start(), message: message.into() }))
}

/// Fails with `Cut`: `what` was expected here.
pub(super) fn expected<T>(input: &Input<'_>, what: &str) -> Parsed<T> {
    malformed(input, format!("expected {what}, found {}", next_word(input)))
}

/// Returns the next word, short enough for a message.
fn next_word(input: &Input<'_>) -> String {
    let rest: &str = input.as_ref();
    let Some(first) = rest.chars().next() else { return "the end of the file".to_owned() };
    let is_word = |c: char| c.is_alphanumeric() || "_-,.#".contains(c);
    let word: String = rest.chars().take_while(|c| is_word(*c)).take(32).collect();
    if word.is_empty() { format!("`{}`", first.escape_default()) } else { format!("`{word}`") }
}

/// Returns the unread text.
pub(super) fn rest<'t>(input: &Input<'t>) -> &'t str {
    input.peek_finish()
}

/// Skips blanks, comments and the line markers that the C preprocessor leaves.
pub(super) fn blanks(input: &mut Input<'_>) -> Parsed<()> {
    loop {
        take_while(0.., char::is_whitespace).parse_next(input)?;
        let rest = rest(input);
        if rest.starts_with("/*") {
            if opt((literal("/*"), take_until(0.., "*/"), literal("*/"))).parse_next(input)?.is_none() {
                return malformed(input, "this comment does not end");
            }
        } else if rest.starts_with("//") || is_line_marker(rest) {
            take_till(0.., '\n').parse_next(input)?;
        } else {
            return Ok(());
        }
    }
}

/// Returns whether a line marker comes next: `# 12 "file"` or `#line 12`. A property such as
/// `#size-cells` has no blank or digit after `#`.
fn is_line_marker(rest: &str) -> bool {
    rest.strip_prefix('#').is_some_and(|after| {
        let after =
            after.strip_prefix("line").filter(|after| after.starts_with([' ', '\t'])).unwrap_or(after);
        after.trim_start_matches([' ', '\t']).starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Reads `symbol` and the blanks after it, if it comes next. Returns whether it did.
pub(super) fn skip(input: &mut Input<'_>, symbol: &str) -> Parsed<bool> {
    opt(terminated(literal(symbol), blanks)).parse_next(input).map(|found| found.is_some())
}

/// Reads `symbol` and the blanks after it, or fails with `Cut`. `context` names what comes before
/// it.
pub(super) fn require(input: &mut Input<'_>, symbol: &str, context: &str) -> Parsed<()> {
    if skip(input, symbol)? { Ok(()) } else { expected(input, &format!("`{symbol}` {context}")) }
}

/// Reads the name of a node or property, with unit address.
pub(super) fn name<'t>(input: &mut Input<'t>) -> Parsed<&'t str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ",._+*#?@-".contains(c);
    terminated(take_while(1.., allowed), blanks).parse_next(input)
}

/// Reads a label or the name of a macro.
pub(super) fn identifier<'t>(input: &mut Input<'t>) -> Parsed<&'t str> {
    (one_of(|c: char| c.is_ascii_alphabetic() || c == '_'), word_rest).take().parse_next(input)
}

fn word_rest<'t>(input: &mut Input<'t>) -> Parsed<&'t str> {
    take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_').parse_next(input)
}

/// Reads all labels before the next element: `a: b:`.
pub(super) fn labels<'t>(input: &mut Input<'t>) -> Parsed<Vec<&'t str>> {
    let mut found = Vec::new();
    while let Some(label) = opt(terminated(identifier, (literal(":"), blanks))).parse_next(input)? {
        found.push(label);
    }
    Ok(found)
}

/// `&label` or `&{/path}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference<'t> {
    Label(&'t str),
    Path(&'t str),
}

impl std::fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => write!(f, "&{label}"),
            Self::Path(path) => write!(f, "&{{{path}}}"),
        }
    }
}

/// Reads a reference and the blanks after it.
pub(super) fn reference<'t>(input: &mut Input<'t>) -> Parsed<Reference<'t>> {
    literal("&").parse_next(input)?;
    let path = (literal("{"), take_till(0.., |c: char| c == '}' || c.is_whitespace()), literal("}"));
    let either = alt((path.map(|(_, path, _)| Reference::Path(path)), identifier.map(Reference::Label)));
    match opt(terminated(either, blanks)).parse_next(input)? {
        Some(reference) => Ok(reference),
        None => expected(input, "a label or {/path} after `&`"),
    }
}

/// Reads a string in double quotes with C's escapes, as bytes without the NUL.
pub(super) fn string(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    let start = *input;
    literal("\"").parse_next(input)?;
    let mut bytes = Vec::new();
    loop {
        let plain: &str = take_till(0.., ['"', '\\']).parse_next(input)?;
        bytes.extend_from_slice(plain.as_bytes());
        if skip(input, "\"")? {
            return Ok(bytes);
        }
        if rest(input).is_empty() {
            return malformed(&start, "this string does not end");
        }
        literal("\\").parse_next(input)?;
        bytes.extend_from_slice(&escape(input)?);
    }
}

/// Reads a character in single quotes, as its byte.
pub(super) fn character(input: &mut Input<'_>) -> Parsed<u64> {
    let start = *input;
    literal("'").parse_next(input)?;
    let bytes = if opt(literal("\\")).parse_next(input)?.is_some() {
        escape(input)?
    } else {
        opt(any).parse_next(input)?.unwrap_or('\'').to_string().into_bytes()
    };
    match (bytes.as_slice(), opt(literal("'")).parse_next(input)?) {
        ([byte], Some(_)) => Ok(u64::from(*byte)),
        _ => malformed(&start, "expected one character in single quotes"),
    }
}

/// Reads the part of an escape after the backslash.
fn escape(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    let octal = take_while(1..=3, '0'..='7').map(|digits: &str| u16::from_str_radix(digits, 8));
    let hex = preceded(literal("x"), take_while(1..=2, |c: char| c.is_ascii_hexdigit()))
        .map(|digits: &str| u16::from_str_radix(digits, 16));
    if let Some(number) = opt(alt((octal, hex))).parse_next(input)? {
        return match number.map(u8::try_from) {
            Ok(Ok(byte)) => Ok(vec![byte]),
            _ => malformed(input, "this escape is above \\377, the largest byte"),
        };
    }
    let Some(letter) = opt(any).parse_next(input)? else { return expected(input, "a character after `\\`") };
    Ok(match letter {
        'a' => vec![7],
        'b' => vec![8],
        't' => b"\t".to_vec(),
        'n' => b"\n".to_vec(),
        'v' => vec![11],
        'f' => vec![12],
        'r' => b"\r".to_vec(),
        other => other.to_string().into_bytes(),
    })
}

/// Reads an integer as in C: decimal, 0x hexadecimal or 0 octal, with or without U, L, UL, LL,
/// ULL.
pub(super) fn number(input: &mut Input<'_>) -> Parsed<u64> {
    let start = *input;
    let word = (one_of('0'..='9'), word_rest).take().parse_next(input)?;
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let suffix = word[digits.len()..].to_ascii_lowercase();
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    match value {
        Ok(value) if ["", "u", "l", "ul", "ll", "ull"].contains(&suffix.as_str()) => Ok(value),
        _ => {
            let shown: String = word.chars().take(32).collect();
            malformed(&start, format!("`{shown}` is not an integer of at most 64 bits"))
        }
    }
}

/// Reads two hexadecimal digits.
pub(super) fn byte(input: &mut Input<'_>) -> Parsed<u8> {
    let digits = take(2_usize).verify_map(|two: &str| {
        two.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(two, 16).ok()).flatten()
    });
    terminated(digits, blanks).parse_next(input)
}
