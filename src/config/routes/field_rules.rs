//! Header fields that a route sets, adds and removes, and the restrictions on them.

use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::{ValueError, describe};
use crate::config::values::{ValueResult, no_table, quoted, text, wrong};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

use super::template::{TemplateUse, TextTemplate};

/// Most fields in one list of a route: a head has room for these in addition to the received ones.
pub(crate) const MAX_RULES: usize = 16;

/// A field with its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldRule {
    /// Name, as written.
    pub name: String,
    /// Value.
    pub value: TextTemplate,
}

/// The message whose fields are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum MessageSide {
    /// The request to the app.
    Request,
    /// The response to the client.
    Response,
}

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldVerb {
    Set,
    Add,
    Remove,
}

/// Form of fields by name, each with a text, or with several texts if they are added.
pub(in crate::config) struct FieldRules {
    side: MessageSide,
    verb: FieldVerb,
}

/// Form of a list of field names.
pub(in crate::config) struct RemovedFields(pub(in crate::config) MessageSide);

impl FieldRules {
    /// Returns the form of fields that are replaced.
    pub(in crate::config) fn set(side: MessageSide) -> Self {
        let verb = FieldVerb::Set;
        Self { side, verb }
    }

    /// Returns the form of fields that are added.
    pub(in crate::config) fn add(side: MessageSide) -> Self {
        let verb = FieldVerb::Add;
        Self { side, verb }
    }

