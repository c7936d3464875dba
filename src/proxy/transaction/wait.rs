//! Waiting for a request that no backend takes at once: it waits for an eligible backend, or gets an error response.

use std::sync::Arc;

use super::actions::perform_action;
use super::hold::{self, HoldEnd, HoldTicket};
use super::local_response::{LocalResponse, body_answer};
use super::record::RequestEnd;
use super::route::find_pool;
use super::route::{UnroutedReason, act_without_pool, is_to_be_admitted, prepare_changes};
use super::{Transaction, guards};
use crate::core::Time;
use crate::core::hold::{self as hold_limits, RETRY_AFTER};
use crate::metrics::ServerLimit;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::client::AfterRequest;
use crate::proxy::error_response::SHUTTING_DOWN;
use crate::proxy::upstream::pick::{self, ExcludedBackends};
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// The detail for a request whose wait was in vain.
const NONE_IN_TIME: &str = "no backend became ready in time";

/// The detail for a request that a paused pool can't hold.
const PAUSED_AND_FULL: &str = "the service is paused, and too many requests wait";

impl Transaction<'_> {
    /// Enters a backend that has become eligible, and waits for one if necessary; with fail-open, enters one that is
    /// not eligible. `None`: the request may try again.
    pub(super) async fn wait_for_backend(
        &mut self,
        since: &mut Option<Time>,
    ) -> Result<Option<Permit>, AfterRequest> {
        if self.refresh_snapshot() {
            self.buffer_body().await?;
            if let Some(permit) = pick::admit(&self.pool, &self.excluded) {
                return Ok(Some(permit));
            }
        }
        if let Some(permit) = pick::admit_backup(&self.pool, &self.excluded) {
            return Ok(Some(permit));
        }
        if let Some(pause) = self.pool.pause.clone()
            && let Some(page) = &pause.page
        {
            return Err(self.answer_page(&pause, page).await);
        }
        let now = clock::now();
        let for_home = self.excluded.waits_for_home(&self.pool);
        let for_room = for_home || pick::waits_for_room(&self.pool, &self.excluded);
        // If backends are full, that is no reason to try ones that are down.
        let may_fail_open = !for_room && pick::has_last_resort(&self.pool, &self.excluded);
        let began = *since.get_or_insert(now);
        if self.client.followed.is_some() {
            self.follow_hold(for_room);
        }
        let held = hold::wait(
            &self.plane.registry,
            &self.pool,
            self.client,
            hold::HoldRequest {
                since: began,
                ends: self.ends(),
                may_fail_open,
                for_room,
                for_home,
                excluded: &self.excluded,
                own: self.own_settings().and_then(|route| route.hold.clone()),
                config: &self.config,
                upload: &mut self.upload,
            },
        )
        .await;
        let waited = clock::now().saturating_sub(now);
        self.account.held += waited;
        if self.client.followed.is_some() {
            self.follow_release(for_room);
        }
        self.pool.shared.counters.held(waited);
        match held {
            HoldEnd::FailOpen => {
                if let Some(most) = self.worth_waiting() {
                    self.receive(most).await?;
                }
                let permit = pick::admit_anyway(&self.pool, &self.excluded);
                if permit.is_none() {
                    // The backend was closed just now, and the snapshot that shows it is not published yet.
                    tokio::task::yield_now().await;
                    self.refresh_snapshot();
                }
                Ok(permit)
            }
            HoldEnd::Admitted(permit) => Ok(Some(permit)),
            HoldEnd::Released(place) => self.leave_hold(place, since).await,
            HoldEnd::TooLate => {
                let answer = LocalResponse {
                    limit: Some(ServerLimit::TotalTimeout),
                    ..self.none_ready(NONE_IN_TIME, ConnectFault::cause_after_hold)
                };
                Err(self.answer(answer).await)
            }
            HoldEnd::NoneReady => {
                self.account.end = RequestEnd::NotReady(hold_limits::HoldRefusal::TooLong);
                let answer = self.none_ready(NONE_IN_TIME, ConnectFault::cause_after_hold);
                Err(self.answer(answer).await)
            }
            HoldEnd::GaveUp(refusal, cause) => {
                self.account.end = RequestEnd::NotReady(refusal);
                let is_paused = self.pool.pause.is_some();
                let cause = if is_paused { PAUSED_AND_FULL } else { cause };
                let answer = match for_room || is_paused {
                    // Backends may well be ready: the last probe explains nothing.
                    true => LocalResponse {
                        retry_after: Some(RETRY_AFTER),
                        ..LocalResponse::new(503, cause)
                    },
                    false => self.none_ready(cause, ConnectFault::cause),
                };
                Err(self.answer(answer).await)
            }
            HoldEnd::Reconfigured => {
                let routed = self.route_anew();
                // Another route, or the same one with different guards, which have not decided about this request.
                if is_to_be_admitted(self.account) {
                    let (client, account) = (&mut *self.client, &mut *self.account);
                    let admitting = guards::admit(self.plane, client, self.head, account);
                    Box::pin(admitting).await?;
                }
                match routed {
                    Ok(()) => Ok(None),
                    Err(UnroutedReason::Act(action, config)) => {
                        let action = (action, &*config);
                        Err(perform_action(
                            self.plane,
                            self.client,
                            self.head,
                            self.account,
                            self.id,
                            action,
                        )
                        .await)
                    }
                    Err(UnroutedReason::Answer(answer, _)) => Err(self.answer(answer).await),
                    Err(
                        UnroutedReason::Redirect(_)
                        | UnroutedReason::Challenge(_)
                        | UnroutedReason::Guarded,
                    ) => Err(self.answer(LocalResponse::NO_ROUTE).await),
                }
            }
            HoldEnd::PauseChanged => {
                // The time of a pause doesn't count towards the wait.
                *since = None;
                Ok(None)
            }
            HoldEnd::ShutDown => {
                let answer = LocalResponse {
                    retry_after: Some(RETRY_AFTER),
                    ..LocalResponse::new(503, SHUTTING_DOWN)
                };
                Err(self.answer(answer).await)
            }
            HoldEnd::ClientGone => Err(self.client_gone()),
        }
    }

    /// Continues after the release: the request keeps its place in the queue until it has tried to enter a backend.
    async fn leave_hold(
        &mut self,
        mut place: HoldTicket,
        since: &mut Option<Time>,
    ) -> Result<Option<Permit>, AfterRequest> {
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            drop(place);
            return Err(self.answer(body_answer(error)).await);
        }
        // The pool has changed: backends that refused the request may accept it now.
        self.excluded.clear();
        self.refresh_snapshot();
        if self.worth_waiting().is_some() {
            // The request has nothing to send yet: the next one may go first.
            drop(place);
            self.buffer_body().await?;
            // The time that the client took doesn't count towards the wait, in case no backend is ready by then.
            *since = None;
            return Ok(None);
        }
        place.used();
        Ok(pick::admit_waiter(&self.pool, &self.excluded))
    }

    /// Finds the request's pool again after the configuration has changed during its wait.
    fn route_anew(&mut self) -> Result<(), UnroutedReason> {
        let found = find_pool(self.plane, self.client, self.head);
        self.config = found.config;
        self.account.rule = found.rule;
        self.is_unrouted = found.pool.is_none();
        prepare_changes(&self.config, self.client, self.head, self.account, self.id)?;
        let Some(pool) = self.kept_pool().or(found.pool) else {
            return Err(act_without_pool(
                self.head,
                self.account,
                self.config.clone(),
            ));
        };
        if !Arc::ptr_eq(&pool.shared, &self.pool.shared) {
            pool.shared.budget.on_request();
            self.excluded = ExcludedBackends::default();
        }
        self.pool = pool;
        // The pool is another one, or has other hash and session settings.
        self.begin_session();
        self.note_hash_key();
        Ok(())
    }

    /// Returns the current state of the request's pool, if its route is split and the pool still has a share. Drawing
    /// again would move the request to another pool for no reason.
    fn kept_pool(&self) -> Option<Arc<PoolSnapshot>> {
        let split = self.account.rule.as_ref()?.split.as_ref()?;
        if !split.keeps(&self.pool.name) {
            return None;
        }
        let snapshot = self.plane.registry.snapshot();
        let mut pools = snapshot.pools.iter();
        pools.find(|pool| pool.name == self.pool.name).cloned()
    }
}
