//! `rewrite`: another path for the app.

use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::print;
use crate::config::reader::{ValueError, describe};
use crate::config::values::{ValueResult, quoted, text, wrong};
use toml::Spanned;
use toml::de::DeValue;

use super::regexes::check_regex;
use super::template::{TemplateUse, TextTemplate};

/// The path that is requested from the app instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathRewrite {
    /// This path.
    Whole(TextTemplate),
    /// The path with its first match replaced.
    Match {
        /// Pattern to search for.
        regex: String,
        /// Replacement.
        to: TextTemplate,
    },
}

/// Form of a text, or `{ regex = "…", to = "…" }`; empty: none.
pub(in crate::config) struct RewriteForm;

const EXAMPLE: &str = "write `rewrite = \"/v2{rest}\"`, or `rewrite = { regex = \"^/u/([0-9]+)\", to = \"/users/$1\" }`";

impl ValueForm<Option<PathRewrite>> for RewriteForm {
    fn name(&self) -> String {
        "text with placeholders, or table of `regex` and `to`".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<PathRewrite>> {
        match value {
            DeValue::String(text) if text.is_empty() => Ok(None),
            DeValue::String(_) => read_to(key.name, value).map(|to| Some(PathRewrite::Whole(to))),
            other => Err(ValueError::new(
                format!(
                    "`{}` is {}, but must be text or a table of `regex` and `to`",
                    key.name,
                    describe(other)
                ),
                EXAMPLE,
            )),
        }
    }

    fn print(&self, rewrite: &Option<PathRewrite>) -> String {
        match rewrite {
            None => print::text(""),
            Some(PathRewrite::Whole(to)) => print::text(to.as_str()),
            Some(PathRewrite::Match { regex, to }) => format!(
                "{{ regex = {}, to = {} }}",
                print::text(regex),
                print::text(to.as_str())
            ),
        }
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Option<PathRewrite>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let (mut regex, mut to) = (None, None);
        let before = problems.len();
        for (name, value) in table {
            let mut note = |problem| problems.push((value.span(), problem));
            match name.get_ref().as_ref() {
                "regex" => {
                    let read = text("regex", value.get_ref(), "^/u/([0-9]+)").and_then(|pattern| {
                        check_regex(pattern).map_err(|(why, remedy)| {
                            wrong("regex", quoted(pattern), why, remedy)
                        })?;
                        Ok(pattern.to_owned())
                    });
                    regex = read.map_err(&mut note).ok();
                }
                "to" => to = read_to("to", value.get_ref()).map_err(&mut note).ok(),
                other => problems.push((
                    name.span(),
                    ValueError::new(format!("there is no `{other}` in `{}`", key.name), EXAMPLE),
                )),
            }
        }
        if problems.len() > before {
            return None;
        }
        match (regex, to) {
            (Some(regex), Some(to)) => Some(Some(PathRewrite::Match { regex, to })),
            (regex, _) => {
                let missing = if regex.is_some() { "to" } else { "regex" };
                let message = format!("`{}` has no `{missing}`", key.name);
                problems.push((value.span(), ValueError::new(message, EXAMPLE)));
                None
            }
        }
    }
}

fn read_to(key: &str, value: &DeValue<'_>) -> ValueResult<TextTemplate> {
    let text = text(key, value, "/v2{rest}")?;
    TextTemplate::parse(text, TemplateUse::Path)
        .map_err(|(why, remedy)| wrong(key, quoted(text), why, remedy))
}
