//! Header fields: those that lameduck sets by itself, and rules for all others.

use super::values::ValueReader;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::scope::read_time;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// Whether this value of `proxy_set_header Host` is what the client sent.
pub(super) fn is_client_host(value: &str) -> bool {
    [
        "$host",
        "$http_host",
        "$host:$server_port",
        "${host}",
        "${http_host}",
    ]
    .contains(&value)
}

/// Whether lameduck does by itself what a `proxy_set_header` or `grpc_set_header` asks for.
fn is_sent_anyway(name: &str, value: &str) -> bool {
    match name {
        "host" => is_client_host(value) || value == "$proxy_host",
        "x-forwarded-for" => ["$proxy_add_x_forwarded_for", "$remote_addr"].contains(&value),
        "x-forwarded-proto" => value == "$scheme",
        "x-forwarded-host" => is_client_host(value),
        "x-request-id" => value == "$request_id",
        // lameduck passes upgrades on by itself, and keeps connections open.
        "upgrade" => value.starts_with('$') || value.eq_ignore_ascii_case("websocket"),
        "connection" => {
            let known = ["", "upgrade", "close", "keep-alive"];
            value.starts_with('$') || known.contains(&value.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

/// Reason why a request field is left out, if lameduck has no rules for it.
fn why_no_request_rule(name: &str) -> &'static str {
    match name {
        "host" => "lameduck sends the client's Host or the backend's address, nothing else",
        "x-real-ip" => "lameduck tells the client's address in X-Forwarded-For only",
        name if name.starts_with("x-forwarded-") => {
            "lameduck sends X-Forwarded-For, -Proto and -Host by itself, with its own values"
        }
        _ => "lameduck sets no headers of requests",
    }
}

/// Rules for header fields, with notices for what is no rule.
#[derive(Debug, Default)]
pub(super) struct FieldChanges {
    set: Vec<(String, String)>,
    add: Vec<(String, Vec<String>)>,
    remove: Vec<String>,
    pub notices: Vec<ImportNotice>,
}

impl FieldChanges {
    /// Rules for requests in a scope. `passed` are fields that another key sets.
    pub(super) fn of_requests(values: &ValueReader<'_, '_>, passed: &[String]) -> Self {
        let mut changes = FieldChanges::default();
        let scope = values.scope;
        let fields = scope.all("proxy_set_header");
        let fields = fields.into_iter().chain(scope.all("grpc_set_header"));
        for field in fields {
            let (name, value) = (field.arg(0).to_ascii_lowercase(), field.arg(1));
            if is_sent_anyway(&name, value) || passed.contains(&name) {
                continue;
            }
            if !offered::has_route_key("request_headers") {
                changes
                    .notices
                    .push(field.refusal(why_no_request_rule(&name)));
                continue;
            }
            if value.is_empty() {
                let value = toml_table(&[("remove".into(), toml_list(&[field.arg(0).into()]))]);
                match offered::check_key("request_headers", &value) {
                    Ok(()) => changes.remove(field.arg(0)),
                    Err(why) => changes.notices.push(field.refusal(&why)),
                }
                continue;
            }
            match read_field(values, "request_headers", field.arg(0), value) {
                Ok(text) => {
                    changes
                        .set
                        .retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
                    changes.set.push((field.arg(0).to_owned(), text));
                }
                Err(why) => changes.notices.push(field.refusal(&why)),
            }
        }
        for field in scope.all("more_set_input_headers") {
            changes.set_line(values, "request_headers", field);
        }
        for field in scope.all("more_clear_input_headers") {
            changes.clear_all("request_headers", field);
        }
        changes
    }

    /// Rules for responses in a scope. nginx adds to all responses there, including those of the app.
    pub(super) fn of_answers(values: &ValueReader<'_, '_>, is_proxied: bool) -> Self {
        let mut changes = FieldChanges::default();
        let scope = values.scope;
        for field in scope.all("add_header") {
            if !offered::has_route_key("response_headers") {
                changes.notices.extend(judge_response_header(field));
                continue;
            }
            // There may be only one of these two fields, and an empty one means none.
            let one = ["etag", "last-modified"];
            let is_one = one.contains(&field.arg(0).to_ascii_lowercase().as_str());
            if is_one && field.arg(1).is_empty() {
                changes.clear("response_headers", field.arg(0), field);
                continue;
            }
            if field.arg(1).is_empty() {
                continue;
            }
            match read_field(values, "response_headers", field.arg(0), field.arg(1)) {
                Ok(text) => {
                    match is_one {
                        true => changes.set.push((field.arg(0).to_owned(), text)),
                        false => changes.add(field.arg(0), text),
                    }
                    if field.arg(2) != "always" {
                        changes
                            .notices
                            .push(field.difference("answers with an error have it, too"));
                    }
                }
                Err(why) => changes.notices.push(field.refusal(&why)),
            }
        }
        for field in scope.all("more_set_headers") {
            changes.set_line(values, "response_headers", field);
        }
        for name in [
            "more_clear_headers",
            "proxy_hide_header",
            "grpc_hide_header",
        ] {
            for field in scope.all(name) {
                changes.clear_all("response_headers", field);
            }
        }
        if is_proxied {
            if let Some(charset) = scope.last("charset").filter(|d| d.arg(0) != "off") {
                let says = "an app's answers have the charset that the app gives them";
                changes.notices.push(charset.difference(says));
            }
            changes.expire(values);
        }
        changes
    }

    fn remove(&mut self, name: &str) {
        if !self
            .remove
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            self.remove.push(name.to_owned());
        }
    }

    fn add(&mut self, name: &str, text: String) {
        let known = self
            .add
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        match known {
            Some((_, texts)) => texts.push(text),
            None => self.add.push((name.to_owned(), vec![text])),
        }
    }

    /// Handles `more_set_headers "Name: value";`.
    fn set_line(
        &mut self,
        values: &ValueReader<'_, '_>,
        key: &'static str,
        field: &NginxDirective,
    ) {
        for line in field.args() {
            let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with('-'))
            else {
                self.notices
                    .push(field.refusal("only lines with a name and a value are carried over"));
                return;
            };
            match read_field(values, key, name.trim(), value.trim()) {
                Ok(text) => self.set.push((name.trim().to_owned(), text)),
                Err(why) => self.notices.push(field.refusal(&why)),
            }
        }
    }

    fn clear_all(&mut self, key: &'static str, field: &NginxDirective) {
        for name in field.args() {
            self.clear(key, name, field);
        }
    }

    fn clear(&mut self, key: &'static str, name: &str, field: &NginxDirective) {
        let value = toml_table(&[("remove".into(), toml_list(&[name.to_owned()]))]);
        match offered::check_key(key, &value) {
            Ok(()) => self.remove(name),
            Err(why) => self.notices.push(field.refusal(&why)),
        }
    }

    /// Handles `expires` for responses of an app.
    fn expire(&mut self, values: &ValueReader<'_, '_>) {
        let Some(expires) = values.scope.last("expires").filter(|d| d.arg(0) != "off") else {
            return;
        };
        let Some(text) = cache_control(expires) else {
            self.notices
                .push(expires.refusal("only a time from now is carried over"));
            return;
        };
        match read_field(values, "response_headers", "Cache-Control", &text) {
            Ok(text) => {
                self.set.push(("Cache-Control".into(), text));
                self.notices.push(expires.difference("lameduck sends Cache-Control, and no Expires; answers with an error have it, too"));
            }
            Err(why) => self.notices.push(expires.refusal(&why)),
        }
    }

    /// Converts the rules to a key of a route.
    pub(super) fn into_keys(self, key: &'static str) -> (DraftKeys, Vec<ImportNotice>) {
        let mut parts = Vec::new();
        if !self.set.is_empty() {
            let set: Vec<_> = self
                .set
                .iter()
                .map(|(n, text)| (n.clone(), toml_text(text)))
                .collect();
            parts.push(("set".to_owned(), toml_table(&set)));
        }
        if !self.add.is_empty() {
            let texts = |texts: &Vec<String>| match &texts[..] {
                [text] => toml_text(text),
                texts => toml_list(texts),
            };
            let add: Vec<_> = self
                .add
                .iter()
                .map(|(n, values)| (n.clone(), texts(values)))
                .collect();
            parts.push(("add".to_owned(), toml_table(&add)));
        }
        if !self.remove.is_empty() {
            parts.push(("remove".to_owned(), toml_list(&self.remove)));
        }
        let keys = match parts.is_empty() {
            true => DraftKeys::new(),
            false => vec![(key, toml_table(&parts))],
        };
        (keys, self.notices)
    }
}

/// Value of a field in a rule; the configuration reader decides whether it is accepted.
fn read_field(
    values: &ValueReader<'_, '_>,
    key: &'static str,
    name: &str,
    value: &str,
) -> Result<String, String> {
    let text = values.read(value)?;
    let field = toml_table(&[(name.to_owned(), toml_text(&text))]);
    offered::check_key(key, &toml_table(&[("set".into(), field)])).map(|()| text)
}

/// Value of `Cache-Control` for `expires`.
pub(super) fn cache_control(expires: &NginxDirective) -> Option<String> {
    match (expires.arg(0), expires.arg(1)) {
        ("epoch", "") => Some("no-cache".into()),
        ("max", "") => Some("max-age=315360000".into()),
        (time, "") if time.starts_with('-') => Some("no-cache".into()),
        (time, "") => Some(format!(
            "max-age={}",
            read_time(time.trim_start_matches('+'))?.as_secs()
        )),
        _ => None,
    }
}

/// Notice for a part of an `add_header` that is left out, if lameduck has no rules for responses.
pub(super) fn judge_response_header(directive: &NginxDirective) -> Option<ImportNotice> {
    if !directive
        .arg(0)
        .eq_ignore_ascii_case("strict-transport-security")
    {
        return Some(directive.refusal("lameduck adds no headers to answers"));
    }
    match read_max_age(directive.arg(1)) {
        None => Some(directive.refusal("it has no max-age")),
        Some((_, true)) => Some(ImportNotice::left_out(
            &directive.place,
            "Strict-Transport-Security: `hsts` sends max-age, not includeSubDomains or preload",
        )),
        Some((_, false)) => None,
    }
}

/// Seconds of `max-age`, and whether there are further directives.
pub(super) fn read_max_age(value: &str) -> Option<(u64, bool)> {
    let mut age = None;
    let mut more = false;
    for part in value
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.to_ascii_lowercase().strip_prefix("max-age=") {
            Some(number) => age = number.trim_matches('"').parse().ok(),
            None => more = true,
        }
    }
    Some((age?, more))
}
