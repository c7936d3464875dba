//! One request, from its parsed head to its log line.
//!
//! [`handle`] is the main path: it finds the route, waits for a short body, picks a backend, attempts, judges the
//! failures until the request ends, and writes the log line. The steps are in these files, in order:
//!
//! - `route` finds the pool from what `received_request` shows of the request; `guards` decide whether the client may
//!   have access; `request_buffering` waits for a short body;
//! - `wait` and [`hold`] wait for a backend; `hash_key` and `sticky` say which backend is preferred;
//! - `connect` gets the connection of an attempt; `attempt` has what is sent and how the attempt ended; `changes` and
//!   `placeholders` compute what the route changes;
//! - `finish` handles complete responses, `judge` failed attempts;
//! - `actions`, `redirect`, `maintenance` and `local_response` answer without a backend, through `compressed_answer`
//!   if compression is on; `intercept` replaces an app's response with an error page.
//!
//! Other files: [`record`] collects what the log line needs; [`request_id`] is the request's id in the log; `arrival`
//! counts new requests; `followed` follows requests for split plans and traces; `restarts` counts requests affected
//! by a backend's restart; `mirror` sends copies to another pool; [`moved`] continues requests of another process.

mod actions;
mod arrival;
mod attempt;
mod changes;
mod compressed_answer;
mod connect;
mod finish;
mod followed;
pub mod guards;
mod hash_key;
pub mod hold;
mod intercept;
mod judge;
mod local_response;
mod maintenance;
mod mirror;
pub mod moved;
mod placeholders;
mod received_request;
pub mod record;
mod redirect;
mod request_buffering;
pub mod request_id;
mod restarts;
mod route;
mod sticky;
mod wait;

use std::pin::pin;
use std::sync::Arc;

use attempt::{
    AttemptEnd, AttemptPurpose, BrokenAttempt, RestingAttempt, UpgradedAttempt, follow_route,
};
use intercept::kept_fields;
use local_response::{after_panic, body_answer};
use mirror::{LONGEST_COPY, mark_copy};
use record::{RequestEnd, RequestRecord};
use route::{RoutedToPool, UnroutedReason, answer_unrouted, route_request};
use sticky::StickySession;

use crate::config::{Config, Route};
use crate::core::Time;
use crate::core::retry::AttemptHistory;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::headers::incoming_request_id;
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::{ForwardEnd, ForwardParams, answer_timeout, forward_once};
use crate::proxy::h1::request::RequestHead;
use crate::proxy::transaction::request_id::RequestId;
use crate::proxy::upstream::pick::{self, ExcludedBackends};
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::rt::panics::{self, PanicError};

/// One request in progress.
struct Transaction<'a> {
    plane: &'a Arc<DataPlane>,
    client: &'a mut ClientConnection,
    head: &'a RequestHead,
    config: Arc<Config>,
    pool: Arc<PoolSnapshot>,
    id: &'a RequestId,
    account: &'a mut RequestRecord,
    upload: RequestUpload,
    /// Backends that the request is not sent to again.
    excluded: ExcludedBackends,
    tried: AttemptHistory,
    /// Whether only a new connection will do: after one idle connection has died, the other ones are probably dead
    /// too.
    fresh: bool,
    /// Whether a reload has removed the route or pool of the request.
    is_unrouted: bool,
    /// Cause of the last failed connect, if any.
    last_fault: Option<ConnectFault>,
    /// Its session, if the pool has sticky sessions.
    session: Option<Box<StickySession>>,
}

