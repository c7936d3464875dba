//! `[[route]]`: conditions of routes, and checks in combination.
//!
//! - Conditions: [`spelling`] has hosts and paths in the form in which they are compared, [`conditions`] the other
//!   conditions, [`regexes`] regular expressions.
//! - Access and rates: [`guards`], with [`certificates`] and [`authentication`].
//! - Targets: [`sharing`] distributes over pools, [`shared_sessions`] checks sticky pools with the same clients.
//! - Changes: [`template`] has texts with placeholders.
//! - [`shown`]: how a route is shown.

mod actions;
mod authentication;
mod certificates;
mod conditions;
mod field_rules;
mod guards;
mod regexes;
mod rewrite;
mod shared_sessions;
mod sharing;
mod shown;
mod spelling;
mod template;

pub(super) use actions::{read_media_type, read_redirect_status};
pub use authentication::ForwardAddress;
pub(super) use authentication::{copied_name, forward_address, realm};
pub use certificates::CertificateDemand;
pub(super) use certificates::CertificateForm;
pub use conditions::{FieldMatch, TextMatch};
pub(super) use conditions::{FieldMatches, MatchedPlace, read_method, read_regex};
pub use field_rules::FieldRule;
pub(crate) use field_rules::MAX_RULES;
pub(super) use field_rules::{FieldRules, MessageSide, RemovedFields};
pub(super) use guards::{ConnectionForm, limit_key, read_request_key, request_rate};
pub use guards::{ConnectionLimit, LimitKey, RequestRate};
pub use regexes::{compile_regex, compile_regexes};
pub use rewrite::PathRewrite;
pub(super) use rewrite::RewriteForm;
pub use sharing::{MOST_WEIGHT, MirrorConfig, SplitKey, SplitShare};
pub(super) use sharing::{MirrorForm, SplitShares, print_split_key, read_split_key};
pub(super) use shown::AskedOfRequest;
pub use shown::MatchedPath;
pub(crate) use spelling::MAX_PREFIX;
pub(super) use spelling::{HostList, read_path, read_prefix};
pub use template::{Placeholder, TemplatePiece, TextTemplate};
pub(super) use template::{TemplateForm, TemplateUse};

use super::reader::ConfigFindings;
use super::{Config, PoolConfig, Route, TryStep};
use std::collections::{HashMap, HashSet};

/// The keys for conditions of a route, without its host.
pub(super) const MATCHERS: [&str; 9] = [
    "path",
    "path_prefix",
    "path_regex",
    "methods",
    "headers",
    "query",
    "cookies",
    "clients",
    "listeners",
];

/// Whether a key of `[[route]]` is a condition.
pub(super) fn is_matcher(key: &str) -> bool {
    key == "host" || MATCHERS.contains(&key)
}

/// Checks that the listeners that a route names exist.
fn validate_listeners(config: &Config, i: usize, f: &mut ConfigFindings) {
    let key = format!("route[{i}].listeners");
    if config.routes[i].listeners.is_empty()
        || !f.sound(&[&key, "listener"])
        || !(0..config.listeners.len()).all(|n| f.sound(&[&format!("listener[{n}].address")]))
    {
        return;
    }
    let there: Vec<_> = (config.listeners.iter())
        .map(|listener| &listener.address)
        .collect();
    for address in &config.routes[i].listeners {
        if !there.contains(&address) {
            let known: Vec<_> = there.iter().map(|at| format!("\"{at}\"")).collect();
            f.error(
                f.place(&key),
                format!("there is no listener at \"{address}\""),
                format!(
                    "write the `address` of a [[listener]]: {}",
                    known.join(" or ")
                ),
            );
        }
    }
}

