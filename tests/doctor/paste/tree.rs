//! YAML and JSON as a tree with places, for pasting into.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;

#[derive(Clone)]
struct Node {
    span: Range<usize>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Range<usize>, Node)>),
}

impl Node {
    fn value(&self) -> Value {
        match &self.kind {
            Kind::Leaf(value) => value.clone(),
            Kind::List(items) => items.iter().map(Node::value).collect(),
            Kind::Map(entries) => {
                let mut map = Map::new();
                for (key, _, node) in entries.iter().filter(|(key, ..)| key == "<<") {
                    let _ = key;
                    if let Value::Object(more) = node.value() {
                        map.extend(more);
                    }
                }
                map.extend(
                    entries
                        .iter()
                        .filter(|(key, ..)| key != "<<")
                        .map(|(key, _, node)| (key.clone(), node.value())),
                );
                Value::Object(map)
            }
        }
    }

    /// The way to what stands at a place.
    fn path(&self, at: usize, way: &mut Vec<String>) {
        match &self.kind {
            Kind::Leaf(_) => {}
            Kind::List(items) => {
                if let Some((n, item)) = items
                    .iter()
                    .enumerate()
                    .find(|(_, item)| item.span.contains(&at))
                {
                    way.push(n.to_string());
                    item.path(at, way);
                }
            }
            Kind::Map(entries) => {
                for (key, span, node) in entries {
                    if span.contains(&at) || node.span.contains(&at) {
                        way.push(key.clone());
                        return node.path(at, way);
                    }
                }
            }
        }
    }
}

/// A list or map that is not closed yet: its items, its start, its anchor, and whether it is a map.
type Open = (Vec<Node>, usize, usize, bool);

/// What is no YAML and PM2 takes all the same.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = line.split_once(" // ").map_or(line, |(line, _)| line);
        let line = if line.trim_start().starts_with("//") {
            ""
        } else {
            line
        };
        let line = match line
            .split_once("/*")
            .and_then(|(a, b)| Some((a, b.split_once("*/")?.1)))
        {
            Some((before, after)) => format!("{before}{after}"),
            None => line.to_owned(),
        };
        // Brackets may close in their key's column.
        if line.trim_start().starts_with([']', '}']) {
            out.push_str("                    ");
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn documents(text: &str) -> Vec<Node> {
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let mut open: Vec<Open> = Vec::new();
    let mut done: Vec<Node> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.unwrap_or_else(|error| panic!("{error}: {text}"));
        let span =
            byte(span.start.index())..byte(span.end.index()).max(byte(span.start.index()) + 1);
        let (node, anchor) = match event {
            Event::StreamEnd => break,
            Event::Alias(anchor) => (
                Node {
                    span,
                    ..anchors[&anchor].clone()
                },
                0,
            ),
            Event::Scalar(text, style, anchor, _) => {
                let value = match &*text {
                    text if style != ScalarStyle::Plain => Value::from(text),
                    "" | "null" | "~" => Value::Null,
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    text => text.parse::<i64>().map_or(Value::from(text), Value::from),
                };
                (
                    Node {
                        span,
                        kind: Kind::Leaf(value),
                    },
                    anchor,
                )
            }
            Event::SequenceStart(anchor, _) => {
                open.push((Vec::new(), span.start, anchor, false));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push((Vec::new(), span.start, anchor, true));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (items, start, anchor, is_map) = open.pop().unwrap();
                let kind = if is_map {
                    let mut items = items.into_iter();
                    let mut entries = Vec::new();
                    while let (Some(key), Some(value)) = (items.next(), items.next()) {
                        let name = key.value();
                        let name = name.as_str().map_or(name.to_string(), str::to_owned);
                        entries.push((name, key.span, value));
                    }
                    Kind::Map(entries)
                } else {
                    Kind::List(items)
                };
                (
                    Node {
                        span: start..span.end,
                        kind,
                    },
                    anchor,
                )
            }
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some((items, ..)) => items.push(node),
            None => done.push(node),
        }
    }
    done
}

