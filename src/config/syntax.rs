//! Text that is not TOML: what the parser says, with advice for the usual slips.

use super::reader::Findings;
use toml::de::Error;

/// Note what the parser found. Only the first error of each line: the rest is its echo.
pub(super) fn explain(text: &str, errors: &[Error], found: &mut Findings) {
    let mut last_line = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let before = text.get(..span.start).unwrap_or(text);
        let line_number = before.matches('\n').count();
        if last_line == Some(line_number) {
            continue;
        }
        last_line = Some(line_number);
        let line = text.lines().nth(line_number).unwrap_or("").trim();
        let (message, remedy) = advice(error.message(), line);
        found.error(Some(span), message, remedy);
    }
}

fn advice(message: &str, line: &str) -> (String, String) {
    let not_toml = |what: &str| format!("this is not TOML: {what}");
    if message.contains("duplicate key") {
        return (
            "this was already written above".into(),
            "keep one of the two; a section that there may be many of has double brackets, such as `[[pool]]`".into(),
        );
    }
    let value = line
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()));
    if let Some((key, value)) = value
        && !value.is_empty()
        && !value.starts_with(['"', '\'', '[', '{'])
    {
        let bare = value.split('#').next().unwrap_or(value).trim();
        let remedy = match bare.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => format!("write `{key} = {word}`, in small letters"),
            "yes" | "on" => format!("write `{key} = true`"),
            "no" | "off" => format!("write `{key} = false`, or `{key} = \"{bare}\"` if it is text"),
            _ => format!(
                "write text in quotes: `{key} = \"{}\"`",
                bare.trim_end_matches(['"', '\'', ';', ','])
            ),
        };
        return (not_toml(message), remedy);
    }
    let remedy = match value {
        Some((key, "")) => format!("write a value after `{key} =`"),
        Some((key, value)) if value.starts_with(['"', '\'']) => {
            format!("`{key}`: one value on one line, with a quote at each end")
        }
        Some(_) => "close what was opened, and put commas between items".into(),
        None if line.starts_with('[') => {
            "write `[section]` or `[[section]]` on a line of its own".into()
        }
        None if line.contains(':') => {
            let key = line.split(':').next().unwrap_or("key").trim();
            format!("write `{key} = value`, with an equals sign")
        }
        None => "write `key = value`, `[section]` or `# comment`".into(),
    };
    (not_toml(message), remedy)
}
