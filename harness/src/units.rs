// SPDX-License-Identifier: Apache-2.0
//! Quantities with their unit in the text: `300ms`, `2s`. A bare number is an error.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 5] =
    [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];

impl Span {
    /// Whole nanoseconds; spans are bounded far below the type's end.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whole milliseconds.
    pub fn millis(self) -> u64 {
        self.nanos() / 1_000_000
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let wrong = || {
            format!(
                "`{text}` is not a time; write a whole number and ns, us, ms, s or m, for example `500ms`"
            )
        };
        let Ok(number) = number.parse::<u64>() else { return Err(wrong()) };
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number
            .checked_mul(*nanos)
            .filter(|&nanos| nanos <= 86_400_000_000_000)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| format!("`{text}` is longer than a day"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos();
        let (unit, size) = UNITS
            .iter()
            .rev()
            .find(|(_, size)| nanos >= *size && nanos.is_multiple_of(*size))
            .unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", nanos / size)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SpanVisitor;

impl serde::de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit, for example `500ms`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

/// A share of the whole: 0 to less than 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Share(pub f64);

impl fmt::Display for Share {
    /// As a percentage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded, so that 0.07 is 7% and not 7.000000000000001%.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..1.0).contains(&share) {
            return Ok(Self(share));
        }
        let message = format!("{share} is not a share; write 0 to less than 1, 0.01 for 1%");
        Err(serde::de::Error::custom(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_number_is_refused_with_an_example() {
        let message = "2".parse::<Span>().unwrap_err();
        assert!(message.contains("for example `500ms`"), "{message}");
    }

    #[test]
    fn a_share_shows_as_a_percentage() {
        assert_eq!(Share(0.07).to_string(), "7%");
        assert_eq!(Share(0.00125).to_string(), "0.125%");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(nanos in 0u64..86_400_000_000_000) {
            let span = Span(Duration::from_nanos(nanos));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Span>();
        }
    }
}
