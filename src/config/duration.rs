//! Durations as users write them: `"100ms"`, `"5s"`, `"1m30s"`, `"1.5h"`, `"0"`.
//!
//! The same form is used in the file, on the command line and in the admin API.

use std::time::Duration;

/// Units with their length in microseconds, longest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Longest duration that is accepted: a year. More is surely a typing error, and would overflow timers.
pub const MAX: Duration = Duration::from_secs(365 * 86_400);

/// The form that [`parse`] reads, as a regular expression (ECMA-262, as in JSON Schema). It can't express the maximum
/// of a year.
pub const PATTERN: &str = "^\\s*(0|([0-9]+(\\.[0-9]{1,8}0*)?\\s*[dh]\\s*|[0-9]+(\\.[0-9]{1,7}0*)?\\s*m\\s*|[0-9]+(\\.[0-9]{1,6}0*)?\\s*s\\s*|[0-9]+(\\.[0-9]{1,3}0*)?\\s*ms\\s*|[0-9]+(\\.0+)?\\s*us\\s*)+)\\s*$";

/// Parses a duration. The error says what is wrong, as text.
///
/// # Errors
/// The form is not number, unit, number, unit…; a unit is missing or unknown; the duration is finer than a
/// microsecond, or over a year.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        if number.is_empty() {
            return Err(if rest.starts_with('-') {
                "it can't be negative".into()
            } else {
                format!("there is no number before `{rest}`")
            });
        }
        let (unit, after) = split(after.trim_start(), |c| c.is_alphabetic());
        let Some(&(_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() {
                "it has no unit".into()
            } else {
                format!("`{unit}` is not a unit of time")
            });
        };
        let part = micros(number, length)?;
        total = total.checked_add(part).ok_or("it is too long")?;
        rest = after.trim_start();
    }
    let duration = Duration::from_micros(total);
    if duration > MAX {
        return Err("it is longer than a year".into());
    }
    Ok(duration)
}

fn split(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !accept(c)).unwrap_or(text.len()))
}

/// Multiplies `number` (digits, at most one point) by `unit`, exactly.
fn micros(number: &str, unit: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let bad = || format!("`{number}` is not a number");
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| "it is too long".to_string())?;
    let mut micros = whole.checked_mul(unit).ok_or("it is too long")?;
    let mut place = unit;
    for digit in fraction.bytes() {
        let digit = u64::from(digit - b'0');
        // Also checked after the last place: a duration that is not zero must not become zero, which often means "no
        // limit".
        if (place == 0 || !place.is_multiple_of(10)) && digit != 0 {
            return Err("it is finer than a microsecond".into());
        }
        place /= 10;
        micros = micros.checked_add(digit * place).ok_or("it is too long")?;
    }
    Ok(micros)
}

/// Returns the shortest form that [`parse`] reads back: `1m30s`, `100ms`, `0s`. Fractions of a microsecond are
/// dropped.
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, length) in UNITS {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, micros) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100_000),
            ("5s", 5_000_000),
            ("1m30s", 90_000_000),
            ("1m 30s", 90_000_000),
            ("1.5s", 1_500_000),
            ("0.25s", 250_000),
            ("2h", 7_200_000_000),
            ("1d", 86_400_000_000),
            ("7us", 7),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("", "it is empty"),
            ("5", "it has no unit"),
            ("5x", "`x` is not a unit of time"),
            ("5 S", "`S` is not a unit of time"),
            ("-5s", "it can't be negative"),
            ("s", "there is no number before `s`"),
            ("1..5s", "`1..5` is not a number"),
            ("1.s", "`1.` is not a number"),
            (".5s", "`.5` is not a number"),
            ("0.5us", "it is finer than a microsecond"),
            ("0.05us", "it is finer than a microsecond"),
            ("0.0000001s", "it is finer than a microsecond"),
            ("0.00000001s", "it is finer than a microsecond"),
            ("0.000000000000000000001s", "it is finer than a microsecond"),
            ("1.0000000001ms", "it is finer than a microsecond"),
            ("0.000000001m", "it is finer than a microsecond"),
            ("0.0000000001h", "it is finer than a microsecond"),
            ("0.000000000000001d", "it is finer than a microsecond"),
            ("366d", "it is longer than a year"),
            ("99999999999999999999s", "it is too long"),
            ("9999999999999d", "it is too long"),
        ] {
            assert_eq!(parse(text), Err(why.into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(micros in 0u64..31_536_000_000_000) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        /// For valid and invalid durations as users write them, the pattern and the parser agree.
        #[test]
        fn accepts_what_the_pattern_matches_and_nothing_else(
            text in " ?(0|([0-9.]{1,3}|0|[0-9]{1,4}\\.0{0,9}[0-9]{0,2}) ?(d|h|m|s|ms|us|x|ns|S|)){1,2} ?"
        ) {
            let pattern = regex::Regex::new(PATTERN).unwrap();
            match parse(&text) {
                Ok(_) => prop_assert!(pattern.is_match(&text), "{:?}", text),
                Err(why) if pattern.is_match(&text) => {
                    prop_assert!(["it is longer than a year", "it is too long"].contains(&&*why), "{:?}: {}", text, why);
                }
                Err(_) => {}
            }
        }

        #[test]
        fn duration_that_matches_the_pattern_is_refused_only_if_too_long(
            text in "[0-9]{1,3}(\\.[0-9]{1,8}0{0,2})?[dh]|[0-9]{1,3}(\\.[0-9]{1,6}0{0,4})? ?s|[0-9]{1,9}(\\.0{1,3})?us|[0-9]{1,3}(\\.[0-9]{1,3})?ms"
        ) {
            prop_assert!(regex::Regex::new(PATTERN).unwrap().is_match(&text));
            match parse(&text) {
                Ok(duration) => {
                    let zero = text.bytes().all(|b| !b.is_ascii_digit() || b == b'0');
                    prop_assert_eq!(duration.is_zero(), zero, "{:?}", text);
                }
                Err(why) => prop_assert_eq!(why, "it is longer than a year"),
            }
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
