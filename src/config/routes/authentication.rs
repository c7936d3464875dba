//! `auth` of a route, as written in the file: the forms of its values, and checks in combination.

use toml::de::DeValue;

use super::conditions::check_header_name;
use crate::config::forms::{CustomForm, KeyContext, custom};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::{ConfigFindings, ValueError};
use crate::config::section_traits::ConfigSection as _;
use crate::config::values::{ValueResult, quoted, text, wrong};
use crate::config::{Route, RouteAuth};

/// Address of an authentication server: `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardAddress {
    /// Host and port, as in a `Host` field.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

/// Returns the form of a [`ForwardAddress`].
pub(in crate::config) fn forward_address() -> CustomForm<ForwardAddress> {
    custom("URL", read_forward, |address| {
        print::text(&format!("http://{}{}", address.authority, address.target))
    })
}

fn read_forward(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<ForwardAddress> {
    let example = "http://127.0.0.1:4180/verify";
    let url = text(key.name, value, example)?;
    // A URL with a password is not repeated.
    let shown = if url.contains('@') {
        "\"…\"".into()
    } else {
        quoted(url)
    };
    let wrong = |why: &str, remedy: String| Err(wrong(key.name, shown.clone(), why, remedy));
    let write = || format!("write `{} = \"{example}\"`", key.name);
    if url.starts_with("https://") {
        let why = "authentication servers are not asked over TLS in this version";
        let remedy = "write an http:// address; put a TLS proxy on this host where the server is on another one";
        return wrong(why, remedy.into());
    }
    if url.starts_with("unix:") {
        return wrong("authentication servers are asked over TCP", write());
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong("it is no http:// URL", write());
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        let why = "a URL with a user in it";
        return wrong(why, "leave out what stands before the `@`".into());
    }
    if target.contains('#') || authority.contains('#') {
        return wrong("a fragment is sent to nobody", "remove it".into());
    }
    let visible = |b: u8| matches!(b, b'!'..=b'~');
    if !target.bytes().all(visible) || target.starts_with('?') {
        let remedy =
            "write a path, percent-encoded where need be: \"http://127.0.0.1:4180/verify\"";
        return wrong(
            "it has no path, or characters that no path has",
            remedy.into(),
        );
    }
    let host = authority
        .parse::<http::uri::Authority>()
        .ok()
        .filter(|authority| !authority.host().is_empty());
    let Some(host) = host else {
        return wrong("it names no host", write());
    };
    let has_port = host.as_str().len() > host.host().len();
    if has_port && host.port_u16().is_none_or(|port| port == 0) {
        return wrong("its port is none", write());
    }
    Ok(ForwardAddress {
        authority: authority.into(),
        target: if target.is_empty() { "/" } else { target }.into(),
    })
}

/// Reads the name of a header field that lameduck sends to the app.
pub(in crate::config) fn copied_name(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let name = text(key.name, value, "X-User")?;
    let problem = |why: &str, remedy: &str| {
        let message = format!("`{}` has {}: {why}", key.name, quoted(name));
        Err(ValueError::new(message, remedy))
    };
    if !is_token(name) {
        let remedy = "write letters, digits and dashes only";
        return problem("such a name can't be", remedy);
    }
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let is_ours = lower.starts_with("x-forwarded-")
        || ["forwarded", "x-real-ip", "x-request-id", "via"].contains(&&*lower);
    if is_ours {
        let why = "lameduck writes that field by itself";
        return problem(why, "name another one, such as \"X-User\"");
    }
    if ["cookie", "set-cookie", "content-type", "date"].contains(&&*lower) {
        let why = "it is the client's or the answer's own";
        return problem(why, "name another one, such as \"X-User\"");
    }
    match check_header_name(name) {
        Ok(()) => Ok(name.into()),
        Err((why, _)) => problem(why, "name another one, such as \"X-User\""),
    }
}

/// Returns the form of a realm.
pub(in crate::config) fn realm() -> CustomForm<String> {
    custom("text", read_realm, |realm| print::text(realm))
}

fn read_realm(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let realm = text(key.name, value, "admin")?;
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    if realm.is_empty() || realm.len() > 200 || !realm.bytes().all(is_plain) {
        return Err(wrong(
            key.name,
            quoted(realm),
            "it must be 1 to 200 printable ASCII characters, without quotes and backslashes",
            "write what people shall read, such as `realm = \"admin\"`",
        ));
    }
    Ok(realm.into())
}

/// Checks the keys of a route's `auth` in combination.
pub(super) fn validate_auth(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].auth.{key}");
    let Some(auth) = &route.auth else {
        return;
    };
    if !f.sound(&[&at("basic"), &at("forward")]) {
        return;
    }
    let usual = RouteAuth::unwritten();
    let of_other: &[(&str, bool)] = match (&auth.basic, &auth.forward) {
        (None, None) => {
            f.error(
                f.place(&format!("route[{i}].auth")),
                "`auth` says neither `basic` nor `forward`: who may come?",
                "write `auth = { basic = \"/etc/lameduck/htpasswd\" }`, or `auth = { forward = \"http://…\" }`",
            );
            return;
        }
        (Some(_), Some(_)) => {
            let first = f.place(&at("basic"));
            f.error(
                f.place(&at("forward")),
                "`auth` has `basic` or `forward`, and not both",
                "remove one of them",
            )
            .also(first, "the other one");
            return;
        }
        (Some(_), None) => &[
            ("copy", auth.copy != usual.copy),
            ("timeout", auth.timeout != usual.timeout),
        ],
        (None, Some(_)) => &[
            ("realm", auth.realm != usual.realm),
            ("user_header", auth.user_header != usual.user_header),
            ("keep_authorization", auth.keep_authorization),
        ],
    };
    let (one, other) = match auth.basic {
        Some(_) => ("basic", "forward"),
        None => ("forward", "basic"),
    };
    for (key, is_unusual) in of_other {
        if *is_unusual && f.written(&at(key)) {
            f.error(
                f.place(&at(key)),
                format!("`{key}` goes with `{other}`, and this is `{one}`"),
                "remove it",
            );
        }
    }
}
