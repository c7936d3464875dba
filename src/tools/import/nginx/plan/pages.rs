//! Paths of nginx's own: `error_page`, and places that are `internal`.

use super::location::{LocationPlan, LocationPlanner, pass_of};
use crate::tools::import::draft::{toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::offered;

impl<'a> LocationPlanner<'_, 'a> {
    /// `internal`: for clients there is nothing.
    pub(super) fn hide(
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

    /// `error_page`, where it names a file.
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

    /// The location that a path of nginx's own leads to, regular expressions apart.
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

    /// The file that nginx serves for a path, if it is one.
    fn file_of(&self, uri: &str) -> Option<String> {
        let location = self.location_of(uri);
        let scope = location.map_or(&self.server.scope, |location| &location.scope);
        if !uri.starts_with('/') || uri.contains('$') || pass_of(scope).is_some() {
            return None;
        }
        let (root, rest) = match scope.own("alias") {
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

/// Whether one of these directives names a path that begins so, at a level or below it.
fn leads_to(level: &[NginxDirective], names: &[&str], path: &str) -> bool {
    level.iter().any(|directive| {
        let named = || directive.args().iter().any(|word| word.starts_with(path));
        names.contains(&directive.name()) && named() || leads_to(directive.inner(), names, path)
    })
}
