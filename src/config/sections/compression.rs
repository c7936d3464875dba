//! `[compression]`.

use crate::config::declare::{section, words};
use crate::config::forms::{
    ByteSize, ConfigValue as _, KeyContext, ValueForm as _, custom, integer, list,
};
use crate::config::print;
use crate::config::reader::{ConfigFindings, ValueError};
use crate::config::values::{ValueResult, quoted, text, wrong};
use toml::de::DeValue;

section! {
    /// Answers that are [compressed](compression.md) on their way to clients that can read it. Without this section,
    /// none is.
    [compression]
    #[derive(Debug, Clone, PartialEq)]
    pub struct CompressionConfig {
        /// Media types that are compressed: `text/html`, `text/*`, `application/*+json`, or `*/*` for all. What pictures,
        /// films and archives have is compressed already.
        types: Vec<String> = ["text/*", "application/json", "application/*+json", "application/javascript", "application/xml", "application/*+xml", "application/wasm", "image/svg+xml", "image/x-icon", "font/ttf", "font/otf"], list("list of media types", "[\"text/*\", \"application/json\"]", custom("media type", read_type, |media_type| print::text(media_type)))
            .unless_empty("nothing would be compressed", "remove the section instead, if nothing shall be");
        /// An answer with a `Content-Length` below this goes out as it is: it fits a packet anyway.
        ///
        /// In bytes.
        min_size: u64 = "1KiB", ByteSize;
        /// The algorithms, the preferred one first: of those that a client likes equally, it gets that one.
        algorithms: Vec<CompressionAlgorithm> = ["zstd", "br", "gzip"], list("list of algorithms", "[\"zstd\", \"br\", \"gzip\"]", custom("`zstd`, `br` or `gzip`", read_algorithm, |algorithm| print::text(algorithm.as_str())))
            .unless_empty("nothing would be compressed", "remove the section instead, if nothing shall be");
        /// How hard `zstd` tries: higher is smaller and slower.
        zstd_level: i32 = 3, integer(1..=9).told();
        /// How hard `br` (Brotli) tries. Higher ones are for files that are compressed once, ahead of time.
        br_level: u32 = 3, integer(0..=6).told();
        /// How hard `gzip` tries.
        gzip_level: u32 = 4, integer(1..=9).told();
        /// Answers that are being compressed at once, event streams for half of it at most; further ones go out
        /// uncompressed. So do those for which `max_memory` of `[server]` has no room.
        max_at_once: usize = 1000, integer(1..=1_000_000).told();
    }
}

words! {
    /// A content coding for responses.
    pub enum CompressionAlgorithm {
        /// Zstandard (RFC 8878).
        Zstd = "zstd",
        /// Brotli (RFC 7932).
        Brotli = "br",
        /// GZIP (RFC 1952).
        Gzip = "gzip",
    }
}

impl CompressionConfig {
    /// Whether responses of this media type are compressed, given as in a `Content-Type` field, with parameters.
    pub fn covers(&self, content_type: &[u8]) -> bool {
        let end = content_type
            .iter()
            .position(|byte| matches!(byte, b';' | b' ' | b'\t'));
        let media_type = &content_type[..end.unwrap_or(content_type.len())];
        let Some(slash) = media_type.iter().position(|byte| *byte == b'/') else {
            return false;
        };
        let (kind, subtype) = (&media_type[..slash], &media_type[slash + 1..]);
        !subtype.is_empty()
            && self
                .types
                .iter()
                .any(|pattern| fits(pattern, kind, subtype))
    }
}

/// Whether a pattern, which is in lower case, covers a type.
fn fits(pattern: &str, kind: &[u8], subtype: &[u8]) -> bool {
    let Some((wanted, wanted_subtype)) = pattern.split_once('/') else {
        return false;
    };
    let same = |one: &[u8], other: &str| one.eq_ignore_ascii_case(other.as_bytes());
    if wanted != "*" && !same(kind, wanted) {
        return false;
    }
    match wanted_subtype.strip_prefix('*') {
        None => same(subtype, wanted_subtype),
        Some("") => true,
        Some(suffix) => {
            subtype.len() > suffix.len() && same(&subtype[subtype.len() - suffix.len()..], suffix)
        }
    }
}

