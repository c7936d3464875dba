//! Plans that move the weights of splits. The registry's task drives them, so that they continue, and abort,
//! independently of the client that started them. The decisions are in [`crate::core::split_plan`].
//!
//! After its end, a plan stays as a report until the route has another plan. With `state_dir`, a running plan
//! continues after a restart of the proxy, at the step that was reached.

mod running;

use tracing::{info, warn};

use super::command::RegistryCommand;
use super::handle::{RegistryError, RegistryHandle};
use super::persist::{KeptPlan, KeptState};
use super::plan_view::{PlanRequest, PlanState, PlanView};
use super::routes::RouteRule;
use super::splits::{MovedSplit, configured, shown, weights_of};
use super::view::PlanShareView;
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::split_plan::PlanMove;
use crate::registry::event_kind::EventKind;
use crate::rt::clock::{self, ClockReading};
pub(super) use running::RunningPlan;
use running::{at, percent, planned};

/// An action on a route's plan.
#[derive(Debug)]
pub(super) enum PlanAct {
    Begin(PlanRequest),
    Show,
    /// End the plan, with the weights in force or with those from before it.
    End {
        back: bool,
    },
}

impl RegistryWriter {
    /// Begins, shows or ends the plan of a route.
    pub(super) fn plan_split(
        &mut self,
        route: &str,
        act: PlanAct,
    ) -> Result<PlanView, RegistryError> {
        let routes = self.routes.clone();
        Self::find_split(&routes, route)?;
        match act {
            PlanAct::Begin(request) => self.begin_plan(route, request)?,
            PlanAct::Show => {}
            PlanAct::End { back } => {
                let running = self.plans.get(route).filter(|plan| plan.is_running());
                if running.is_none() {
                    return Err(RegistryError::UnknownPlan(route.to_owned()));
                }
                let (state, reason) = match back {
                    true => (PlanState::WentBack, "asked by operator"),
                    false => (PlanState::Stopped, "asked by operator"),
                };
                self.finish_plan(route, state, Some(reason.to_owned()));
            }
        }
        let plan = self.plans.get(route);
        plan.map(RunningPlan::view)
            .ok_or_else(|| RegistryError::UnknownPlan(route.to_owned()))
    }

    fn begin_plan(&mut self, route: &str, request: PlanRequest) -> Result<(), RegistryError> {
        self.refuse_beside_plan(route)?;
        let routes = self.routes.clone();
        let (rule, split) = Self::find_split(&routes, route)?;
        let (before, configured) = (weights_of(split), configured(&rule.route));
        let spec = planned(&request, route, &before, &configured)?;
        let began = clock::now();
        let mut running = RunningPlan::begin(route, request, spec, 1, before, configured, began);
        running.moved_before = self.splits.get(route).cloned();
        let summary = running.summary();
        info!(
            route,
            pool = running.request.pool,
            abort_on = running.request.abort_on.join(", "),
            "a plan moves the split: {summary}"
        );
        self.event(EventKind::SplitPlan, None, None, Some("running"), summary);
        self.plans.insert(route.to_owned(), running);
        self.put_step(route);
        Ok(())
    }

    /// Applies the weights of a plan's step.
    fn put_step(&mut self, route: &str) {
        let routes = self.routes.clone();
        let (Ok((_, split)), Some(running)) =
            (Self::find_split(&routes, route), self.plans.get(route))
        else {
            return;
        };
        let (plan, spec) = (&running.plan, running.plan.spec());
        let weights = running.named(&spec.weights(plan.step()));
        let why = format!(" (step {} of {})", plan.step(), spec.steps);
        let configured = running.configured.clone();
        split.set_meter(Some(running.meter.clone()));
        self.put_weights(route, split, configured, weights, &why);
        self.unsaved = true;
    }