/// Checks the routes against the pools.
pub(super) fn validate(config: &Config, f: &mut ConfigFindings) {
    guards::validate_guards(config, f);
    let names_sound = (0..config.pools.len()).all(|i| f.sound(&[&format!("pool[{i}].name")]))
        && f.sound(&["pool"]);
    let names: HashSet<&str> = config.pools.iter().map(|pool| &*pool.name).collect();
    // The first route for each host and set of conditions, and of each name.
    let (mut first, mut named) = (HashMap::new(), HashMap::new());
    for (i, route) in config.routes.iter().enumerate() {
        let at = |key: &str| format!("route[{i}].{key}");
        let pool = at("pool");
        one_action(route, i, f);
        actions::validate(route, i, f);
        if let Some(name) = &route.pool
            && names_sound
            && f.sound(&[&pool])
            && !names.contains(&**name)
        {
            f.error(
                f.place(&pool),
                format!("there is no pool \"{name}\""),
                other_pool(name, &config.pools),
            );
        }
        shared_out(route, i, names_sound.then_some(&names), &config.pools, f);
        if let Some(name) = &route.name
            && f.sound(&[&at("name")])
        {
            let j = *named.entry(&**name).or_insert(i);
            if j != i {
                let first = f.place(&format!("route[{j}].name"));
                f.error(
                    f.place(&at("name")),
                    format!("two routes have the name \"{name}\""),
                    "give one of them another name",
                )
                .also(first, "the other one");
            }
        }
        validate_listeners(config, i, f);
        let matchers = MATCHERS.map(at);
        if !f.sound(&[&at("host")]) || !f.sound(&matchers.each_ref().map(|key| &**key)) {
            continue;
        }
        one_path(route, i, f);
        for host in route.each_host() {
            let j = *first.entry((host, route.asked())).or_insert(i);
            if j != i {
                let first = f.place(&format!("route[{j}]"));
                let remedy = match route.is_plain() {
                    true => "remove one of them, or change its `host` or `path_prefix`",
                    false => "remove one of them, or change what it matches",
                };
                f.error(
                    f.place(&format!("route[{i}]")),
                    format!("two routes match {}", route.shown_for(host)),
                    remedy,
                )
                .also(first, "the other one");
                break;
            }
        }
    }
    // If a route leads nowhere, or two pools have the same name, further errors would only repeat that.
    if !names_sound
        || !f.sound(&["route"])
        || names.len() != config.pools.len()
        || !config
            .routes
            .iter()
            .all(|route| route.each_pool().all(|pool| names.contains(pool)))
        || !(0..config.routes.len()).all(|i| {
            let at = |key: &str| format!("route[{i}].{key}");
            f.sound(&[&at("split"), &at("mirror")])
        })
    {
        return;
    }
    if config.routes.is_empty() && config.pools.len() > 1 {
        f.error(
            f.place("pool[1]"),
            format!(
                "there are {} pools and no [[route]]: which one is a request for?",
                config.pools.len()
            ),
            "add a [[route]] with `pool`, and a `host` or `path_prefix`, for each pool",
        );
    } else if !config.routes.is_empty() {
        let routed: HashSet<&str> = config.routes.iter().flat_map(Route::each_pool).collect();
        for (i, pool) in config.pools.iter().enumerate() {
            if !routed.contains(&*pool.name) {
                f.warning(
                    f.place(&format!("pool[{i}].name")),
                    format!(
                        "no route leads to pool \"{}\": it gets no request",
                        pool.name
                    ),
                    format!(
                        "add a [[route]] with `pool = \"{}\"`, or remove the pool",
                        pool.name
                    ),
                );
            }
        }
    }
    shared_sessions::validate_sessions(config, f);
}

/// The action keys, of which a route has one.
const ACTIONS: [&str; 5] = ["pool", "split", "redirect", "respond", "files"];

/// Checks that a route has one action.
fn one_action(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].{key}");
    if !f.sound(&ACTIONS.map(at).each_ref().map(|key| &**key)) {
        return;
    }
    match route.actions()[..] {
        // Requests for which there is no file go to the pool.
        [pools @ ("pool" | "split"), "files"] | ["files", pools @ ("pool" | "split")] => {
            never_asked(route, (i, pools), f);
        }
        [] => {
            f.error(
                f.place(&format!("route[{i}]")),
                "a route without an action: nobody answers its requests",
                "add `pool` with the name of a pool, or one of `split`, `redirect`, `respond` and `files`",
            );
        }
        [_] => {}
        [one, other, ..] => {
            let first = f.place(&at(one));
            f.error(
                f.place(&at(other)),
                format!("a route has `{one}` or `{other}`, and not both"),
                "remove one of them",
            )
            .also(first, "the other one");
        }
    }
}

