//! A configuration as TOML: every effective value, and it parses back to the same configuration. Free text that came from
//! the environment is shown as its reference.

use super::hidden_texts::HiddenTexts;
use super::section_traits::{ConfigSection, PrintExtent, PrintedSections, TomlEntries};
use super::sections::{Config, HealthConfig};

/// The whole configuration as TOML. A pool whose file has no `[pool.health]` shows the values of it as comments:
/// written out, the section would count as configured and lose its fall-back to TCP.
pub fn print(config: &Config) -> String {
    let printed = print_sections(config, PrintExtent::Whole);
    let mut out = String::new();
    let mut pools = config.pools.iter();
    // The first is the top of the file, which has no keys.
    for (header, entries) in printed.iter().skip(1) {
        let is_health = *header == HealthConfig::section().header;
        if is_health && pools.next().is_some_and(|pool| !pool.health.explicit) {
            out.push_str("# [pool.health] is not written; 404, 405 and 501 turn this check into a TCP connect.\n");
            for (key, value) in entries {
                out.push_str(&format!(
                    "# {key} = {}\n",
                    config.hidden.hide(header, key, value)
                ));
            }
            out.push('\n');
        } else {
            section(&mut out, header, entries, &config.hidden);
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Keys that come after the others of their section, wherever the reference has them: what people compare, or keep under
/// version control, shall not move.
const PRINTED_LAST: [(&str, &str); 1] = [("[[listener]]", "proxy_protocol")];

/// A section and those below it.
pub(super) fn print_sections<T: ConfigSection>(
    section: &T,
    extent: PrintExtent,
) -> PrintedSections {
    let mut printed = PrintedSections::new();
    section.print(extent, &mut printed);
    for (header, entries) in &mut printed {
        entries.sort_by_key(|(key, _)| PRINTED_LAST.contains(&(*header, *key)));
    }
    printed
}

fn section(out: &mut String, header: &str, entries: &TomlEntries, hidden: &HiddenTexts) {
    out.push_str(&format!("{header}\n"));
    for (key, value) in entries {
        out.push_str(&format!("{key} = {}\n", hidden.hide(header, key, value)));
    }
    out.push('\n');
}

/// A text that the file's reader takes for this one: without a reference to a variable in it.
pub(super) fn text(text: &str) -> String {
    verbatim(&text.replace("${", "$${"))
}

/// A TOML basic string (TOML 1.0, "String").
pub(super) fn verbatim(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of values that are TOML.
pub(super) fn texts_of(values: impl Iterator<Item = String>) -> String {
    let values: Vec<_> = values.collect();
    format!("[{}]", values.join(", "))
}

/// A table in one line, of names and values that are TOML.
pub(super) fn table_of(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries = entries.into_iter();
    let entries: Vec<_> = entries
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    match entries.is_empty() {
        true => "{}".into(),
        false => format!("{{ {} }}", entries.join(", ")),
    }
}

/// `None` is written as an empty text.
pub(super) fn maybe(value: Option<impl ToString>) -> String {
    text(&value.map(|value| value.to_string()).unwrap_or_default())
}

pub(super) fn path(value: &Option<std::path::PathBuf>) -> String {
    maybe(value.as_ref().map(|path| path.display()))
}
