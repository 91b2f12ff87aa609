//! Amounts: what is charged to counters.

use json::Decimal;
use std::fmt;

/// An unsigned fixed-point number with six decimals: money, tokens, calls.
///
/// Six decimals because the smallest amounts users count are millionths (a token's price in dollars); a fixed point
/// because sums must not drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// One call.
    pub const ONE: Amount = Amount(Self::MICROS);
    /// The largest amount: 9,223,372,036,854.775807, so that it fits a signed 64-bit column.
    pub const MAX: Amount = Amount(i64::MAX as u64);

    const MICROS: u64 = 1_000_000;

    /// Gives the amount for an exact number: `None` when it is negative, has more than six decimals, or is too large.
    pub fn from_decimal(number: &Decimal) -> Option<Amount> {
        Amount::from_micros(u64::try_from(number.scaled(6)?).ok()?)
    }

    /// Gives a whole number of units; `None` when it is too large.
    pub fn whole(units: u64) -> Option<Amount> {
        Amount::from_micros(units.checked_mul(Self::MICROS)?)
    }

    /// Gives so many millionths; `None` past [`Amount::MAX`].
    pub fn from_micros(micros: u64) -> Option<Amount> {
        (micros <= Self::MAX.0).then_some(Amount(micros))
    }

    /// The amount in millionths; fits an `i64`.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// The sum; `None` past [`Amount::MAX`].
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        Amount::from_micros(self.0.checked_add(other.0)?)
    }

    /// The difference, not below zero.
    pub fn saturating_sub(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Amount {
    /// Without trailing zeros: `10`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / Self::MICROS, self.0 % Self::MICROS);
        if micros == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{micros:06}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Option<Amount> {
        Amount::from_decimal(&Decimal::parse(text).unwrap())
    }

    #[test]
    fn only_exact_unsigned_amounts_of_six_decimals_exist() {
        assert_eq!(amount("0.5").unwrap().micros(), 500_000);
        assert_eq!(amount("1e3").unwrap().to_string(), "1000");
        assert_eq!(amount("10.005").unwrap().to_string(), "10.005");
        assert_eq!(amount("-0").unwrap(), Amount::ZERO);
        assert_eq!(amount("9223372036854.775807").unwrap(), Amount::MAX);
        for refused in ["-1", "-0.000001", "0.0000001", "1e300", "9223372036854.775808"] {
            assert_eq!(amount(refused), None, "{refused}");
        }
    }
}
