//! `Range`: the bytes of a file that are requested (RFC 9110, section 14).

use std::ops::Range;

/// Most ranges that are served at once. A request with more gets the whole file: no client needs more, and each range
/// needs a header of its own.
const MOST: usize = 64;

/// How a `Range` is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedRanges {
    /// With the whole file: the unit is unknown, or more is requested than the file has.
    Whole,
    /// Not at all (416).
    Unsatisfiable,
    /// With these ranges, in the order in which they were requested; at least one.
    Parts(Vec<Range<u64>>),
}

/// Parses a `Range` for a file of this length.
///
/// A malformed value is unsatisfiable, as in nginx; RFC 9110 allows that.
pub fn read_ranges(value: &[u8], length: u64) -> RequestedRanges {
    use RequestedRanges::{Parts, Unsatisfiable, Whole};
    let Some(set) = value
        .get(..6)
        .filter(|unit| unit.eq_ignore_ascii_case(b"bytes="))
        .map(|_| &value[6..])
    else {
        return Whole;
    };
    // Too short to request anything; nginx treats it in the same way.
    if set.is_empty() {
        return Whole;
    }
    let mut parts = Vec::new();
    let mut total = 0_u64;
    for (count, item) in set.split(|byte| *byte == b',').enumerate() {
        if count >= MOST {
            return Whole;
        }
        let Some(range) = read_range(item.trim_ascii(), length) else {
            return Unsatisfiable;
        };
        if range.start < range.end {
            total = total.saturating_add(range.end - range.start);
            parts.push(range);
        } else if range.start == 0 {
            // The whole of an empty file.
            return Whole;
        }
    }
    match parts.len() {
        0 => Unsatisfiable,
        // Overlapping ranges could make a large response of a small file.
        2.. if total > length => Whole,
        _ => Parts(parts),
    }
}

/// Parses one range, cut to the file; empty if none of it is in the file. `None`: it is malformed.
fn read_range(item: &[u8], length: u64) -> Option<Range<u64>> {
    let dash = item.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (item[..dash].trim_ascii(), item[dash + 1..].trim_ascii());
    if first.is_empty() {
        let count = number(last)?;
        return Some(length.saturating_sub(count)..length);
    }
    let first = number(first)?;
    let end = match last {
        b"" => length,
        last => number(last)?.saturating_add(1).min(length),
    };
    Some(first..end)
}

/// Parses a decimal number; numbers that are too large become the largest one.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::RequestedRanges::{Parts, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        let parts = |parts: &[(u64, u64)]| Parts(parts.iter().map(|(a, b)| *a..*b).collect());
        for (value, expected) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=0-", parts(&[(0, 100)])),
            ("bytes=5-9", parts(&[(5, 10)])),
            ("bytes=99-200", parts(&[(99, 100)])),
            ("bytes=-1", parts(&[(99, 100)])),
            ("bytes=-1000", parts(&[(0, 100)])),
            ("Bytes= 1 - 2 ", parts(&[(1, 3)])),
            ("bytes=0-1,5-6", parts(&[(0, 2), (5, 7)])),
            ("bytes=200-300,5-6", parts(&[(5, 7)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 100)])),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=5-3", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=", Whole),
            ("bytes=-", Unsatisfiable),
            ("bytes=a-b", Unsatisfiable),
            ("bytes=0-1,x", Unsatisfiable),
            ("bytes=1", Unsatisfiable),
            (
                "bytes=18446744073709551615-18446744073709551616",
                Unsatisfiable,
            ),
            ("items=0-1", Whole),
            ("bytes", Whole),
            ("bytes=0-99,0-99", Whole),
            ("bytes=0-60,40-99", Whole),
        ] {
            assert_eq!(read_ranges(value.as_bytes(), 100), expected, "{value}");
        }
        let many = format!("bytes={}", vec!["0-0"; 65].join(","));
        assert_eq!(read_ranges(many.as_bytes(), 100), Whole);
    }

    #[test]
    fn empty_file_is_served_whole_and_has_no_ranges() {
        assert_eq!(read_ranges(b"bytes=0-", 0), Whole);
        assert_eq!(read_ranges(b"bytes=-5", 0), Whole);
        assert_eq!(read_ranges(b"bytes=1-", 0), Unsatisfiable);
    }
}
