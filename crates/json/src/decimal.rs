//! Exact decimals.
//!
//! A JSON number is a decimal text. It is compared as one: never through a binary float, which makes
//! 9007199254740993 equal 9007199254740992.

use std::cmp::Ordering;
use std::fmt;

/// An exact decimal number of any size, in normal form: `±0.DIGITS × 10^exponent`.
///
/// Two spellings of one number (`1`, `1.0`, `10e-1`) are equal; `-0` equals `0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    /// Without leading or trailing zeros; empty for zero.
    digits: Box<str>,
    /// Zero for zero.
    exponent: i64,
}

impl Decimal {
    /// Reads a number in JSON's own grammar; `None` when `text` is not one, or its exponent has more than nine digits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let mut digits = String::with_capacity(whole.len() + fraction.len());
        digits.push_str(whole);
        digits.push_str(fraction);
        let leading = digits.len() - digits.trim_start_matches('0').len();
        let digits: Box<str> = digits.trim_matches('0').into();
        if digits.is_empty() {
            return Some(Decimal { negative: false, digits, exponent: 0 });
        }
        let places = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        Some(Decimal { negative, digits, exponent: exponent + places })
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether the number has no fractional part, whatever its spelling: `1.0` and `10e-1` are integers.
    pub fn is_integer(&self) -> bool {
        self.digits.is_empty() || self.exponent >= self.digits.len() as i64
    }

    /// Gives the number times `10^places` as an integer; `None` when that is not exact, or does not fit.
    ///
    /// `scaled(6)` of `0.5` is `500000`; of `0.0000001` it is `None`.
    pub fn scaled(&self, places: u32) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = self.exponent + i64::from(places) - self.digits.len() as i64;
        let zeros = u32::try_from(zeros).ok()?;
        let magnitude = self.digits.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(zeros)?)?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

/// `+12`, `-3`, `7`: at most nine digits, so that sums with it never overflow.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let significant = digits.trim_start_matches('0');
    if digits.is_empty() || significant.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i64 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    Some(if text.starts_with('-') { -value } else { value })
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Decimal {
        Decimal::parse(&number.to_string()).expect("an integer's text is in JSON's grammar")
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        let sign = |d: &Decimal| {
            if d.digits.is_empty() {
                0
            } else if d.negative {
                -1
            } else {
                1
            }
        };
        // In normal form the larger exponent is the larger magnitude; digits then compare as text, because trailing
        // zeros are gone: "12" is a prefix of "123" and sorts before it, as 0.12 is below 0.123.
        let magnitude = || self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            -1 => magnitude().reverse(),
            _ => magnitude(),
        })
    }
}

impl fmt::Display for Decimal {
    /// Plain notation where that is short, else `0.DIGITSeN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let length = self.digits.len() as i64;
        match self.exponent {
            _ if length == 0 => write!(f, "0"),
            e if !(-20..=40).contains(&e) => write!(f, "{sign}0.{}e{e}", self.digits),
            e if e <= 0 => write!(f, "{sign}0.{}{}", "0".repeat(e.unsigned_abs() as usize), self.digits),
            e if e >= length => write!(f, "{sign}{}{}", self.digits, "0".repeat((e - length) as usize)),
            e => write!(f, "{sign}{}.{}", &self.digits[..e as usize], &self.digits[e as usize..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn spellings_of_one_number_are_equal() {
        for (a, b) in [("1", "1.0"), ("1", "10e-1"), ("0", "-0"), ("0", "0e9"), ("100", "1E+2"), ("0.05", "5e-2")] {
            assert_eq!(decimal(a), decimal(b), "{a} and {b}");
        }
    }

    #[test]
    fn neighbours_beyond_the_exact_floats_differ() {
        assert!(decimal("9007199254740993") > decimal("9007199254740992"));
        assert!(decimal("-9007199254740993") < decimal("-9007199254740992"));
        assert!(decimal("1e400") > decimal("9e399"));
    }

    #[test]
    fn what_is_not_a_json_number_is_none() {
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x10", "1_000", " 1", "NaN", "Infinity", "1e9999999999", "١٠"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn scaling_is_exact_or_nothing() {
        assert_eq!(decimal("0.5").scaled(6), Some(500_000));
        assert_eq!(decimal("-50").scaled(6), Some(-50_000_000));
        assert_eq!(decimal("0.0000001").scaled(6), None);
        assert_eq!(decimal("1e300").scaled(6), None);
        assert_eq!(decimal("1e-7").scaled(6), None);
        assert_eq!(decimal("12345.678901").scaled(6), Some(12_345_678_901));
    }

    proptest! {
        #[test]
        fn order_agrees_with_integers(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(Decimal::from(a).cmp(&Decimal::from(b)), a.cmp(&b));
        }

        #[test]
        fn order_agrees_with_scaled_fractions(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let text = |n: i64| format!("{n}e-4");
            prop_assert_eq!(decimal(&text(a)).cmp(&decimal(&text(b))), a.cmp(&b));
            prop_assert_eq!(decimal(&text(a)).scaled(6), Some(i128::from(a) * 100));
        }

        #[test]
        fn display_reads_back(a in any::<i64>(), e in -60i32..60) {
            let number = decimal(&format!("{a}e{e}"));
            prop_assert_eq!(decimal(&number.to_string()), number);
        }
    }
}
