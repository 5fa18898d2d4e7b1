// SPDX-License-Identifier: Apache-2.0
//! Evaluates C integer expressions in parentheses, in 64 bits as `dtc` does.

use super::lexical::{Input, Parsed, blanks, character, expected, identifier, malformed, number, rest, skip};
use winnow::combinator::opt;
use winnow::prelude::*;

/// Most nested operators and parentheses.
const MAX_DEPTH: usize = 64;

/// The function of a binary operator; it returns `None` if there is no result.
type Operation = fn(u64, u64) -> Option<u64>;

/// Binary operators with their precedence in C. Longer operators come before their prefixes.
const OPERATORS: &[(&str, u8, Operation)] = &[
    ("||", 1, |a, b| Some(u64::from(a != 0 || b != 0))),
    ("&&", 2, |a, b| Some(u64::from(a != 0 && b != 0))),
    ("==", 6, |a, b| Some(u64::from(a == b))),
    ("!=", 6, |a, b| Some(u64::from(a != b))),
    ("<<", 8, |a, b| Some(u32::try_from(b).ok().and_then(|b| a.checked_shl(b)).unwrap_or(0))),
    (">>", 8, |a, b| Some(u32::try_from(b).ok().and_then(|b| a.checked_shr(b)).unwrap_or(0))),
    ("<=", 7, |a, b| Some(u64::from(a <= b))),
    (">=", 7, |a, b| Some(u64::from(a >= b))),
    ("|", 3, |a, b| Some(a | b)),
    ("^", 4, |a, b| Some(a ^ b)),
    ("&", 5, |a, b| Some(a & b)),
    ("<", 7, |a, b| Some(u64::from(a < b))),
    (">", 7, |a, b| Some(u64::from(a > b))),
    ("+", 9, |a, b| Some(a.wrapping_add(b))),
    ("-", 9, |a, b| Some(a.wrapping_sub(b))),
    ("*", 10, |a, b| Some(a.wrapping_mul(b))),
    ("/", 10, u64::checked_div),
    ("%", 10, u64::checked_rem),
];

/// A value, or the macro whose expansion would be needed to compute it.
pub(super) type Outcome<'t> = Result<u64, &'t str>;

/// Reads a value that is no bare expression with operators: a number, a character, `( expression )`
/// or a macro.
pub(super) fn element<'t>(input: &mut Input<'t>) -> Parsed<Outcome<'t>> {
    operand(input, 0)
}

fn inside_parentheses<'t>(input: &mut Input<'t>, depth: usize) -> Parsed<Outcome<'t>> {
    if !skip(input, "(")? {
        return expected(input, "`(`");
    }
    let value = ternary(input, depth)?;
    if skip(input, ")")? { Ok(value) } else { expected(input, "an operator or `)`") }
}

fn ternary<'t>(input: &mut Input<'t>, depth: usize) -> Parsed<Outcome<'t>> {
    if depth > MAX_DEPTH {
        return malformed(input, format!("this expression is nested more than {MAX_DEPTH} deep"));
    }
    let condition = binary(input, 1, depth + 1)?;
    if !skip(input, "?")? {
        return Ok(condition);
    }
    let yes = ternary(input, depth + 1)?;
    if !skip(input, ":")? {
        return expected(input, "an operator or `:`");
    }
    let no = ternary(input, depth + 1)?;
    Ok(condition.and_then(|condition| if condition == 0 { no } else { yes }))
}

/// Reads operators of at least `lowest` precedence, all of which are left-associative.
fn binary<'t>(input: &mut Input<'t>, lowest: u8, depth: usize) -> Parsed<Outcome<'t>> {
    let mut left = unary(input, depth)?;
    loop {
        let start = *input;
        let next = OPERATORS.iter().find(|(symbol, ..)| rest(input).starts_with(symbol));
        let Some((symbol, precedence, compute)) = next.filter(|(_, precedence, _)| *precedence >= lowest)
        else {
            return Ok(left);
        };
        skip(input, symbol)?;
        let right = binary(input, precedence + 1, depth + 1)?;
        left = match (left, right) {
            (Ok(a), Ok(b)) => match compute(a, b) {
                Some(value) => Ok(value),
                None => return malformed(&start, "division by zero"),
            },
            (Err(name), _) | (_, Err(name)) => Err(name),
        };
    }
}

