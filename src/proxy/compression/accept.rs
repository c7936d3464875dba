//! `Accept-Encoding`: chooses the content coding for a client (RFC 9110, section 12.5.3).

use crate::config::CompressionAlgorithm;
use crate::core::preference::{CodingWeight, weighed_items};
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;

/// The weight that a client gives to each coding; `None`: not named.
#[derive(Debug, Default, Clone, Copy)]
struct AcceptedCodings {
    zstd: Option<CodingWeight>,
    brotli: Option<CodingWeight>,
    gzip: Option<CodingWeight>,
    identity: Option<CodingWeight>,
    any: Option<CodingWeight>,
}

impl AcceptedCodings {
    fn slot(&mut self, coding: &[u8]) -> Option<&mut Option<CodingWeight>> {
        let named = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        if named("gzip") || named("x-gzip") {
            Some(&mut self.gzip)
        } else if named("br") {
            Some(&mut self.brotli)
        } else if named("zstd") {
            Some(&mut self.zstd)
        } else if named("identity") {
            Some(&mut self.identity)
        } else if coding == b"*" {
            Some(&mut self.any)
        } else {
            None
        }
    }

    /// Adds the codings of one field value. If a coding is named twice, the lower weight counts: a coding that a
    /// client excludes is never used.
    fn read(&mut self, value: &[u8]) {
        for (coding, weight) in weighed_items(value) {
            if let Some(slot) = self.slot(coding) {
                *slot = Some(slot.map_or(weight, |other| other.min(weight)));
            }
        }
    }

    fn weight(&self, algorithm: CompressionAlgorithm) -> CodingWeight {
        let own = match algorithm {
            CompressionAlgorithm::Zstd => self.zstd,
            CompressionAlgorithm::Brotli => self.brotli,
            CompressionAlgorithm::Gzip => self.gzip,
        };
        own.or(self.any).unwrap_or(0)
    }

    /// Returns the algorithm with the highest weight; among equal ones, the first of `preferred`. `None`: no coding,
    /// because the client accepts none of them, or prefers the plain body.
    fn choose(&self, preferred: &[CompressionAlgorithm]) -> Option<CompressionAlgorithm> {
        let mut best: Option<(CompressionAlgorithm, CodingWeight)> = None;
        for algorithm in preferred {
            let weight = self.weight(*algorithm);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some((*algorithm, weight));
            }
        }
        let (algorithm, weight) = best?;
        // An `identity` that isn't named is acceptable, with the lowest weight.
        (weight >= self.identity.unwrap_or(0)).then_some(algorithm)
    }
}

/// Returns the coding for the client whose request head is in `buffer`. `None`: no coding. A client without
/// `Accept-Encoding` may support none.
pub fn choose_coding(
    buffer: &[u8],
    request: &RequestHead,
    preferred: &[CompressionAlgorithm],
) -> Option<CompressionAlgorithm> {
    accepted(buffer, request).choose(preferred)
}

fn accepted(buffer: &[u8], request: &RequestHead) -> AcceptedCodings {
    let mut codings = AcceptedCodings::default();
    for field in &request.fields {
        if field.kind == FieldKind::Other
            && field
                .name
                .of(buffer)
                .eq_ignore_ascii_case(b"accept-encoding")
        {
            codings.read(field.value.of(buffer));
        }
    }
    codings
}

#[cfg(test)]
mod tests {
    use super::*;
    use CompressionAlgorithm::{Brotli, Gzip, Zstd};
    use proptest::prelude::*;

    const ALL: [CompressionAlgorithm; 3] = [Zstd, Brotli, Gzip];

    fn chosen(values: &[&str], preferred: &[CompressionAlgorithm]) -> Option<CompressionAlgorithm> {
        let mut codings = AcceptedCodings::default();
        for value in values {
            codings.read(value.as_bytes());
        }
        codings.choose(preferred)
    }

    #[test]
    fn client_gets_its_favourite_coding_and_among_equals_the_preferred_one() {
        for (value, coding) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP;Q=1", Some(Gzip)),
            ("br;q=0.8, gzip;q=0.9", Some(Gzip)),
            ("zstd;q=0, gzip;q=0.001", Some(Gzip)),
            ("zstd ; q = 0.5 , br ;q=0.50", Some(Zstd)),
            ("*", Some(Zstd)),
            ("*;q=0.1, br;q=0", Some(Zstd)),
            ("zstd;q=0, *", Some(Brotli)),
            ("", None),
            ("identity", None),
            ("deflate, compress", None),
            ("*;q=0", None),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("identity;q=0", None),
            ("*;q=0.5, identity;q=0.6", None),
            ("gzip, gzip;q=0", None),
            ("gzip;q=1.5", None),
            ("gzip;q=-1", None),
            ("gzip;q=", None),
            ("gzip;q=0.9999", Some(Gzip)),
            ("gzip;level=9;q=0", None),
            (",, gzip ,", Some(Gzip)),
            ("gzipx, xgzip, b r", None),
        ] {
            assert_eq!(chosen(&[value], &ALL), coding, "{value}");
        }
        assert_eq!(chosen(&["gzip", "br"], &ALL), Some(Brotli));
        assert_eq!(chosen(&["gzip, br"], &[Gzip, Brotli]), Some(Gzip));
        assert_eq!(chosen(&["br"], &[Gzip]), None);
        assert_eq!(chosen(&[], &ALL), None);
    }

    /// The same rules taken literally from the RFC, on entries instead of text.
    fn naive(
        entries: &[(&str, u16)],
        preferred: &[CompressionAlgorithm],
    ) -> Option<CompressionAlgorithm> {
        let of = |name: &str| {
            let own = entries.iter().filter(|(entry, _)| *entry == name);
            own.map(|(_, weight)| *weight).min()
        };
        let weight = |name: &str| of(name).or_else(|| of("*"));
        let usable = preferred.iter().filter_map(|algorithm| {
            let weight = weight(algorithm.as_str())?;
            (weight > 0).then_some((*algorithm, weight))
        });
        let usable: Vec<_> = usable.collect();
        let highest = usable.iter().map(|(_, weight)| *weight).max()?;
        if of("identity").is_some_and(|identity| identity > highest) {
            return None;
        }
        let first = usable.iter().find(|(_, weight)| *weight == highest)?;
        Some(first.0)
    }

    proptest! {
        #[test]
        fn choice_is_that_of_a_naive_reading(
            entries in proptest::collection::vec(
                (
                    prop_oneof![Just("zstd"), Just("br"), Just("gzip"), Just("identity"), Just("*"), Just("deflate")],
                    0u16..=1000,
                    "[ \t]{0,2}",
                ),
                0..6,
            ),
            preferred in Just(ALL.to_vec()).prop_shuffle(),
            count in 1usize..=3,
        ) {
            let text: Vec<_> = entries
                .iter()
                .map(|(name, weight, blank)| match weight {
                    1000 => format!("{blank}{name}{blank}"),
                    weight => format!("{blank}{name}{blank};{blank}q=0.{weight:03}{blank}"),
                })
                .collect();
            let entries: Vec<_> = entries.iter().map(|(name, weight, _)| (*name, *weight)).collect();
            let preferred = &preferred[..count];
            prop_assert_eq!(chosen(&[&text.join(",")], preferred), naive(&entries, preferred));
            // Several header fields are one list.
            let fields: Vec<_> = text.iter().map(String::as_str).collect();
            prop_assert_eq!(chosen(&fields, preferred), naive(&entries, preferred));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut codings = AcceptedCodings::default();
            codings.read(&value);
            let _ = codings.choose(&ALL);
        }
    }
}
