//! Why a location is left out as a whole: somebody is kept out of it, or lameduck does not speak its contents.

use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// Contents that lameduck doesn't speak.
const FOREIGN_CONTENTS: [&str; 16] = [
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "js_content",
    "content_by_lua_block",
    "content_by_lua_file",
    "perl",
    "mp4",
    "flv",
    "hls",
    "stub_status",
    "status",
    "api",
    "empty_gif",
    "dav_methods",
];

/// What must not be left open: a place that somebody is kept out of.
pub(super) fn guard(scope: &NginxScope<'_>, head: &str) -> Option<ImportNotice> {
    let refuse = |directive: &NginxDirective, why: &str| {
        Some(ImportNotice::left_out(
            &directive.place,
            format!("{head}: `{}`: {why}", directive.line()),
        ))
    };
    for name in ["auth_basic", "auth_request", "auth_jwt"] {
        if let Some(directive) = scope.last(name).filter(|d| d.arg(0) != "off") {
            return refuse(directive, "lameduck asks nobody for credentials");
        }
    }
    for name in ["deny", "allow"] {
        if let Some(directive) = scope
            .all(name)
            .into_iter()
            .find(|d| (name, d.arg(0)) != ("allow", "all"))
        {
            return refuse(
                directive,
                "lameduck has no lists of addresses that may come",
            );
        }
    }
    for (name, why) in [
        ("internal", "it is not for clients"),
        ("limit_except", "lameduck looks at no methods"),
        ("return", "lameduck has no redirects and fixed answers"),
        ("rewrite", "lameduck passes paths as they are"),
    ] {
        if let Some(directive) = scope.own(name) {
            return refuse(directive, why);
        }
    }
    for (name, off) in [
        ("proxy_method", ""),
        ("proxy_set_body", ""),
        ("proxy_pass_request_body", "on"),
        ("proxy_pass_request_headers", "on"),
    ] {
        if let Some(directive) = scope.last(name).filter(|d| d.arg(0) != off) {
            return refuse(directive, "lameduck passes requests as they are");
        }
    }
    None
}

/// Why a location without `proxy_pass` is left out.
pub(super) fn contentless(location: &NginxLocation<'_>, head: &str) -> ImportNotice {
    let inner = location.directive.inner();
    let foreign = inner.iter().find(|d| FOREIGN_CONTENTS.contains(&d.name()));
    if let Some(directive) = foreign {
        let text = format!("{head}: `{}`: lameduck speaks HTTP only", directive.line());
        return ImportNotice::left_out(&directive.place, text);
    }
    let unknown = inner.iter().find(|d| super::row_of(d.name()).is_none());
    let files = ["alias", "try_files", "root"]
        .into_iter()
        .find_map(|name| location.scope.last(name));
    match (unknown, files) {
        (Some(directive), _) => ImportNotice::left_out(
            &directive.place,
            format!("{head}: `{}`: lameduck does not know it", directive.line()),
        ),
        (None, Some(directive)) => ImportNotice::left_out(
            &location.directive.place,
            format!("{head}: `{}`: lameduck serves no files", directive.line()),
        ),
        (None, None) => ImportNotice::left_out(
            &location.directive.place,
            format!("{head}: lameduck serves no files"),
        ),
    }
}