fn unary<'t>(input: &mut Input<'t>, depth: usize) -> Parsed<Outcome<'t>> {
    if depth > MAX_DEPTH {
        return malformed(input, format!("this expression is nested more than {MAX_DEPTH} deep"));
    }
    let apply: fn(u64) -> u64 = if skip(input, "!")? {
        |a| u64::from(a == 0)
    } else if skip(input, "~")? {
        |a| !a
    } else if skip(input, "-")? {
        u64::wrapping_neg
    } else {
        return operand(input, depth);
    };
    Ok(unary(input, depth + 1)?.map(apply))
}

fn operand<'t>(input: &mut Input<'t>, depth: usize) -> Parsed<Outcome<'t>> {
    let value = match rest(input).chars().next() {
        Some('(') => return inside_parentheses(input, depth + 1),
        Some('\'') => Ok(character(input)?),
        Some('0'..='9') => Ok(number(input)?),
        _ => return unexpanded(input, depth).map(Err),
    };
    blanks(input)?;
    Ok(value)
}

/// Reads a macro that the C preprocessor should have replaced, with its arguments.
fn unexpanded<'t>(input: &mut Input<'t>, depth: usize) -> Parsed<&'t str> {
    let Some(name) = opt(identifier).parse_next(input)? else { return expected(input, "a number") };
    blanks(input)?;
    if skip(input, "(")? && !skip(input, ")")? {
        // The arguments are only skipped: the macro's expansion is unknown.
        let _first = ternary(input, depth + 1)?;
        while skip(input, ",")? {
            let _next = ternary(input, depth + 1)?;
        }
        if !skip(input, ")")? {
            return expected(input, "an operator, `,` or `)`");
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::super::lexical::Syntax;
    use super::*;

    fn value(text: &str) -> Result<Outcome<'_>, Syntax> {
        element(&mut Input::new(text)).map_err(|error| error.into_inner().expect("complete input"))
    }

    #[test]
    fn precedence_and_associativity_are_those_of_c() {
        for (text, expected) in [
            ("(1 + 2 * 3)", 7),
            ("((1 + 2) * 3)", 9),
            ("(100 - 10 - 1)", 89),
            ("(1 << 4 | 1)", 17),
            ("(1 << 2 + 3)", 32),
            ("(~0 & 0xff)", 0xff),
            ("(-1)", u64::MAX),
            ("(!5 + !0)", 1),
            ("(1 ? 2 : 0 ? 3 : 4)", 2),
            ("(0 ? 2 : 0 ? 3 : 4)", 4),
            ("(1 < 2 == 1)", 1),
            ("(3 & 2 == 2)", 1),
            ("(7 / 2 % 2)", 1),
            ("(1 << 64)", 0),
            ("('A' + '\\n')", 75),
            ("(1 || 0 && 0)", 1),
            ("(0x10UL/* sixteen */ >= 020)", 1),
        ] {
            assert_eq!(value(text), Ok(Ok(expected)), "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, expected) in [
            ("(1 / 0)", "division by zero"),
            ("(1 +)", "expected a number, found `)`"),
            ("(1 2)", "expected an operator or `)`, found `2`"),
            ("(1 ? 2)", "expected an operator or `:`, found `)`"),
            ("(99999999999999999999)", "`99999999999999999999` is not an integer of at most 64 bits"),
            ("(08)", "`08` is not an integer of at most 64 bits"),
        ] {
            assert_eq!(value(text).expect_err(text).message, expected);
        }
    }

    #[test]
    fn macros_are_named() {
        assert_eq!(value("(GIC_SPI + 1)"), Ok(Err("GIC_SPI")));
        assert_eq!(value("(1 + FLAGS(1, (2)) + 1)"), Ok(Err("FLAGS")));
    }

    #[test]
    fn nesting_is_bounded() {
        for open in ["(", "-", "1 ? 1 : ", "!~"] {
            let text = format!("({}1", open.repeat(100_000));
            let error = value(&text).expect_err("too deep").message;
            assert!(error.contains("nested more than 64 deep"), "{open}: {error}");
        }
    }
}
