//! Plan of a location: its action, its changes of requests and responses, and its restrictions of access.

use super::conditions::RequestTest;
use super::fallback::tested_steps;
use super::files::tested_rewrite;
use super::guards::{foreign_content, read_guards};
use super::headers::FieldChanges;
use super::pass_url::{PassUrl, is_raw, keeps_groups};
use super::passing_if::passes_elsewhere;
use super::pools::{PassTarget, PoolBook};
use super::rewrites::{judge_condition, judge_if, narrow_variants};
use super::spread::PassChoice;
use super::targets::read_end;
use super::values::ValueReader;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::pcre::{encode_path, escape_regex};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// Plan of a location.
#[derive(Debug, Clone, Default)]
pub(super) struct LocationPlan {
    /// Keys for its action and changes.
    pub keys: DraftKeys,
    /// Pools that the keys name.
    pub pools: Vec<String>,
    /// Change of the path.
    pub change: PathChange,
    /// Other actions for some of its requests.
    pub variants: Vec<PlanVariant>,
    /// Notices about it.
    pub notices: Vec<ImportNotice>,
    /// Whether it answers 503, because it can't be imported.
    pub is_closed: bool,
    /// Whether nginx adds the final slash there by a redirect.
    pub adds_slash: bool,
}

/// Action for some requests of a location.
#[derive(Debug, Clone)]
pub(super) struct PlanVariant {
    pub test: RequestTest,
    pub keys: DraftKeys,
    pub pools: Vec<String>,
    pub change: PathChange,
}

/// Change of the path for the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum PathChange {
    #[default]
    None,
    /// The path of the location is replaced.
    Replace { from: String, to: String },
    /// The part that matches an expression is replaced.
    Rewrite { regex: String, to: String },
    /// The whole path is replaced.
    Whole(String),
}

impl LocationPlan {
    /// Whether some or all clients are refused.
    pub(super) fn keeps_out(&self) -> bool {
        let guards = ["auth", "allow", "deny"];
        let is_open = |key: &str| ["pool", "split", "files"].contains(&key);
        self.is_closed
            || !self.keys.iter().any(|(key, _)| is_open(key))
            || self.keys.iter().any(|(key, _)| guards.contains(key))
    }

    /// Whether two plans have the same effect.
    pub(super) fn does_the_same(&self, other: &Self) -> bool {
        self.keys == other.keys
            && self.change == other.change
            && self.variants.is_empty()
            && other.variants.is_empty()
    }
}

/// Planner for the locations of a server.
pub(super) struct LocationPlanner<'p, 'a> {
    pub site: &'p NginxSite<'a>,
    pub server: &'p NginxServer<'a>,
    /// Largest body of all places, if they differ.
    pub largest_body: u64,
}

