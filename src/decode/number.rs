//! Numbers from ASCII, eight digits at a time.
//!
//! ```text
//! value = ["-"] 1*DIGIT                                                    ; signed, unsigned
//!       / ["-"] ( 1*DIGIT ["." *DIGIT] / "." 1*DIGIT ) ["e" ["+"/"-"] 1*DIGIT]   ; float
//! ```
//!
//! Every function takes the padded body ([`Body::padded`](super::cursor::Body::padded)) and the
//! position of the number's first byte, and returns the value and the position after its last.
//! What follows the number is the caller's to judge. Results are exact: an integer that does not
//! fit is [`NumberError::OutOfRange`], a float is the one `str::parse` gives. Leading zeros are
//! allowed, as many as there are.
//!
//! Cost: 2 ns for up to 8 digits, 3 ns for 19, 5 ns for a decimal whose digits fit 53 bits
//! (scaling by one exact power of ten, after Clinger); other floats go to `lexical-core`
//! (`decode/line_protocol/floats`).

/// Why there is no number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NumberError {
    /// The bytes are not a number of that form.
    Invalid,
    /// A number that ends before `next`, but beyond what the type holds.
    OutOfRange {
        /// Position after its last byte.
        next: usize,
    },
}

/// A value and the position after its last byte.
pub type Parsed<T> = Result<(T, usize), NumberError>;

/// Powers of ten that an `f64` holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// The powers of ten that scale a value by up to eight further digits.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// Largest mantissa such that it and every smaller one are exact in an `f64`.
const EXACT_MANTISSA_MAX: u64 = 1 << 53;
/// Digits that cannot overflow a `u64`.
const SAFE_DIGITS: usize = 19;
/// An exponent of ten beyond every `f64`; larger ones in a body are cut to it.
const EXPONENT_MAX: i64 = 1 << 32;

/// An integer, `i64::MIN..=i64::MAX`.
///
/// # Errors
/// `Invalid`, `OutOfRange`.
#[inline]
pub fn signed(padded: &[u8], at: usize) -> Parsed<i64> {
    let negative = padded.get(at) == Some(&b'-');
    let (magnitude, next) = unsigned(padded, at + usize::from(negative))?;
    let value =
        if negative { 0_i64.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() };
    Ok((value.ok_or(NumberError::OutOfRange { next })?, next))
}

/// An integer of one to seven digits without a sign, if the byte behind it is `end`; and the
/// position behind that byte. `None` is any other number, for [`signed`] to read.
///
/// One load serves digits and end: most integers of line protocol are this short.
#[inline(always)]
pub fn short_integer(padded: &[u8], at: usize, end: u8) -> Option<(i64, usize)> {
    let word = word(padded, at)?;
    let (length, number) = leading_digits(word);
    let behind = word.checked_shr(u32::try_from(length * 8).ok()?)? & 0xff;
    (length > 0 && behind == u64::from(end)).then(|| (number.cast_signed(), at + length + 1))
}

/// An integer without a sign, `0..=u64::MAX`.
///
/// # Errors
/// `Invalid`, `OutOfRange`.
#[inline]
pub fn unsigned(padded: &[u8], at: usize) -> Parsed<u64> {
    let run = digits(padded, at, 0);
    match run.count {
        0 => Err(NumberError::Invalid),
        1..=SAFE_DIGITS => Ok((run.value, at + run.count)),
        _ => long_unsigned(padded, at, at + run.count),
    }
}

/// A finite float, correctly rounded.
///
/// # Errors
/// `Invalid`, or `OutOfRange` when the nearest `f64` is an infinity.
#[inline]
pub fn float(padded: &[u8], at: usize) -> Parsed<f64> {
    let negative = padded.get(at) == Some(&b'-');
    let whole_at = at + usize::from(negative);
    let whole = digits(padded, whole_at, 0);
    let mut next = whole_at + whole.count;
    let mut mantissa = whole.value;
    let mut fraction_count = 0;
    if padded.get(next) == Some(&b'.') {
        let fraction = digits(padded, next + 1, mantissa);
        next += 1 + fraction.count;
        mantissa = fraction.value;
        fraction_count = fraction.count;
    }
    let count = whole.count + fraction_count;
    if count == 0 {
        return Err(NumberError::Invalid);
    }
    let has_exponent = matches!(padded.get(next), Some(b'e' | b'E'));
    if count > SAFE_DIGITS || mantissa > EXACT_MANTISSA_MAX || has_exponent {
        let digits = Digits { negative, mantissa, count, fraction_count };
        return long_float(padded, at, next, &digits);
    }
    // At most 19 digits, so the power exists.
    let power = EXACT_POWERS.get(fraction_count).copied().unwrap_or(1.0);
    let value = exact(mantissa) / power;
    Ok((if negative { -value } else { value }, next))
}

