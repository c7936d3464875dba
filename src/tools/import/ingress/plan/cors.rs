//! Converts `enable-cors`: preflight requests get routes of their own, and other responses get header fields.

use super::settings::{AnnotationReader, plain_text};
use crate::tools::import::nginx::pcre::escape_regex;

/// Defaults of ingress-nginx.
const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE: &str = "1728000";

/// Allowed origins, and header fields for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorsRules {
    /// Allowed origins; `None`: all.
    pub origins: Option<String>,
    /// Fields of responses to preflight requests.
    pub preflight: Vec<(String, String)>,
    /// Fields of all other responses.
    pub answer: Vec<(String, String)>,
}

/// Reads the rules, if CORS is enabled.
pub(super) fn read_cors(reader: &mut AnnotationReader<'_>) -> Option<CorsRules> {
    if !reader.ingress.is_on("enable-cors") {
        return None;
    }
    let text = |name: &str, usual: &str| match reader.ingress.text(name) {
        "" => usual.to_owned(),
        text => plain_text(text),
    };
    let listed = text("cors-allow-origin", "*");
    let origins: Vec<&str> = listed
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .collect();
    let any = origins.contains(&"*");
    let field = |name: &str, value: String| (format!("Access-Control-{name}"), value);
    let mut answer = vec![field(
        "Allow-Origin",
        if any {
            "*".into()
        } else {
            "{header.Origin}".into()
        },
    )];
    if text("cors-allow-credentials", "true") == "true" {
        answer.push(field("Allow-Credentials", "true".into()));
    }
    let mut preflight = answer.clone();
    let exposed = text("cors-expose-headers", "");
    if !exposed.is_empty() {
        answer.push(field("Expose-Headers", exposed));
    }
    preflight.push(field("Allow-Methods", text("cors-allow-methods", METHODS)));
    preflight.push(field("Allow-Headers", text("cors-allow-headers", HEADERS)));
    preflight.push(field("Max-Age", text("cors-max-age", MAX_AGE)));
    Some(CorsRules {
        origins: (!any).then(|| {
            let patterns: Vec<_> = origins
                .iter()
                .map(|origin| origin_pattern(origin))
                .collect();
            format!("(?i)^(?:{})$", patterns.join("|"))
        }),
        preflight,
        answer,
    })
}

/// Pattern for an origin; `https://*.example.org` stands for one more label.
fn origin_pattern(origin: &str) -> String {
    let parts: Vec<_> = origin.split('*').map(escape_regex).collect();
    parts.join("[a-z0-9-]+")
}
