//! One tree for TOML, YAML and JSON: strings, lists and maps, each with its place in the text.
//!
//! Numbers and booleans stay as they were written: readers know what a key should hold, and a file that says
//! `"8000"` for 8000 means the same to a supervisor.

use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Deeper trees are refused: nothing that a supervisor reads comes near.
pub(super) const MAX_DEPTH: usize = 64;

/// A value with its place, in bytes of the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: ValueKind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum ValueKind {
    /// Nothing was written, or `null`.
    Null,
    /// Text, number or boolean, as written.
    Scalar(String),
    /// In order.
    List(Vec<Node>),
    /// In order; a key that comes twice counts once, the first time.
    Map(Vec<TreeEntry>),
}

/// One key of a map.
#[derive(Debug, Clone)]
pub(super) struct TreeEntry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// The value of a key, if this is a map that has it and it is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// As [`Node::get`], with the key's place.
    pub(super) fn entry(&self, key: &str) -> Option<&TreeEntry> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key && !matches!(entry.value.kind, ValueKind::Null))
    }

    /// The value at the end of a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a map; empty for everything else.
    pub(super) fn entries(&self) -> &[TreeEntry] {
        match &self.kind {
            ValueKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The texts of a list; empty for everything else.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = self.items().iter().filter_map(Node::text);
        texts.map(str::to_owned).collect()
    }

    /// The items of a list; empty for everything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            ValueKind::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// The truth of a key, in the words of YAML 1.1, which supervisors accept.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.text_of(key)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }
}

impl TreeEntry {
    /// The place to point at: the value if it is on one line with its key, else the key.
    pub(super) fn place(&self) -> Range<usize> {
        match self.value.kind {
            ValueKind::Scalar(_) if self.value.span.start >= self.key_span.end => {
                self.key_span.start..self.value.span.end
            }
            _ => self.key_span.clone(),
        }
    }
}

/// The tree of a TOML document that was parsed.
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
