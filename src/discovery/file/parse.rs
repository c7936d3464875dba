//! Parser for the list: JSON, or TOML as in the configuration.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::{Address, check_name};
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState};
use crate::discovery::follow::MOST_BACKENDS;
use crate::discovery::names::{name_address, name_host};

/// Largest file, in bytes.
pub const MOST_BYTES: u64 = 16 << 20;

/// Largest weight.
const MAX_WEIGHT: u32 = 1000;

/// A problem with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListProblem {
    /// Line number from 1; `None`: the whole file.
    pub line: Option<usize>,
    /// What is wrong, as a clause for users.
    pub why: String,
}

/// A backend in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedBackend {
    #[serde(default, deserialize_with = "read_name")]
    name: Option<String>,
    #[serde(deserialize_with = "read_address")]
    address: Address,
    #[serde(default = "usual_weight", deserialize_with = "read_weight")]
    weight: u32,
    #[serde(default)]
    backup: bool,
    #[serde(default, deserialize_with = "read_name")]
    zone: Option<String>,
    #[serde(default)]
    state: ListedState,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ListedState {
    #[default]
    Serving,
    Terminating,
}

fn usual_weight() -> u32 {
    1
}

fn read_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    check_name(&name).map_err(|why| D::Error::custom(format!("`{}`: {why}", shorten(&name))))?;
    Ok(Some(name))
}

fn read_address<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    let text = String::deserialize(from)?;
    let address = text.parse::<Address>();
    address.map_err(|error| D::Error::custom(format!("`address` `{}`: {error}", shorten(&text))))
}

fn read_weight<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        weight @ 0..=MAX_WEIGHT => Ok(weight),
        weight => Err(D::Error::custom(format!(
            "`weight` {weight} is out of range: use 0 to {MAX_WEIGHT}"
        ))),
    }
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    short.escape_debug().to_string()
}

/// The list. Duplicate names and too many backends are errors, which are found while reading, so that the parser knows
/// the line.
#[derive(Debug, Default)]
struct BackendList(DiscoveredSet<Address>);

impl<'de> Deserialize<'de> for BackendList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = BackendList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of backends, each with `name` and `address`")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<BackendList, S::Error> {
        let (mut set, mut addresses) = (DiscoveredSet::default(), HashSet::new());
        while let Some(listed) = items.next_element::<ListedBackend>()? {
            if set.len() >= MOST_BACKENDS {
                return Err(S::Error::custom(format!(
                    "it has more than {MOST_BACKENDS} backends, and that is the most"
                )));
            }
            let name = listed.name.unwrap_or_else(|| name_of(&listed.address));
            if !addresses.insert(listed.address.clone()) {
                return Err(S::Error::custom(format!(
                    "two backends have the address `{}`: one process would be counted twice",
                    listed.address
                )));
            }
            let backend = DiscoveredBackend {
                address: listed.address,
                weight: listed.weight,
                zone: listed.zone,
                is_backup: listed.backup,
                state: match listed.state {
                    ListedState::Serving => DiscoveredState::Serving,
                    ListedState::Terminating => DiscoveredState::Terminating,
                },
            };
            if set.insert(name.clone(), backend).is_some() {
                return Err(S::Error::custom(format!(
                    "two backends have the name `{name}`"
                )));
            }
        }
        Ok(BackendList(set))
    }
}

/// Name of a backend that has none in the list.
fn name_of(address: &Address) -> String {
    match address {
        Address::Socket(address) => name_address(address.ip(), address.port()),
        Address::Name(host, port) => name_host(host, *port),
        Address::Unix(path) => {
            let path = path.display().to_string();
            name_host(&path.replace('/', "-"), 0)
        }
    }
}

/// Content of a TOML file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlList {
    #[serde(default)]
    backend: BackendList,
}

