//! Merges several files into one table: lists of sections are concatenated, everything else may be written once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::ConfigFindings;
use super::schema::SECTIONS;
use super::sources::SourceTexts;

/// Adds the table of another file, whose positions have been shifted ([`move_places`]).
pub(super) fn merge<'t>(
    whole: &mut DeTable<'t>,
    other: DeTable<'t>,
    sources: &SourceTexts,
    found: &mut ConfigFindings,
) {
    for (key, value) in other {
        let Some((first, known)) = whole.get_key_value(&key) else {
            whole.insert(key, value);
            continue;
        };
        let first = first.span();
        let is_list = tables_of(known.get_ref()).is_some();
        match (is_list, value.get_ref()) {
            (true, list) if tables_of(list).is_some() => {
                let more = value.into_inner();
                if let (Some(known), DeValue::Array(more)) =
                    (whole.get_mut(key.get_ref().as_ref()), more)
                    && let DeValue::Array(known) = known.get_mut()
                {
                    more.into_iter().for_each(|item| known.push(item));
                }
            }
            (_, other) => refuse(&key, first, is_list, other, sources, found),
        }
    }
}

/// Returns the items of a list of tables.
fn tables_of<'v, 't>(value: &'v DeValue<'t>) -> Option<&'v [Spanned<DeValue<'t>>]> {
    let items = value.as_array()?;
    let all = items.iter().all(|item| item.get_ref().is_table());
    all.then_some(&items[..])
}

fn refuse(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    first: Range<usize>,
    first_is_list: bool,
    value: &DeValue<'_>,
    sources: &SourceTexts,
    found: &mut ConfigFindings,
) {
    let name = key.get_ref();
    let place = sources.shown(first.start);
    let is_many = SECTIONS
        .iter()
        .any(|section| section.header == format!("[[{name}]]"));
    let (message, remedy) = match value {
        _ if is_many && first_is_list != tables_of(value).is_some() => (
            format!(
                "`{name}` is [[{name}]] in one file, and one section without it in the other ({place})"
            ),
            format!("write sections below [[{name}]] in the same file, after their [[{name}]]"),
        ),
        DeValue::Table(_) => (
            format!("`[{name}]` was already written in {place}"),
            "put both parts into one file: only [[listener]], [[pool]] and [[route]] add up"
                .to_owned(),
        ),
        _ => (
            format!("`{name}` was already written in {place}"),
            "keep one of the two".to_owned(),
        ),
    };
    found
        .error(Some(key.span()), message, remedy)
        .also(Some(first), "written here first");
}

/// Shifts every position in a table by `by` bytes.
pub(super) fn move_places(table: &mut DeTable<'_>, by: usize) {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    *table = std::mem::take(table)
        .into_iter()
        .map(|(key, mut value)| {
            move_value(&mut value, by);
            (Spanned::new(moved(key.span()), key.into_inner()), value)
        })
        .collect();
}

fn move_value(value: &mut Spanned<DeValue<'_>>, by: usize) {
    match value.get_mut() {
        DeValue::Array(items) => items.iter_mut().for_each(|item| move_value(item, by)),
        DeValue::Table(table) => move_places(table, by),
        _ => {}
    }
    let span = value.span();
    let inner = std::mem::replace(value.get_mut(), DeValue::Boolean(false));
    *value = Spanned::new(span.start + by..span.end + by, inner);
}
