//! One request, from its parsed head to its log line: route, pick, permit, connection, exchange, retry.

mod attempt;
pub mod hold;
mod local_response;
pub mod record;
mod redirect;
mod request_buffering;
pub mod request_id;
mod route;

use std::pin::pin;
use std::sync::Arc;

use hold::{HoldEnd, HoldTicket};
use local_response::{LocalResponse, answer_locally, body_answer};

use super::forward::ForwardFailure;
use crate::config::Config;
use crate::core::Time;
use crate::core::hold::{self as hold_limits, RETRY_AFTER};
use crate::core::retry::{self, AttemptHistory, RetryReason, RetryVerdict};
use crate::metrics::Limit;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::error_response::SHUTTING_DOWN;
use crate::proxy::forward::headers::incoming_request_id;
use crate::proxy::forward::passes;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::transaction::request_id::RequestId;
use crate::proxy::upstream::{self, ExcludedBackends};
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::rt::panics::{self, Panicked};
use record::{RequestEnd, RequestRecord};
use route::find_pool;

/// What a request is told that has waited in vain.
const NONE_IN_TIME: &str = "no backend became ready in time";

/// What somebody has configured who sends requests back to where they come from.
const CIRCLE: &str = "this request has passed lameduck again and again: a backend, or a proxy behind it, sends it back";

/// How one attempt ended.
enum Attempt {
    /// The client has its answer, or can't be given one.
    Over(AfterRequest),
    /// It failed, and the client has seen nothing of it.
    Failed(ForwardFailure),
    /// Nothing was sent.
    NotConnected(ConnectFault),
}

/// One request under way.
struct Transaction<'a> {
    plane: &'a Arc<DataPlane>,
    client: &'a mut ClientConnection,
    head: &'a RequestHead,
    config: Arc<Config>,
    pool: Arc<PoolSnapshot>,
    id: &'a RequestId,
    account: &'a mut RequestRecord,
    upload: RequestUpload,
    /// Where it is not sent to again.
    excluded: ExcludedBackends,
    tried: AttemptHistory,
    /// Only a new connection will do: where one has died, the other kept ones are likely to be as dead.
    fresh: bool,
    /// Why the last attempt has surely not reached the backend, if that is so.
    undelivered: Option<retry::AttemptFailure>,
    /// A reload has left no pool that it is for.
    is_unrouted: bool,
    /// The client has got something of the last attempt's answer: an interim response.
    has_passed: bool,
    /// Why the last connect failed, if one did.
    last_fault: Option<ConnectFault>,
}

/// Answers the request whose head is at the start of the client's buffer.
pub async fn handle_request(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
) -> AfterRequest {
    let complete = clock::now();
    let began = client.head_began.take().unwrap_or(complete);
    let id = match incoming_request_id(client.buffer.bytes(), head) {
        Some(given) => RequestId::given(given),
        None => RequestId::made(plane.next_request()),
    };
    let mut account = RequestRecord::new(began, complete);
    let mut pool = None;
    client.is_answered = false;
    let answered = {
        let (account, pool) = (&mut account, &mut pool);
        let answering = pin!(answer_request(plane, client, head, &id, account, pool));
        // A mistake of ours costs this one request, and its client gets an answer.
        panics::catch(answering).await
    };
    let next = match answered {
        Ok(next) => next,
        Err(Panicked) => local_response::after_panic(plane, client, head, &mut account).await,
    };
    account.close(plane, client, head, &id, pool.as_deref());
    if next == AfterRequest::KeepAlive {
        client.buffer.consume(account.occupied);
    }
    next
}

/// Routes the request and has it answered; `routed` is where to.
async fn answer_request(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
    id: &RequestId,
    account: &mut RequestRecord,
    routed: &mut Option<Arc<PoolSnapshot>>,
) -> AfterRequest {
    if let Some(port) = client.origin.redirect_https {
        return local_response::redirect(plane, client, head, account, port).await;
    }
    let route::FoundRoute { config, pool, name } = find_pool(plane, client, head);
    (*routed, account.route) = (pool, name);
    let upload = RequestUpload::new(head.body, head.len, config.server.max_body);
    // Where it is for another pool at its end, that one has it in its account.
    match (routed.clone(), upload) {
        (None, _) => {
            account.occupied = head.len;
            let whole = head.body.is_empty();
            let answer = LocalResponse::NO_ROUTE;
            answer_locally(plane, client, head, account, answer, whole).await
        }
        (Some(_), _) if passes::is_circle(client.buffer.bytes(), head) => {
            let answer = LocalResponse::new(508, CIRCLE);
            let whole = head.body.is_empty();
            account.occupied = head.len;
            answer_locally(plane, client, head, account, answer, whole).await
        }
        (Some(_), Err(error)) => {
            answer_locally(plane, client, head, account, body_answer(error), false).await
        }
        (Some(pool), Ok(upload)) => {
            pool.shared.budget.on_request();
            let mut transaction = Transaction {
                plane,
                client,
                head,
                config,
                pool,
                id,
                account,
                upload,
                excluded: ExcludedBackends::default(),
                tried: AttemptHistory::default(),
                fresh: false,
                undelivered: None,
                is_unrouted: false,
                has_passed: false,
                last_fault: None,
            };
            let next = transaction.run().await;
            *routed = (!transaction.is_unrouted).then_some(transaction.pool);
            next
        }
    }
}

