//! Paths without the slash at the end of their location.

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
    /// nginx redirects requests without the last slash of a location that passes requests on, to the same path with
    /// the slash.
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
                // Without the slash it is not this location's.
                let outer = longest_before(prefixes, &prefix.bare, n);
                if let Some(outer) = outer.filter(|outer| {
                    !prefixes[*outer].plan.does_the_same(&prefix.plan) && !prefix.plan.is_closed
                }) {
                    let path = DraftPath::Exact(prefix.bare.clone());
                    let plan = prefixes[outer].plan.clone();
                    // The prefix takes the path without the slash, too: this has to come before it.
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

    /// The same for an exact location that ends with a slash.
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
