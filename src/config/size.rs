//! Sizes as users write them: `"64KiB"`, `"16MiB"`, `"1GB"`, `"4096"`, `"0"`.

/// Binary units are powers of 1024, decimal ones of 1000, as in IEC 80000-13.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Parses a size in bytes. The error says what is wrong, as text.
///
/// # Errors
/// The text is not a whole number with a unit from the list (without a unit: bytes), or exceeds 63 bits.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    if number.is_empty() {
        return Err(if text.is_empty() {
            "it is empty".into()
        } else if text.starts_with('-') {
            "it can't be negative".into()
        } else {
            "it doesn't start with a number".into()
        });
    }
    let factor = match unit {
        "" => 1,
        "KB" => 1_000,
        _ => match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None if unit.starts_with('.') => return Err("it must be a whole number".into()),
            None => return Err(format!("`{unit}` is not a unit of size")),
        },
    };
    let too_large = || "it is too large".to_string();
    let number: u64 = number.parse().map_err(|_| too_large())?;
    number
        .checked_mul(factor)
        // TOML's integers have 63 bits, and so have printed ones.
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(too_large)
}

/// Returns the shortest exact form that [`parse`] reads back, in binary units: `64KiB`, `1000B`, `0`.
pub fn format(bytes: u64) -> String {
    if bytes == 0 {
        return "0".into();
    }
    UNITS
        .iter()
        .filter(|(unit, _)| unit.ends_with("iB") || *unit == "B")
        .find(|(_, factor)| bytes.is_multiple_of(*factor))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, factor)| format!("{}{unit}", bytes / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("16 MiB", 16 << 20),
            ("1GB", 1_000_000_000),
            ("1KB", 1000),
            ("1kB", 1000),
            ("10B", 10),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("", "it is empty"),
            ("64k", "`k` is not a unit of size"),
            ("1.5MiB", "it must be a whole number"),
            ("-1", "it can't be negative"),
            ("big", "it doesn't start with a number"),
            ("9223372036854775808", "it is too large"),
            ("99999999TiB", "it is too large"),
        ] {
            assert_eq!(parse(text), Err(why.into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
