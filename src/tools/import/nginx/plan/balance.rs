//! Balance algorithms of an upstream: `least_conn`, `random`, `least_time`, `ip_hash` and `hash`.

use super::values::{ValuePart, field_name, split_variables};
use crate::tools::import::draft::{PoolDraft, toml_text};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// Advice for a key that can't be hashed.
const WAYS: &str = "lameduck hashes the client's address, the path with or without its query, one header field or one \
                    cookie (`hash_on`)";

/// Sets the pool's `balance` and related keys.
pub(super) fn read_balance(upstream: &NginxDirective, draft: &mut PoolDraft) {
    draft.keys.push(("balance", toml_text("round_robin")));
    let set = |draft: &mut PoolDraft, word: &str| draft.keys[0].1 = toml_text(word);
    for directive in upstream.inner() {
        let differs = |draft: &mut PoolDraft, what: &str| {
            let text = format!("`{}`: {what}", directive.line());
            let notice = ImportNotice::differs(&directive.place, text);
            draft.notices.push(notice);
        };
        match directive.name() {
            "least_conn" => set(draft, "least_requests"),
            "random" if directive.arg(0) == "two" => set(draft, "least_requests"),
            "random" => set(draft, "random"),
            "least_time" => {
                set(draft, "peak_ewma");
                differs(draft, "the latency counts until the head of the answer");
            }
            "ip_hash" => {
                set(draft, "hash");
                draft.keys.push(("hash_on", toml_text("client")));
                differs(
                    draft,
                    "clients are shared out anew, and each address counts for itself: nginx takes an IPv4 network of 256 \
                     for one client",
                );
            }
            "hash" => match read_key(directive.arg(0)) {
                None => draft.notices.push(directive.refusal(WAYS)),
                Some(key) => {
                    let is_consistent = directive.arg(1) == "consistent";
                    let word = if is_consistent {
                        "ketama_nginx"
                    } else {
                        "hash"
                    };
                    set(draft, word);
                    draft.keys.push(("hash_on", toml_text(&key.hash_on)));
                    if !is_consistent {
                        differs(
                            draft,
                            "keys are shared out anew: nginx's mapping moves most of them at each change of a server",
                        );
                    } else if let Some(why) = key.other_text {
                        differs(draft, why);
                    }
                    if is_consistent {
                        judge_ports(upstream, draft);
                    }
                }
            },
            _ => {}
        }
    }
}

/// Key that is hashed.
struct KeyDraft {
    hash_on: String,
    /// Reason why nginx hashes another text, and so maps keys in another way.
    other_text: Option<&'static str>,
}

fn read_key(written: &str) -> Option<KeyDraft> {
    let parts = split_variables(written);
    let key = |hash_on: &str, other_text| {
        Some(KeyDraft {
            hash_on: hash_on.into(),
            other_text,
        })
    };
    if let [ValuePart::Variable(name)] = parts[..] {
        return match name {
            "remote_addr" => key("client", None),
            "binary_remote_addr" => key(
                "client",
                Some(
                    "the address is hashed as text here, so clients are shared out anew; `$remote_addr` would keep them",
                ),
            ),
            "request_uri" => key("uri", None),
            "uri" | "document_uri" => key(
                "path",
                Some(
                    "paths are hashed as they were sent: those with `%`, `//` or `..` go elsewhere than in nginx",
                ),
            ),
            _ => match (name.strip_prefix("cookie_"), name.strip_prefix("http_")) {
                (Some(cookie), _) => key(&format!("cookie:{cookie}"), None),
                (_, Some(field)) if field != "host" && field != "cookie" => {
                    key(&format!("header:{}", field_name(field)), None)
                }
                _ => None,
            },
        };
    }
    // A part that is the same for all requests of an upstream only changes the mapping.
    let mut varying = parts.iter().filter_map(|part| match part {
        ValuePart::Variable("scheme" | "proxy_host") | ValuePart::Text(_) => None,
        ValuePart::Variable(name) => Some(*name),
    });
    let other_text = Some("only the path is hashed here, so keys are shared out anew");
    match (varying.next(), varying.next()) {
        (Some("request_uri"), None) => key("uri", other_text),
        (Some("uri" | "document_uri"), None) => key("path", other_text),
        _ => None,
    }
}

/// nginx hashes the name of a server without its default port, but lameduck hashes both.
fn judge_ports(upstream: &NginxDirective, draft: &mut PoolDraft) {
    for server in upstream
        .inner()
        .iter()
        .filter(|inner| inner.name() == "server")
    {
        let address = server.arg(0);
        let has_port = address.starts_with("unix:")
            || address
                .rsplit_once(':')
                .is_some_and(|(host, _)| !host.is_empty() && !address.ends_with(']'));
        if !has_port {
            draft.notices.push(ImportNotice::differs(
                &server.place,
                format!("`server {address}`: it has the port 80 here, and nginx hashes it without: its keys go elsewhere"),
            ));
        }
    }
}
