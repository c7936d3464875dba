//! One tree for YAML, JSON and TOML: strings, lists and maps, each with its position in the text. [`yaml`] reads the
//! first two.
//!
//! Numbers and booleans stay as they were written: readers know what a key should hold, and for a supervisor `"8000"`
//! means the same as 8000.

pub(in crate::tools) mod lenient;
pub(in crate::tools) mod yaml;

use std::ops::Range;

/// Deepest tree that is accepted; no supervisor's file is as deep.
pub(in crate::tools) const MAX_DEPTH: usize = 64;

/// A value with its position in bytes of the text.
#[derive(Debug, Clone)]
pub(in crate::tools) struct Node {
    pub(in crate::tools) span: Range<usize>,
    pub(in crate::tools) kind: ValueKind,
}

/// Content of a value.
#[derive(Debug, Clone)]
pub(in crate::tools) enum ValueKind {
    /// Empty, or `null`.
    Null,
    /// Text, number or boolean, as written.
    Scalar(String),
    /// A list in its order.
    List(Vec<Node>),
    /// A map in its order; of a repeated key only the first one counts.
    Map(Vec<TreeEntry>),
}

/// A key of a map, with its value.
#[derive(Debug, Clone)]
pub(in crate::tools) struct TreeEntry {
    pub(in crate::tools) key: String,
    pub(in crate::tools) key_span: Range<usize>,
    pub(in crate::tools) value: Node,
}

impl Node {
    /// Value of a key; `None` if this is no map, or the key is missing or null.
    pub(in crate::tools) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Entry of a key, which also has the position of the key.
    pub(in crate::tools) fn entry(&self, key: &str) -> Option<&TreeEntry> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key && !matches!(entry.value.kind, ValueKind::Null))
    }

    /// Value at the end of a path of keys.
    pub(in crate::tools) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Entries of a map; empty for everything else.
    pub(in crate::tools) fn entries(&self) -> &[TreeEntry] {
        match &self.kind {
            ValueKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Texts in a list; empty for everything else.
    pub(in crate::tools) fn texts(&self) -> Vec<String> {
        let texts = self.items().iter().filter_map(Node::text);
        texts.map(str::to_owned).collect()
    }

    /// Items of a list; empty for everything else.
    pub(in crate::tools) fn items(&self) -> &[Node] {
        match &self.kind {
            ValueKind::List(items) => items,
            _ => &[],
        }
    }

    /// Text of a scalar.
    pub(in crate::tools) fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Text of a key's value.
    pub(in crate::tools) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// Boolean of a key's value, in the words of YAML 1.1, which supervisors accept.
    pub(in crate::tools) fn flag(&self, key: &str) -> Option<bool> {
        match self.text_of(key)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }
}

impl TreeEntry {
    /// Position to show: the value if it is on the same line as its key, or else the key.
    pub(in crate::tools) fn place(&self) -> Range<usize> {
        match self.value.kind {
            ValueKind::Scalar(_) if self.value.span.start >= self.key_span.end => {
                self.key_span.start..self.value.span.end
            }
            _ => self.key_span.clone(),
        }
    }
}
