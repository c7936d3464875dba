//! Cookies in the header fields of requests and responses (RFC 6265, sections 4.1 and 4.2).
//!
//! Routes, splits, hashes, limits, placeholders and sticky sessions all use this parser, so that no client can make
//! them see different cookies in one request:
//! - A semicolon always ends a cookie, in quotes too: no browser sends one within a value.
//! - Spaces around a name or a value are ignored. Quotes belong to the value.
//! - Text without `=` is no cookie, because it has no name. Names are compared with case.
//!
//! The caller decides how to treat several cookies with the same name: a route matches if any of them does, a split
//! and a hash take the first with a value, a placeholder takes the first, and a limit and a session accept only a
//! single one.

/// Returns the values of the cookies with this name in a `Cookie` field, in order.
pub fn cookie_values<'a, 'n>(
    field: &'a [u8],
    name: &'n [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    field
        .split(|byte| *byte == b';')
        .filter_map(move |pair| value_of(pair, name))
}

/// Copies the `Cookie` field to `out` without the cookies with this name.
pub fn remove_cookie(field: &[u8], name: &[u8], out: &mut Vec<u8>) {
    let mut is_first = true;
    for pair in field.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        if pair.is_empty() || value_of(pair, name).is_some() {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(pair);
    }
}

/// Returns the value of a `Set-Cookie` field if its cookie has this name: the first pair is the cookie, the others
/// are attributes.
pub fn set_cookie_value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pair = field.split(|byte| *byte == b';').next()?;
    value_of(pair, name)
}

/// Whether this `Set-Cookie` field deletes the cookie with this name: it has no value, or a `Max-Age` of 0 or less.
pub fn clears_cookie(field: &[u8], name: &[u8]) -> bool {
    let Some(value) = set_cookie_value(field, name) else {
        return false;
    };
    let mut attributes = field.split(|byte| *byte == b';').skip(1);
    let ends = |attribute: &[u8]| {
        let Some(at) = attribute.iter().position(|byte| *byte == b'=') else {
            return false;
        };
        let (key, value) = (
            attribute[..at].trim_ascii(),
            attribute[at + 1..].trim_ascii(),
        );
        key.eq_ignore_ascii_case(b"max-age") && (value.starts_with(b"-") || value == b"0")
    };
    value.is_empty() || value == b"\"\"" || attributes.any(ends)
}

/// Returns the value of `name=value`, if it has this name.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    (pair[..at].trim_ascii() == name).then(|| pair[at + 1..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_of_a_name_are_found_wherever_they_stand() {
        let values = |field: &'static str| -> Vec<&'static [u8]> {
            cookie_values(field.as_bytes(), b"lameduck").collect()
        };
        assert_eq!(values("a=1; lameduck=x; b=2"), [b"x"]);
        assert_eq!(values("lameduck=x;lameduck = y"), [b"x", b"y"]);
        assert_eq!(
            values("Lameduck=x; xlameduck=y; lameduckx=z; lameduck"),
            [b""; 0]
        );
        assert_eq!(values("lameduck="), [b""]);
        assert_eq!(values("a=lameduck=x"), [b""; 0]);
    }

    #[test]
    fn quotes_belong_to_a_value_and_blanks_around_it_do_not() {
        let values = |field: &'static str| -> Vec<&'static [u8]> {
            cookie_values(field.as_bytes(), b"a").collect()
        };
        assert_eq!(values("a=\"x y\";\ta\t=\t z "), [&b"\"x y\""[..], b"z"]);
        assert_eq!(values("b=\"; a=x\""), [b"x\""]);
    }

    #[test]
    fn only_the_first_pair_of_set_cookie_is_its_cookie() {
        let value = |field: &'static str| set_cookie_value(field.as_bytes(), b"path");
        assert_eq!(value("path = x; a=y"), Some(&b"x"[..]));
        assert_eq!(value("a=y; path=/"), None);
        assert_eq!(value("path; path=/"), None);
    }

    #[test]
    fn other_cookies_stay_in_order_without_ours() {
        let without = |field: &str| {
            let mut out = Vec::new();
            remove_cookie(field.as_bytes(), b"lameduck", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(without("a=1; lameduck=x; b=2"), "a=1; b=2");
        assert_eq!(without("lameduck=x"), "");
        assert_eq!(
            without("a=\"x y\" ;; b; lameduck=1; lameduck=2"),
            "a=\"x y\"; b"
        );
    }

    #[test]
    fn cookie_is_cleared_by_an_empty_value_or_no_time_to_live() {
        let clears = |field: &str| clears_cookie(field.as_bytes(), b"lameduck");
        for field in [
            "lameduck=",
            "lameduck=; Path=/",
            "lameduck=x; path=/; max-age=0",
            "lameduck=x; Max-Age=-1",
            "lameduck=\"\"; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            assert!(clears(field), "{field}");
        }
        for field in [
            "lameduck=x",
            "lameduck=x; Max-Age=10",
            "other=; Max-Age=0",
            "lameduck",
            "lameduck=x; Max-Age",
        ] {
            assert!(!clears(field), "{field}");
        }
    }
}
