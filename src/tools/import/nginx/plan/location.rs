//! What a location does with a request: its action, what happens on the way, and who is kept out.

use super::conditions::RequestTest;
use super::fallback::tested_steps;
use super::files::{FilesEnd, read_files};
use super::guards::{contentless, foreign_content, read_guards};
use super::headers::FieldChanges;
use super::pools::{PassTarget, PoolBook};
use super::rewrites::judge_if;
use super::spread::PassChoice;
use super::targets::read_end;
use super::values::ValueReader;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::pcre::escape_regex;
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// What becomes of a location.
#[derive(Debug, Clone, Default)]
pub(super) struct LocationPlan {
    /// Its action, and what happens on the way.
    pub keys: DraftKeys,
    /// The pools that they name.
    pub pools: Vec<String>,
    /// How the path changes.
    pub change: PathChange,
    /// What some of its requests get instead.
    pub variants: Vec<PlanVariant>,
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Whether it answers 503, because it can't be carried over.
    pub is_closed: bool,
    /// Whether nginx sends who leaves out its last slash there.
    pub adds_slash: bool,
}

/// What some of a location's requests get.
#[derive(Debug, Clone)]
pub(super) struct PlanVariant {
    pub test: RequestTest,
    pub keys: DraftKeys,
    pub pools: Vec<String>,
    pub change: PathChange,
}

/// Another path for the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum PathChange {
    #[default]
    None,
    /// The location's path is replaced.
    Replace { from: String, to: String },
    /// What an expression fits is.
    Rewrite { regex: String, to: String },
}

impl LocationPlan {
    /// Whether requests get the same by both.
    pub(super) fn does_the_same(&self, other: &Self) -> bool {
        self.keys == other.keys
            && self.change == other.change
            && self.variants.is_empty()
            && other.variants.is_empty()
    }
}

/// What plans the locations of a server.
pub(super) struct LocationPlanner<'p, 'a> {
    pub site: &'p NginxSite<'a>,
    pub server: &'p NginxServer<'a>,
    /// The largest body of all places, if places differ.
    pub largest_body: u64,
}

