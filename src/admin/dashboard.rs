//! The dashboard: one page at `/`, with its style sheet and scripts. The page contains code only: all data comes from
//! the API, with the token that the user enters.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

use super::AdminState;

/// Content security policy: no external or inline content, no frames, no forms, and requests to this address only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file of the page: its path, media type and content.
type PageFile = (&'static str, &'static str, &'static str);

const FILES: [PageFile; 8] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("dashboard/page.html"),
    ),
    (
        "/dashboard/style.css",
        "text/css; charset=utf-8",
        include_str!("dashboard/style.css"),
    ),
    (
        "/dashboard/page.js",
        "text/javascript; charset=utf-8",
        include_str!("dashboard/page.js"),
    ),
    (
        "/dashboard/parts.js",
        "text/javascript; charset=utf-8",
        include_str!("dashboard/parts.js"),
    ),
    (
        "/dashboard/views.js",
        "text/javascript; charset=utf-8",
        include_str!("dashboard/views.js"),
    ),
    (
        "/dashboard/actions.js",
        "text/javascript; charset=utf-8",
        include_str!("dashboard/actions.js"),
    ),
    (
        "/dashboard/restarts.js",
        "text/javascript; charset=utf-8",
        include_str!("dashboard/restarts.js"),
    ),
    (
        "/dashboard/icon.svg",
        "image/svg+xml",
        include_str!("dashboard/icon.svg"),
    ),
];

/// Returns the paths of the page's files.
pub(super) fn paths() -> Vec<(&'static str, MethodRouter<AdminState>)> {
    let files = FILES.into_iter();
    files
        .map(|file @ (path, ..)| (path, get(move || async move { answer(file) })))
        .collect()
}

/// Returns whether a path belongs to the page. Every client may read its files: they contain no data of this proxy.
pub(super) fn is_page(path: &str) -> bool {
    FILES.iter().any(|(known, ..)| *known == path)
}

fn answer((_, kind, content): PageFile) -> impl IntoResponse {
    let fixed = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    let fields = [
        fixed(header::CONTENT_TYPE, kind),
        fixed(header::CONTENT_SECURITY_POLICY, POLICY),
        fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        fixed(header::X_FRAME_OPTIONS, "DENY"),
        fixed(header::REFERRER_POLICY, "no-referrer"),
        fixed(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        fixed(
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        // A cached page of another version might not match the API.
        fixed(header::CACHE_CONTROL, "no-store"),
    ];
    (fields, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_nothing_but_its_own_files() {
        let (_, _, page) = FILES[0];
        for (attribute, path) in [("src=\"", "src"), ("href=\"", "href")] {
            for found in page.split(attribute).skip(1) {
                let target = found.split('"').next().unwrap();
                assert!(
                    is_page(target) || target.starts_with('#'),
                    "{path} of {target}"
                );
            }
        }
        for (name, _, content) in FILES {
            let own = content.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !own.contains("http://") && !own.contains("https://"),
                "{name}"
            );
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!content.contains(forbidden), "{name}: {forbidden}");
            }
        }
        for inline in ["<script>", "<style", "style=", "onclick", "onload"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