/// What [`float`] has read of a number when it turns out not to be a short decimal.
struct Digits {
    negative: bool,
    /// All digits as one integer, wrapped around when there are more than 19.
    mantissa: u64,
    count: usize,
    fraction_count: usize,
}

/// A float with an exponent, or with more digits than 53 bits hold; `next` is after its digits.
#[inline(never)]
fn long_float(padded: &[u8], at: usize, mut next: usize, digits: &Digits) -> Parsed<f64> {
    let mut exponent = 0;
    if matches!(padded.get(next), Some(b'e' | b'E')) {
        (exponent, next) = self::exponent(padded, next + 1)?;
    }
    let fraction_count = i64::try_from(digits.fraction_count).unwrap_or(i64::MAX);
    let scale = exponent.saturating_sub(fraction_count);
    if digits.count <= SAFE_DIGITS && digits.mantissa <= EXACT_MANTISSA_MAX {
        let power = usize::try_from(scale.unsigned_abs()).ok().and_then(|it| EXACT_POWERS.get(it));
        if let Some(power) = power {
            let mantissa = exact(digits.mantissa);
            let value = if scale < 0 { mantissa / power } else { mantissa * power };
            return Ok((if digits.negative { -value } else { value }, next));
        }
    }
    let text = padded.get(at..next).unwrap_or_default();
    let value: f64 = lexical_core::parse(text).map_err(|_| NumberError::Invalid)?;
    if value.is_finite() { Ok((value, next)) } else { Err(NumberError::OutOfRange { next }) }
}

/// The exponent of a float, from the byte after its `e`; cut to `EXPONENT_MAX`.
fn exponent(padded: &[u8], at: usize) -> Parsed<i64> {
    let sign = padded.get(at).filter(|it| matches!(it, b'+' | b'-'));
    let digits_at = at + usize::from(sign.is_some());
    let (magnitude, next) = match unsigned(padded, digits_at) {
        Err(NumberError::OutOfRange { next }) => (u64::MAX, next),
        parsed => parsed?,
    };
    let magnitude = i64::try_from(magnitude).unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    Ok((if sign == Some(&b'-') { -magnitude } else { magnitude }, next))
}

/// The digits `at..next`, more than a `u64` holds unless the first ones are zeros.
#[cold]
fn long_unsigned(padded: &[u8], at: usize, next: usize) -> Parsed<u64> {
    let run = padded.get(at..next).unwrap_or_default();
    let value = run.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    });
    Ok((value.ok_or(NumberError::OutOfRange { next })?, next))
}

/// A run of digits, possibly empty.
struct Run {
    /// `initial` followed by the digits; right when there are at most 19 digits altogether.
    value: u64,
    count: usize,
}

/// The digits from `at` on, appended to the decimal number `initial`.
#[inline]
fn digits(padded: &[u8], at: usize, initial: u64) -> Run {
    let mut value = initial;
    let mut count = 0;
    while let Some(word) = word(padded, at + count) {
        let (length, number) = leading_digits(word);
        let power = POWERS.get(length).copied().unwrap_or(1);
        value = value.wrapping_mul(power).wrapping_add(number);
        count += length;
        if length < 8 {
            break;
        }
    }
    Run { value, count }
}

/// The eight bytes from `at` on, the first one lowest. The slack behind a body makes sure of them.
#[inline]
fn word(padded: &[u8], at: usize) -> Option<u64> {
    let bytes = padded.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// How many of a word's first bytes are digits, and the number they are.
#[inline]
fn leading_digits(word: u64) -> (usize, u64) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let values = word ^ (ONES * 0x30);
    // 0x76 lifts every value above 9 to a set high bit. A byte that carries into the next one is
    // itself no digit, so everything below the lowest marker is right.
    let others = (values.wrapping_add(ONES * 0x76) | values) & (ONES * 0x80);
    let bits = others.trailing_zeros() & !7;
    if bits == 0 {
        return (0, 0);
    }
    // Move the digits to the top: the freed low bytes are leading zeros. Then pairs, quads, all.
    let aligned = values << (64 - bits);
    let pairs = aligned.wrapping_mul(10).wrapping_add(aligned >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    ((bits / 8) as usize, low.wrapping_add(high) >> 32)
}

/// The `f64` equal to `mantissa`.
#[expect(clippy::cast_precision_loss, reason = "callers check EXACT_MANTISSA_MAX")]
#[inline]
fn exact(mantissa: u64) -> f64 {
    debug_assert!(mantissa <= EXACT_MANTISSA_MAX);
    mantissa as f64
}