impl Transaction<'_> {
    async fn run(&mut self) -> AfterRequest {
        let next = self.attempts().await;
        self.account.bytes_in += self.upload.total();
        self.account.occupied = self.upload.occupied();
        next
    }

    async fn attempts(&mut self) -> AfterRequest {
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            return self.answer(body_answer(error)).await;
        }
        if let Err(next) = self.buffer_body().await {
            return next;
        }
        let mut waiting_since = None;
        loop {
            let mut entered = upstream::admit(&self.pool, &self.excluded);
            if entered.is_none() && self.refresh_snapshot() {
                if let Err(next) = self.buffer_body().await {
                    return next;
                }
                entered = upstream::admit(&self.pool, &self.excluded);
            }
            let permit = match entered {
                Some(permit) => permit,
                None => match self.wait(&mut waiting_since).await {
                    Ok(Some(permit)) => permit,
                    Ok(None) => continue,
                    Err(next) => return next,
                },
            };
            if let Some(next) = self.attempt(permit).await {
                return next;
            }
        }
    }

    /// Waits for something eligible; with fail-open, enters a backend that is not.
    async fn wait(&mut self, since: &mut Option<Time>) -> Result<Option<Permit>, AfterRequest> {
        let now = clock::now();
        let for_room = upstream::waits_for_room(&self.pool, &self.excluded);
        // Backends that are full are no reason to try those that are down.
        let may_fail_open = !for_room && upstream::has_last_resort(&self.pool, &self.excluded);
        let began = *since.get_or_insert(now);
        let held = hold::wait(
            &self.plane.registry,
            &self.pool,
            self.client,
            hold::HoldRequest {
                since: began,
                ends: self.ends(),
                may_fail_open,
                for_room,
                excluded: &self.excluded,
                config: &self.config,
                upload: &mut self.upload,
            },
        )
        .await;
        let waited = clock::now().saturating_sub(now);
        self.account.held += waited;
        self.pool.shared.counters.held(waited);
        match held {
            HoldEnd::FailOpen => {
                if let Some(most) = self.worth_waiting() {
                    self.receive(most).await?;
                }
                let permit = upstream::admit_anyway(&self.pool, &self.excluded);
                if permit.is_none() {
                    // It was closed by somebody just now; the snapshot that says so is on its way.
                    tokio::task::yield_now().await;
                    self.refresh_snapshot();
                }
                Ok(permit)
            }
            HoldEnd::Admitted(permit) => Ok(Some(permit)),
            HoldEnd::Released(place) => self.leave_hold(place, since).await,
            HoldEnd::TooLate => {
                let answer = LocalResponse {
                    limit: Some(Limit::TotalTimeout),
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
                let answer = match for_room {
                    // Backends are ready, and full: no probe says more.
                    true => LocalResponse {
                        retry_after: Some(RETRY_AFTER),
                        ..LocalResponse::new(503, cause)
                    },
                    false => self.none_ready(cause, ConnectFault::cause),
                };
                Err(self.answer(answer).await)
            }
            HoldEnd::Reconfigured => match self.route_anew() {
                true => Ok(None),
                false => Err(self.answer(LocalResponse::NO_ROUTE).await),
            },
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

    /// The configuration has changed while the request waited: finds the pool that it is for now; false: none.
    fn route_anew(&mut self) -> bool {
        let found = find_pool(self.plane, self.client, self.head);
        (self.config, self.account.route) = (found.config, found.name);
        let Some(pool) = found.pool else {
            self.is_unrouted = true;
            return false;
        };
        if !Arc::ptr_eq(&pool.shared, &self.pool.shared) {
            pool.shared.budget.on_request();
            self.excluded = ExcludedBackends::default();
        }
        self.pool = pool;
        true
    }

    /// Nobody is left to be answered.
    fn client_gone(&mut self) -> AfterRequest {
        self.account.end = RequestEnd::ClientClosed;
        AfterRequest::Close
    }

    /// Let go: its place in the queue is kept until it has been tried whether there is room.
    async fn leave_hold(
        &mut self,
        mut place: HoldTicket,
        since: &mut Option<Time>,
    ) -> Result<Option<Permit>, AfterRequest> {
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            drop(place);
            return Err(self.answer(body_answer(error)).await);
        }
        // The world has changed: those that refused may take it now.
        self.excluded.clear();
        self.refresh_snapshot();
        if self.worth_waiting().is_some() {
            // It has nothing to send yet: the next one may.
            drop(place);
            self.buffer_body().await?;
            // What its client took is not held against it, should nothing be ready by then.
            *since = None;
            return Ok(None);
        }
        place.used();
        Ok(upstream::admit_waiter(&self.pool, &self.excluded))
    }

    /// When `total_timeout` is over, if there is one.
    fn ends(&self) -> Option<Time> {
        let total = self.config.server.total_timeout?;
        Some(self.account.complete.saturating_add(total))
    }

    /// Takes the newest snapshot of the same pool; says whether it is another one.
    fn refresh_snapshot(&mut self) -> bool {
        let snapshot = self.plane.registry.snapshot();
        let newest = snapshot
            .pools
            .iter()
            .find(|pool| Arc::ptr_eq(&pool.shared, &self.pool.shared));
        match newest {
            Some(pool) if !Arc::ptr_eq(pool, &self.pool) => {
                self.pool = pool.clone();
                true
            }
            _ => false,
        }
    }

    /// One attempt; `None`: try again.
    async fn attempt(&mut self, permit: Permit) -> Option<AfterRequest> {
        self.account.attempts += 1;
        let began = clock::now();
        let (permit, reused) = self.connection_of(permit, began);
        self.account.backend = Some(permit.endpoint().clone());
        let (key, epoch) = (permit.endpoint().key, permit.epoch());
        let failure = match self.on_backend(permit, reused, began).await {
            Attempt::Over(next) => return Some(next),
            Attempt::NotConnected(fault) => {
                self.last_fault = Some(fault);
                retry::AttemptFailure::ConnectFailed
            }
            Attempt::Failed(failure) => match failure {
                // Another backend's answer would begin in the middle of this one's.
                ForwardFailure::Cut | ForwardFailure::Died { .. } if self.has_passed => {
                    retry::AttemptFailure::ResponseBegun
                }
                ForwardFailure::Cut => {
                    self.excluded.prefer_youngest();
                    retry::AttemptFailure::CutByDrain
                }
                ForwardFailure::Died { .. } => self.undelivered.unwrap_or_else(|| {
                    self.excluded.prefer_youngest();
                    retry::AttemptFailure::DiedBeforeResponse {
                        after: clock::now().saturating_sub(began),
                    }
                }),
                ForwardFailure::Timeout => retry::AttemptFailure::Timeout,
                _ => return Some(self.give_up(failure).await),
            },
        };
        self.excluded.add(key, epoch);
        self.refresh_snapshot();
        self.tried.note(failure);
        match self.judge(failure) {
            RetryVerdict::Retry {
                elsewhere,
                reason,
                spend_budget,
            } => {
                if spend_budget && !self.pool.shared.budget.take(clock::now()) {
                    return Some(self.no_retry(failure, RetryReason::Budget).await);
                }
                self.pool.shared.counters.retried(reason, true);
                self.account.retry_reason = Some(reason);
                self.upload.rewind();
                self.fresh |= failure != retry::AttemptFailure::ConnectFailed;
                if !elsewhere {
                    self.excluded.clear();
                }
                None
            }
            RetryVerdict::Hold => {
                self.account.retry_reason = Some(RetryReason::ConnectFailed);
                None
            }
            RetryVerdict::GiveUp { reason } => Some(self.no_retry(failure, reason).await),
        }
    }

    /// It isn't tried again, for this reason.
    async fn no_retry(
        &mut self,
        failure: retry::AttemptFailure,
        reason: RetryReason,
    ) -> AfterRequest {
        if reason == RetryReason::Budget {
            let counters = &self.pool.shared.counters;
            counters.retried(failure.reason(), false);
        }
        self.account.retry_reason = Some(reason);
        self.give_up_as(failure).await
    }

    fn request(&self) -> retry::RetryFacts {
        retry::RetryFacts {
            idempotent: self.head.method.is_idempotent(),
            has_idempotency_key: self.head.idempotency_key,
            body_replayable: self.upload.is_replayable(),
        }
    }

    fn limits(&self) -> retry::RetryLimits {
        retry::RetryLimits {
            attempts: self.pool.config.retry.attempts,
            idempotency_key: self.pool.config.retry.idempotency_key,
            ..retry::RetryLimits::default()
        }
    }

    /// Whether it may be sent again though a backend may have got it.
    fn may_be_repeated(&self) -> bool {
        self.request().may_be_repeated(&self.limits())
    }

    fn judge(&self, failure: retry::AttemptFailure) -> RetryVerdict {
        let left = retry::RetryOptions {
            others: self.excluded.leaves_any(&self.pool),
            token: self.pool.shared.budget.available(clock::now()),
        };
        retry::decide(failure, &self.request(), self.tried, &self.limits(), left)
    }
}