/// Answers the request whose head is at the start of the client's buffer, and writes its log line.
pub async fn handle(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
) -> AfterRequest {
    let complete = clock::now();
    let began = client.head_began.take().unwrap_or(complete);
    let mut account = RequestRecord::new(began, complete);
    if plane.arrivals.are_watched() {
        arrival::note_arrival(plane, client, head, began, complete);
    }
    let id = match incoming_request_id(client.buffer.bytes(), head) {
        Some(given) => RequestId::given(given),
        None => RequestId::made(*account.made_id.insert(plane.next_request())),
    };
    let mut routed = None;
    client.is_answered = false;
    let answered = {
        let answering = pin!(async {
            let account = &mut account;
            let route = loop {
                match route_request(plane, client, head, account, &id, &mut routed) {
                    Ok(found) => break found,
                    // Boxed: most routes have no guards.
                    Err(UnroutedReason::Guarded) => {
                        let admitting = guards::admit(plane, client, head, account);
                        if let Err(next) = Box::pin(admitting).await {
                            return next;
                        }
                    }
                    Err(why) => {
                        return answer_unrouted(plane, client, head, account, &id, why).await;
                    }
                }
            };
            let mut transaction = Transaction::new(plane, client, head, account, &id, route);
            let request = &mut transaction;
            request.pool.shared.budget.on_request();
            if request.pool.sticky.is_some() {
                request.begin_session();
            }
            let next = 'answered: {
                if let Err(error) = request.upload.absorb(&request.client.buffer) {
                    break 'answered request.answer(body_answer(error)).await;
                }
                if let Some(most) = request.worth_buffering()
                    && let Err(next) = request.receive(most).await
                {
                    break 'answered next;
                }
                if let Some(rule) = &request.account.rule {
                    let is_split = rule.split.is_some();
                    if let Some(mirror) = &rule.route.mirror {
                        request.mirror(rule, mirror);
                    }
                    if is_split {
                        request.begin_metering();
                    }
                }
                let mut waiting_since = None;
                loop {
                    let mut permit = match pick::admit(&request.pool, &request.excluded) {
                        Some(permit) => permit,
                        None => match request.wait_for_backend(&mut waiting_since).await {
                            Ok(Some(permit)) => permit,
                            Ok(None) => continue,
                            Err(next) => break 'answered next,
                        },
                    };
                    let failed = match request.attempt(&mut permit, AttemptPurpose::Answer).await {
                        AttemptEnd::Delivered { keep_alive } => {
                            break 'answered request.after_answer(keep_alive);
                        }
                        AttemptEnd::Intercepted { status, fields } => {
                            break 'answered request.answer_instead(status, fields).await;
                        }
                        AttemptEnd::Upgraded(upgraded) => {
                            break 'answered request.carry_tunnel(permit, upgraded).await;
                        }
                        AttemptEnd::AtRest(resting) => {
                            // Boxed: only event streams get here.
                            let carrying = request.carry_events(permit, resting);
                            break 'answered Box::pin(carrying).await;
                        }
                        AttemptEnd::Unsent(failed) => failed,
                        AttemptEnd::Broken(broken) => request.note_failure(&permit, broken).await,
                    };
                    // The connection is closed at this point; only now may the backend be counted as idle.
                    request.excluded.add(permit.endpoint().key, permit.epoch());
                    request.account.note_broken(&permit);
                    drop(permit);
                    if let Some(next) = request.judge_failure(failed).await {
                        break 'answered next;
                    }
                }
            };
            request.account.bytes_in += request.upload.total();
            request.account.occupied = request.upload.occupied();
            // If the request has changed its pool, it counts for the last one.
            routed = (!transaction.is_unrouted).then_some(transaction.pool);
            next
        });
        // A panic ends only this request, and its client still gets a response.
        panics::catch(answering).await
    };
    let next = match answered {
        Ok(next) => next,
        Err(PanicError) => after_panic(plane, client, head, &mut account).await,
    };
    if next == AfterRequest::Moved {
        // The process that continues the request counts it and writes its log line.
        followed::end_following(plane, client, &account, &id, routed.as_deref(), true);
        return next;
    }
    account.close(plane, client, head, &id, routed.as_deref());
    if client.followed.is_some() {
        followed::end_following(plane, client, &account, &id, routed.as_deref(), false);
    }
    if next == AfterRequest::KeepAlive {
        client.buffer.consume(account.occupied);
    }
    next
}

impl<'a> Transaction<'a> {
    /// Creates a request that has been routed.
    #[inline]
    fn new(
        plane: &'a Arc<DataPlane>,
        client: &'a mut ClientConnection,
        head: &'a RequestHead,
        account: &'a mut RequestRecord,
        id: &'a RequestId,
        route: RoutedToPool,
    ) -> Self {
        let mut transaction = Self {
            plane,
            client,
            head,
            config: route.config,
            pool: route.pool,
            id,
            account,
            upload: route.upload,
            excluded: ExcludedBackends::default(),
            tried: AttemptHistory::default(),
            fresh: false,
            is_unrouted: false,
            last_fault: None,
            session: None,
        };
        transaction.note_hash_key();
        transaction
    }
}

