//! Converts TOML documents to trees.

use std::ops::Range;
use toml::de::{DeTable, DeValue};

use crate::tools::tree::{MAX_DEPTH, Node, TreeEntry, ValueKind};

/// Tree of a parsed TOML document.
pub(super) fn from_toml(table: &DeTable<'_>, span: Range<usize>, depth: usize) -> Node {
    let entries = table
        .iter()
        .map(|(key, value)| TreeEntry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            value: from_value(value.get_ref(), value.span(), depth + 1),
        })
        .collect();
    Node {
        span,
        kind: ValueKind::Map(entries),
    }
}

fn from_value(value: &DeValue<'_>, span: Range<usize>, depth: usize) -> Node {
    let kind = match value {
        _ if depth > MAX_DEPTH => ValueKind::Null,
        DeValue::String(text) => ValueKind::Scalar(text.to_string()),
        DeValue::Integer(number) => ValueKind::Scalar(number.as_str().replace('_', "")),
        DeValue::Float(number) => ValueKind::Scalar(number.as_str().replace('_', "")),
        DeValue::Boolean(truth) => ValueKind::Scalar(truth.to_string()),
        DeValue::Datetime(time) => ValueKind::Scalar(time.to_string()),
        DeValue::Array(items) => ValueKind::List(
            items
                .iter()
                .map(|item| from_value(item.get_ref(), item.span(), depth + 1))
                .collect(),
        ),
        DeValue::Table(table) => return from_toml(table, span, depth),
    };
    Node { span, kind }
}