/// Pastes settings at a place (from 1) and writes the whole as JSON, which is YAML.
pub(super) fn paste(text: &str, line: usize, column: usize, help: &str) -> String {
    let clean = plain(text);
    // The same place: only blanks were put before brackets, and no finding is at one.
    let start: usize = clean
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    let rest = &clean[start..];
    let at = start + rest.char_indices().nth(column - 1).map_or(0, |(at, _)| at);
    let documents = documents(&clean);
    let mut way = Vec::new();
    let index = documents
        .iter()
        .position(|document| document.span.contains(&at))
        .unwrap_or(0);
    documents[index].path(at, &mut way);
    let mut values: Vec<Value> = documents.iter().map(Node::value).collect();
    let root = &mut values[index];
    if help.contains("no pre_stop") {
        let service = owner(root, &way, |map, _| map.contains_key("pre_stop"));
        at_mut(root, &service)
            .as_object_mut()
            .unwrap()
            .remove("pre_stop");
    }
    if help.contains("no `lifecycle`") {
        let container = owner(root, &way, |map, _| map.contains_key("lifecycle"));
        at_mut(root, &container)
            .as_object_mut()
            .unwrap()
            .remove("lifecycle");
    }
    let settings = help.lines().filter(|line| !line.starts_with('#'));
    for setting in settings {
        let setting = setting.split("   #").next().unwrap().trim_end_matches(',');
        let (key, value) = setting
            .split_once(": ")
            .unwrap_or_else(|| panic!("{setting:?} is no setting"));
        let key = key.trim_matches('"');
        let value = self::documents(value)[0].value();
        set(root, &way, key, value);
    }
    if help.contains("move it to `initContainers:`") {
        let spec = owner(root, &way, |map, _| map.contains_key("containers"));
        let n: usize = way[spec.len() + 1].parse().unwrap();
        let spec = at_mut(root, &spec);
        let container = spec["containers"].as_array_mut().unwrap().remove(n);
        let init = spec
            .as_object_mut()
            .unwrap()
            .entry("initContainers")
            .or_insert(Value::Array(Vec::new()));
        init.as_array_mut().unwrap().push(container);
    }
    let shown: Vec<_> = values
        .iter()
        .map(|value| serde_json::to_string_pretty(value).unwrap())
        .collect();
    shown.join("\n---\n") + "\n"
}

fn at_mut<'v>(root: &'v mut Value, way: &[String]) -> &'v mut Value {
    way.iter().fold(root, |value, step| match value {
        Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        value => &mut value[step.as_str()],
    })
}

/// The way to the innermost map that is wanted, by the map and its own key.
fn owner(
    root: &mut Value,
    way: &[String],
    is: impl Fn(&Map<String, Value>, &str) -> bool,
) -> Vec<String> {
    for end in (0..=way.len()).rev() {
        let key = end.checked_sub(1).map_or("", |at| way[at].as_str());
        if at_mut(root, &way[..end])
            .as_object()
            .is_some_and(|map| is(map, key))
        {
            return way[..end].to_vec();
        }
    }
    panic!("nothing on the way {way:?} is wanted")
}

/// Where a user puts a setting of this name.
fn set(root: &mut Value, way: &[String], key: &str, value: Value) {
    let variable = key.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let place = match key {
        _ if variable => {
            let app = owner(root, way, |map, _| map.contains_key("script"));
            for (name, env) in at_mut(root, &app).as_object_mut().unwrap() {
                if name.starts_with("env") && env.get(key).is_some() {
                    env[key] = value.clone();
                }
            }
            return;
        }
        "terminationGracePeriodSeconds" => {
            owner(root, way, |map, _| map.contains_key("containers"))
        }
        "path" | "port" => owner(root, way, |_, key| key == "httpGet"),
        "httpGet" => {
            let probe = owner(root, way, |map, _| map.contains_key("exec"));
            at_mut(root, &probe).as_object_mut().unwrap().remove("exec");
            probe
        }
        "command" if way.iter().any(|step| step == "exec") => {
            owner(root, way, |_, key| key == "exec")
        }
        "verbs" | "apiGroups" | "automountServiceAccountToken" | "publishNotReadyAddresses" => {
            owner(root, way, |map, _| map.contains_key(key))
        }
        _ => {
            let services = way.iter().position(|step| step == "services");
            match services {
                Some(at) => way[..at + 2].to_vec(),
                None => owner(root, way, |map, key| {
                    map.contains_key("script")
                        || map.contains_key("image")
                        || (map.contains_key("build") && !key.is_empty())
                }),
            }
        }
    };
    at_mut(root, &place)[key] = value;
}
