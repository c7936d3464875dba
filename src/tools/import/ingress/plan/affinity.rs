//! Converts `affinity: cookie` and its options to `[pool.sticky]`.

use std::time::Duration;

use super::settings::AnnotationReader;
use crate::config::duration;
use crate::tools::import::draft::{DraftKeys, toml_text};

/// Default name of the cookie.
const COOKIE: &str = "INGRESSCOOKIE";

/// Keys of `[pool.sticky]`; empty: the pool is not sticky.
pub(super) fn read_affinity(reader: &mut AnnotationReader<'_>) -> DraftKeys {
    let mut keys = DraftKeys::new();
    let Some(affinity) = reader.get("affinity") else {
        return keys;
    };
    if !affinity.value.trim().eq_ignore_ascii_case("cookie") {
        reader.refuse(affinity, "ingress-nginx knows `cookie` only");
        return keys;
    }
    reader.differ(
        affinity,
        "a Service is one address, and the cluster's network chooses the pod: list the pods as `[[pool.backend]]` (those of \
         a StatefulSet have names) for sessions to stay; until then see the Service's `sessionAffinity`",
    );
    let text = |name: &str| reader.ingress.text(name).trim().to_owned();
    let name = text("session-cookie-name");
    let name = if name.is_empty() { COOKIE } else { &name };
    keys.push(("cookie", toml_text(name)));
    keys.push(("max_age", toml_text(&duration::format(read_age(reader)))));
    let site = text("session-cookie-samesite").to_ascii_lowercase();
    let site = match site.as_str() {
        "lax" | "strict" | "none" => site.as_str(),
        _ => "off",
    };
    keys.push(("same_site", toml_text(site)));
    match text("session-cookie-secure").as_str() {
        "true" => keys.push(("secure", "true".into())),
        "false" if site != "none" => keys.push(("secure", "false".into())),
        _ => {}
    }
    let path = text("session-cookie-path");
    if path.starts_with('/') {
        keys.push(("path", toml_text(&path)));
    }
    let domain = text("session-cookie-domain");
    if !domain.is_empty() {
        keys.push(("domain", toml_text(&domain)));
    }
    keys
}

/// Maximum age of the cookie; without one it ends with the browser session.
fn read_age(reader: &mut AnnotationReader<'_>) -> Duration {
    let names = ["session-cookie-max-age", "session-cookie-expires"];
    let seconds = names
        .into_iter()
        .find_map(|name| reader.number::<u64>(name));
    Duration::from_secs(seconds.unwrap_or(0)).min(duration::MAX)
}
