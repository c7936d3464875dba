//! Paths that only nginx itself requests: `error_page`, and locations with `internal`.

use std::path::Path;

use super::guards::foreign_content;
use super::location::{LocationPlan, LocationPlanner, pass_of};
use super::routes::contains;
use crate::tools::import::draft::{toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::pcre::{encode_path, translate_path_regex};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

impl<'a> LocationPlanner<'_, 'a> {
    /// Plans a location with `internal`: clients get 404.
    pub(super) fn plan_internal(
        &self,
        location: &NginxLocation<'a>,
        directive: &NginxDirective,
    ) -> LocationPlan {
        let mut plan = LocationPlan {
            keys: vec![("respond", "{ status = 404 }".into())],
            ..LocationPlan::default()
        };
        let users = ["error_page", "auth_request", "mirror", "try_files", "index"];
        if !leads_to(self.server.directive.inner(), &users, location.path)
            && !leads_to(self.site.level, &users, location.path)
        {
            let says = "the `X-Accel-Redirect` of an app does not lead here";
            plan.notices.push(directive.refusal(says));
        }
        let values = self.values(&location.scope, false);
        self.add_answer_changes(&values, false, &mut plan);
        self.add_error_pages(&location.scope, &mut plan);
        plan
    }

    /// Adds error pages for `error_page` with a file.
    pub(super) fn add_error_pages(&self, scope: &NginxScope<'a>, plan: &mut LocationPlan) {
        let pages = scope.all("error_page");
        if pages.is_empty() || !offered::has_route_key("error_pages") {
            plan.notices.extend(
                pages
                    .iter()
                    .map(|page| page.refusal("lameduck has no error pages")),
            );
            return;
        }
        let mut fields: Vec<(String, String)> = Vec::new();
        for page in pages {
            let words = page.args();
            let codes = words
                .iter()
                .take_while(|word| word.bytes().all(|b| b.is_ascii_digit()));
            let codes: Vec<&String> = codes.collect();
            let rest = &words[codes.len()..];
            let [uri] = rest else {
                plan.notices
                    .push(page.refusal("only pages that keep the status are carried over"));
                continue;
            };
            let Some(file) = self.file_of(uri) else {
                plan.notices
                    .push(page.refusal("only pages that are files are carried over"));
                continue;
            };
            // If not even the directory exists, the import runs on another machine.
            let path = Path::new(&file);
            if path.parent().is_some_and(Path::is_dir) && !path.is_file() {
                plan.notices
                    .push(page.refusal("there is no such file, and so nginx answers 404"));
                continue;
            }
            self.tell_page_fields(page, uri, scope, plan);
            let new: Vec<_> = codes
                .iter()
                .map(|code| ((*code).clone(), toml_text(&file)))
                .collect();
            match offered::check_key("error_pages", &toml_table(&new)) {
                Ok(()) => fields.extend(new),
                Err(why) => plan.notices.push(page.refusal(&why)),
            }
        }
        fields.sort();
        fields.dedup_by(|a, b| a.0 == b.0);
        if !fields.is_empty() {
            plan.keys.push(("error_pages", toml_table(&fields)));
            if scope.value("proxy_intercept_errors") == "on" && offered::has_route_key("intercept")
            {
                plan.keys.push(("intercept", "true".into()));
                let directive = scope.last("proxy_intercept_errors");
                let says = "answers to HEAD pass as the app gives them";
                plan.notices
                    .extend(directive.map(|directive| directive.difference(says)));
            }
        }
    }

    /// Reports that in nginx an error page has the header fields of its own location.
    fn tell_page_fields(
        &self,
        page: &NginxDirective,
        uri: &str,
        scope: &NginxScope<'a>,
        plan: &mut LocationPlan,
    ) {
        let Some(location) = self.answering(uri) else {
            return;
        };
        let fields = |scope: &NginxScope<'a>| -> Vec<String> {
            let all = scope.all("add_header").into_iter();
            let all = all.chain(scope.all("more_set_headers"));
            let expires = scope.last("expires").filter(|d| d.arg(0) != "off");
            let expires = expires.map(|d| format!("Cache-Control, Expires {}", d.arg(0)));
            all.map(|d| d.args().join(" ")).chain(expires).collect()
        };
        let (here, there) = (fields(scope), fields(&location.scope));
        let mut differ: Vec<_> = here.iter().filter(|f| !there.contains(f)).collect();
        differ.extend(there.iter().filter(|f| !here.contains(f)));
        if !differ.is_empty() {
            let names: Vec<_> = differ.iter().map(|f| f.as_str()).collect();
            let says = format!(
                "the page has the fields of this place, and not those of `{}`: {}",
                location.directive.line(),
                names.join("; ")
            );
            plan.notices.push(page.difference(&says));
        }
    }

    /// Location for a path that nginx itself requests, without regular expressions.
    pub(super) fn location_of(&self, uri: &str) -> Option<&NginxLocation<'a>> {
        let is_fit = |location: &&NginxLocation<'_>| match location.kind {
            LocationKind::Exact | LocationKind::Named => location.path == uri,
            LocationKind::Prefix | LocationKind::FirmPrefix => uri.starts_with(location.path),
            LocationKind::Regex => false,
        };
        let locations = self.server.locations.iter();
        locations
            .filter(is_fit)
            .max_by_key(|l| (l.kind == LocationKind::Exact, l.path.len()))
    }

    /// Location that answers a path that nginx itself requests.
    pub(super) fn answering(&self, uri: &str) -> Option<&NginxLocation<'a>> {
        let prefix = self.location_of(uri);
        let is_last = |kind| [LocationKind::Exact, LocationKind::FirmPrefix].contains(&kind);
        if prefix.is_some_and(|prefix| is_last(prefix.kind)) {
            return prefix;
        }
        let level = self.server.directive.inner();
        let is_outer = |location: &NginxLocation<'_>| {
            level.iter().any(|d| std::ptr::eq(d, location.directive))
        };
        let fits = |location: &&NginxLocation<'_>| {
            let is_caseless = location.directive.arg(0).starts_with("~*");
            location.kind == LocationKind::Regex
                && translate_path_regex(location.path, is_caseless).is_ok_and(|r| {
                    regex::Regex::new(&r).is_ok_and(|r| r.is_match(&encode_path(uri)))
                })
        };
        let inner = |location: &&NginxLocation<'_>| {
            prefix.is_some_and(|prefix| contains(prefix.directive, location.directive))
        };
        let locations = || self.server.locations.iter().filter(fits);
        let nested = locations().find(inner);
        nested
            .or_else(|| locations().find(|location| is_outer(location)))
            .or(prefix)
    }

    /// Names of `index` that are files of a location, with notices for the others: nginx searches the location again
    /// for each name.
    pub(super) fn index_of(
        &self,
        location: &NginxLocation<'a>,
        notices: &mut Vec<ImportNotice>,
    ) -> Vec<String> {
        let written = location.scope.all("index");
        let mut names: Vec<String> = written.iter().flat_map(|d| d.args().to_vec()).collect();
        if names.is_empty() {
            names.push("index.html".to_owned());
        }
        let directory = match location.kind {
            LocationKind::Prefix | LocationKind::FirmPrefix => location.path.trim_end_matches('/'),
            _ => "",
        };
        let tried = location.scope.own_directive("try_files");
        let has_step = tried.is_none_or(|d| d.args().iter().any(|step| step.ends_with('/')));
        let can_be_directory = match location.kind {
            LocationKind::Exact => location.path.ends_with('/'),
            LocationKind::Regex => !location.path.ends_with('$') || location.path.ends_with("/$"),
            _ => true,
        };
        if !has_step || !can_be_directory {
            return names;
        }
        names.retain(|name| {
            let Some(other) = self.answering(&format!("{directory}/{name}")) else {
                return true;
            };
            let place = written.last().copied().unwrap_or(location.directive);
            if std::ptr::eq(other.directive, location.directive) {
                return true;
            }
            let line = other.directive.line();
            let has_root = other.scope.own_directive("root").or_else(|| other.scope.own_directive("alias"));
            if !sends_files(other) || has_root.is_some() {
                let says = format!(
                    "`index {name}`: it is not a file here: `{line}` answers it, and a directory without another one gets 403"
                );
                notices.push(ImportNotice::left_out(&place.place, says));
                return false;
            }
            let is_told = |d: &&NginxDirective| !["access_log", "log_not_found"].contains(&d.name());
            if other.directive.inner().iter().any(|d| is_told(&d)) {
                let says = format!(
                    "`index {name}`: it is sent as of this place; in nginx it has what `{line}` says of add_header, \
                     expires and cache-control"
                );
                notices.push(ImportNotice::differs(&place.place, says));
            }
            true
        });
        names
    }

    /// File that nginx serves for a path, if it serves one.
    fn file_of(&self, uri: &str) -> Option<String> {
        let location = self.answering(uri);
        let scope = location.map_or(&self.server.scope, |location| &location.scope);
        let is_file = location.is_none_or(sends_files);
        if !uri.starts_with('/') || uri.contains('$') || !is_file {
            return None;
        }
        let (root, rest) = match scope.own_directive("alias") {
            Some(alias) => (alias.arg(0), uri.strip_prefix(location?.path)?),
            None => (scope.value("root"), uri),
        };
        (!root.is_empty() && !root.contains('$')).then(|| {
            format!(
                "{}/{}",
                root.trim_end_matches('/'),
                rest.trim_start_matches('/')
            )
        })
    }
}

/// Whether a location sends files to clients.
fn sends_files(location: &NginxLocation<'_>) -> bool {
    let other = [
        "return",
        "rewrite",
        "if",
        "allow",
        "deny",
        "auth_basic",
        "auth_request",
    ];
    let inner = location.directive.inner();
    // After the file itself, the next steps do not matter.
    let tried = location.scope.own_directive("try_files");
    let is_passed = tried.is_some_and(|tried| {
        let is_app = tried
            .args()
            .last()
            .is_some_and(|last| last.starts_with('@'));
        is_app && !tried.args().iter().any(|step| step == "$uri")
    });
    pass_of(&location.scope).is_none()
        && foreign_content(inner).is_none()
        && !is_passed
        && !inner.iter().any(|d| other.contains(&d.name()))
}

/// Whether one of these directives names a path with this beginning, on a level or below it.
fn leads_to(level: &[NginxDirective], names: &[&str], path: &str) -> bool {
    level.iter().any(|directive| {
        let named = || directive.args().iter().any(|word| word.starts_with(path));
        names.contains(&directive.name()) && named() || leads_to(directive.inner(), names, path)
    })
}