    fn read_value(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<TextTemplate, (Range<usize>, ValueError)> {
        let read = text(name, value.get_ref(), "value").and_then(|text| {
            let refused = |(why, remedy)| wrong(name, quoted(text), why, remedy);
            let template = TextTemplate::parse(text, TemplateUse::FieldValue).map_err(refused)?;
            if self.verb == FieldVerb::Add && text.is_empty() {
                let remedy = "write a value, or remove the line";
                return Err(wrong(
                    name,
                    "\"\"",
                    "a field without a value is not added",
                    remedy,
                ));
            }
            if name.eq_ignore_ascii_case("host")
                && template.fixed().is_some_and(|host| !is_authority(host))
            {
                let remedy = "write a host, maybe with a port, such as \"app.internal:8080\"";
                return Err(wrong(name, quoted(text), "it is no host", remedy));
            }
            Ok(template)
        });
        read.map_err(|problem| (value.span(), problem))
    }
}

/// Whether the text may be a host and port. This is a rough check; each request is checked more closely.
fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

impl ValueForm<Vec<FieldRule>> for FieldRules {
    fn name(&self) -> String {
        "table of texts with placeholders".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<FieldRule>> {
        let example = match self.side {
            MessageSide::Request => "{ \"X-Real-IP\" = \"{client}\" }",
            MessageSide::Response => "{ \"X-Frame-Options\" = \"DENY\" }",
        };
        Err(no_table(key.name, value, "texts", example))
    }

    fn print(&self, rules: &Vec<FieldRule>) -> String {
        let mut fields: Vec<(&str, Vec<String>)> = Vec::new();
        for FieldRule { name, value } in rules {
            let value = print::text(value.as_str());
            match fields.last_mut() {
                Some((last, values)) if last == name => values.push(value),
                _ => fields.push((name, vec![value])),
            }
        }
        print::table_of(fields.into_iter().map(|(name, values)| {
            let values = match values.len() {
                1 => values.concat(),
                _ => print::texts_of(values.into_iter()),
            };
            (print::text(name), values)
        }))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<FieldRule>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let mut rules: Vec<FieldRule> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for (name, value) in table {
            let (span, name): (_, &str) = (name.span(), name.get_ref());
            let is_twice = names.iter().any(|other| other.eq_ignore_ascii_case(name));
            names.push(name);
            let checked = match is_twice {
                true => Err((
                    "it is there twice".into(),
                    "remove one of them: names of header fields have no case".into(),
                )),
                false => check_name(name, self.side, self.verb),
            };
            if let Err((why, remedy)) = checked {
                let message = format!("`{}` has {}: {why}", key.name, quoted(name));
                problems.push((span, ValueError::new(message, remedy)));
                continue;
            }
            let mut take = |value: &Spanned<DeValue<'_>>| match self.read_value(name, value) {
                Ok(value) => rules.push(FieldRule {
                    name: name.into(),
                    value,
                }),
                Err(problem) => problems.push(problem),
            };
            match value.get_ref() {
                DeValue::Array(values) if self.verb == FieldVerb::Add => {
                    values.iter().for_each(&mut take);
                }
                DeValue::Array(_) => problems.push((
                    value.span(),
                    ValueError::new(
                        format!("`{}` gives {} several values", key.name, quoted(name)),
                        "write one text, or the list in `add`",
                    ),
                )),
                _ => take(value),
            }
        }
        if rules.len() > MAX_RULES {
            let message = format!("`{}` has more than {MAX_RULES} fields", key.name);
            let remedy = "remove some of them";
            problems.push((value.span(), ValueError::new(message, remedy)));
        }
        // A table has no order; sorted, it is the same when it is printed and read again.
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        Some(rules)
    }
}

impl ValueForm<Vec<String>> for RemovedFields {
    fn name(&self) -> String {
        "list of header fields".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<String>> {
        let key = key.name;
        Err(ValueError::new(
            format!("`{key}` is {}, but must be a list", describe(value)),
            format!("write it in brackets, such as `{key} = [\"X-Powered-By\"]`"),
        ))
    }

    fn print(&self, names: &Vec<String>) -> String {
        print::texts_of(names.iter().map(|name| print::text(name)))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<String>> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let mut names = Vec::new();
        for item in items.iter() {
            let read = text(key.name, item.get_ref(), "X-Powered-By").and_then(|name| {
                match check_name(name, self.0, FieldVerb::Remove) {
                    Ok(()) => Ok(name.to_owned()),
                    Err((why, remedy)) => {
                        let message = format!("`{}` has {}: {why}", key.name, quoted(name));
                        Err(ValueError::new(message, remedy))
                    }
                }
            });
            match read {
                Ok(name) => names.push(name),
                Err(problem) => problems.push((item.span(), problem)),
            }
        }
        if names.len() > 4 * MAX_RULES {
            let message = format!("`{}` has more than {} names", key.name, 4 * MAX_RULES);
            let remedy = "remove some of them";
            problems.push((value.span(), ValueError::new(message, remedy)));
        }
        Some(names)
    }
}

/// Fields that determine where a message ends, or that are about a single connection.
const FRAMING: [&str; 10] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Checks that a route may make this change to a field with this name; the error says why not, and what to do. `_`
/// counts as `-`, because apps that use CGI or WSGI can't tell them apart.
fn check_name(name: &str, side: MessageSide, verb: FieldVerb) -> Result<(), (String, String)> {
    let refused = |why: &str, remedy: &str| Err((why.to_owned(), remedy.to_owned()));
    if !is_token(name) {
        return refused(
            "such a name can't be",
            "write letters, digits, dashes and underscores only",
        );
    }
    if name.len() > 256 {
        return refused("the name is too long", "use a shorter one");
    }
    let folded = name.to_ascii_lowercase().replace('_', "-");
    let is_plain = !name.contains('_');
    if FRAMING.contains(&&*folded) {
        return refused(
            "it frames a message or is about one connection: lameduck writes it by itself",
            "remove it",
        );
    }
    if matches!(
        &*folded,
        "sec-websocket-key" | "sec-websocket-accept" | "sec-websocket-version"
    ) {
        return refused("it is one half of a WebSocket's handshake", "remove it");
    }
    match (side, &*folded) {
        (_, "via") => refused(
            "only lameduck sets it, to find requests that go round in a circle",
            "remove it, and write `via = true` under [headers]",
        ),
        (_, "cdn-loop") => refused(
            "only lameduck sets it, to find requests that go round in a circle",
            "remove it",
        ),
        (MessageSide::Request, "host") => match verb {
            FieldVerb::Set if is_plain => Ok(()),
            FieldVerb::Set => refused("it is Host in disguise", "write \"Host\""),
            FieldVerb::Add => refused("a request has one host", "write it in `set`"),
            FieldVerb::Remove => refused(
                "every request needs one",
                "remove it, or set another one: `set = { Host = \"app.internal\" }`",
            ),
        },
        (MessageSide::Response, "host") => refused("no answer has a host", "remove it"),
        (MessageSide::Response, "content-encoding" | "content-range") => refused(
            "it says how the content is to be read, which no rule changes",
            "remove it",
        ),
        (MessageSide::Request, "forwarded") => refused(
            "only lameduck sets it",
            "remove it, and write `forwarded = true` under [headers]",
        ),
        (MessageSide::Request, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host") => {
            refused(
                "only lameduck sets it, as `x_forwarded` and `trusted` of [headers] say",
                "remove it; for another field with the client's address, write `set = { \"X-Real-IP\" = \"{client}\" }`",
            )
        }
        (MessageSide::Request, "x-request-id") => refused(
            "only lameduck sets it",
            "remove it: `request_id = true` of [headers] sends it, and `{request_id}` may be in other fields",
        ),
        (MessageSide::Request, other)
            if other.starts_with("x-client-cert") || other.starts_with("client-cert") =>
        {
            refused(
                "only lameduck says who a client has proven to be",
                "remove it, and let a listener ask for certificates: `client_auth = \"required\"`",
            )
        }
        (MessageSide::Request, other)
            if !is_plain && (other == "x-real-ip" || other.starts_with("x-forwarded")) =>
        {
            refused(
                "apps take it for the one with dashes",
                &format!("write \"{}\"", name.replace('_', "-")),
            )
        }
        _ => Ok(()),
    }
}