    /// Ends a plan: keeps the weights, or restores those from before it.
    fn finish_plan(&mut self, route: &str, state: PlanState, reason: Option<String>) {
        let routes = self.routes.clone();
        let Some(running) = self.plans.get_mut(route) else {
            return;
        };
        running.plan.stop();
        running.state = state;
        running.ended = Some(clock::now());
        running.reason = reason;
        let summary = running.summary();
        let why = running.reason.clone().unwrap_or_default();
        let (before, configured) = (running.before.clone(), running.configured.clone());
        let moved_before = running.moved_before.clone();
        if let Ok((_, split)) = Self::find_split(&routes, route) {
            split.set_meter(None);
            if state == PlanState::WentBack {
                self.put_weights(route, split, configured, before, " (back)");
                match moved_before {
                    Some(moved) => self.splits.insert(route.to_owned(), moved),
                    None => self.splits.remove(route),
                };
            }
        }
        self.unsaved = true;
        let end = state.as_str();
        self.observer.plan_ended(end);
        match state {
            PlanState::Reached => info!(route, "the plan has reached its end: {summary}"),
            PlanState::Stopped => info!(route, reason = why, "the plan was stopped: {summary}"),
            _ => warn!(
                route,
                end,
                reason = why,
                "the plan ended before its time: {summary}"
            ),
        }
        let told = match why.is_empty() {
            true => summary,
            false => format!("{summary}: {why}"),
        };
        self.event(EventKind::SplitPlan, None, Some("running"), Some(end), told);
    }

    /// Returns when a plan has to be checked next.
    pub(super) fn next_plan(&self) -> Option<Time> {
        let plans = self.plans.values();
        plans.filter_map(|running| running.plan.next_look()).min()
    }

    /// Checks the plans that are due.
    pub(super) fn look_at_plans(&mut self, now: Time) {
        let due = |running: &RunningPlan| running.plan.next_look().is_some_and(|at| at <= now);
        let due = self.plans.iter().filter(|(_, running)| due(running));
        let due: Vec<String> = due.map(|(route, _)| route.clone()).collect();
        for route in due {
            let pools = &self.pools;
            // A paused pool has backends but sends them no requests.
            let is_available = |name: &str| {
                let mut pools = pools.iter().filter(|pool| !pool.retired);
                let pool = pools.find(|pool| *pool.name == *name);
                pool.is_some_and(|pool| pool.core.eligible() > 0 && pool.pause.is_none())
            };
            let Some(running) = self.plans.get_mut(&route) else {
                continue;
            };
            let seen = running.meter.read(now, is_available);
            match running.plan.judge_figures(now, &seen) {
                PlanMove::Stay => {}
                PlanMove::Step(_) => self.put_step(&route),
                PlanMove::Back(reason) => {
                    self.finish_plan(&route, PlanState::WentBack, Some(reason));
                }
                PlanMove::Reached => self.finish_plan(&route, PlanState::Reached, None),
            }
        }
    }

    /// Refuses a change of weights that a plan moves.
    pub(super) fn refuse_beside_plan(&self, route: &str) -> Result<(), RegistryError> {
        match self.plans.get(route).filter(|running| running.is_running()) {
            None => Ok(()),
            Some(running) => Err(RegistryError::Conflict(format!(
                "a plan moves this split ({}, step {}): end it first with `lameduck split {route} --stop` (the weights \
                 stay) or `lameduck split {route} --back` (as before it)",
                running.summary(),
                running.plan.step()
            ))),
        }
    }

    /// Returns the progress of a plan that moves this pool's share.
    pub(super) fn plan_share(&self, route: Option<&str>, pool: &str) -> Option<PlanShareView> {
        let running = self.plans.get(route?)?;
        let is_meant = running.is_running() && running.request.pool == pool;
        is_meant.then(|| PlanShareView {
            to: percent(running.plan.spec().to.into()),
            step: running.plan.step(),
            steps: running.plan.spec().steps,
            ends: at(running.plan.ends()),
        })
    }

    /// Continues plans with a new table of routes, unless the configuration of a route's split has changed.
    pub(super) fn keep_plans(&mut self) {
        let routes = self.routes.clone();
        let mut ended = Vec::new();
        self.plans.retain(|route, running| {
            let found = Self::find_split(&routes, route).ok();
            let is_same = |rule: &RouteRule| configured(&rule.route) == running.configured;
            match found {
                Some((rule, split)) if running.is_running() && is_same(rule) => {
                    split.set_meter(Some(running.meter.clone()));
                    true
                }
                Some(_) => {
                    if running.is_running() {
                        ended.push(route.clone());
                    }
                    true
                }
                None => {
                    if running.is_running() {
                        warn!(
                            route,
                            "the plan is over: its route is no longer in the configuration"
                        );
                    }
                    false
                }
            }
        });
        for route in ended {
            let reason = "the configuration says something else of the split, and counts";
            self.finish_plan(&route, PlanState::Dropped, Some(reason.to_owned()));
        }
    }