impl Transaction<'_> {
    /// Makes one attempt. The permit may be exchanged for another backend's, see [`Transaction::reuse_connection`].
    pub(super) async fn attempt(
        &mut self,
        permit: &mut Permit,
        purpose: AttemptPurpose,
    ) -> AttemptEnd {
        let began = clock::now();
        self.account.attempts += 1;
        let kept = self.reuse_connection(permit, began);
        let endpoint = permit.endpoint();
        self.account.backend = Some(endpoint.clone());
        let watch = match purpose {
            AttemptPurpose::Answer => self.watch_attempt(permit, began),
            AttemptPurpose::Copy => None,
        };
        // Connect.
        let mut connection = match kept {
            _ if self.lacks_length_for(endpoint) => {
                return AttemptEnd::Unsent(self.refuse_chunks(endpoint));
            }
            Some(connection) => connection,
            // Boxed: most requests find an idle connection, and would otherwise reserve room for connecting (9 KiB).
            None => match Box::pin(self.open_connection(permit, watch)).await {
                Ok(connection) => connection,
                Err(failed) => return AttemptEnd::Unsent(failed),
            },
        };
        // Forward.
        let mut scratch = AttemptScratch::take();
        self.write_head(endpoint, &mut scratch.head);
        endpoint.counters.sent();
        connection.requests += 1;
        if self.session.is_some() {
            self.enter_session(permit.endpoint());
        }
        let mut params = ForwardParams {
            request: self.head,
            began,
            since: self.account.began,
            rule: self.account.rule.as_deref(),
            read_timeout: self.pool.config.upstream.read_timeout,
            ends: (self.config.server.total_timeout)
                .map(|total| self.account.complete.saturating_add(total)),
            server: &self.config.server,
            changes: None,
            compression: self.config.compression.as_ref(),
            intercept: None,
            watch,
            session: self.session.as_deref().map(StickySession::answer),
        };
        match purpose {
            AttemptPurpose::Answer if self.account.rule.is_none() => {}
            AttemptPurpose::Answer => {
                follow_route(&mut params, self.account, self.head, &self.config);
            }
            AttemptPurpose::Copy => {
                mark_copy(&mut scratch.head, self.account.rule.as_deref());
                params.ends = Some(began.saturating_add(LONGEST_COPY));
                params.compression = None;
            }
        }
        let buffer = self.client.buffer.bytes();
        params.read_timeout = answer_timeout(self.head, buffer, params.read_timeout);
        let (end, stats, incoming) = forward_once(
            params,
            self.plane,
            self.client,
            &mut self.upload,
            &mut connection,
            &mut scratch,
        )
        .await;
        self.note_stats(endpoint, stats);
        let promised = scratch.response.keep_alive_timeout;
        match end {
            Ok(ForwardEnd::Complete {
                reusable,
                keep_alive,
            }) => {
                scratch.give_back();
                incoming.give_back();
                if reusable {
                    self.keep_connection(endpoint, connection, promised, stats.bytes_up);
                }
                AttemptEnd::Delivered { keep_alive }
            }
            Ok(ForwardEnd::Intercepted { reusable }) => {
                let mut fields = kept_fields(&scratch.response, incoming.bytes());
                if self.session.is_some() {
                    fields.push_str(&self.session_lines(&scratch.response, incoming.bytes()));
                }
                scratch.give_back();
                incoming.give_back();
                if reusable {
                    self.keep_connection(endpoint, connection, promised, stats.bytes_up);
                }
                let status = stats.status;
                AttemptEnd::Intercepted { status, fields }
            }
            Ok(ForwardEnd::Upgraded) => {
                let upgrade = scratch.response.upgrade;
                scratch.give_back();
                AttemptEnd::Upgraded(UpgradedAttempt {
                    connection,
                    incoming,
                    upgrade,
                })
            }
            Ok(ForwardEnd::AtRest) => AttemptEnd::AtRest(RestingAttempt {
                connection,
                incoming,
                scratch,
            }),
            Err(failure) => {
                scratch.give_back();
                incoming.give_back();
                AttemptEnd::Broken(BrokenAttempt {
                    failure,
                    connection,
                    stats,
                    began,
                })
            }
        }
    }

    /// Ends a request whose client has disconnected: there is no response to send.
    fn client_gone(&mut self) -> AfterRequest {
        self.account.end = RequestEnd::ClientClosed;
        AfterRequest::Close
    }

    /// Returns the end of `total_timeout`, if there is one.
    fn ends(&self) -> Option<Time> {
        self.account.ends(&self.config)
    }

    /// Returns the route, if it can have settings of its own.
    fn own_settings(&self) -> Option<&Route> {
        self.account.rule.as_ref().map(|rule| &*rule.route)
    }

    /// Takes the newest snapshot of the same pool; returns whether it differs from the previous one.
    fn refresh_snapshot(&mut self) -> bool {
        let snapshot = self.plane.registry.snapshot();
        let newest = snapshot
            .pools
            .iter()
            .find(|pool| Arc::ptr_eq(&pool.shared, &self.pool.shared));
        match newest {
            Some(pool) if !Arc::ptr_eq(pool, &self.pool) => {
                self.pool = pool.clone();
                self.note_hash_key();
                true
            }
            _ => false,
        }
    }
}