/// Reports `files` whose last step is a status code, beside a pool.
fn never_asked(route: &Route, (i, pools): (usize, &str), f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].{key}");
    let last = route.files.as_ref().and_then(|files| files.steps.last());
    if matches!(last, Some(TryStep::Status(_))) && f.sound(&[&at("files.try")]) {
        let also = f.place(&at(pools));
        f.error(
            f.place(&at("files.try")),
            format!("`try` ends with a status: what is no file would never go to `{pools}`"),
            format!("remove the status, or `{pools}`"),
        )
        .also(also, "this is for what is no file");
    }
}

/// Checks the pools of `split` and `mirror`, and the two in combination. `names`: the names of all pools.
fn shared_out(
    route: &Route,
    i: usize,
    names: Option<&HashSet<&str>>,
    pools: &[PoolConfig],
    f: &mut ConfigFindings,
) {
    let at = |key: &str| format!("route[{i}].{key}");
    let mirrored = route.mirror.iter().map(|mirror| ("mirror", &mirror.pool));
    let split = route.split.iter().map(|share| ("split", &share.pool));
    for (key, name) in split.chain(mirrored) {
        if names.is_some_and(|names| !names.contains(&**name)) && f.sound(&[&at(key)]) {
            f.error(
                f.place(&at(key)),
                format!("`{key}` names the pool \"{name}\", which there is not"),
                other_pool(name, pools),
            );
        }
    }
    if route.split_on != SplitKey::Request && route.split.is_empty() && f.sound(&[&at("split")]) {
        f.error(
            f.place(&at("split_on")),
            "`split_on` says how a `split` chooses, and this route has none",
            "add `split = { … }`, or remove `split_on`",
        );
    }
    let Some(mirror) = &route.mirror else { return };
    if !f.sound(&[&at("mirror"), &at("split"), &at("pool")]) {
        return;
    }
    let mut answering = route
        .split
        .iter()
        .map(|share| &share.pool)
        .chain(&route.pool);
    if answering.any(|pool| *pool == mirror.pool) {
        f.error(
            f.place(&at("mirror")),
            format!(
                "the pool \"{}\" answers the route's requests, and would get copies of them, too",
                mirror.pool
            ),
            "write the name of another pool",
        );
    }
}

/// Checks that a route has only one condition on the path.
fn one_path(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].{key}");
    let is_prefix = route.path_prefix != "/";
    let other = match (&route.path, is_prefix, &route.path_regex) {
        (Some(_), true, _) => "path_prefix",
        (Some(_), _, Some(_)) => "path_regex",
        (None, true, Some(_)) => "path_regex",
        _ => return,
    };
    let one = if route.path.is_some() {
        "path"
    } else {
        "path_prefix"
    };
    let first = f.place(&at(one));
    f.error(
        f.place(&at(other)),
        format!("a route has `{one}` or `{other}`, and not both"),
        "remove one of them, or make it two routes",
    )
    .also(first, "the other one");
}

/// Most pools that are compared with a wrong name: comparing very many would take longer than it helps.
const ADVISED: usize = 100;

/// Returns what to write instead of a pool that does not exist.
fn other_pool(wrong: &str, pools: &[PoolConfig]) -> String {
    let names = || pools.iter().take(ADVISED).map(|pool| pool.name.as_str());
    if let Some(near) = super::suggest::nearest(wrong, names()) {
        return format!("did you mean \"{near}\"?");
    }
    match pools.len() {
        0 => "add the [[pool]]".into(),
        1..=LISTED => {
            let all: Vec<_> = names().collect();
            format!("the pools are \"{}\"", all.join("\", \""))
        }
        many => format!("write the name of one of the {many} pools"),
    }
}

/// Most pools that are all listed.
const LISTED: usize = 20;
