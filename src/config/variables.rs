//! `"${PORT}"` in a value: the value of this environment variable of the process.
//!
//! References are replaced in the parsed file, text by text, before any value is read: no variable can end a text, or
//! add a key. Keys and comments are left unchanged.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::ConfigFindings;
use super::sources::SourceTexts;

/// Function that looks up variables.
pub(super) type VariableLookup<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Looks up a variable in the environment of this process.
pub(super) fn of_process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A text that contains variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExpandedText {
    /// Text as written.
    pub(super) written: String,
    /// Text with the values; `None`: a variable is missing, which was reported.
    pub(super) value: Option<String>,
}

/// All such texts, by the position at which they begin.
#[derive(Debug, Default)]
pub(super) struct ExpandedTexts(BTreeMap<usize, ExpandedText>);

impl ExpandedTexts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the texts in a value, with the position of each.
    pub(super) fn within(&self, value: &Spanned<DeValue<'_>>) -> Vec<(usize, &ExpandedText)> {
        let mut found = Vec::new();
        self.collect(value, &mut found);
        found
    }

    fn collect<'e>(
        &'e self,
        value: &Spanned<DeValue<'_>>,
        found: &mut Vec<(usize, &'e ExpandedText)>,
    ) {
        match value.get_ref() {
            DeValue::String(_) => {
                let place = value.span().start;
                found.extend(self.0.get(&place).map(|text| (place, text)));
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.collect(item, found)),
            DeValue::Table(table) => table.values().for_each(|value| self.collect(value, found)),
            _ => {}
        }
    }
}

/// Replaces references to variables by their values.
pub(super) fn expand(
    table: &mut DeTable<'_>,
    sources: &SourceTexts,
    environment: VariableLookup<'_>,
    found: &mut ConfigFindings,
) -> ExpandedTexts {
    let mut all = ExpandedTexts::default();
    if sources.iter().any(|source| source.text.contains("${")) {
        for (_, value) in table.iter_mut() {
            in_value(value, sources, environment, found, &mut all);
        }
    }
    all
}

fn in_value(
    value: &mut Spanned<DeValue<'_>>,
    sources: &SourceTexts,
    environment: VariableLookup<'_>,
    found: &mut ConfigFindings,
    all: &mut ExpandedTexts,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => {
            let written = text.clone().into_owned();
            let value = match expand_text(&written, environment) {
                Ok(value) => {
                    *text = value.clone().into();
                    Some(value)
                }
                Err(problem) => {
                    let place = narrowed(span.clone(), &problem.reference, sources);
                    found.error(Some(place), problem.message, problem.remedy);
                    None
                }
            };
            // `$${` alone is a way to write a text, and no variable.
            if value.as_deref() != Some(&written.replace("$${", "${")) {
                all.0.insert(span.start, ExpandedText { written, value });
            }
        }
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                in_value(item, sources, environment, found, all);
            }
        }
        DeValue::Table(table) => {
            for (_, value) in table.iter_mut() {
                in_value(value, sources, environment, found, all);
            }
        }
        _ => {}
    }
}

/// Returns the position of a reference within that of its text.
fn narrowed(span: Range<usize>, reference: &str, sources: &SourceTexts) -> Range<usize> {
    let written = sources.at(span.start).and_then(|source| {
        source
            .text
            .get(span.start - source.start..span.end - source.start)
    });
    match written.and_then(|text| text.find(reference)) {
        Some(at) => span.start + at..span.start + at + reference.len(),
        None => span,
    }
}

/// Why a text can't be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VariableError {
    reference: String,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// Returns a text with the values of its variables: `${NAME}`, or `${NAME:-value if NAME is unset or empty}`; `$${`
/// stands for `${`.
///
/// # Errors
/// A variable is not set, or the contents of the braces are not valid; the error says which, and what to do.
pub(super) fn expand_text(
    text: &str,
    environment: VariableLookup<'_>,
) -> Result<String, VariableError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let Some((inner, after)) = inner.split_once('}') else {
                return Err(VariableError {
                    reference: "${".into(),
                    message: "`${` begins a variable, and no `}` ends it".into(),
                    remedy:
                        "write `${NAME}` for a variable, or `$${` for these two characters themselves"
                            .into(),
                });
            };
            out.push_str(&value_of(inner, environment)?);
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns the value of the contents of the braces.
fn value_of(inner: &str, environment: VariableLookup<'_>) -> Result<String, VariableError> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let error = |message: String, remedy: String| VariableError {
        reference: format!("${{{inner}}}"),
        message: format!("`${{{inner}}}`: {message}"),
        remedy,
    };
    if default.is_some_and(|default| default.contains("${")) {
        let remedy = "write a fixed default, or set the variable before lameduck starts";
        return Err(error(
            "a default can't have variables in it".into(),
            remedy.into(),
        ));
    }
    if !is_name(name) {
        let plain = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let near = plain.into_iter().next().filter(|near| is_name(near));
        let near = near.unwrap_or("NAME");
        return Err(error(
            "it names no variable: a name has letters, digits and `_`, and no digit first".into(),
            format!(
                "write `${{{near}}}`, or `${{{near}:-default}}`; for the characters themselves, `$${{{inner}}}`"
            ),
        ));
    }
    let value = match environment(name).map(OsString::into_string) {
        Some(Ok(value)) => Some(value),
        Some(Err(_)) => {
            let remedy = format!("set {name} to text, or write the value into the file");
            return Err(error(format!("the value of {name} is not UTF-8"), remedy));
        }
        None => None,
    };
    match (value, default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(error(
            format!("there is no variable {name} in the environment of this process"),
            format!(
                "set it before lameduck starts (systemd: `Environment={name}=…`, containers: `-e {name}=…`), or write a \
                 default: `${{{name}:-…}}`"
            ),
        )),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Option<OsString> {
        let known = [
            ("PORT", "8080"),
            ("EMPTY", ""),
            ("NESTED", "${PORT} $${ \"\n"),
        ];
        let found = known.iter().find(|(other, _)| *other == name)?;
        Some(found.1.into())
    }

    #[test]
    fn references_become_values_and_nothing_else_changes() {
        for (text, expected) in [
            ("", ""),
            ("${PORT}", "8080"),
            ("127.0.0.1:${PORT}", "127.0.0.1:8080"),
            ("${PORT}${PORT}", "80808080"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${UNSET:-x:-y}", "x:-y"),
            ("${UNSET:-}", ""),
            ("${PORT:-x}", "8080"),
            ("$${PORT}", "${PORT}"),
            ("$$${PORT}", "$${PORT}"),
            ("$1 $ $$ {PORT} ^a$", "$1 $ $$ {PORT} ^a$"),
            // The value is not expanded again.
            ("${NESTED}", "${PORT} $${ \"\n"),
        ] {
            let read = expand_text(text, &environment);
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn missing_variable_is_named_with_a_remedy() {
        for (text, message) in [
            ("${UNSET}", "there is no variable UNSET"),
            ("a${", "no `}` ends it"),
            ("${}", "it names no variable"),
            ("${1}", "it names no variable"),
            ("${A B}", "it names no variable"),
            ("${A?set it}", "it names no variable"),
            ("${A:-${B}}", "a default can't have variables in it"),
        ] {
            let error = expand_text(text, &environment).unwrap_err();
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert!(!error.remedy.is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_written_with_its_references_escaped(text in "[${}A:-]{0,12}|\\PC*") {
            let written = text.replace("${", "$${");
            let unset = |_: &str| None;
            prop_assert_eq!(expand_text(&written, &unset), Ok(text));
        }
    }
}
