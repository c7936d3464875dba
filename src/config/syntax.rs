//! Text that is not valid TOML: the parser's message, with advice for common mistakes.

use super::reader::ConfigFindings;
use super::schema::SECTIONS;
use super::sources::SourceText;
use toml::de::Error;

/// Reports the parser's first error. Later errors mostly repeat it.
pub(super) fn explain(source: &SourceText, errors: &[Error], found: &mut ConfigFindings) {
    let text = &*source.text;
    let Some(error) = errors
        .iter()
        .min_by_key(|error| error.span().map_or(0, |span| span.start))
    else {
        return;
    };
    let span = error.span().unwrap_or(0..0);
    let before = text.get(..span.start).unwrap_or(text);
    let line = text
        .split('\n')
        .nth(before.matches('\n').count())
        .unwrap_or("")
        .trim();
    let at = text.get(span.clone()).unwrap_or("");
    let (message, remedy) = advice(error.message(), line, at);
    let span = span.start + source.start..span.end + source.start;
    found.error(Some(span), message, remedy);
}

fn advice(message: &str, line: &str, at: &str) -> (String, String) {
    if message.contains("duplicate key") {
        let remedy = if line.starts_with('[') {
            "put both parts into one section; a section that there may be many of has double brackets, such as `[[pool]]`"
        } else {
            "keep one of the two"
        };
        return (format!("`{at}` was already written above"), remedy.into());
    }
    if message.contains("comma between array elements") || message.contains("unclosed array, ") {
        return (
            "a list is not closed, or a comma is missing in it".into(),
            "write `]` at the end of the list, and a comma between its items".into(),
        );
    }
    if line.starts_with('[') && !line.contains('=') {
        let name = line.trim_matches(['[', ']', ' ']);
        let remedy = match header(name) {
            Some(header) => format!("write `{header}` on a line of its own"),
            None => format!(
                "write `[{name}]`, or `[[{name}]]` where there may be many, on a line of its own"
            ),
        };
        return (format!("this is not a section: {message}"), remedy);
    }
    let Some((key, value)) = line.split_once('=') else {
        return match line.split_once([':', ' ']) {
            Some((key, value)) if !key.is_empty() => {
                let remedy = match (header(key), value.trim()) {
                    (Some(header), _) => {
                        format!("write `{header}` on a line of its own, and `key = value` below it")
                    }
                    (None, "") => format!("write `{key} = value`"),
                    (None, value) => format!("write `{key} = {value}`, with text in quotes"),
                };
                ("there is no equals sign".into(), remedy)
            }
            _ => (
                format!("this is not TOML: {message}"),
                "write `key = value`, `[section]` or `# comment`".into(),
            ),
        };
    };
    let (key, value) = (key.trim(), value.trim());
    let bare = value.split('#').next().unwrap_or(value).trim();
    if bare.is_empty() {
        return (
            format!("`{key}` has no value"),
            format!("write it after `{key} =`, or remove the line"),
        );
    }
    if value.starts_with(['"', '\'']) {
        return (
            format!("the value of `{key}` is not one text in quotes: {message}"),
            "put a quote at each end, on one line; inside, write \\\" for a quote and \\\\ for a backslash".into(),
        );
    }
    if value.starts_with(['[', '{']) {
        return (
            format!("the value of `{key}` is not complete: {message}"),
            "close every bracket, and put commas between items".into(),
        );
    }
    let remedy = match bare.to_ascii_lowercase().as_str() {
        word @ ("true" | "false") => format!("write `{key} = {word}`, in small letters"),
        "yes" | "on" => format!("write `{key} = true`"),
        "no" | "off" => format!("write `{key} = false`, or `{key} = \"{bare}\"` if it is text"),
        _ => format!(
            "write text in quotes: `{key} = \"{}\"`",
            bare.trim_end_matches(['"', '\'', ';', ','])
        ),
    };
    (
        format!(
            "`{key} = {bare}`: this is neither a number, nor true or false, nor text in quotes"
        ),
        remedy,
    )
}

/// Returns how a section with this name is written, if there is one.
fn header(name: &str) -> Option<&'static str> {
    let mut sections = SECTIONS.iter().filter(|section| !section.name.is_empty());
    sections
        .find(|section| section.name == name.trim())
        .map(|section| section.header)
}
