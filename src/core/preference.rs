//! Preferences of clients, by the weights of `Accept` and `Accept-Encoding` (RFC 9110, section 12.4.2).

/// A weight in thousandths, from 0 to 1000.
pub type CodingWeight = u16;

/// Returns the weight of a coding in `Accept-Encoding`: by its name, else by `*`; `None`: neither is present.
pub fn weigh_coding(accept: &[u8], coding: &str) -> Option<CodingWeight> {
    let mut any = None;
    for (name, weight) in weighed_items(accept) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is(coding) || (coding == "gzip" && is("x-gzip")) {
            return Some(weight);
        }
        if name == b"*" {
            any = Some(weight);
        }
    }
    any
}

/// Returns the weight of a media type such as `text/html` in `Accept`. The most exact item counts, `text/html` before
/// `text/*` before `*/*`. The second value is the exactness: 2, 1 or 0.
pub fn weigh_type(accept: &[u8], media_type: &str) -> Option<(CodingWeight, u8)> {
    let main = media_type.split('/').next().unwrap_or_default();
    let mut best: Option<(CodingWeight, u8)> = None;
    for (name, weight) in weighed_items(accept) {
        let exactness = match name {
            b"*/*" => 0,
            name if name.eq_ignore_ascii_case(media_type.as_bytes()) => 2,
            [rest @ .., b'/', b'*'] if rest.eq_ignore_ascii_case(main.as_bytes()) => 1,
            _ => continue,
        };
        if best.is_none_or(|(_, before)| exactness > before) {
            best = Some((weight, exactness));
        }
    }
    best
}

/// Returns the items of a list with their weights. An item with a malformed weight is not acceptable, because its
/// meaning is unknown.
pub fn weighed_items(list: &[u8]) -> impl Iterator<Item = (&[u8], CodingWeight)> {
    list.split(|byte| *byte == b',').filter_map(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some((name, parts.find_map(weight_of).unwrap_or(1000)))
    })
}

/// Returns the weight in a parameter; `None`: it is another parameter.
fn weight_of(parameter: &[u8]) -> Option<CodingWeight> {
    let (b"q" | b"Q", value) = parameter.split_at_checked(1)? else {
        return None;
    };
    let value = value.trim_ascii().strip_prefix(b"=")?.trim_ascii();
    Some(match value {
        [b'0'] | [b'0', b'.'] => 0,
        [b'1'] | [b'1', b'.'] => 1000,
        [b'1', b'.', zeros @ ..] if zeros.iter().all(|digit| *digit == b'0') => 1000,
        [b'0', b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            let digit = |place: usize| {
                digits
                    .get(place)
                    .map_or(0, |digit| CodingWeight::from(digit - b'0'))
            };
            digit(0) * 100 + digit(1) * 10 + digit(2)
        }
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coding_is_weighed_by_its_name_before_the_star() {
        for (accept, coding, weight) in [
            ("gzip, br", "br", Some(1000)),
            ("gzip;q=0.5, *;q=0.1", "gzip", Some(500)),
            ("gzip;q=0.5, *;q=0.1", "br", Some(100)),
            ("*;q=0, GZIP ; Q=0.001", "gzip", Some(1)),
            ("*;q=0", "br", Some(0)),
            ("identity", "br", None),
            ("", "br", None),
            ("x-gzip", "gzip", Some(1000)),
            ("br;q=2", "br", Some(0)),
            ("br;q=x", "br", Some(0)),
            ("br;q=0.1234", "br", Some(123)),
            ("br; q = 0.2", "br", Some(200)),
            ("br;q=1.", "br", Some(1000)),
            ("br;level=5;q=0.2", "br", Some(200)),
        ] {
            assert_eq!(
                weigh_coding(accept.as_bytes(), coding),
                weight,
                "{accept} {coding}"
            );
        }
    }

    #[test]
    fn type_is_weighed_by_what_is_most_exact() {
        let browser = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(weigh_type(browser, "text/html"), Some((1000, 2)));
        assert_eq!(weigh_type(browser, "application/json"), Some((800, 0)));
        assert_eq!(
            weigh_type(b"text/*;q=0.3, */*", "text/html"),
            Some((300, 1))
        );
        assert_eq!(weigh_type(b"application/json", "text/html"), None);
        assert_eq!(weigh_type(b"text/html;q=0", "text/html"), Some((0, 2)));
    }
}
