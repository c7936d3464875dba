//! One request, from its parsed head to its log line.
//!
//! [`handle`] is its way: route, buffer, a loop of pick, connect, forward and judge, and the log. What its steps do is in
//! the files beside it: `begin` and `route` find the pool, `request_buffering` waits for a short body, `wait` and
//! [`hold`] for a backend, `connect` has the attempt's connection, `finish` what follows a whole answer, `judge` what
//! follows a failed attempt, `local_response`, `redirect`, `maintenance` and `actions` answer without a backend, `changes`
//! and `placeholders` make what a route changes on the way, `mirror` sends copies elsewhere, and [`record`] is what is
//! remembered for the log.

mod actions;
mod begin;
mod changes;
mod connect;
mod finish;
pub mod guards;
pub mod hold;
mod intercept;
mod judge;
mod local_response;
mod maintenance;
mod mirror;
mod placeholders;
pub mod record;
mod redirect;
mod request_buffering;
pub mod request_id;
mod route;
mod wait;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use begin::{RoutedToPool, Unrouted, answer_unrouted, route_request};
use changes::MessageChanges;
use intercept::{interceptable, kept_fields};
use local_response::{after_panic, body_answer};
use record::{RequestEnd, RequestRecord};

use crate::config::{CompressionConfig, Config, Route};
use crate::core::Time;
use crate::core::retry::AttemptHistory;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::headers::{RequestEdit, incoming_request_id, write_request};
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::{ForwardEnd, ForwardParams, forward_once, patience};
use crate::proxy::h1::request::RequestHead;
use crate::proxy::transaction::request_id::RequestId;
use crate::proxy::upstream::pick::{self, ExcludedBackends};
use crate::registry::endpoint::Endpoint;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::rt::panics::{self, Panicked};

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
    /// A reload has left no pool that it is for.
    is_unrouted: bool,
    /// Why the last connect failed, if one did.
    last_fault: Option<ConnectFault>,
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
    let id = match incoming_request_id(client.buffer.bytes(), head) {
        Some(given) => RequestId::given(given),
        None => RequestId::made(*account.made_id.insert(plane.next_request())),
    };
    let mut routed = None;
    client.is_answered = false;
    let answered = {
        let answering = pin!(async {
            // Route.
            let account = &mut account;
            let RoutedToPool {
                config,
                pool,
                upload,
            } = loop {
                match route_request(plane, client, head, account, &id, &mut routed) {
                    Ok(found) => break found,
                    // Boxed: most routes have no guards.
                    Err(Unrouted::Guarded) => {
                        if let Err(next) =
                            Box::pin(guards::admit(plane, client, head, account)).await
                        {
                            return next;
                        }
                    }
                    Err(why) => {
                        return answer_unrouted(plane, client, head, account, &id, why).await;
                    }
                }
            };
            pool.shared.budget.on_request();
            let mut transaction = Transaction {
                plane,
                client: &mut *client,
                head,
                config,
                pool,
                id: &id,
                account,
                upload,
                excluded: ExcludedBackends::default(),
                tried: AttemptHistory::default(),
                fresh: false,
                is_unrouted: false,
                last_fault: None,
            };
            let request = &mut transaction;
            let next = 'answered: {
                // Buffer.
                if let Err(error) = request.upload.absorb(&request.client.buffer) {
                    break 'answered request.answer(body_answer(error)).await;
                }
                if let Err(next) = request.buffer_body().await {
                    break 'answered next;
                }
                if request.account.rule.is_some() {
                    request.mirror();
                }
                let mut waiting_since = None;
                loop {
                    // Pick.
                    let permit = match pick::admit(&request.pool, &request.excluded) {
                        Some(permit) => permit,
                        None => match request.wait_for_backend(&mut waiting_since).await {
                            Ok(Some(permit)) => permit,
                            Ok(None) => continue,
                            Err(next) => break 'answered next,
                        },
                    };
                    request.account.attempts += 1;
                    let began = clock::now();
                    let (permit, kept) = request.reuse_connection(permit, began);
                    let endpoint = permit.endpoint();
                    request.account.backend = Some(endpoint.clone());
                    let watch = request.watch_attempt(&permit, began);
                    // Connect.
                    let connected = match kept {
                        _ if request.lacks_length_for(endpoint) => {
                            Err(request.refuse_chunks(endpoint))
                        }
                        Some(connection) => Ok(connection),
                        // Boxed: most requests find a connection, and each would have to keep room for the making of
                        // one (9 KiB).
                        None => Box::pin(request.open_connection(&permit, watch)).await,
                    };
                    let failed = match connected {
                        Err(failed) => failed,
                        Ok(mut connection) => {
                            // Forward.
                            let mut scratch = AttemptScratch::take();
                            request.write_head(endpoint, &mut scratch.head);
                            endpoint.counters.sent();
                            connection.requests += 1;
                            let read_timeout = request.read_timeout();
                            let buffer = request.client.buffer.bytes();
                            let params = ForwardParams {
                                request: head,
                                began,
                                read_timeout: patience(head, buffer, read_timeout),
                                ends: request.ends(),
                                server: &request.config.server,
                                changes: request.account.response_changes(),
                                compression: compression_of(&request.config, request.account),
                                intercept: interceptable(head, request.account, &request.config),
                                watch,
                            };
                            let (end, stats, incoming) = forward_once(
                                params,
                                plane,
                                request.client,
                                &mut request.upload,
                                &mut connection,
                                &mut scratch,
                            )
                            .await;
                            request.note_stats(endpoint, stats);
                            let promised = scratch.response.keep_alive_timeout;
                            let upgrade = scratch.response.upgrade;
                            let kept = match end {
                                Ok(ForwardEnd::Intercepted { .. }) => {
                                    kept_fields(&scratch.response, incoming.bytes())
                                }
                                _ => String::new(),
                            };
                            scratch.give_back();
                            match end {
                                Ok(ForwardEnd::Complete {
                                    reusable,
                                    keep_alive,
                                }) => {
                                    incoming.give_back();
                                    if reusable {
                                        let written = stats.bytes_up;
                                        request.keep_connection(
                                            endpoint, connection, promised, written,
                                        );
                                    }
                                    break 'answered request.after_answer(keep_alive);
                                }
                                Ok(ForwardEnd::Intercepted { reusable }) => {
                                    incoming.give_back();
                                    if reusable {
                                        let written = stats.bytes_up;
                                        request.keep_connection(
                                            endpoint, connection, promised, written,
                                        );
                                    }
                                    break 'answered request
                                        .answer_instead(stats.status, kept)
                                        .await;
                                }
                                Ok(ForwardEnd::Upgraded) => {
                                    let tunnel =
                                        request.carry_tunnel(&mut connection, incoming, upgrade);
                                    break 'answered tunnel.await;
                                }
                                Err(failure) => {
                                    incoming.give_back();
                                    request
                                        .note_failure(failure, &permit, &connection, stats, began)
                                        .await
                                }
                            }
                        }
                    };
                    // Judge. The connection is closed by now; only then may the backend be called idle.
                    request.excluded.add(endpoint.key, permit.epoch());
                    drop(permit);
                    if let Some(next) = request.judge_failure(failed).await {
                        break 'answered next;
                    }
                }
            };
            request.account.bytes_in += request.upload.total();
            request.account.occupied = request.upload.occupied();
            // Where it is for another pool at its end, that one has it in its account.
            routed = (!transaction.is_unrouted).then_some(transaction.pool);
            next
        });
        // A mistake of ours costs this one request, and its client gets an answer.
        panics::catch(answering).await
    };
    let next = match answered {
        Ok(next) => next,
        Err(Panicked) => after_panic(plane, client, head, &mut account).await,
    };
    // Log.
    account.close(plane, client, head, &id, routed.as_deref());
    if next == AfterRequest::KeepAlive {
        client.buffer.consume(account.occupied);
    }
    next
}

