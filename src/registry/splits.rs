//! Weights of splits that were moved at run time.
//!
//! They stay until they are moved again, or until the configuration of the route's `split` differs from what it was
//! when they were moved: then the configuration counts. A reload that leaves the route's `split` unchanged keeps
//! them.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::command::{RegistryCommand, listed, with_nearest};
use super::handle::{RegistryError, RegistryHandle};
use super::persist::{KeptSplit, KeptState};
use super::routes::{PoolSplit, RouteRule, RouteTable};
use super::split_plans::RunningPlan;
use super::view::{PoolShareView, PoolView, SplitRequest, SplitView};
use super::writer::RegistryWriter;
use crate::config::{MOST_WEIGHT, Route};
use crate::core::Time;
use crate::registry::event_kind::EventKind;
use crate::rt::clock::{self, ClockReading};

/// Weights by pool.
pub(super) type PoolWeights = BTreeMap<String, u32>;

/// Weights that an operator has moved.
#[derive(Debug, Clone)]
pub(super) struct MovedSplit {
    /// Weights in the configuration at that time.
    pub configured: PoolWeights,
    pub weights: PoolWeights,
    pub since: Time,
}

/// An action on a route's split.
#[derive(Debug)]
pub(super) enum SplitChange {
    /// Only show the split.
    Nothing,
    /// Apply these weights.
    Move(PoolWeights),
    /// Apply the configuration's weights.
    Reset,
}

pub(super) fn configured(route: &Route) -> PoolWeights {
    let shares = route.split.iter();
    shares
        .map(|share| (share.pool.clone(), share.weight))
        .collect()
}

pub(super) fn shown(weights: &PoolWeights) -> String {
    let weights = weights.iter();
    let weights: Vec<_> = weights
        .map(|(pool, weight)| format!("{pool}={weight}"))
        .collect();
    weights.join(" ")
}

/// Returns the weights in force.
pub(super) fn weights_of(split: &PoolSplit) -> PoolWeights {
    let weights = split.weights();
    weights
        .map(|(pool, weight)| (pool.to_owned(), weight))
        .collect()
}

/// Moves the weights of a split.
fn put_in_force(split: &PoolSplit, weights: &PoolWeights) {
    split.move_weights(|pool| weights.get(pool).copied().unwrap_or(0));
}