    /// Continues the plans of the last run, each at the beginning of the step that it had reached.
    pub(super) fn resume_plans(&mut self, plans: Vec<KeptPlan>) {
        let routes = self.routes.clone();
        for kept in plans {
            let route = kept.route.as_str();
            let found = Self::find_split(&routes, route).ok();
            let same = found.filter(|(rule, _)| configured(&rule.route) == kept.configured);
            let spec = planned(&kept.request, route, &kept.before, &kept.configured);
            let (Some(_), Ok(spec)) = (same, spec) else {
                warn!(
                    route,
                    "a plan of the last run is forgotten: the configuration says something else of the split"
                );
                continue;
            };
            let began = clock::from_wall(kept.began);
            let mut running = RunningPlan::begin(
                route,
                kept.request,
                spec,
                kept.step,
                kept.before.clone(),
                kept.configured.clone(),
                began,
            );
            running.moved_before = kept.before_since.map(|since| MovedSplit {
                configured: kept.configured,
                weights: kept.before,
                since: clock::from_wall(since),
            });
            running.earlier = kept.records;
            warn!(
                route,
                step = running.plan.step(),
                weights = shown(&running.before),
                "a plan of the last run goes on: {}",
                running.summary()
            );
            let route = route.to_owned();
            self.plans.insert(route.clone(), running);
            self.put_step(&route);
        }
    }

    /// Adds the running plans to the state that has to survive a restart of the proxy.
    pub(super) fn keep_running_plans(&self, state: &mut KeptState, clock: &ClockReading) {
        let running = self.plans.values().filter(|running| running.is_running());
        state.plans = running
            .map(|running| KeptPlan {
                route: running.route.clone(),
                request: running.request.clone(),
                configured: running.configured.clone(),
                before: running.before.clone(),
                before_since: running
                    .moved_before
                    .as_ref()
                    .map(|moved| clock.to_wall(moved.since)),
                began: clock.to_wall(running.began),
                step: running.plan.step(),
                records: running.records(),
            })
            .collect();
    }
}

impl RegistryHandle {
    /// Starts to move a pool's share of a route's split in steps.
    ///
    /// # Errors
    /// [`RegistryError::UnknownRoute`]; [`RegistryError::Invalid`] if the request is not a valid plan;
    /// [`RegistryError::Conflict`] while another plan runs; the errors of [`RegistryHandle::pools`].
    pub async fn begin_plan(
        &self,
        route: &str,
        request: PlanRequest,
    ) -> Result<PlanView, RegistryError> {
        let mut view = self.plan_split(route, PlanAct::Begin(request)).await?;
        view.warning = self.unsaved().await;
        Ok(view)
    }

    /// Returns the running plan of a route, or the last one.
    ///
    /// # Errors
    /// [`RegistryError::UnknownRoute`], [`RegistryError::UnknownPlan`]; the errors of [`RegistryHandle::pools`].
    pub async fn plan(&self, route: &str) -> Result<PlanView, RegistryError> {
        self.plan_split(route, PlanAct::Show).await
    }

    /// Ends the plan of a route: with the weights in force, or with those from before it.
    ///
    /// # Errors
    /// As [`RegistryHandle::plan`].
    pub async fn end_plan(&self, route: &str, back: bool) -> Result<PlanView, RegistryError> {
        let mut view = self.plan_split(route, PlanAct::End { back }).await?;
        view.warning = self.unsaved().await;
        Ok(view)
    }

    async fn plan_split(&self, route: &str, act: PlanAct) -> Result<PlanView, RegistryError> {
        let route = route.to_owned();
        self.ask(|reply| RegistryCommand::Plan { route, act, reply })
            .await?
    }
}