/// How the answer to a request may be compressed, unless its route forbids it.
fn compression_of<'a>(
    config: &'a Config,
    account: &RequestRecord,
) -> Option<&'a CompressionConfig> {
    let compression = config.compression.as_ref()?;
    let rule = account.rule.as_ref();
    rule.is_none_or(|rule| rule.route.compression)
        .then_some(compression)
}

impl Transaction<'_> {
    /// Writes the request's head as the backend is to get it.
    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.clear();
        let preserve = self.pool.config.upstream.preserve_host;
        let changes = self.account.changes();
        let host = changes.and_then(MessageChanges::host);
        let edit = RequestEdit {
            policy: &self.config.headers,
            client_ip: self.client.origin.forwarded_ip(),
            trusted: self.client.origin.trusted,
            scheme: self.client.origin.scheme,
            identity: self.client.origin.identity.as_deref().unwrap_or_default(),
            request_id: self.id.as_str(),
            host_override: host.or((!preserve).then_some(&*endpoint.authority)),
            fallback_host: &endpoint.authority,
            changes: changes.map(MessageChanges::request),
        };
        write_request(out, self.client.buffer.bytes(), self.head, &edit);
        if let Some(admission) = &self.account.admission {
            admission.edit_head(out);
        }
    }

    /// Nobody is left to be answered.
    fn client_gone(&mut self) -> AfterRequest {
        self.account.end = RequestEnd::ClientClosed;
        AfterRequest::Close
    }

    /// When `total_timeout` is over, if there is one.
    fn ends(&self) -> Option<Time> {
        let total = match self.own_settings().and_then(|route| route.total_timeout) {
            Some(own) => Some(own).filter(|own| !own.is_zero()),
            None => self.config.server.total_timeout,
        };
        Some(self.account.complete.saturating_add(total?))
    }

    /// The route, where it may have settings of its own.
    fn own_settings(&self) -> Option<&Route> {
        self.account.rule.as_ref().map(|rule| &*rule.route)
    }

    /// How long the backend may send nothing.
    fn read_timeout(&self) -> Duration {
        let own = self.own_settings().and_then(|route| route.read_timeout);
        own.unwrap_or(self.pool.config.upstream.read_timeout)
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
}