impl<'a> LocationPlanner<'_, 'a> {
    /// Reads the texts of a place.
    pub(super) fn values<'s>(
        &'s self,
        scope: &'s NginxScope<'a>,
        has_groups: bool,
    ) -> ValueReader<'s, 'a> {
        ValueReader {
            scope,
            server_name: self.server.hosts.first().map(String::as_str),
            has_groups,
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

    /// What becomes of a location.
    pub(super) fn plan(&self, location: &NginxLocation<'a>, book: &mut PoolBook) -> LocationPlan {
        let head = format!("location {}", location.directive.args().join(" "));
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
        let inner = location.directive.inner();
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
        if let Some(directive) = scope.own("internal")
            && offered::has_route_key("respond")
        {
            return Ok(self.hide(location, directive));
        }
        let mut plan = LocationPlan::default();
        plan.notices.extend(inner.iter().filter_map(super::judge));
        let values = self.values(scope, location.kind == LocationKind::Regex);
        // What is rewritten or ended comes before everything else, guards included.
        for directive in inner {
            match directive.name() {
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
                "if" if tested_steps(directive).is_some() => {}
                "if" => match self.read_if(directive, scope, &values) {
                    Ok(variants) => {
                        plan.notices.extend(super::rewrites::judge_trust(directive));
                        plan.variants.extend(variants);
                    }
                    Err(why) => plan.notices.extend(judge_if(directive, &why)),
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
        // What passes on elsewhere makes no such redirect.
        plan.adds_slash = pass_of(scope).is_some() || foreign_content(inner).is_some();
        let choice = content.and_then(|pass| PassChoice::find(self.site, &content_scope, pass));
        let mut chosen = Vec::new();
        match (content, choice) {
            (Some(pass), Some(choice)) => {
                let read = self.spread(&choice, pass, &content_scope, book, &mut plan);
                chosen = read.map_err(|why| refuse(pass, &why))?;
            }
            (Some(pass), None) => {
                self.pass(location, pass, &content_scope, head, book, &mut plan)?;
            }
            (None, _) => self.serve(location, head, &values, &mut plan)?,
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
        super::compression::switch_route(scope, &mut plan.keys);
        super::spread::add_chosen(chosen, &mut plan);
        self.limit_methods(location, head, &mut plan)?;
        Ok(plan)
    }

    fn pass(
        &self,
        location: &NginxLocation<'a>,
        pass: &'a NginxDirective,
        scope: &NginxScope<'a>,
        head: &str,
        book: &mut PoolBook,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let refuse = |why: String| {
            let text = format!("{head}: `{}`: {why}", pass.line());
            ImportNotice::left_out(&pass.place, text)
        };
        let values = self.values(scope, false);
        let url = values
            .read_fixed(trim_request(pass.arg(0)))
            .map_err(|_| refuse("its address has variables: lameduck's pools are fixed".into()))?;
        let mut fixed = pass.clone();
        if let Some(word) = fixed.words.get_mut(1) {
            *word = url;
        }
        let target = PassTarget::read(&fixed).map_err(refuse)?;
        if let Some(to) = target.path.filter(|_| plan.change == PathChange::None) {
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
                }
            }
        }
        let (pool, more) = book.book(self.site, &fixed, scope).map_err(refuse)?;
        plan.notices.extend(more);
        plan.keys.push(("pool", toml_text(&pool)));
        plan.pools.push(pool);
        Ok(())
    }

    fn serve(
        &self,
        location: &NginxLocation<'a>,
        head: &str,
        values: &ValueReader<'_, '_>,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let inner = location.directive.inner();
        let is_known = inner
            .iter()
            .all(|d| super::row_of(d.name()).is_some() || d.block.is_some());
        if foreign_content(inner).is_some() || !is_known || !offered::has_route_key("files") {
            return Err(contentless(location, head));
        }
        let scope = &location.scope;
        let names = ["root", "alias", "try_files"];
        if names.iter().all(|name| scope.last(name).is_none()) {
            plan.keys.push(("respond", "{ status = 404 }".into()));
            let says = format!("{head}: there is no `root`: 404, and no directory of nginx's own");
            let place = &location.directive.place;
            plan.notices.push(ImportNotice::differs(place, says));
            return Ok(());
        }
        let files = read_files(location, values, FilesEnd::Here).map_err(|why| {
            ImportNotice::left_out(&location.directive.place, format!("{head}: {why}"))
        })?;
        plan.keys.extend(files.keys);
        plan.notices.extend(files.notices);
        // nginx looks for the location of the last word anew.
        let tried = location.scope.last("try_files");
        let last = tried.and_then(|tried| tried.args().last());
        if let (Some(tried), Some(last)) = (tried, last)
            && let Some(other) = self.location_of(last)
            && !std::ptr::eq(other.directive, location.directive)
        {
            let says = format!(
                "{last} is sent as of this place; in nginx it has what `{}` says",
                other.directive.line()
            );
            plan.notices.push(tried.difference(&says));
        }
        if let Some(from) = files.stripped {
            plan.change = PathChange::Replace {
                from,
                to: "/".into(),
            };
        }
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

    /// `limit_except`: the action is for some methods, and the others get 403.
    fn limit_methods(
        &self,
        location: &NginxLocation<'a>,
        head: &str,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let Some(limit) = location.scope.own("limit_except") else {
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
    /// As the value of `rewrite`.
    pub(super) fn rewrite_value(&self) -> String {
        let (regex, to) = match self {
            PathChange::Rewrite { regex, to } => (regex.clone(), to.clone()),
            PathChange::Replace { from, to } => {
                let regex = format!("^{}(.*)$", escape_regex(from));
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

/// `http://app$request_uri` is `http://app`.
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

/// What passes requests on at a place.
pub(super) fn pass_of<'a>(scope: &NginxScope<'a>) -> Option<&'a NginxDirective> {
    scope.own("proxy_pass").or_else(|| scope.own("grpc_pass"))
}
