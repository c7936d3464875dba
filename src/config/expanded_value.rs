//! Values with variables: `weight = "${WEIGHT}"` is a number if a number is expected.

use toml::Spanned;
use toml::de::DeValue;

use super::forms::{KeyContext, SpannedProblems, ValueForm};
use super::reader::ConfigFindings;
use super::values::quoted;
use super::variables::ExpandedText;

/// Most texts of one value that are tried as numbers.
const MOST_TRIED: usize = 64;

/// Reads a value by its form. A text that is not valid there is read again as the number, `true` or `false` that it
/// would be without quotes. Errors are reported without the text, which may be a secret.
pub(super) fn read<T>(
    form: &impl ValueForm<T>,
    context: &KeyContext<'_>,
    value: &Spanned<DeValue<'_>>,
    texts: &[(usize, &ExpandedText)],
    header: &'static str,
    found: &mut ConfigFindings,
) -> Option<T> {
    // A missing variable was reported already; a second message would only repeat that.
    let known: Option<Vec<_>> = texts
        .iter()
        .map(|(place, text)| Some((*place, *text, text.value.as_deref()?)))
        .collect();
    let known = known?;
    let mut problems = SpannedProblems::new();
    let mut read = form.read_whole(context, value, &mut problems);
    let mut tried = value.clone();
    for (place, _, text) in known.iter().take(MOST_TRIED) {
        if problems.is_empty() {
            break;
        }
        let Some(scalar) = scalar_of(text) else {
            continue;
        };
        let mut next = tried.clone();
        replace_at(&mut next, *place, &scalar);
        let mut left = SpannedProblems::new();
        let again = form.read_whole(context, &next, &mut left);
        // "The number is too large" says more than "a text instead of a number".
        let of_wrong_type = |problems: &SpannedProblems| {
            let wrong = problems.iter().filter(|(_, one)| one.is_of_wrong_type);
            wrong.count()
        };
        let weight = |problems: &SpannedProblems| (problems.len(), of_wrong_type(problems));
        if weight(&left) < weight(&problems) {
            (read, problems, tried) = (again, left, next);
        }
    }
    if !form.is_public() {
        for (_, text, value) in &known {
            found.hidden.add(header, context.name, value, &text.written);
        }
    }
    if problems.is_empty() {
        return read;
    }
    for (span, problem) in problems {
        let own = known.iter().find(|(place, ..)| *place == span.start);
        if form.is_public() {
            let remedy = match (own, problem.is_of_wrong_type, context.default) {
                (Some(_), true, default) if !default.is_empty() => {
                    format!(
                        "set the variable to a value that `{}` can have, such as {default}",
                        context.name
                    )
                }
                _ => problem.remedy,
            };
            let problem = found.error(Some(span), problem.message, remedy);
            if let Some((_, text, value)) = own {
                problem.label(format!("`{}` is {} here", text.written, quoted(value)));
            }
        } else {
            let hide = |told: String| {
                known.iter().fold(told, |told, (_, text, value)| {
                    hide_in(&told, value, &text.written)
                })
            };
            found.error(Some(span), hide(problem.message), hide(problem.remedy));
        }
    }
    None
}

/// Parses a number, `true` or `false` as in TOML.
fn scalar_of(text: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(text.trim()).ok()?.into_inner();
    (value.is_integer() || value.is_float() || value.is_bool()).then_some(value)
}

fn replace_at<'t>(value: &mut Spanned<DeValue<'t>>, place: usize, with: &DeValue<'t>) {
    let is_here = value.span().start == place;
    match value.get_mut() {
        text @ DeValue::String(_) if is_here => *text = with.clone(),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                replace_at(item, place, with);
            }
        }
        DeValue::Table(table) => {
            for (_, value) in table.iter_mut() {
                replace_at(value, place, with);
            }
        }
        _ => {}
    }
}

/// Shortest value that is hidden: shorter ones may occur by chance in other words.
const SHORTEST_HIDDEN: usize = 4;

/// Removes a value from a message.
fn hide_in(message: &str, value: &str, written: &str) -> String {
    let message = message.replace(&quoted(value), &quoted(written));
    match value.len() < SHORTEST_HIDDEN {
        true => message,
        false => message.replace(value, written),
    }
}
