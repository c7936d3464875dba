//! Prints a configuration as TOML: every effective value, so that it parses back to the same configuration. Free text
//! from the environment is shown as its reference.

use super::hidden_texts::HiddenTexts;
use super::section_traits::{ConfigSection, PrintExtent, PrintedSections, TomlEntries};
use super::sections::{Config, HealthConfig};

/// Returns the whole configuration as TOML. For a pool whose file has no `[pool.health]`, its values are shown as
/// comments: if they were written, the section would count as configured and lose its fallback to TCP.
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

/// Keys that come after the others of their section, wherever the reference has them: output that users compare, or
/// keep under version control, should not change its order.
const PRINTED_LAST: [(&str, &str); 1] = [("[[listener]]", "proxy_protocol")];

/// Prints a section and its subsections.
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

/// Returns a text so that the file's reader takes it unchanged: without a reference to a variable.
pub(super) fn text(text: &str) -> String {
    verbatim(&text.replace("${", "$${"))
}

/// Returns a TOML basic string (TOML 1.0, "String").
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

/// Returns a list of values that are TOML.
pub(super) fn texts_of(values: impl Iterator<Item = String>) -> String {
    let values: Vec<_> = values.collect();
    format!("[{}]", values.join(", "))
}

/// Returns a table in one line, from names and values that are TOML.
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

/// Returns a value as text; `None` becomes an empty text.
pub(super) fn maybe(value: Option<impl ToString>) -> String {
    text(&value.map(|value| value.to_string()).unwrap_or_default())
}

pub(super) fn path(value: &Option<std::path::PathBuf>) -> String {
    maybe(value.as_ref().map(|path| path.display()))
}
