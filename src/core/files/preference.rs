//! What a client likes best, by the weights of `Accept` and `Accept-Encoding` (RFC 9110, section 12.4.2).

/// A weight in thousandths, 0 to 1000.
type Weight = u16;

/// What `Accept-Encoding` says of a coding: by its name, else by `*`; `None`: it says nothing of it.
pub fn weigh_coding(accept: &[u8], coding: &str) -> Option<Weight> {
    let mut any = None;
    for (name, weight) in items(accept) {
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

/// What `Accept` says of a media type such as `text/html`: what is named most exactly counts, `text/html` before `text/*`
/// before `*/*`. The second value says how exactly: 2, 1 or 0.
pub fn weigh_type(accept: &[u8], media_type: &str) -> Option<(Weight, u8)> {
    let main = media_type.split('/').next().unwrap_or_default();
    let mut best: Option<(Weight, u8)> = None;
    for (name, weight) in items(accept) {
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

/// The items of a list with their weights. An item whose weight is malformed counts as if it had none.
fn items(list: &[u8]) -> impl Iterator<Item = (&[u8], Weight)> {
    list.split(|byte| *byte == b',').filter_map(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| match part {
            [b'q' | b'Q', b'=', weight @ ..] => read_weight(weight),
            _ => None,
        });
        Some((name, weight.unwrap_or(1000)))
    })
}

/// `0.5`, `1`, `0.333`.
fn read_weight(text: &[u8]) -> Option<Weight> {
    let (whole, fraction) = match text {
        [whole] | [whole, b'.'] => (whole, &b""[..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |digit: &u8| digit.is_ascii_digit().then(|| Weight::from(digit - b'0'));
    let mut weight = digit(whole).filter(|whole| *whole <= 1)? * 1000;
    for (place, value) in fraction.iter().zip([100, 10, 1]) {
        weight += digit(place)? * value;
    }
    Some(weight.min(1000))
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
            ("br;q=2", "br", Some(1000)),
            ("br;q=0.1234", "br", Some(1000)),
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
