//! Conditions of `if` that routes can express.

use super::values::field_name;
use crate::tools::import::draft::{DraftKeys, DraftPath, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{NginxServer, NginxSite};
use crate::tools::import::nginx::pcre::translate_regex;
use crate::tools::import::nginx::tree::NginxDirective;

/// Registered methods, the most common first, for conditions such as "all methods but these".
const METHODS: [&str; 24] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "SEARCH",
    "REPORT",
    "MKCALENDAR",
    "ACL",
    "BIND",
    "LINK",
    "UNLINK",
    "PURGE",
    "QUERY",
];

/// Condition on a request. If there are several, one of them must be met.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestTest {
    /// Hosts that meet it; `None`: any.
    pub hosts: Option<Vec<String>>,
    /// Paths that meet it; `None`: any.
    pub path: Option<DraftPath>,
    /// Further conditions.
    pub keys: DraftKeys,
    /// Values of `$1` and so on, if the host has them.
    pub groups: Vec<String>,
}

impl RequestTest {
    fn of(key: &'static str, value: String) -> Self {
        RequestTest {
            keys: vec![(key, value)],
            ..RequestTest::default()
        }
    }

    /// Replaces `$1` and so on by the groups of its expression.
    pub(super) fn fill_groups(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (n, group) in self.groups.iter().enumerate().skip(1) {
            out = out.replace(&format!("${n}"), group);
        }
        out
    }
}

/// Reads the condition of an `if`. An empty list means that it is never met.
///
/// # Errors
/// Reason why routes can't express it.
pub(super) fn read_condition(
    directive: &NginxDirective,
    server: &NginxServer<'_>,
    site: &NginxSite<'_>,
) -> Result<Vec<RequestTest>, String> {
    let joined = directive.args().join(" ");
    let inner = joined
        .trim()
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let words: Vec<&str> = inner.unwrap_or(&joined).split_whitespace().collect();
    let (variable, sign, value) = match &words[..] {
        [variable] => (*variable, "", String::new()),
        [variable, sign] => (*variable, *sign, String::new()),
        [variable, sign, rest @ ..] => (*variable, *sign, rest.join(" ")),
        [] => return Err("it asks for nothing".into()),
    };
    let value = value.trim_matches(['"', '\'']);
    let Some(name) = variable.strip_prefix('$') else {
        return Err(format!("lameduck can't ask for `{variable}`"));
    };
    let is_caseless = sign.ends_with('*');
    let cannot = || Err(format!("lameduck can't ask whether ${name} {sign} {value}"));
    let text = |key: &'static str, field: &str| match sign {
        "=" if !value.is_empty() => Ok(vec![field_test(key, field, toml_text(value))]),
        "" => Ok(vec![field_test(key, field, regex_value("^(?:[^0]|0.)"))]),
        "~" | "~*" => {
            let pattern = field_pattern(translate_regex(value, is_caseless)?)?;
            Ok(vec![field_test(key, field, regex_value(&pattern))])
        }
        _ => cannot(),
    };
    match name {
        "host" | "http_host" | "server_name" => {
            host_tests(server, sign, value).map_or_else(cannot, Ok)
        }
        "request_method" => method_tests(sign, value).map_or_else(cannot, Ok),
        "request_uri" | "uri" | "document_uri" => {
            let path = match sign {
                "=" => DraftPath::Exact(value.to_owned()),
                "~" | "~*" if !value.contains(r"\?") => {
                    DraftPath::Regex(translate_regex(value, is_caseless)?)
                }
                _ => return cannot(),
            };
            Ok(vec![RequestTest {
                path: Some(path),
                ..RequestTest::default()
            }])
        }
        "remote_addr" if sign == "=" => Ok(vec![RequestTest::of(
            "clients",
            toml_list(&[value.to_owned()]),
        )]),
        "scheme" if (sign, value) == ("=", "http") && server.listens.iter().all(|(_, l)| l.ssl) => {
            Ok(Vec::new())
        }
        "https" if value.is_empty() && server.listens.iter().all(|(_, l)| l.ssl) => Ok(Vec::new()),
        _ => {
            if let Some(field) = name.strip_prefix("http_") {
                return text("headers", &field_name(field));
            }
            if let Some(cookie) = name.strip_prefix("cookie_") {
                return text("cookies", cookie);
            }
            if let Some(field) = name.strip_prefix("arg_") {
                return text("query", field);
            }
            declared_tests(site, name, sign, value).unwrap_or_else(cannot)
        }
    }
}

