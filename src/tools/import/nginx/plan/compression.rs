//! Converts `gzip` and similar directives to `[compression]`, and to routes without compression.

use super::globals::in_effect;
use crate::tools::import::draft::{ConfigDraft, DraftKeys, toml_list, toml_text};
use crate::tools::import::nginx::model::NginxSite;
use crate::tools::import::nginx::scope::{NginxScope, read_size};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::NoticeList;
use crate::tools::import::offered;

const SWITCHES: [&str; 3] = ["gzip", "brotli", "zstd"];

/// Whether responses are compressed in this scope.
fn is_on(scope: &NginxScope<'_>) -> bool {
    SWITCHES.iter().any(|name| scope.value(name) == "on")
}

/// Whether this version can compress.
pub(super) fn is_offered() -> bool {
    offered::has_key("[compression]", "types")
}

/// Disables compression for a route.
pub(super) fn switch_route(site: &NginxSite<'_>, scope: &NginxScope<'_>, keys: &mut DraftKeys) {
    // If it is not enabled anywhere, the section is not written, and this key has no effect.
    if is_offered()
        && !is_on(scope)
        && offered::has_route_key("compression")
        && (scope.last("gzip").is_some() || is_on_below(site.level))
    {
        keys.push(("compression", "false".into()));
    }
}

/// Whether it is enabled on a level, or in a block of it.
fn is_on_below(level: &[NginxDirective]) -> bool {
    level.iter().any(|directive| {
        SWITCHES.contains(&directive.name()) && directive.arg(0) == "on"
            || is_on_below(directive.inner())
    })
}

/// Plans `[compression]`.
pub(super) fn plan_compression(scopes: &[NginxScope<'_>], draft: &mut ConfigDraft) {
    let switched = SWITCHES.iter().flat_map(|name| in_effect(scopes, name));
    let Some(first) = switched.clone().find(|d| d.arg(0) == "on") else {
        return;
    };
    if !is_offered() {
        for directive in switched.filter(|d| d.arg(0) != "off") {
            let notice = directive.refusal("lameduck does not compress: let the app do it");
            draft.notices.push(notice);
        }
        return;
    }
    let Some(scope) = scopes.iter().find(|scope| is_on(scope)) else {
        return;
    };
    let names = [("zstd", "zstd"), ("brotli", "br"), ("gzip", "gzip")];
    let algorithms = names.iter().filter(|(name, _)| scope.value(name) == "on");
    let algorithms: Vec<String> = algorithms.map(|(_, word)| (*word).to_owned()).collect();
    let mut types = vec!["text/html".to_owned()];
    for name in ["gzip_types", "brotli_types", "zstd_types"] {
        for word in scope.all(name).iter().flat_map(|d| d.args()) {
            let word = match word.as_str() {
                "*" => "*/*".to_owned(),
                word => word.to_ascii_lowercase(),
            };
            if !types.contains(&word) && word.contains('/') {
                types.push(word);
            }
        }
    }
    if types.iter().any(|word| word == "*/*") {
        types = vec!["*/*".to_owned()];
    }
    let smallest = scope
        .last("gzip_min_length")
        .and_then(|d| read_size(d.arg(0)))
        .unwrap_or(20);
    draft.compression = vec![
        ("types", toml_list(&types)),
        (
            "min_size",
            toml_text(&crate::config::size::format(smallest)),
        ),
        ("algorithms", toml_list(&algorithms)),
    ];
    let level: Option<u32> = scope.value("gzip_comp_level").parse().ok();
    if let Some(level) = level.filter(|level| (1..=9).contains(level)) {
        draft.compression.push(("gzip_level", level.to_string()));
    }
    if scope.value("gzip_proxied") != "any" {
        draft.notices.tell_difference(
            &first.place,
            format!(
                "`{}`: answers for clients behind other proxies (`Via`) are compressed, too",
                first.line()
            ),
        );
    }
    let others = scopes.iter().filter(|other| is_on(other));
    for name in ["gzip_types", "gzip_min_length", "gzip_comp_level"] {
        for directive in others.clone().filter_map(|other| other.last(name)) {
            if scope
                .last(name)
                .is_none_or(|known| known.args() != directive.args())
            {
                draft
                    .notices
                    .push(directive.refusal("`[compression]` is one for all"));
            }
        }
    }
}