impl<'a> LocationPlanner<'_, 'a> {
    /// Reader for texts in a scope.
    pub(super) fn values<'s>(
        &'s self,
        scope: &'s NginxScope<'a>,
        has_groups: bool,
    ) -> ValueReader<'s, 'a> {
        ValueReader {
            scope,
            server_name: self.server.hosts.first().map(String::as_str),
            has_groups,
            pattern: None,
            exact: None,
        }
    }

    /// A plan that answers 503.
    pub(super) fn closed(&self, book: &mut PoolBook, notice: ImportNotice) -> LocationPlan {
        let pool = book.left_out(self.site);
        LocationPlan {
            keys: vec![("pool", toml_text(&pool))],
            pools: vec![pool],
            notices: vec![notice],
            is_closed: true,
            ..LocationPlan::default()
        }
    }

    /// Plans a location.
    pub(super) fn plan(&self, location: &NginxLocation<'a>, book: &mut PoolBook) -> LocationPlan {
        let is_server = std::ptr::eq(location.directive, self.server.directive);
        let head = match is_server {
            true => "server".to_owned(),
            false => format!("location {}", location.directive.args().join(" ")),
        };
        match self.read(location, &head, book) {
            Ok(plan) => match offered::check_route(&plan.keys, &plan.pools) {
                Ok(()) => plan,
                Err(why) => {
                    let notice =
                        ImportNotice::left_out(&location.directive.place, format!("{head}: {why}"));
                    self.closed(book, notice)
                }
            },
            Err(notice) => self.closed(book, notice),
        }
    }

    fn read(
        &self,
        location: &NginxLocation<'a>,
        head: &str,
        book: &mut PoolBook,
    ) -> Result<LocationPlan, ImportNotice> {
        let scope = &location.scope;
        let inner = self.inner_of(location);
        let refuse = |directive: &NginxDirective, why: &str| {
            let text = format!("{head}: `{}`: {why}", directive.line());
            ImportNotice::left_out(&directive.place, text)
        };
        if location.kind == LocationKind::Regex
            && let Some(nested) = inner.iter().find(|d| d.name() == "location")
        {
            return Err(refuse(
                nested,
                "lameduck reads no locations in one by regular expression",
            ));
        }
        if let Some(directive) = scope.last("internal")
            && offered::has_route_key("respond")
        {
            return Ok(self.plan_internal(location, directive));
        }
        let mut plan = LocationPlan::default();
        plan.notices.extend(inner.iter().filter_map(super::judge));
        let is_regex = location.kind == LocationKind::Regex;
        let values = ValueReader {
            pattern: is_regex.then_some(location.path),
            exact: (location.kind == LocationKind::Exact).then_some(location.path),
            ..self.values(scope, is_regex)
        };
        let mut passing = Vec::new();
        // Rewrites and final responses come before everything else, including restrictions.
        for directive in inner {
            match directive.name() {
                "if" if tested_rewrite(directive).is_some() => {}
                "return" => {
                    let keys = read_end(directive, &values, &mut plan.notices);
                    plan.keys = keys.map_err(|why| refuse(directive, &why))?;
                    self.add_answer_changes(&values, false, &mut plan);
                    let is_bare = |key: &(&str, String)| {
                        key.0 == "respond" && !key.1.contains("body") && !key.1.contains("= 2")
                    };
                    if plan.keys.iter().any(is_bare) {
                        self.add_error_pages(scope, &mut plan);
                    }
                    return Ok(plan);
                }
                "rewrite" => {
                    self.read_rewrite(location, directive, &mut plan)
                        .map_err(|why| refuse(directive, &why))?;
                    if plan.keys.first().is_some_and(|(key, _)| *key == "redirect") {
                        self.add_answer_changes(&values, false, &mut plan);
                        return Ok(plan);
                    }
                }
                // Later directives are not executed.
                "break" => break,
                "if" if tested_steps(directive).is_some() => {}
                "if" if passes_elsewhere(directive) => passing.push(directive),
                "if" => match self
                    .read_if(directive, scope, &values)
                    .and_then(|variants| narrow_variants(location, variants))
                {
                    Ok(variants) => {
                        plan.notices.extend(judge_condition(directive));
                        plan.variants.extend(variants);
                    }
                    Err(why) => plan.notices.extend(judge_if(inner, directive, &why)),
                },
                _ => {}
            }
        }
        let guards = read_guards(self.site, self.server, scope, head)?;
        plan.notices.extend(guards.notices);
        if guards.keys.iter().any(super::guards::is_for_nobody) {
            plan.keys = vec![("respond", "{ status = 403 }".into())];
            plan.adds_slash = pass_of(scope).is_some();
            self.add_answer_changes(&values, false, &mut plan);
            self.add_error_pages(scope, &mut plan);
            return Ok(plan);
        }
        let (mut content, mut content_scope) = (pass_of(scope), scope.clone());
        if let (Some(_), Some(tried)) = (content, scope.own_directive("try_files")) {
            let why =
                "it decides which requests `proxy_pass` gets, and lameduck passes all of them on";
            return Err(refuse(tried, why));
        }
        let mut passed = guards.passed;
        let mut keys = guards.keys;
        let mut files_before = None;
        if content.is_none()
            && let Some(behind) = self.behind_files(location, &values, head)?
        {
            content_scope = behind.scope;
            content = Some(behind.pass);
            passed.extend(behind.passed);
            plan.notices.extend(behind.notices);
            files_before = behind.files;
            let is_new = |(key, _): &(&str, String)| !keys.iter().any(|(known, _)| known == key);
            let of_app: Vec<_> = behind.guards.into_iter().filter(is_new).collect();
            if let (Some(_), Some((key, _))) = (&files_before, of_app.first()) {
                let says =
                    format!("what the app asks of its clients (`{key}`) is asked for files, too");
                plan.notices.push(behind.directive.difference(&says));
            }
            keys.extend(of_app);
        }
        // nginx makes no such redirect if it passes requests elsewhere.
        plan.adds_slash = pass_of(scope).is_some() || foreign_content(inner).is_some();
        let url = content.and_then(|pass| {
            let scope = &content_scope;
            PassUrl::read(pass.arg(0), &self.values(scope, false))
        });
        if let (Some(pass), Some(url)) = (content, &url) {
            let is_own = std::ptr::eq(content_scope.own_level(), scope.own_level());
            let values = ValueReader {
                has_groups: values.has_groups && is_own && keeps_groups(scope),
                scope: &content_scope,
                ..values
            };
            let rewritten = std::mem::take(&mut plan.change);
            if ["/${request_uri}", "/${uri}"]
                .iter()
                .any(|start| url.tail.starts_with(start))
            {
                let says = "the app is asked with one slash where nginx puts two";
                plan.notices.push(pass.difference(says));
            }
            let change = url.change(&values, rewritten, is_raw(location));
            plan.change = change.map_err(|why| refuse(pass, &why))?;
        }
        let choice = url
            .as_ref()
            .and_then(|url| PassChoice::find(self.site, &content_scope, &url.base));
        let mut chosen = Vec::new();
        match (content, choice) {
            (Some(pass), Some(choice)) => {
                let read = self.spread(&choice, pass, &content_scope, book, &mut plan);
                chosen = read.map_err(|why| refuse(pass, &why))?;
            }
            (Some(pass), None) => {
                let base = url.map(|url| url.base);
                self.pass(
                    location,
                    (pass, base),
                    &content_scope,
                    head,
                    book,
                    &mut plan,
                )?;
            }
            (None, _) => self.serve(location, head, &values, &mut plan)?,
        }
        for (n, test) in passing.into_iter().enumerate() {
            let read = match (n, chosen.is_empty()) {
                (0, true) => self.choose_by_if(test, scope, book, &mut plan),
                _ => Err("a second choice of apps".into()),
            };
            match read {
                Ok(more) => chosen.extend(more),
                Err(why) => plan.notices.extend(judge_if(inner, test, &why)),
            }
        }
        self.add_mirror(scope, content.is_some(), book, &mut plan);
        plan.keys.extend(files_before.into_iter().flatten());
        plan.keys.extend(keys);
        self.add_limits(&content_scope, &mut plan);
        if content.is_some() {
            let values = self.values(&content_scope, values.has_groups);
            let changes = FieldChanges::of_requests(&values, &passed);
            let (keys, notices) = changes.into_keys("request_headers");
            plan.keys.extend(keys);
            plan.notices.extend(notices);
        }
        let values = self.values(&content_scope, values.has_groups);
        self.add_answer_changes(&values, content.is_some(), &mut plan);
        self.add_error_pages(&content_scope, &mut plan);
        super::compression::switch_route(self.site, scope, &mut plan.keys);
        super::spread::add_chosen(chosen, &mut plan);
        self.limit_methods(location, head, &mut plan)?;
        Ok(plan)
    }

    fn pass(
        &self,
        location: &NginxLocation<'a>,
        (pass, base): (&'a NginxDirective, Option<String>),
        scope: &NginxScope<'a>,
        head: &str,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let refuse = |why: String| {
            let text = format!("{head}: `{}`: {why}", pass.line());
            ImportNotice::left_out(&pass.place, text)
        };
        let mut fixed = pass.clone();
        if let (Some(base), Some(word)) = (base, fixed.words.get_mut(1)) {
            *word = base;
        }
        let target = PassTarget::read(&fixed).map_err(refuse)?;
        let is_rewritten = plan.change != PathChange::None;
        if let Some(to) = target
            .path
            .as_ref()
            .filter(|to| is_rewritten && *to != location.path)
        {
            let says = format!(
                "where `rewrite` finds nothing, the path stays as it is: nginx puts {to} in it"
            );
            plan.notices.push(pass.difference(&says));
        }
        if let Some(to) = target.path.filter(|_| !is_rewritten) {
            match location.kind {
                _ if !std::ptr::eq(scope.own_level(), location.scope.own_level()) && to != "/" => {
                    return Err(refuse(format!("it puts {to} in the place of the path")));
                }
                LocationKind::Regex | LocationKind::Named => {
                    return Err(refuse(format!("it puts {to} in the place of the path")));
                }
                _ if to == location.path => {}
                _ => {
                    let change = PathChange::Replace {
                        from: location.path.to_owned(),
                        to: to.clone(),
                    };
                    if !offered::has_route_key("rewrite") {
                        return Err(refuse(format!(
                            "it puts {to} in the place of {}, and lameduck passes paths as they are",
                            location.path
                        )));
                    }
                    plan.change = change;
                    if to.ends_with('/') && !location.path.ends_with('/') {
                        let says = "the app is asked with one slash where nginx puts two";
                        plan.notices.push(pass.difference(says));
                    }
                }
            }
        }
        let (pool, more) = book.book(self.site, &fixed, scope).map_err(refuse)?;
        plan.notices.extend(more);
        plan.keys.push(("pool", toml_text(&pool)));
        plan.pools.push(pool);
        Ok(())
    }

    pub(super) fn add_answer_changes(
        &self,
        values: &ValueReader<'_, '_>,
        is_proxied: bool,
        plan: &mut LocationPlan,
    ) {
        let (keys, notices) =
            FieldChanges::of_answers(values, is_proxied).into_keys("response_headers");
        plan.keys.extend(keys);
        plan.notices.extend(notices);
    }

    fn add_limits(&self, scope: &NginxScope<'a>, plan: &mut LocationPlan) {
        let limit = super::globals::body_limit(scope);
        if limit < self.largest_body && offered::has_route_key("max_body") {
            let text = toml_text(&crate::config::size::format(limit));
            plan.keys.push(("max_body", text));
        }
    }

    /// Plans `limit_except`: the action is for some methods, and others get 403.
    fn limit_methods(
        &self,
        location: &NginxLocation<'a>,
        head: &str,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let Some(limit) = location.scope.own_directive("limit_except") else {
            return Ok(());
        };
        let is_deny = matches!(limit.inner(), [only] if only.line() == "deny all");
        let is_spread = plan
            .variants
            .iter()
            .any(|variant| !variant.pools.is_empty());
        if !is_deny || is_spread || !offered::has_route_key("respond") {
            let text = format!(
                "{head}: `{}`: lameduck keeps all others out, or nobody",
                limit.line()
            );
            return Err(ImportNotice::left_out(&limit.place, text));
        }
        let mut methods: Vec<String> = limit.args().to_vec();
        if methods.iter().any(|method| method == "GET")
            && !methods.iter().any(|method| method == "HEAD")
        {
            methods.push("HEAD".into());
        }
        plan.variants.push(PlanVariant {
            test: RequestTest {
                keys: vec![("methods", toml_list(&methods))],
                ..RequestTest::default()
            },
            keys: std::mem::take(&mut plan.keys),
            pools: std::mem::take(&mut plan.pools),
            change: std::mem::take(&mut plan.change),
        });
        plan.keys = vec![("respond", "{ status = 403 }".into())];
        Ok(())
    }
}

