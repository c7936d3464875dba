//! One request, from its parsed head to its log line.
//!
//! [`handle`] is its way: find the route, have a backend answer (buffer the body; pick, attempt and judge, until it has
//! ended), and write the log line. What its steps do is in the files beside it: `begin` and `route` find the pool,
//! `request_buffering` waits for a short body, `wait` and [`hold`] for a backend, `attempt` makes one attempt, `connect`
//! has its connection, `finish` what follows a whole answer, `judge` what follows a failed attempt, `local_response`, `redirect`, `maintenance` and `actions` answer without a backend, `changes`
//! and `placeholders` make what a route changes on the way, `mirror` sends copies elsewhere, `metered` counts for plans of splits, and [`record`] is what is
//! remembered for the log.

mod actions;
mod attempt;
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
mod metered;
mod mirror;
mod placeholders;
pub mod record;
mod redirect;
mod request_buffering;
pub mod request_id;
mod route;
mod sticky;
mod wait;

use std::pin::pin;
use std::sync::Arc;

use attempt::{AttemptEnd, AttemptPurpose};
use begin::{RoutedToPool, Unrouted, answer_unrouted, route_request};
use changes::MessageChanges;
use local_response::{after_panic, body_answer};
use record::{RequestEnd, RequestRecord};
use sticky::ClientSession;

use crate::config::{Config, Route};
use crate::core::Time;
use crate::core::retry::AttemptHistory;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::headers::{RequestEdit, incoming_request_id, write_request};
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
    /// Its session, where the pool's stay with their backends.
    session: Option<Box<ClientSession>>,
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
            let (client, account) = (&mut *client, &mut account);
            let route = match find_route(plane, client, head, account, &id, &mut routed).await {
                Ok(route) => route,
                Err(next) => return next,
            };
            let mut transaction = Transaction::new(plane, client, head, account, &id, route);
            transaction.pool.shared.budget.on_request();
            if transaction.pool.sticky.is_some() {
                transaction.begin_session();
            }
            let next = transaction.answer_by_backend().await;
            // Where it is for another pool at its end, that one has it in its account.
            routed = transaction.finish();
            next
        });
        // A mistake of ours costs this one request, and its client gets an answer.
        panics::catch(answering).await
    };
    let next = match answered {
        Ok(next) => next,
        Err(Panicked) => after_panic(plane, client, head, &mut account).await,
    };
    account.close(plane, client, head, &id, routed.as_deref());
    if let Some(metered) = client.metered.take() {
        metered::end_metering(*metered, &account);
    }
    if next == AfterRequest::KeepAlive {
        client.buffer.consume(account.occupied);
    }
    next
}

/// Finds the request's pool, and asks the guards of its route; or answers it without a backend.
#[inline]
async fn find_route(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    id: &RequestId,
    routed: &mut Option<Arc<PoolSnapshot>>,
) -> Result<RoutedToPool, AfterRequest> {
    loop {
        match route_request(plane, client, head, account, id, routed) {
            Ok(found) => return Ok(found),
            // Boxed: most routes have no guards.
            Err(Unrouted::Guarded) => {
                Box::pin(guards::admit(plane, client, head, account)).await?;
            }
            Err(why) => return Err(answer_unrouted(plane, client, head, account, id, why).await),
        }
    }
}

impl<'a> Transaction<'a> {
    /// A request that has its route.
    #[inline]
    fn new(
        plane: &'a Arc<DataPlane>,
        client: &'a mut ClientConnection,
        head: &'a RequestHead,
        account: &'a mut RequestRecord,
        id: &'a RequestId,
        route: RoutedToPool,
    ) -> Self {
        Self {
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
        }
    }
}

impl Transaction<'_> {
    /// Has a backend answer: waits for a short body and for a backend, and makes attempts until one has ended well or
    /// another would be of no use.
    #[inline]
    async fn answer_by_backend(&mut self) -> AfterRequest {
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            return self.answer(body_answer(error)).await;
        }
        if let Err(next) = self.buffer_body().await {
            return next;
        }
        if self.account.rule.is_some() {
            self.begin_metering();
        }
        if let Some(rule) = &self.account.rule
            && let Some(mirror) = &rule.route.mirror
        {
            self.mirror(rule, mirror);
        }
        let mut waiting_since = None;
        loop {
            let mut permit = match pick::admit(&self.pool, &self.excluded) {
                Some(permit) => permit,
                None => match self.wait_for_backend(&mut waiting_since).await {
                    Ok(Some(permit)) => permit,
                    Ok(None) => continue,
                    Err(next) => return next,
                },
            };
            let began = clock::now();
            let end = self
                .attempt(&mut permit, began, AttemptPurpose::Answer)
                .await;
            let failed = match end {
                AttemptEnd::Delivered { keep_alive } => return self.after_answer(keep_alive),
                AttemptEnd::Intercepted { status, fields } => {
                    return self.answer_instead(status, fields).await;
                }
                AttemptEnd::Upgraded {
                    mut connection,
                    incoming,
                    upgrade,
                } => return self.carry_tunnel(&mut connection, incoming, upgrade).await,
                AttemptEnd::Unsent(failed) => failed,
                AttemptEnd::Broken {
                    failure,
                    connection,
                    stats,
                } => {
                    self.note_failure(failure, &permit, &connection, stats, began)
                        .await
                }
            };
            // The connection is closed by now; only then may the backend be called idle.
            self.excluded.add(permit.endpoint().key, permit.epoch());
            drop(permit);
            if let Some(next) = self.judge_failure(failed).await {
                return next;
            }
        }
    }

    /// Notes what the client has sent. Says which pool the request was for at its end.
    #[inline]
    fn finish(self) -> Option<Arc<PoolSnapshot>> {
        self.account.bytes_in += self.upload.total();
        self.account.occupied = self.upload.occupied();
        (!self.is_unrouted).then_some(self.pool)
    }
}

impl Transaction<'_> {
    /// Writes the request's head as the backend is to get it.
    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.clear();
        let preserve = self.pool.config.upstream.preserve_host;
        let changes = self.account.changes();
        let host = changes.and_then(MessageChanges::host);
        let changes = changes.map(MessageChanges::request);
        let edit = RequestEdit {
            policy: &self.config.headers,
            client_ip: self.client.origin.forwarded_ip(),
            trusted: self.client.origin.trusted,
            scheme: self.client.origin.scheme,
            identity: self.client.origin.identity.as_deref().unwrap_or_default(),
            request_id: self.id.as_bytes(),
            host_override: host.or((!preserve).then_some(&*endpoint.authority)),
            fallback_host: &endpoint.authority,
            changes: changes.as_ref(),
        };
        write_request(out, self.client.buffer.bytes(), self.head, &edit);
        if let Some(admission) = &self.account.admission {
            admission.edit_head(out);
        }
        if let Some(session) = &self.session {
            session.edit_head(out);
        }
    }

    /// Nobody is left to be answered.
    fn client_gone(&mut self) -> AfterRequest {
        self.account.end = RequestEnd::ClientClosed;
        AfterRequest::Close
    }

    /// When `total_timeout` is over, if there is one.
    fn ends(&self) -> Option<Time> {
        self.account.ends(&self.config)
    }

    /// The route, where it may have settings of its own.
    fn own_settings(&self) -> Option<&Route> {
        self.account.rule.as_ref().map(|rule| &*rule.route)
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
