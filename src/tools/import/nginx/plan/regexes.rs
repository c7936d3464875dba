//! Locations by regular expression.

use super::ordering::RouteTier;
use super::paths::{PathTier, PlannedPrefix};
use super::rewrites::within;
use super::routes::{ServerPlanner, contains};
use crate::tools::import::draft::DraftPath;
use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::pcre::{spared_by_look_ahead, translate_path_regex, widen_regex};
use crate::tools::import::notice::{ImportNotice, NoticeList};

impl<'a> ServerPlanner<'_, 'a> {
    pub(super) fn plan_regex(
        &mut self,
        location: &NginxLocation<'a>,
        prefixes: &[PlannedPrefix<'_, '_>],
        n: usize,
    ) {
        let mut plan = self.locations.plan(location, self.book);
        let is_caseless = location.directive.arg(0).starts_with("~*");
        let outer = self
            .locations
            .server
            .locations
            .iter()
            .filter(|outer| contains(outer.directive, location.directive))
            .max_by_key(|outer| outer.path.len());
        let read =
            translate_path_regex(location.path, is_caseless).and_then(|pattern| match outer {
                Some(outer) => within(outer, &pattern),
                None => Ok(pattern),
            });
        let why = match read {
            Ok(pattern) => {
                self.routes
                    .push_plan(RouteTier::Regex(n), DraftPath::Regex(pattern), &plan, true);
                return;
            }
            Err(why) => why,
        };
        let line = location.directive.line();
        let place = &location.directive.place;
        if !plan.keeps_out() {
            let same = prefixes
                .iter()
                .all(|prefix| prefix.plan.does_the_same(&plan));
            let text =
                format!("`{line}`: {why}; requests that match it go where other locations lead");
            if !same {
                self.said.leave_out(place, text);
            }
            return;
        }
        // The location restricts access, so matching too much is better than too little.
        match widen_regex(location.path, is_caseless) {
            Some(pattern) => {
                let spared = spared_by_look_ahead(location.path);
                match &spared {
                    Some(spared) => self.spare(spared, prefixes, n),
                    None => {
                        let text =
                            format!("`{line}`: {why}; what it spares is kept out with the rest");
                        plan.notices.push(ImportNotice::left_out(place, text));
                    }
                }
                self.routes
                    .push_plan(RouteTier::Regex(n), DraftPath::Regex(pattern), &plan, true);
            }
            None => {
                self.said.leave_out(place, format!("`{line}`: {why}"));
                self.close_around(location, prefixes, true);
            }
        }
    }

    /// Routes paths that a regular expression excludes to where they would go without it.
    fn spare(&mut self, pattern: &str, prefixes: &[PlannedPrefix<'_, '_>], n: usize) {
        let Some(root) = prefixes.iter().find(|prefix| prefix.location.path == "/") else {
            return;
        };
        let (plan, tier) = (root.plan.clone(), RouteTier::Regex(n + 1));
        self.routes
            .push_plan(tier, DraftPath::Regex(pattern.to_owned()), &plan, false);
        for prefix in prefixes
            .iter()
            .filter(|prefix| prefix.location.path.starts_with("/.") && !prefix.is_firm())
        {
            let path = DraftPath::Prefix(prefix.bare.clone());
            self.routes.push_plan(tier, path, &prefix.plan, false);
        }
    }

    /// Closes the whole server around a restricted location for which there can be no route.
    pub(super) fn close_around(
        &mut self,
        location: &NginxLocation<'_>,
        prefixes: &[PlannedPrefix<'_, '_>],
        is_guarded: bool,
    ) {
        if !is_guarded || prefixes.iter().all(|prefix| prefix.plan.is_closed) {
            return;
        }
        let text = format!(
            "`{}`: it keeps somebody out, so the whole server is closed",
            location.directive.line()
        );
        let plan = self.locations.closed(
            self.book,
            ImportNotice::left_out(&location.directive.place, text),
        );
        self.routes.clear();
        self.routes.push_plan(
            RouteTier::Of(PathTier::Plain),
            DraftPath::any(),
            &plan,
            true,
        );
    }
}