/// Parses a list. `is_toml` tells the format, if the file's name does.
///
/// # Errors
/// The line, and what is wrong.
pub fn parse_backends(
    bytes: &[u8],
    is_toml: Option<bool>,
) -> Result<DiscoveredSet<Address>, ListProblem> {
    let text = std::str::from_utf8(bytes).map_err(|error| ListProblem {
        line: Some(line_at(bytes, error.valid_up_to())),
        why: "it is not UTF-8".to_owned(),
    })?;
    let start = text.trim_start();
    let is_json = start.starts_with('[') && !start.starts_with("[[") || start.starts_with('{');
    match is_toml.unwrap_or(!is_json) {
        true => {
            let list = toml::from_str::<TomlList>(text).map_err(|error| ListProblem {
                line: error.span().map(|span| line_at(bytes, span.start)),
                why: one_line(error.message()),
            })?;
            if list.backend.0.is_empty() && start.is_empty() {
                return Err(ListProblem {
                    line: Some(1),
                    why: "it is empty: it may be in the middle of being written".to_owned(),
                });
            }
            Ok(list.backend.0)
        }
        false => {
            let list = serde_json::from_str::<BackendList>(text).map_err(|error| {
                let told = error.to_string();
                let why = told.rsplit_once(" at line ").map_or(&*told, |(why, _)| why);
                ListProblem {
                    line: Some(error.line().max(1)),
                    why: one_line(why),
                }
            })?;
            Ok(list.0)
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

/// Number of the line that contains this byte, from 1.
fn line_at(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(..at).unwrap_or(bytes);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str, is_toml: bool) -> String {
        let problem = parse_backends(text.as_bytes(), Some(is_toml)).unwrap_err();
        format!("{}: {}", problem.line.unwrap_or(0), problem.why)
    }

    const JSON: &str = r#"[
  { "name": "a", "address": "127.0.0.1:3000" },
  { "name": "b", "address": "app.internal:80", "weight": 3, "backup": true, "zone": "eu", "state": "terminating" },
  { "address": "[2001:db8::1]:80" }
]"#;

    const TOML: &str = r#"
[[backend]]
name = "a"
address = "127.0.0.1:3000"
[[backend]]
name = "b"
address = "app.internal:80"
weight = 3
backup = true
zone = "eu"
state = "terminating"
[[backend]]
address = "[2001:db8::1]:80"
"#;

    #[test]
    fn both_forms_of_a_list_say_the_same() {
        let json = parse_backends(JSON.as_bytes(), None).unwrap();
        assert_eq!(json, parse_backends(TOML.as_bytes(), None).unwrap());
        assert_eq!((json.len(), json.serving()), (3, 2));
        let b = json.get("b").unwrap();
        assert_eq!((b.weight, b.is_backup), (3, true));
        assert_eq!(b.zone.as_deref(), Some("eu"));
        assert!(json.get("2001-db8-0-0-0-0-0-1-80").is_some());
        assert!(parse_backends(b"[]", None).unwrap().is_empty());
    }

    #[test]
    fn problems_of_a_list_are_reported_with_their_line() {
        for (text, told) in [
            ("", "1: EOF"),
            ("[", "1: EOF"),
            (&JSON[..JSON.len() / 2], "3: EOF"),
            ("{}", "1: invalid type: map, expected a list of backends"),
            ("[\n{}]", "2: missing field `address`"),
            (
                "[\n\n{\"address\": \"127.0.0.1\"}]",
                "3: `address` `127.0.0.1`: ",
            ),
            ("[{\"adress\": \"a:1\"}]", "1: unknown field `adress`"),
            (
                "[{\"address\": \"a:1\", \"name\": \"x y\"}]",
                "1: `x y`: a name has no spaces",
            ),
            (
                "[{\"address\": \"a:1\", \"weight\": 1001}]",
                "1: `weight` 1001 is out of range",
            ),
            (
                "[{\"address\": \"a:1\", \"state\": \"up\"}]",
                "1: unknown variant `up`",
            ),
            (
                "[{\"address\": \"a:1\", \"name\": \"x\"},\n{\"address\": \"a:2\", \"name\": \"x\"}]",
                "2: two backends have the name `x`",
            ),
            (
                "[{\"address\": \"a:1\", \"name\": \"x\"},\n{\"address\": \"a:1\", \"name\": \"y\"}]",
                "2: two backends have the address `a:1`",
            ),
        ] {
            let why = why(text, false);
            assert!(why.starts_with(told), "{text}: {why}");
        }
        for (text, told) in [
            ("", "1: it is empty"),
            ("[[backend]]\nname = \"a\"\naddr", "3: "),
            ("[[backend]]\nname = \"a\"\n", "1: missing field `address`"),
            (
                "[[backends]]\naddress = \"a:1\"",
                "1: unknown field `backends`",
            ),
            ("[[backend]]\naddress = \"a\"", "2: `address` `a`: "),
        ] {
            let why = why(text, true);
            assert!(why.starts_with(told), "{text}: {why}");
        }
        let problem = parse_backends(b"[\n\xff]", None).unwrap_err();
        assert_eq!(problem.line, Some(2));
    }

    #[test]
    fn every_first_part_of_a_list_is_refused_or_a_list() {
        let whole = parse_backends(JSON.as_bytes(), Some(false)).unwrap();
        for end in 0..JSON.len() {
            let part = parse_backends(&JSON.as_bytes()[..end], Some(false));
            assert!(part.is_err(), "{end}");
        }
        for end in 0..TOML.len() {
            if let Ok(part) = parse_backends(&TOML.as_bytes()[..end], Some(true)) {
                assert!(
                    part.iter().all(|(name, _)| whole.get(name).is_some()),
                    "{end}"
                );
            }
        }
    }
}
