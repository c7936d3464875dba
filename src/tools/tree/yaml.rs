//! Parses YAML (and thus JSON) to trees, one for each document. Depth and number of nodes are limited, including those
//! that aliases copy.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::lenient;
use super::{MAX_DEPTH, Node, TreeEntry, ValueKind};

/// Most nodes in a file, including those that aliases copy; stops a "billion laughs" attack.
const MAX_NODES: usize = 200_000;

/// An error in a file, with its position.
#[derive(Debug)]
pub(in crate::tools) struct YamlError {
    pub(in crate::tools) message: String,
    pub(in crate::tools) span: Range<usize>,
}

/// A list or map that is not closed yet.
struct OpenCollection {
    anchor: usize,
    start: usize,
    items: Vec<Node>,
    is_map: bool,
}

/// Parses the documents of a text, including common spellings that the standard forbids. Positions are in bytes.
pub(in crate::tools) fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    parse_strict(text).or_else(|broken| {
        let Some(moved) = lenient::indent_flow(text) else {
            return Err(broken);
        };
        let mut documents = parse_strict(&moved.text).map_err(|error| YamlError {
            span: moved.place(error.span.start)..moved.place(error.span.end),
            ..error
        })?;
        for document in &mut documents {
            moved.restore(document);
        }
        Ok(documents)
    })
}

fn parse_strict(text: &str) -> Result<Vec<Node>, YamlError> {
    // The parser counts characters.
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let mut documents = Vec::new();
    let mut open: Vec<OpenCollection> = Vec::new();
    let mut anchors: HashMap<usize, (Node, usize)> = HashMap::new();
    let mut count = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = byte(error.marker().index());
            YamlError {
                message: error.info().to_owned(),
                span: at..at + 1,
            }
        })?;
        let span = byte(span.start.index())..byte(span.end.index());
        let broken = |message: &str| YamlError {
            message: message.into(),
            span: span.clone(),
        };
        let (node, anchor) = match event {
            Event::StreamEnd => break,
            Event::Alias(anchor) => {
                let (node, nodes) = anchors
                    .get(&anchor)
                    .ok_or_else(|| broken("an alias of something that isn't finished"))?;
                count += nodes;
                if count > MAX_NODES {
                    return Err(broken("the aliases make it too large"));
                }
                (node.clone(), 0)
            }
            Event::Scalar(value, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let kind = match &*value {
                    "" | "~" | "null" | "Null" | "NULL" if plain => ValueKind::Null,
                    value => ValueKind::Scalar(value.to_owned()),
                };
                (
                    Node {
                        span: span.clone(),
                        kind,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if open.len() >= MAX_DEPTH =>
            {
                let _ = anchor;
                return Err(broken("it is nested too deeply"));
            }
            Event::SequenceStart(anchor, _) => {
                open.push(OpenCollection {
                    anchor,
                    start: span.start,
                    items: Vec::new(),
                    is_map: false,
                });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(OpenCollection {
                    anchor,
                    start: span.start,
                    items: Vec::new(),
                    is_map: true,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(closed) = open.pop() else { continue };
                let kind = if closed.is_map {
                    ValueKind::Map(entries(closed.items))
                } else {
                    ValueKind::List(closed.items)
                };
                (
                    Node {
                        span: closed.start..span.end,
                        kind,
                    },
                    closed.anchor,
                )
            }
            _ => continue,
        };
        count += 1;
        if count > MAX_NODES {
            return Err(broken("it is too large"));
        }
        if anchor != 0 {
            anchors.insert(anchor, (node.clone(), size(&node)));
        }
        match open.last_mut() {
            Some(parent) => parent.items.push(node),
            None => documents.push(node),
        }
    }
    Ok(documents)
}

/// Makes entries from keys and values, with `<<` merged in.
fn entries(items: Vec<Node>) -> Vec<TreeEntry> {
    let (mut entries, mut merged) = (Vec::<TreeEntry>::new(), Vec::new());
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        let Some(name) = key.text() else { continue };
        if name == "<<" {
            match value.kind {
                ValueKind::List(sources) => merged.extend(sources),
                _ => merged.push(value),
            }
        } else {
            let (key_span, key) = (key.span.clone(), name.to_owned());
            entries.push(TreeEntry {
                key,
                key_span,
                value,
            });
        }
    }
    for source in merged {
        if let ValueKind::Map(more) = source.kind {
            let new = |entry: &TreeEntry| !entries.iter().any(|own| own.key == entry.key);
            let more: Vec<_> = more.into_iter().filter(new).collect();
            entries.extend(more);
        }
    }
    entries
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        ValueKind::List(items) => items.iter().map(size).sum(),
        ValueKind::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_bytes() {
        let text = "é: ü\nb: [x, {c: \"d\"}]\n---\ne: f\n";
        let docs = parse(text).unwrap();
        assert_eq!(docs.len(), 2);
        let of = |span: Range<usize>| &text[span];
        assert_eq!(of(docs[0].entries()[0].place()), "é: ü");
        let inner = &docs[0].get("b").unwrap().items()[1];
        assert_eq!(inner.text_of("c"), Some("d"));
        assert_eq!(of(docs[1].get("e").unwrap().span.clone()), "f");
    }

    #[test]
    fn brackets_in_their_key_s_column_keep_their_places() {
        let text = "apps: [\n  { name: é, args: [\n  ] },\n]\nlast: x\n";
        let docs = parse(text).unwrap();
        let name = docs[0].get("apps").unwrap().items()[0]
            .entry("name")
            .unwrap()
            .place();
        assert_eq!(&text[name], "name: é");
        assert_eq!(&text[docs[0].entry("last").unwrap().place()], "last: x");
    }

    #[test]
    fn anchors_and_merges() {
        let docs = parse("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\nc: *x\n").unwrap();
        let b = docs[0].get("b").unwrap();
        assert_eq!((b.text_of("k"), b.text_of("l")), (Some("3"), Some("2")));
        assert_eq!(docs[0].at(&["c", "k"]).and_then(Node::text), Some("1"));
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let list = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().message.contains("too large"));
        assert!(parse(&"[".repeat(50_000)).is_err());
        assert!(parse(&"{a: ".repeat(50_000)).is_err());
        assert!(parse("a: *nobody").is_err());
    }
}
