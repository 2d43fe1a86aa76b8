//! Fast numbers are the standard library's numbers, and end where the grammar says.

use peristyle::decode::cursor::SLACK;
use peristyle::decode::number::{self, NumberError, Parsed};
use proptest::prelude::*;

/// `text` at position 3 of a padded body, with `behind` after it.
fn padded(text: &str, behind: &str) -> Vec<u8> {
    let mut body = [b"12x", text.as_bytes(), behind.as_bytes()].concat();
    body.resize(body.len() + SLACK, 0);
    body
}

/// Parses `text` with different bytes behind it; the result may not depend on them.
fn parse<T: PartialEq + std::fmt::Debug>(
    text: &str,
    parser: fn(&[u8], usize) -> Parsed<T>,
) -> Result<T, NumberError> {
    let results = ["", ",", "i 12345678", "\n", "\u{80}", " 99999999999999999999", "/:;"]
        .map(|behind| parser(&padded(text, behind), 3));
    for result in &results {
        assert_eq!(result, &results[0], "{text}");
    }
    let [result, ..] = results;
    let (result, next) = match result {
        Ok((value, next)) => (Ok(value), next),
        Err(NumberError::OutOfRange { next }) => (Err(OUT_OF_RANGE), next),
        Err(NumberError::Invalid) => return Err(NumberError::Invalid),
    };
    assert_eq!(next, 3 + text.len(), "{text}");
    result
}

/// Out of range, wherever the number ended; [`parse`] has checked that.
const OUT_OF_RANGE: NumberError = NumberError::OutOfRange { next: 0 };

fn float_bits(padded: &[u8], at: usize) -> Parsed<u64> {
    number::float(padded, at).map(|(value, next)| (value.to_bits(), next))
}

/// The slow twin of a float: std's parser, whose infinities are out of range.
fn std_float(text: &str) -> Result<u64, NumberError> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value.to_bits()),
        Ok(_) => Err(OUT_OF_RANGE),
        Err(_) => Err(NumberError::Invalid),
    }
}

#[test]
fn integers_are_exact_up_to_their_last_value() {
    for text in ["0", "-0", "7", "-7", "9223372036854775807", "-9223372036854775808"] {
        assert_eq!(parse(text, number::signed), Ok(text.parse().unwrap()));
    }
    let long = format!("{}12", "0".repeat(100));
    assert_eq!(parse(&long, number::signed), Ok(12));
    assert_eq!(parse("18446744073709551615", number::unsigned), Ok(u64::MAX));
    for text in ["9223372036854775808", "-9223372036854775809", "99999999999999999999999"] {
        assert_eq!(parse(text, number::signed), Err(OUT_OF_RANGE));
    }
    assert_eq!(parse("18446744073709551616", number::unsigned), Err(OUT_OF_RANGE));
    for text in ["", "-", "x", "+1", "--1", ":", "/", "\u{661}"] {
        assert_eq!(parse(text, number::signed), Err(NumberError::Invalid), "{text:?}");
    }
}

#[test]
fn floats_take_every_form_of_the_grammar() {
    for text in [
        "1",
        "1.",
        ".5",
        "-.5",
        "-1.",
        "1.e5",
        ".5e5",
        "1E5",
        "1e+5",
        "1e-5",
        "00012",
        "-0.0",
        "4.9e-324",
        "1e-400",
        "123456789.123456789",
        "12345678901234567890",
        "1.7976931348623157e308",
        "1e22",
        "1e23",
        "9007199254740993",
        "9007199254740993.0e1",
        "0.000000000000000000000001",
    ] {
        assert_eq!(parse(text, float_bits), std_float(text), "{text}");
    }
    for text in ["1e400", "1.7976931348623159e308", "-1e1000000", "1e99999999999999999999999"] {
        assert_eq!(parse(text, float_bits), Err(OUT_OF_RANGE), "{text}");
    }
    for text in ["", ".", "-.", "-", "e5", "1e+", "--1", "inf", "nan", ".e5"] {
        assert_eq!(parse(text, float_bits), Err(NumberError::Invalid), "{text}");
    }
    let long = "9".repeat(400);
    assert_eq!(parse(&long, float_bits), Err(OUT_OF_RANGE));
    assert_eq!(parse(&"0".repeat(400), float_bits), Ok(0));
    assert_eq!(
        parse(&format!("0.{}", "7".repeat(400)), float_bits),
        std_float("0.7777777777777777777777")
    );
}

proptest! {
    #[test]
    fn any_i64_reads_back(value: i64, zeros in 0..3_usize) {
        let text = value.to_string();
        prop_assert_eq!(parse(&text, number::signed), Ok(value));
        let text = text.replacen('-', "", 1);
        let padded = format!("{}{text}", "0".repeat(zeros * 9));
        prop_assert_eq!(parse(&padded, number::unsigned), Ok(value.unsigned_abs()));
    }

    #[test]
    fn any_finite_f64_reads_back(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        prop_assert_eq!(parse(&value.to_string(), float_bits), Ok(bits));
        prop_assert_eq!(parse(&format!("{value:e}"), float_bits), Ok(bits));
    }

    #[test]
    fn any_decimal_is_rounded_as_std_rounds_it(
        text in "-?[0-9]{0,25}\\.?[0-9]{0,25}(e[-+]?[0-9]{1,3})?",
    ) {
        let expected = std_float(&text);
        prop_assume!(expected != Err(NumberError::Invalid));
        prop_assert_eq!(parse(&text, float_bits), expected);
    }
}
