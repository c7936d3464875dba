//! Paths without the final slash of their location.

use super::location::LocationPlan;
use super::ordering::RouteTier;
use super::paths::{PathTier, PlannedPrefix, longest_before};
use super::routes::ServerPlanner;
use crate::tools::import::draft::{DraftPath, toml_text};
use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::pcre::encode_path;
use crate::tools::import::notice::NoticeList;
use crate::tools::import::offered;

impl<'a> ServerPlanner<'_, 'a> {
    /// Adds redirects from a path without the final slash of its location to the path with it, as nginx makes them for
    /// locations that pass requests on.
    pub(super) fn add_slashes(
        &mut self,
        prefixes: &[PlannedPrefix<'_, '_>],
        exact: &[&NginxLocation<'_>],
    ) {
        for (n, prefix) in prefixes.iter().enumerate() {
            let is_taken = exact.iter().any(|other| other.path == prefix.bare)
                || prefixes
                    .iter()
                    .any(|other| other.location.path == prefix.bare);
            if !prefix.location.path.ends_with('/') || prefix.bare == "/" || is_taken {
                continue;
            }
            if !prefix.plan.adds_slash || prefix.plan.is_closed {
                // Without the slash, the path belongs to another location.
                let outer = longest_before(prefixes, &prefix.bare, n);
                if let Some(outer) = outer.filter(|outer| {
                    !prefixes[*outer].plan.does_the_same(&prefix.plan) && !prefix.plan.is_closed
                }) {
                    let path = DraftPath::Exact(prefix.bare.clone());
                    let plan = prefixes[outer].plan.clone();
                    // The prefix includes the path without the slash, so the redirect has to come before it.
                    let is_below_firm = prefixes.iter().any(|other| {
                        other.is_firm() && prefix.location.path.starts_with(other.location.path)
                    });
                    let tier = match is_below_firm {
                        true => PathTier::Firm,
                        false => PathTier::Plain,
                    };
                    self.routes
                        .push_plan(RouteTier::Of(tier), path, &plan, false);
                }
                continue;
            }
            self.redirect_to_slash(prefix.location, &prefix.bare);
        }
    }

    /// Adds such a redirect for an exact location with a final slash.
    pub(super) fn add_slash_of_exact(
        &mut self,
        location: &NginxLocation<'a>,
        plan: &LocationPlan,
        prefixes: &[PlannedPrefix<'_, '_>],
        exact: &[&NginxLocation<'_>],
    ) {
        let bare = match location.path.strip_suffix('/') {
            Some(bare) if !bare.is_empty() && plan.adds_slash && !plan.is_closed => bare,
            _ => return,
        };
        let is_taken = exact.iter().any(|other| other.path == bare)
            || prefixes.iter().any(|other| other.location.path == bare);
        if !is_taken {
            self.redirect_to_slash(location, &encode_path(bare));
        }
    }

    fn redirect_to_slash(&mut self, location: &NginxLocation<'_>, bare: &str) {
        let to = format!("{bare}/");
        let keys = vec![(
            "redirect",
            format!("{{ status = 301, path = {} }}", toml_text(&to)),
        )];
        match offered::check_route(&keys, &[]) {
            Ok(()) => {
                let mut plan = LocationPlan {
                    keys,
                    ..LocationPlan::default()
                };
                let values = self.locations.values(&location.scope, false);
                self.locations.add_answer_changes(&values, false, &mut plan);
                let path = DraftPath::Exact(bare.to_owned());
                self.routes
                    .push_plan(RouteTier::Of(PathTier::Firm), path, &plan, false);
            }
            Err(_) => self.said.tell_difference(
                &location.directive.place,
                format!("{bare} without the slash goes to the app: nginx redirects it to {to}"),
            ),
        }
    }
}