fn field_test(key: &'static str, field: &str, value: String) -> RequestTest {
    RequestTest::of(key, toml_table(&[(field.to_owned(), value)]))
}

fn regex_value(pattern: &str) -> String {
    toml_table(&[("regex".to_owned(), toml_text(pattern))])
}

/// Conditions on the host: the server's names are known, so it is met by some of them.
fn host_tests(server: &NginxServer<'_>, sign: &str, value: &str) -> Option<Vec<RequestTest>> {
    if server.hosts.is_empty() || server.hosts.iter().any(|host| host.starts_with('*')) {
        return (sign == "=").then(|| {
            vec![RequestTest {
                hosts: Some(vec![value.to_ascii_lowercase()]),
                ..RequestTest::default()
            }]
        });
    }
    let regex = match sign {
        "~" | "~*" => Some(regex::Regex::new(&format!("(?i){value}")).ok()?),
        "!~" | "!~*" => Some(regex::Regex::new(&format!("(?i){value}")).ok()?),
        "=" | "!=" => None,
        _ => return None,
    };
    let is_negated = sign.starts_with('!');
    let mut tests = Vec::new();
    for host in &server.hosts {
        let found = regex.as_ref().map(|regex| regex.captures(host));
        let holds = match &found {
            Some(captures) => captures.is_some(),
            None => host == &value.to_ascii_lowercase(),
        };
        if holds == is_negated {
            continue;
        }
        let groups = found.flatten().map_or_else(Vec::new, |captures| {
            let texts = captures
                .iter()
                .map(|group| group.map_or("", |group| group.as_str()));
            texts.map(str::to_owned).collect()
        });
        tests.push(RequestTest {
            hosts: Some(vec![host.clone()]),
            groups,
            ..RequestTest::default()
        });
    }
    Some(tests)
}

/// For `= OPTIONS`, `~ ^(GET|HEAD)$` or `!~ ^(GET|HEAD)$`: the registered methods that meet the condition.
fn method_tests(sign: &str, value: &str) -> Option<Vec<RequestTest>> {
    let is_method = !value.is_empty() && value.bytes().all(|b| b.is_ascii_uppercase());
    let is_negated = sign.starts_with('!');
    let methods: Vec<String> = match sign {
        "=" if is_method => vec![value.to_owned()],
        "!=" if is_method => methods_that(|method| method != value),
        "~" | "~*" | "!~" | "!~*" => {
            let pattern = translate_regex(value, sign.ends_with('*')).ok()?;
            let regex = regex::Regex::new(&pattern).ok()?;
            methods_that(|method| regex.is_match(method) != is_negated)
        }
        _ => return None,
    };
    let tests = (!methods.is_empty()).then(|| RequestTest::of("methods", toml_list(&methods)));
    Some(tests.into_iter().collect())
}

fn methods_that(holds: impl Fn(&str) -> bool) -> Vec<String> {
    let found = METHODS.iter().filter(|method| holds(method));
    found.map(|method| (*method).to_owned()).collect()
}

/// Reason why a condition can't be imported that clients without the field meet, too.
const HOLDS_WITHOUT: &str =
    "it holds where there is no such field, too, and lameduck can't ask for that";

/// Pattern for the value of a field that has to exist.
///
/// # Errors
/// The pattern matches the empty text, which nginx uses for a missing field.
pub(super) fn field_pattern(pattern: String) -> Result<String, String> {
    match regex::Regex::new(&pattern).is_ok_and(|regex| regex.is_match("")) {
        true => Err(HOLDS_WITHOUT.to_owned()),
        false => Ok(pattern),
    }
}

