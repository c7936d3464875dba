//! Single values: from TOML to Rust, or a problem with a remedy.

use super::reader::{ValueError, describe};
use super::{Address, ListenAddress};
use super::{address, duration, size, suggest};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeValue;

/// Result of reading a value.
pub(super) type ValueResult<T> = Result<T, ValueError>;

fn wrong_type<T>(key: &str, value: &DeValue<'_>, wanted: &str, remedy: String) -> ValueResult<T> {
    let is = describe(value);
    let message = format!("`{key}` is {is}, but must be {wanted}");
    Err(ValueError {
        is_of_wrong_type: true,
        ..ValueError::new(message, remedy)
    })
}

/// Returns the problem of a value that is not a table. `content`: what the table should contain.
pub(super) fn no_table(key: &str, value: &DeValue<'_>, content: &str, example: &str) -> ValueError {
    let is = describe(value);
    ValueError::new(
        format!("`{key}` is {is}, but must be a table of {content}"),
        format!("write `{key} = {example}`"),
    )
}

/// Returns the problem of a value that has the right type but is not valid.
pub(super) fn wrong(
    key: &str,
    value: impl std::fmt::Display,
    why: impl std::fmt::Display,
    remedy: impl Into<String>,
) -> ValueError {
    ValueError::new(format!("`{key} = {value}`: {why}"), remedy)
}

/// Returns text in quotes, as the user wrote it, with control characters made visible.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!(
        "\"{}{more}\"",
        short
            .escape_debug()
            .to_string()
            .replace("\\'", "'")
            .replace("\\\"", "\"")
    )
}

/// Returns a text; `example` is for the remedy of a wrong type.
pub(super) fn text<'t>(key: &str, value: &'t DeValue<'_>, example: &str) -> ValueResult<&'t str> {
    match value {
        DeValue::String(text) => Ok(text),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            wrong_type(
                key,
                value,
                "text",
                format!("write it in quotes, such as `{key} = \"{example}\"`"),
            )
        }
        _ => wrong_type(
            key,
            value,
            "text",
            format!("write one value, such as `{key} = \"{example}\"`"),
        ),
    }
}

/// Returns the value of an integer, in whatever radix it was written.
fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Returns the problem of a number outside a range.
pub(super) fn out_of_range(
    key: &str,
    written: impl std::fmt::Display,
    number: Option<i64>,
    range: &RangeInclusive<i64>,
) -> ValueError {
    let (low, high) = (range.start(), range.end());
    let remedy = match number {
        Some(number) if number < *low => format!("write `{key} = {low}` or more"),
        _ => format!("write `{key} = {high}` or less"),
    };
    wrong(
        key,
        written,
        format!("it must be from {low} to {high}"),
        remedy,
    )
}

pub(super) fn integer(
    key: &str,
    value: &DeValue<'_>,
    range: &RangeInclusive<i64>,
) -> ValueResult<i64> {
    let (low, high) = (range.start(), range.end());
    match value {
        DeValue::Integer(written) => match whole(value) {
            Some(number) if range.contains(&number) => Ok(number),
            number => Err(out_of_range(key, written, number, range)),
        },
        DeValue::String(text) if text.trim().parse::<i64>().is_ok() => wrong_type(
            key,
            value,
            "a number",
            format!("write it without quotes: `{key} = {}`", text.trim()),
        ),
        DeValue::Float(_) => wrong_type(
            key,
            value,
            "a whole number",
            format!("write `{key} = {low}` or more, without a point"),
        ),
        _ => wrong_type(
            key,
            value,
            "a number",
            format!("write a number from {low} to {high}, without quotes"),
        ),
    }
}

pub(super) fn boolean(key: &str, value: &DeValue<'_>) -> ValueResult<bool> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        DeValue::String(text) if ["true", "false"].contains(&text.as_ref()) => wrong_type(
            key,
            value,
            "true or false",
            format!("write it without quotes: `{key} = {text}`"),
        ),
        _ => wrong_type(
            key,
            value,
            "true or false",
            format!("write `{key} = true` or `{key} = false`"),
        ),
    }
}