/// Checks that a split can have these weights.
fn check(route: &str, configured: &PoolWeights, asked: &PoolWeights) -> Result<(), RegistryError> {
    let invalid = |text: String| Err(RegistryError::Invalid(text));
    for (pool, weight) in asked {
        if !configured.contains_key(pool) {
            let names = configured.keys().map(String::as_str);
            let known = with_nearest(pool, names.clone(), listed(names));
            return invalid(format!(
                "the split of route `{route}` has no pool `{pool}`; its pools: {known}. Others are added in the \
                 configuration file"
            ));
        }
        if *weight > MOST_WEIGHT {
            return invalid(format!(
                "weight {weight} is out of range: use 0 to {}",
                MOST_WEIGHT
            ));
        }
    }
    let missing = configured.keys().find(|pool| !asked.contains_key(*pool));
    if let Some(missing) = missing {
        return invalid(format!(
            "the weight of `{missing}` is missing: name every pool of the split, such as `{missing}=0` to send it nothing"
        ));
    }
    match asked.values().all(|weight| *weight == 0) {
        true => invalid(
            "every weight is 0: no pool would get a request. To stop them all, `lameduck pause` the pools"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

impl RegistryWriter {
    /// Returns the route with this name in a table of routes, if it has a split.
    pub(super) fn find_split<'a>(
        routes: &'a RouteTable,
        name: &str,
    ) -> Result<(&'a RouteRule, &'a PoolSplit), RegistryError> {
        let is = |rule: &RouteRule| rule.name.as_deref() == Some(name);
        let found = routes.splits().find(|(rule, _)| is(rule));
        found.ok_or_else(|| {
            let names = routes.splits().filter_map(|(rule, _)| rule.name.as_deref());
            let names: Vec<&str> = names.collect();
            let all = || names.iter().copied();
            RegistryError::UnknownRoute {
                name: name.to_owned(),
                known: with_nearest(name, all(), listed(all())),
            }
        })
    }

    /// Shows or changes the split of the route with this name.
    pub(super) fn change_split(
        &mut self,
        name: &str,
        change: SplitChange,
    ) -> Result<SplitView, RegistryError> {
        let routes = self.routes.clone();
        let (rule, split) = Self::find_split(&routes, name)?;
        let configured = configured(&rule.route);
        let weights = match change {
            SplitChange::Nothing => return Ok(self.split_view(name, rule, split)),
            SplitChange::Move(weights) => weights,
            SplitChange::Reset => configured.clone(),
        };
        check(name, &configured, &weights)?;
        self.refuse_beside_plan(name)?;
        self.put_weights(name, split, configured, weights, "");
        Ok(self.split_view(name, rule, split))
    }

    /// Applies weights to a route's split, and reports them. `why`: additional text for the report.
    pub(super) fn put_weights(
        &mut self,
        name: &str,
        split: &PoolSplit,
        configured: PoolWeights,
        weights: PoolWeights,
        why: &str,
    ) {
        let before = weights_of(split);
        if before != weights {
            let (from, to) = (shown(&before), shown(&weights));
            info!(route = name, from, to, "the weights of a split are moved");
            put_in_force(split, &weights);
            self.unsaved = true;
            let reason = format!("route {name}: {to}{why}");
            self.event(EventKind::Split, None, Some(&from), Some(&to), reason);
        }
        match weights == configured {
            true => {
                self.splits.remove(name);
            }
            false if before != weights || !self.splits.contains_key(name) => {
                let moved = MovedSplit {
                    configured,
                    weights,
                    since: clock::now(),
                };
                self.splits.insert(name.to_owned(), moved);
            }
            false => {}
        }
    }

    /// Returns the splits of all routes that have a name.
    pub(super) fn split_views(&self) -> Vec<SplitView> {
        let named = self.routes.splits().filter_map(|(rule, split)| {
            let name = rule.name.as_deref()?;
            Some(self.split_view(name, rule, split))
        });
        named.collect()
    }

    fn split_view(&self, name: &str, rule: &RouteRule, split: &PoolSplit) -> SplitView {
        SplitView {
            route: name.to_owned(),
            weights: weights_of(split),
            configured: configured(&rule.route),
            moved: self
                .splits
                .get(name)
                .map(|moved| clock::rfc3339(clock::wall(moved.since))),
            plan: self.plans.get(name).map(RunningPlan::view),
            warning: None,
        }
    }

    /// Completes a pool's view with its shares in routes.
    pub(super) fn with_shares(&self, view: PoolView) -> PoolView {
        let mut splits = Vec::new();
        for (rule, split) in self.routes.splits() {
            let mut weights = split.weights();
            if let Some((_, weight)) = weights.find(|(pool, _)| *pool == view.name) {
                splits.push(PoolShareView {
                    route: match &rule.name {
                        Some(name) => name.to_string(),
                        None => rule.route.to_string(),
                    },
                    weight,
                    of: split.weights().map(|(_, weight)| u64::from(weight)).sum(),
                    configured: configured(&rule.route).remove(&view.name).unwrap_or(0),
                    plan: self.plan_share(rule.name.as_deref(), &view.name),
                });
            }
        }
        PoolView { splits, ..view }
    }

    /// Applies the moved weights to a new table of routes; those of routes whose split the configuration has changed
    /// are dropped.
    pub(super) fn keep_splits(&mut self) {
        let routes = self.routes.clone();
        self.splits.retain(|name, moved| {
            let is = |rule: &RouteRule| rule.name.as_deref() == Some(name);
            let found = routes.splits().find(|(rule, _)| is(rule));
            match found.filter(|(rule, _)| configured(&rule.route) == moved.configured) {
                Some((_, split)) => {
                    put_in_force(split, &moved.weights);
                    true
                }
                None => {
                    warn!(
                        route = name,
                        weights = shown(&moved.weights),
                        "the configuration says something else of the split: its weights are in force, not the moved ones"
                    );
                    false
                }
            }
        });
    }

    /// Restores the weights that were moved in the last run.
    pub(super) fn recall_splits(&mut self, splits: Vec<KeptSplit>) {
        for kept in splits {
            let moved = MovedSplit {
                configured: kept.configured,
                weights: kept.weights,
                since: clock::from_wall(kept.since),
            };
            if check(&kept.route, &moved.configured, &moved.weights).is_ok() {
                self.splits.insert(kept.route, moved);
            }
        }
    }

    /// Adds the moved weights to the state that has to survive a restart of the proxy.
    pub(super) fn keep_moved_splits(&self, state: &mut KeptState, clock: &ClockReading) {
        let splits = self.splits.iter();
        state.splits = splits
            .map(|(route, moved)| KeptSplit {
                route: route.clone(),
                configured: moved.configured.clone(),
                weights: moved.weights.clone(),
                since: clock.to_wall(moved.since),
            })
            .collect();
    }
}

impl RegistryHandle {
    /// Returns the splits of all routes that have a name.
    ///
    /// # Errors
    /// The errors of [`RegistryHandle::pools`].
    pub async fn splits(&self) -> Result<Vec<SplitView>, RegistryError> {
        self.ask(|reply| RegistryCommand::Splits { reply }).await
    }

    /// Returns the split of a route.
    ///
    /// # Errors
    /// [`RegistryError::UnknownRoute`]; the errors of [`RegistryHandle::pools`].
    pub async fn split(&self, route: &str) -> Result<SplitView, RegistryError> {
        self.change_split(route, SplitChange::Nothing).await
    }

    /// Moves the weights of a route's split, without a reload.
    ///
    /// # Errors
    /// As [`RegistryHandle::split`]; [`RegistryError::Invalid`] for weights that are not valid;
    /// [`RegistryError::Conflict`] while a plan moves them.
    pub async fn move_split(
        &self,
        route: &str,
        request: SplitRequest,
    ) -> Result<SplitView, RegistryError> {
        let change = SplitChange::Move(request.weights);
        let mut view = self.change_split(route, change).await?;
        view.warning = self.unsaved().await;
        Ok(view)
    }

    /// Restores the weights of the configuration.
    ///
    /// # Errors
    /// As [`RegistryHandle::move_split`].
    pub async fn reset_split(&self, route: &str) -> Result<SplitView, RegistryError> {
        let mut view = self.change_split(route, SplitChange::Reset).await?;
        view.warning = self.unsaved().await;
        Ok(view)
    }

    async fn change_split(
        &self,
        route: &str,
        change: SplitChange,
    ) -> Result<SplitView, RegistryError> {
        let route = route.to_owned();
        self.ask(|reply| RegistryCommand::Split {
            route,
            change,
            reply,
        })
        .await?
    }
}