/// Conditions on a variable of a `map` or `geo` that is otherwise 0 or empty: one for each entry.
fn declared_tests(
    site: &NginxSite<'_>,
    name: &str,
    sign: &str,
    value: &str,
) -> Option<Result<Vec<RequestTest>, String>> {
    let wanted = match sign {
        "" => None,
        "=" => Some(value),
        _ => return None,
    };
    let holds = |value: &str| match wanted {
        None => !["", "0"].contains(&value),
        Some(wanted) => value == wanted,
    };
    let named = format!("${name}");
    let is_it = |d: &&NginxDirective| {
        ["map", "geo"].contains(&d.name()) && d.args().last().is_some_and(|last| *last == named)
    };
    let declared = site.level.iter().find(is_it)?;
    let rows = declared.inner();
    let is_default = |d: &&NginxDirective| d.name() == "default";
    let default = rows.iter().find(is_default).map_or("", |d| d.arg(0));
    let options = ["hostnames", "volatile"];
    let entries = || {
        rows.iter()
            .filter(|d| !is_default(d) && !options.contains(&d.name()))
    };
    // With different values, the order of entries would matter; so all must have the same one.
    let is_changing = |d: &NginxDirective| d.arg(0).contains('$');
    if rows.iter().any(is_changing) || holds(default) || entries().any(|d| !holds(d.arg(0))) {
        return None;
    }
    if declared.name() == "geo" {
        if declared.args().len() != 1
            || entries().any(|d| {
                d.name().parse::<ipnet::IpNet>().is_err()
                    && d.name().parse::<std::net::IpAddr>().is_err()
            })
        {
            return None;
        }
        let networks: Vec<_> = entries().map(|d| d.name().to_owned()).collect();
        return Some(Ok(vec![RequestTest::of("clients", toml_list(&networks))]));
    }
    let source = declared.arg(0).strip_prefix('$')?;
    let (key, field) = match (source.strip_prefix("http_"), source.strip_prefix("cookie_")) {
        (Some(field), _) => ("headers", field_name(field)),
        (_, Some(cookie)) => ("cookies", cookie.to_owned()),
        _ => ("query", source.strip_prefix("arg_")?.to_owned()),
    };
    let tests = entries().map(|entry| {
        let text = entry.name();
        let pattern = match text.strip_prefix('~') {
            Some(rest) => match rest.strip_prefix('*') {
                Some(rest) => translate_regex(rest, true)?,
                None => translate_regex(rest, false)?,
            },
            // Keys of a `map` are compared without case.
            None => format!(
                "(?i)^{}$",
                crate::tools::import::nginx::pcre::escape_regex(text.trim_start_matches('\\'))
            ),
        };
        let pattern = field_pattern(pattern)?;
        Ok(field_test(key, &field, regex_value(&pattern)))
    });
    Some(tests.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::tree::TreeReader;

    fn tests_of(condition: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "http {{ map $http_user_agent $bot {{ default 0; ~*crawl 1; x 1; }} geo $near {{ default 0; 10.0.0.0/8 1; }} server {{ listen 443 ssl; server_name a.org www.a.org; if ({condition}) {{ return 403; }} }} }}"
        );
        let tree = TreeReader::new(".").read_text("x", &text, 0).unwrap();
        let site = NginxSite::read(&tree);
        let server = &site.servers[0];
        let directive = server.directive.inner().last().unwrap();
        let tests = read_condition(directive, server, &site)?;
        Ok(tests
            .iter()
            .map(|test| format!("{:?} {:?} {:?}", test.hosts, test.path, test.keys))
            .collect())
    }

    #[test]
    fn conditions_become_what_routes_ask_for() {
        for (condition, says, count) in [
            ("$request_method = OPTIONS", "methods", 1),
            ("$request_method !~ ^(GET|HEAD|POST)$", "PUT", 1),
            ("$http_user_agent ~* (wget|curl)", "(?i)(wget|curl)", 1),
            ("$host = www.a.org", "www.a.org", 1),
            ("$host != a.org", "www.a.org", 1),
            ("$host ~* ^www\\.(.*)", "www.a.org", 1),
            ("$cookie_beta = \"yes\"", "beta = \\\"yes\\\"", 1),
            ("$arg_debug", "debug", 1),
            ("$request_uri ~ ^/old/", "Regex", 1),
            ("$bot", "(?i)^x$", 2),
            ("$near", "10.0.0.0/8", 1),
        ] {
            let tests = tests_of(condition).unwrap();
            assert_eq!(tests.len(), count, "{condition}: {tests:?}");
            assert!(
                tests.iter().any(|test| test.contains(says)),
                "{condition}: {tests:?}"
            );
        }
        assert_eq!(tests_of("$scheme = http").unwrap().len(), 0);
        for condition in [
            "-f $request_filename",
            "$http_x != a",
            "$nothing",
            "$request_method = GET|X",
        ] {
            assert!(tests_of(condition).is_err(), "{condition}");
        }
    }
}
