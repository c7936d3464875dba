//! One tree for YAML, JSON and TOML: strings, lists and maps, each with its place in the text. [`yaml`] reads the first two.
//!
//! Numbers and booleans stay as they were written: readers know what a key should hold, and a file that says
//! `"8000"` for 8000 means the same to a supervisor.

pub(in crate::tools) mod lenient;
pub(in crate::tools) mod yaml;

use std::ops::Range;

/// Deeper trees are refused: nothing that a supervisor reads comes near.
pub(in crate::tools) const MAX_DEPTH: usize = 64;

/// A value with its place, in bytes of the text.
#[derive(Debug, Clone)]
pub(in crate::tools) struct Node {
    pub(in crate::tools) span: Range<usize>,
    pub(in crate::tools) kind: ValueKind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(in crate::tools) enum ValueKind {
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
pub(in crate::tools) struct TreeEntry {
    pub(in crate::tools) key: String,
    pub(in crate::tools) key_span: Range<usize>,
    pub(in crate::tools) value: Node,
}

impl Node {
    /// The value of a key, if this is a map that has it and it is not null.
    pub(in crate::tools) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// As [`Node::get`], with the key's place.
    pub(in crate::tools) fn entry(&self, key: &str) -> Option<&TreeEntry> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key && !matches!(entry.value.kind, ValueKind::Null))
    }

    /// The value at the end of a path of keys.
    pub(in crate::tools) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a map; empty for everything else.
    pub(in crate::tools) fn entries(&self) -> &[TreeEntry] {
        match &self.kind {
            ValueKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The texts of a list; empty for everything else.
    pub(in crate::tools) fn texts(&self) -> Vec<String> {
        let texts = self.items().iter().filter_map(Node::text);
        texts.map(str::to_owned).collect()
    }

    /// The items of a list; empty for everything else.
    pub(in crate::tools) fn items(&self) -> &[Node] {
        match &self.kind {
            ValueKind::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(in crate::tools) fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key.
    pub(in crate::tools) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// The truth of a key, in the words of YAML 1.1, which supervisors accept.
    pub(in crate::tools) fn flag(&self, key: &str) -> Option<bool> {
        match self.text_of(key)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }
}

impl TreeEntry {
    /// The place to point at: the value if it is on one line with its key, else the key.
    pub(in crate::tools) fn place(&self) -> Range<usize> {
        match self.value.kind {
            ValueKind::Scalar(_) if self.value.span.start >= self.key_span.end => {
                self.key_span.start..self.value.span.end
            }
            _ => self.key_span.clone(),
        }
    }
}
