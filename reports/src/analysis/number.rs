// SPDX-License-Identifier: Apache-2.0
//! Numbers as people read them: three digits that matter, and the unit.

/// Stands where there is no figure.
pub const NONE: &str = "–";

/// A unit of time for an axis or a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
}

impl Unit {
    /// The unit in which `ns` has one to three digits before the point.
    pub fn of(ns: f64) -> Self {
        // Half a unit of the third digit below the next power: 999.6 ns reads 1.00 µs.
        match ns.abs() {
            n if n < 999.5 => Self::Ns,
            n if n < 999.5e3 => Self::Us,
            n if n < 999.5e6 => Self::Ms,
            _ => Self::S,
        }
    }

    /// How many nanoseconds one is.
    pub fn ns(self) -> f64 {
        match self {
            Self::Ns => 1.0,
            Self::Us => 1e3,
            Self::Ms => 1e6,
            Self::S => 1e9,
        }
    }

    /// Its symbol.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "µs",
            Self::Ms => "ms",
            Self::S => "s",
        }
    }
}

/// A time with its unit, three significant digits: `68.1 µs`.
pub fn time(ns: f64) -> String {
    if !ns.is_finite() {
        return NONE.to_owned();
    }
    let unit = Unit::of(ns);
    let value = ns / unit.ns();
    let text = if unit == Unit::Ns && value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        digits(value)
    };
    format!("{text} {}", unit.symbol())
}

/// A time that may not be there.
pub fn time_or_none(ns: Option<u64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), |ns| time(ns as f64))
}

/// Milliseconds as a time with its unit.
pub fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| NONE.to_owned(), |ms| time(ms * 1e6))
}

/// Three significant digits and never an exponent: `0.0123`, `1.23`, `12.3`, `123`, `1,234`.
pub fn digits(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value.abs() >= 999.5 {
        return whole_f64(value);
    }
    if value.abs() < 5e-7 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    // Rounding may have carried into a new digit: 9.999 with two decimals reads 10.00.
    let carried = text.parse::<f64>().is_ok_and(|v| v.abs() >= 10f64.powi(magnitude + 1));
    match decimals {
        1.. if carried => format!("{value:.*}", decimals - 1),
        _ => text,
    }
}

/// A count with its thousands set apart: `1,000,000`.
pub fn count(value: u64) -> String {
    let plain = value.to_string();
    let mut text = String::with_capacity(plain.len() + plain.len() / 3);
    for (place, digit) in plain.chars().enumerate() {
        if place > 0 && (plain.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rounded number with its thousands set apart.
fn whole_f64(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    // Saturating above u64::MAX: nothing measured comes near it.
    format!("{sign}{}", count(value.abs().round() as u64))
}

/// A time per Service. Medians are whole nanoseconds in buckets of a thousandth, so that over
/// thousands of Services two decimals are all there is.
pub fn slope(ns: f64) -> String {
    if !ns.is_finite() {
        return NONE.to_owned();
    }
    let text = if ns.abs() < 9.995 { format!("{ns:.2}") } else { digits(ns) };
    format!("{} ns", if text == "-0.00" { "0.00" } else { &text })
}

/// An interval of times per Service: `12.1 to 13.4 ns`.
pub fn slope_interval((low, high): (f64, f64)) -> String {
    let low = slope(low);
    format!("{} to {}", low.strip_suffix(" ns").unwrap_or(&low), slope(high))
}

/// How many times the baseline: `×1.32`.
pub fn ratio(value: f64) -> String {
    format!("×{}", digits(value))
}

/// A share in percent, rounded down so that only all of them reads 100 %.
pub fn percent(share: f64) -> String {
    if !share.is_finite() {
        return NONE.to_owned();
    }
    // A share such as 0.998 times 1000 may land a hair below 998.
    let tenths = (share * 1000.0 + 1e-9).floor();
    if tenths % 10.0 == 0.0 {
        format!("{:.0} %", tenths / 10.0)
    } else {
        format!("{:.1} %", tenths / 10.0)
    }
}

/// Bytes in the binary unit that fits.
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        v if v >= 1024.0 * 1024.0 * 1024.0 => format!("{} GiB", digits(v / 1024f64.powi(3))),
        v if v >= 1024.0 * 1024.0 => format!("{} MiB", digits(v / 1024f64.powi(2))),
        v => format!("{} KiB", digits(v / 1024.0)),
    }
}

/// A rate of bits in the decimal unit that fits, as networks count them.
pub fn bits(per_second: f64) -> String {
    match per_second {
        v if v >= 1e9 => format!("{} Gbit/s", digits(v / 1e9)),
        v if v >= 1e6 => format!("{} Mbit/s", digits(v / 1e6)),
        v => format!("{} kbit/s", digits(v / 1e3)),
    }
}

/// `1 case`, `2 cases`.
pub fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n as u64), if n == 1 { one } else { many })
}

/// Items as prose: `a`, `a and b`, `a, b and c`.
pub fn prose_list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}

/// Text from a record on one line: control characters, which could steer a terminal or end a
/// table's row, become the replacement character.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// At most `limit` characters of one line, the last an ellipsis where something was cut off.
pub fn shorten(text: &str, limit: usize) -> String {
    let text = one_line(text);
    if text.chars().count() <= limit {
        return text;
    }
    let mut cut: String = text.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_read_with_three_digits_and_the_unit_that_fits() {
        let read: Vec<_> = [0.0, 7.0, 812.0, 999.4, 999.6, 4_213.0, 68_120.0, 681_200.0, 999_499.0]
            .map(time)
            .into();
        insta::assert_snapshot!(read.join(" | "), @"0 ns | 7 ns | 812 ns | 999 ns | 1.00 µs | 4.21 µs | 68.1 µs | 681 µs | 999 µs");
        let read: Vec<_> =
            [999_600.0, 1.2e6, 2.31e9, 7.2e12, -12_900.0, 0.02, 9.999, f64::NAN].map(time).into();
        insta::assert_snapshot!(read.join(" | "), @"1.00 ms | 1.20 ms | 2.31 s | 7,200 s | -12.9 µs | 0.0200 ns | 10.0 ns | –");
    }

    #[test]
    fn counts_set_their_thousands_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn only_all_of_them_reads_a_hundred_percent() {
        assert_eq!(
            [1.0, 0.99999, 0.998, 0.5, 0.0].map(percent),
            ["100 %", "99.9 %", "99.8 %", "50 %", "0 %"]
        );
    }

    #[test]
    fn prose_has_commas_and_one_and() {
        let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(prose_list(&items[..1]), "a");
        assert_eq!(prose_list(&items[..2]), "a and b");
        assert_eq!(prose_list(&items), "a, b and c");
    }

    proptest! {
        #[test]
        fn a_printed_time_is_within_half_a_percent_of_the_time(ns in 1.0f64..1e15) {
            let text = time(ns);
            let (number, symbol) = text.split_once(' ').unwrap();
            let unit = [Unit::Ns, Unit::Us, Unit::Ms, Unit::S]
                .into_iter().find(|u| u.symbol() == symbol).unwrap();
            let back = number.replace(',', "").parse::<f64>().unwrap() * unit.ns();
            prop_assert!((back / ns - 1.0).abs() <= 0.005_001, "{ns} reads {text}");
        }

        #[test]
        fn any_number_can_be_printed(bits: u64) {
            let value = f64::from_bits(bits);
            for text in [time(value), digits(value), percent(value), ratio(value)] {
                prop_assert!(!text.is_empty());
            }
        }
    }
}