/// Returns a number, with or without a fraction, as it is written.
pub(super) fn decimal<'a>(key: &str, value: &'a DeValue<'_>, remedy: &str) -> ValueResult<&'a str> {
    match value {
        DeValue::Float(float) => Ok(float.as_str()),
        DeValue::Integer(integer) => Ok(integer.as_str()),
        other => wrong_type(key, other, "a number", remedy.into()),
    }
}

pub(super) fn duration_of(key: &str, value: &DeValue<'_>) -> ValueResult<Duration> {
    match value {
        DeValue::String(text) => duration::parse(text).map_err(|why| {
            let remedy = match text.trim().parse::<u64>() {
                Ok(number) => format!("say the unit: `{key} = \"{number}s\"` for seconds, `{key} = \"{number}ms\"` for milliseconds"),
                Err(_) => "units are d, h, m, s, ms and us: write \"30s\", \"100ms\" or \"1m30s\"".into(),
            };
            wrong(key, quoted(text), why, remedy)
        }),
        DeValue::Integer(number) => wrong_type(
            key,
            value,
            "a duration",
            format!("write it in quotes with its unit: `{key} = \"{number}s\"` for seconds, `{key} = \"{number}ms\"` for milliseconds"),
        ),
        _ => wrong_type(key, value, "a duration", format!("write it in quotes with its unit: `{key} = \"30s\"`")),
    }
}

/// Value that lets the proxy determine the setting itself.
pub(super) const AUTO: &str = "auto";

pub(super) fn size_of(key: &str, value: &DeValue<'_>) -> ValueResult<u64> {
    match value {
        DeValue::String(text) => size::parse(text).map_err(|why| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            let digits = if digits.is_empty() { "64" } else { &digits };
            wrong(
                key,
                quoted(text),
                why,
                format!("units are B, KiB, MiB, GiB, TiB (1024) and kB, MB, GB, TB (1000): write \"{digits}KiB\" or \"{digits}MiB\""),
            )
        }),
        // Bytes are the only unit that may be left out.
        DeValue::Integer(written) => whole(value)
            .and_then(|bytes| u64::try_from(bytes).ok())
            .ok_or_else(|| wrong(key, written, "it can't be negative", "write a size such as \"64KiB\"")),
        _ => wrong_type(key, value, "a size", format!("write it in quotes with its unit: `{key} = \"64KiB\"`")),
    }
}

/// Returns words as part of a sentence: `"hold", "fail" or "fail_open"`.
pub(super) fn all_words<T>(choices: &[(&str, T)]) -> String {
    let words = choices.iter().map(|(word, _)| format!("\"{word}\""));
    let words: Vec<String> = words.collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// Reads one of a few words.
pub(super) fn choice<T: Copy>(
    key: &str,
    value: &DeValue<'_>,
    choices: &[(&str, T)],
) -> ValueResult<T> {
    let all = all_words(choices);
    let first = choices.first().map_or("", |(word, _)| word);
    let such_as = format!("write one of them in quotes, such as `{key} = \"{first}\"`");
    let DeValue::String(text) = value else {
        return wrong_type(key, value, &all, such_as);
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| word == text) {
        return Ok(*choice);
    }
    let near = suggest::nearest(text, choices.iter().map(|(word, _)| *word));
    Err(wrong(
        key,
        quoted(text),
        format!("it must be {all}"),
        match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => such_as,
        },
    ))
}

pub(super) fn path_of(key: &str, value: &DeValue<'_>, base: &Path) -> ValueResult<Option<PathBuf>> {
    let text = text(key, value, "/path/to/it")?;
    if text.is_empty() {
        return Ok(None);
    }
    file_path(key, text, base).map(Some)
}

/// Longest name of a file and longest path that Linux accepts (`NAME_MAX`, and `PATH_MAX` without its terminating
/// zero).
const MAX_FILE_NAME: usize = 255;
const MAX_PATH: usize = 4095;