fn read_type(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let given = text(key.name, value, "text/html")?;
    let refuse = |why: &str, remedy: String| Err(wrong(key.name, quoted(given), why, remedy));
    let lower = given.to_ascii_lowercase();
    if let Some((media_type, _)) = lower.split_once(';') {
        let remedy = format!("write \"{}\"", media_type.trim());
        return refuse("a media type is compared without its parameters", remedy);
    }
    if lower == "*" {
        return refuse("it has no slash", "write \"*/*\" for all types".into());
    }
    let Some((kind, subtype)) = lower.split_once('/') else {
        let remedy = match lower.strip_prefix('.').unwrap_or(&lower) {
            "html" | "css" | "csv" => format!("write \"text/{}\"", lower.trim_start_matches('.')),
            "js" | "javascript" => "write \"text/javascript\", or \"text/*\"".into(),
            "json" | "xml" => format!("write \"application/{}\"", lower.trim_start_matches('.')),
            _ => "write type and subtype, such as \"text/html\", or \"text/*\"".into(),
        };
        return refuse("it is not a media type", remedy);
    };
    let token = |part: &str| !part.is_empty() && part.bytes().all(is_token_byte);
    let wild = |part: &str| match part.strip_prefix('*') {
        None => token(part),
        Some(rest) => rest.is_empty() || rest.strip_prefix('+').is_some_and(token),
    };
    if kind == "*" && subtype != "*" {
        return refuse(
            "`*` stands for a type only where it stands for the subtype, too",
            "write \"*/*\", or name the type".into(),
        );
    }
    if (kind != "*" && !token(kind)) || !wild(subtype) {
        return refuse(
            "it is not a media type",
            "write type and subtype, such as \"text/html\", \"text/*\" or \"application/*+json\""
                .into(),
        );
    }
    Ok(lower)
}

fn read_algorithm(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<CompressionAlgorithm> {
    let given = text(key.name, value, "gzip")?;
    let meant = match given {
        "brotli" => "br",
        "gz" | "x-gzip" | "zlib" => "gzip",
        "zst" | "zstandard" => "zstd",
        "deflate" => {
            let remedy = "remove it: every client that reads it reads `gzip`, too, which is the same in a better frame";
            let why = "clients don't agree on what it is";
            return Err(wrong(key.name, quoted(given), why, remedy));
        }
        _ => return CompressionAlgorithm::form().read(key, value),
    };
    let (why, remedy) = ("it has another name in HTTP", format!("write \"{meant}\""));
    Err(wrong(key.name, quoted(given), why, remedy))
}

/// Whether a byte may be in a token (RFC 9110, section 5.6.2), except the wildcard.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte)
}

/// Checks values in combination.
pub(in crate::config) fn validate(compression: &CompressionConfig, f: &mut ConfigFindings) {
    let key = "compression.algorithms";
    let algorithms = &compression.algorithms;
    let twice = |(at, algorithm): (usize, &CompressionAlgorithm)| {
        algorithms[..at].contains(algorithm).then_some(*algorithm)
    };
    if f.sound(&[key])
        && let Some(twice) = algorithms.iter().enumerate().find_map(twice)
    {
        f.error(
            f.place(key),
            format!("`algorithms` has \"{twice}\" twice"),
            "remove one of them: the first is preferred",
        );
    }
}

/// Reads whether a route's responses may be compressed.
pub(super) fn read_route_switch(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<bool> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        DeValue::Table(_) => Err(ValueError::new(
            format!(
                "`{}` of a route is a table, but must be true or false",
                key.name
            ),
            "write `compression = false` to switch it off here; how answers are compressed is said in [compression]",
        )),
        other => crate::config::values::boolean(key.name, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(types: &[&str]) -> CompressionConfig {
        CompressionConfig {
            types: types.iter().map(|one| (*one).to_owned()).collect(),
            ..CompressionConfig::default()
        }
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let config = types(&["text/*", "application/json", "application/*+json"]);
        for covered in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "text/event-stream",
            "application/JSON",
            "application/json;charset=utf-8",
            "application/problem+json",
            "application/ld+JSON ; a=b",
        ] {
            assert!(config.covers(covered.as_bytes()), "{covered}");
        }
        for other in [
            "",
            "text",
            "text/",
            "texts/html",
            "application/jsonx",
            "application/+json",
            "application/xjson",
            "image/png",
            "multipart/byteranges",
        ] {
            assert!(!config.covers(other.as_bytes()), "{other}");
        }
        assert!(types(&["*/*"]).covers(b"image/png"));
    }

    #[test]
    fn compressed_media_types_are_not_among_the_defaults() {
        let config = CompressionConfig::default();
        for other in [
            "image/png",
            "image/webp",
            "video/mp4",
            "application/zip",
            "font/woff2",
            "application/pdf",
            "application/octet-stream",
            "application/grpc",
        ] {
            assert!(!config.covers(other.as_bytes()), "{other}");
        }
        assert!(config.covers(b"image/svg+xml") && config.covers(b"text/javascript"));
    }
}