impl PathChange {
    /// Value of `rewrite`.
    pub(super) fn rewrite_value(&self) -> String {
        let (regex, to) = match self {
            PathChange::Whole(to) => return toml_text(to),
            PathChange::Rewrite { regex, to } => (regex.clone(), to.clone()),
            PathChange::Replace { from, to } => {
                let regex = format!("^{}(.*)$", escape_regex(&encode_path(from)));
                (
                    regex,
                    format!(
                        "{}$1",
                        to.replace('$', "$$").replace('{', "{{").replace('}', "}}")
                    ),
                )
            }
            PathChange::None => return "\"\"".into(),
        };
        toml_table(&[
            ("regex".to_owned(), toml_text(&regex)),
            ("to".to_owned(), toml_text(&to)),
        ])
    }
}

/// Removes the request's path: `http://app$request_uri` becomes `http://app`.
pub(super) fn trim_request(url: &str) -> &str {
    let endings = [
        "$request_uri",
        "$uri$is_args$args",
        "/$uri$is_args$args",
        "$uri",
    ];
    endings
        .iter()
        .find_map(|end| url.strip_suffix(end))
        .unwrap_or(url)
}

/// Directive that passes requests on in a scope.
pub(super) fn pass_of<'a>(scope: &NginxScope<'a>) -> Option<&'a NginxDirective> {
    scope
        .own_directive("proxy_pass")
        .or_else(|| scope.own_directive("grpc_pass"))
}