/// Returns a path as written, relative to `base`. Every path of a configuration is read by this function.
pub(super) fn file_path(key: &str, text: &str, base: &Path) -> ValueResult<PathBuf> {
    let refused = |why: String, remedy: &str| Err(wrong(key, quoted(text), why, remedy));
    // This includes NUL: the system would use only the part before it, or refuse the path once the proxy is running.
    if text.contains(|c: char| c.is_control()) {
        return refused(
            "it has a control character in it".into(),
            "write a path of plain characters",
        );
    }
    // Relative paths are relative to the file, wherever the process was started.
    let path = base.join(text);
    let longest = text.split('/').map(str::len).max().unwrap_or(0);
    if longest > MAX_FILE_NAME {
        let why = format!("a name in it has {longest} bytes, and can have {MAX_FILE_NAME}");
        return refused(why, "use a shorter name");
    }
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        let why = format!("the path has {length} bytes, and can have {MAX_PATH}");
        return refused(why, "use a shorter path");
    }
    Ok(path)
}

pub(super) fn listen(key: &str, value: &DeValue<'_>) -> ValueResult<SocketAddr> {
    let text = address_text(key, value)?;
    address::listen(&text)
        .map_err(|error| wrong(key, shown(value, &text), error.message, error.remedy))
}

pub(super) fn listen_address(key: &str, value: &DeValue<'_>) -> ValueResult<ListenAddress> {
    let text = address_text(key, value)?;
    text.parse().map_err(|error: address::AddressError| {
        wrong(key, shown(value, &text), error.message, error.remedy)
    })
}

pub(super) fn backend_address(key: &str, value: &DeValue<'_>) -> ValueResult<Address> {
    let text = address_text(key, value)?;
    text.parse().map_err(|error: address::AddressError| {
        wrong(key, shown(value, &text), error.message, error.remedy)
    })
}

/// Returns an address as written; a bare number is taken as text, so that it is checked as the port that it is meant
/// to be.
fn address_text(key: &str, value: &DeValue<'_>) -> ValueResult<String> {
    match value {
        DeValue::Integer(number) => Ok(number.to_string()),
        _ => text(key, value, "127.0.0.1:8080").map(str::to_string),
    }
}

fn shown(value: &DeValue<'_>, text: &str) -> String {
    if value.is_integer() {
        text.to_string()
    } else {
        quoted(text)
    }
}

/// Reads the name of a pool or backend. `~` and `/` would be ambiguous in `POOL/NAME~2`.
pub(super) fn name(key: &str, value: &DeValue<'_>) -> ValueResult<String> {
    let text = text(key, value, "app")?;
    check_name(text).map(|()| text.to_string()).map_err(|why| {
        let good: String = text
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(MAX_NAME)
            .collect();
        let good = good.trim_start_matches(['.', '_', '-']);
        let remedy = if good.is_empty() { "app" } else { good };
        wrong(
            key,
            quoted(text),
            why,
            format!("write `{key} = \"{remedy}\"`"),
        )
    })
}

/// Longest name, in characters: names become labels of metrics, and parts of URLs and commands.
pub(super) const MAX_NAME: usize = 100;

/// Checks that this can be the name of a pool or backend; the error is a clause of a message.
///
/// # Errors
/// The name is empty, too long, contains a character other than letters, digits, `.`, `_` and `-`, or begins with one
/// of these three.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name can't be empty".into());
    }
    if name.len() > MAX_NAME {
        return Err(format!("a name has at most {MAX_NAME} characters"));
    }
    if let Some(first) = name.chars().next().filter(|c| "._-".contains(*c)) {
        // `-x` would be an option to every command that contains it.
        return Err(format!(
            "a name begins with a letter or a digit, and not with `{first}`"
        ));
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
    {
        Some(' ') => Err("a name has no spaces".into()),
        Some(c) => Err(format!(
            "`{}` can't be in a name, only letters, digits, `.`, `_` and `-`",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}
