//! One request, from its parsed head to its log line: route, pick, permit, connection, exchange, retry.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::buffer::Buffer;
use super::client::{Client, Next};
use super::exchange::{self, End, Exchange, Failure};
use super::method::{Method, Upgrade, Version};
use super::request::RequestHead;
use super::scratch::Scratch;
use super::tunnel::{self, TunnelEnd};
use super::upload::{Upload, UploadError};
use crate::clock;
use crate::config::Config;
use crate::core::Time;
use crate::core::hold::RETRY_AFTER;
use crate::core::retry::{self, Tried, Verdict};
use crate::proxy::errors::write_local_response;
use crate::proxy::headers::{RequestEdit, incoming_request_id, write_request};
use crate::proxy::hold::{self, Held};
use crate::proxy::plane::Plane;
use crate::proxy::request_id::RequestId;
use crate::proxy::upstream::{self, ConnectError, Excluded};
use crate::registry::endpoint::{Connection, Endpoint, Permit};
use crate::registry::snapshot::Pool;

/// Taken off what the app's `Keep-Alive: timeout=` promises: the request has to arrive before it ends.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// How a request ended that a drain's deadline has cut, for the log.
const CUT: &str = "cut";

/// How long a client may take to take an answer of ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that we give ourselves.
#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    cause: &'static str,
    retry_after: Option<u32>,
}

impl Answer {
    const fn new(status: u16, cause: &'static str) -> Self {
        Self {
            status,
            cause,
            retry_after: None,
        }
    }
}

/// How one attempt ended.
enum Attempt {
    /// The client has its answer, or can't be given one.
    Over(Next),
    /// It failed, and the client has seen nothing of it.
    Failed(Failure),
    /// Nothing was sent.
    NotConnected,
}

/// One request under way.
struct Transaction<'a> {
    plane: &'a Arc<Plane>,
    client: &'a mut Client,
    head: &'a RequestHead,
    config: Arc<Config>,
    pool: Arc<Pool>,
    id: &'a RequestId,
    account: &'a mut Account,
    upload: Upload,
    /// Backends that it is not sent to again.
    excluded: Excluded,
    tried: Tried,
    /// Only a new connection will do: where one has died, the other kept ones are likely to be as dead.
    fresh: bool,
    /// The last attempt's connection had been closed by the backend before the request reached it.
    undelivered: bool,
}

/// Answers the request whose head is at the start of the client's buffer.
pub async fn run(plane: &Arc<Plane>, client: &mut Client, head: &RequestHead) -> Next {
    let began = clock::now();
    let buffer = client.buffer.bytes();
    let id = match incoming_request_id(buffer, head) {
        Some(given) => RequestId::given(given),
        None => RequestId::made(plane.next_request()),
    };
    let mut account = Account::new(began);
    let (pool, config) = {
        let snapshot = plane.registry.snapshot();
        let route = snapshot
            .routes
            .lookup(head.host.of(buffer), head.path.of(buffer));
        (
            route.and_then(|index| snapshot.pools.get(index).cloned()),
            snapshot.config.clone(),
        )
    };
    let upload = Upload::new(head.body, head.len, config.server.max_body);
    let next = match (&pool, upload) {
        (None, _) => {
            let answer = Answer::new(404, "no route matches this host and path");
            account.occupied = head.len;
            let whole = head.body.is_empty();
            answer_locally(plane, client, head, &mut account, answer, whole).await
        }
        (Some(_), Err(error)) => {
            answer_locally(plane, client, head, &mut account, body_answer(error), false).await
        }
        (Some(pool), Ok(upload)) => {
            pool.shared.budget.on_request();
            let mut transaction = Transaction {
                plane,
                client,
                head,
                config,
                pool: pool.clone(),
                id: &id,
                account: &mut account,
                upload,
                excluded: Excluded::default(),
                tried: Tried::default(),
                fresh: false,
                undelivered: false,
            };
            transaction.run().await
        }
    };
    account.close(plane, client, head, &id, pool.as_deref());
    if next == Next::KeepAlive {
        client.buffer.consume(account.occupied);
    }
    next
}

impl Transaction<'_> {
    async fn run(&mut self) -> Next {
        let next = self.attempts().await;
        self.account.bytes_in = self.upload.total();
        self.account.occupied = self.upload.occupied();
        next
    }

    async fn attempts(&mut self) -> Next {
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            return self.answer(body_answer(error)).await;
        }
        let mut waiting_since = None;
        loop {
            let mut entered = upstream::admit(&self.pool, &self.excluded);
            if entered.is_none() && self.look_again() {
                entered = upstream::admit(&self.pool, &self.excluded);
            }
            let Some(permit) = entered else {
                match self.wait(&mut waiting_since).await {
                    Ok(Some(permit)) => {
                        if let Some(next) = self.attempt(permit).await {
                            return next;
                        }
                    }
                    Ok(None) => {}
                    Err(next) => return next,
                }
                continue;
            };
            if let Some(next) = self.attempt(permit).await {
                return next;
            }
        }
    }

    /// Waits for something eligible; with fail-open, enters a backend that is not.
    async fn wait(&mut self, since: &mut Option<Time>) -> Result<Option<Permit>, Next> {
        let now = clock::now();
        let may_fail_open = upstream::has_last_resort(&self.pool, &self.excluded);
        let began = *since.get_or_insert(now);
        let held = hold::wait(
            &self.plane.registry,
            &self.pool,
            self.client,
            began,
            may_fail_open,
        )
        .await;
        let waited = clock::now().saturating_sub(now);
        self.account.held += waited;
        self.pool.shared.counters.held(waited);
        match held {
            Held::FailOpen => {
                let permit = upstream::admit_anyway(&self.pool, &self.excluded);
                if permit.is_none() {
                    // It was closed by somebody just now; the snapshot that says so is on its way.
                    tokio::task::yield_now().await;
                    self.look_again();
                }
                return Ok(permit);
            }
            Held::Released => {}
            Held::GaveUp(cause) => {
                let answer = Answer {
                    retry_after: Some(RETRY_AFTER),
                    ..Answer::new(503, cause)
                };
                return Err(self.answer(answer).await);
            }
            Held::ClientGone => {
                self.account.end = "client_closed";
                return Err(Next::Close);
            }
        }
        if let Err(error) = self.upload.absorb(&self.client.buffer) {
            return Err(self.answer(body_answer(error)).await);
        }
        // The world has changed: those that refused may take it now.
        self.excluded.clear();
        self.look_again();
        Ok(None)
    }

    /// Takes the newest snapshot of the same pool; says whether it is another one.
    fn look_again(&mut self) -> bool {
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
    async fn attempt(&mut self, permit: Permit) -> Option<Next> {
        self.account.attempts += 1;
        self.account.backend = Some(permit.endpoint().clone());
        let key = permit.endpoint().key;
        let failure = match self.on_backend(permit).await {
            Attempt::Over(next) => return Some(next),
            Attempt::NotConnected => retry::Failure::ConnectFailed,
            Attempt::Failed(failure) => match failure {
                Failure::Died { .. } if self.undelivered => retry::Failure::StaleProven,
                Failure::Died { .. } | Failure::Cut => retry::Failure::DiedBeforeResponse {
                    reused: self.account.reused,
                },
                Failure::Timeout => retry::Failure::Timeout,
                _ => return Some(self.give_up(Some(failure)).await),
            },
        };
        self.excluded.add(key);
        self.look_again();
        self.tried.note(failure);
        match self.judge(failure) {
            Verdict::Retry {
                elsewhere,
                reason,
                spend_budget,
            } => {
                let counters = &self.pool.shared.counters;
                if spend_budget && !self.pool.shared.budget.take(clock::now()) {
                    counters.retried(reason, false);
                    return Some(self.give_up_as(failure).await);
                }
                counters.retried(reason, true);
                self.account.retry_reason = reason;
                self.upload.rewind();
                self.fresh |= failure != retry::Failure::ConnectFailed;
                if !elsewhere {
                    self.excluded.clear();
                }
                None
            }
            Verdict::Hold => {
                self.account.retry_reason = "connect_failed";
                None
            }
            Verdict::GiveUp { reason } => {
                self.account.retry_reason = reason;
                Some(self.give_up_as(failure).await)
            }
        }
    }

    fn judge(&self, failure: retry::Failure) -> Verdict {
        let request = retry::Request {
            idempotent: self.head.method.is_idempotent(),
            has_idempotency_key: self.head.idempotency_key,
            body_replayable: self.upload.is_replayable(),
        };
        let limits = retry::Limits {
            attempts: self.pool.config.retry.attempts,
            idempotency_key: self.pool.config.retry.idempotency_key,
            ..retry::Limits::default()
        };
        let left = retry::Left {
            others: self
                .pool
                .ready
                .iter()
                .any(|endpoint| !self.excluded.has(endpoint.key)),
            token: self.pool.shared.budget.available(clock::now()),
        };
        retry::decide(failure, &request, self.tried, &limits, left)
    }

    async fn give_up_as(&mut self, failure: retry::Failure) -> Next {
        let answer = match failure {
            retry::Failure::ConnectFailed => Answer {
                retry_after: Some(RETRY_AFTER),
                ..Answer::new(503, "no backend could be reached")
            },
            retry::Failure::Timeout => Answer::new(504, "the backend did not answer in time"),
            _ if self.account.end == CUT => {
                Answer::new(502, "the backend is stopping and did not answer in time")
            }
            _ => Answer::new(502, "the backend closed the connection before it answered"),
        };
        self.account.end = match failure {
            retry::Failure::Timeout => "timeout",
            _ if self.account.end == CUT => CUT,
            _ => "upstream_died",
        };
        self.answer(answer).await
    }

    async fn give_up(&mut self, failure: Option<Failure>) -> Next {
        let answer = match failure {
            Some(Failure::BadResponse(cause)) => Answer::new(502, cause),
            Some(Failure::BadBody(error)) => body_answer(error),
            Some(Failure::BodyTimeout) => Answer::new(408, "the request's body made no progress"),
            _ => Answer::new(502, "the backend's answer could not be passed on"),
        };
        self.answer(answer).await
    }

    async fn answer(&mut self, answer: Answer) -> Next {
        answer_locally(
            self.plane,
            self.client,
            self.head,
            self.account,
            answer,
            self.upload.is_complete(),
        )
        .await
    }

    /// One attempt on the backend that was entered.
    async fn on_backend(&mut self, permit: Permit) -> Attempt {
        let outcome = self.exchange(&permit).await;
        // The connection is pooled or closed by now; only then may the backend be called idle.
        drop(permit);
        outcome
    }

    async fn exchange(&mut self, permit: &Permit) -> Attempt {
        let endpoint = permit.endpoint();
        let began = clock::now();
        let reused = if self.fresh {
            None
        } else {
            upstream::reuse(endpoint, began)
        };
        self.account.reused = reused.is_some();
        let mut connection = match reused {
            Some(connection) => connection,
            None => match upstream::connect(self.plane, permit, &self.pool.config.upstream).await {
                Ok(connection) => connection,
                Err(error) => {
                    if !matches!(error, ConnectError::Moved) {
                        endpoint.hint();
                    }
                    tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, %error, "connect failed");
                    return Attempt::NotConnected;
                }
            },
        };
        let mut scratch = Scratch::take();
        self.write_head(endpoint, &mut scratch.head);
        endpoint.counters.sent();
        connection.requests += 1;
        let order = exchange::Order {
            request: self.head,
            head: &scratch.head,
            began,
            upstream: &self.pool.config.upstream,
            body_timeout: self.config.server.body_timeout,
            max_header: self.config.server.max_header,
        };
        let (end, tally, incoming) = Exchange::new(
            order,
            self.plane,
            self.client,
            &mut self.upload,
            &mut connection,
            &mut scratch.response,
            &mut scratch.outgoing,
        )
        .run()
        .await;
        self.account.tally(tally);
        self.undelivered = matches!(end, Err(Failure::Died { reset: false }))
            && upstream::is_undelivered(&connection, tally.bytes_up).await;
        connection.sent += tally.bytes_up;
        if tally.status > 0 {
            endpoint.counters.answered(tally.status);
        }
        if tally.status == 503 {
            endpoint.hint();
        }
        let outcome = match end {
            Ok(End::Complete {
                reusable,
                keep_alive,
            }) => {
                incoming.give_back();
                if reusable {
                    let promised = scratch.response.keep_alive_timeout;
                    self.keep(endpoint, connection, promised);
                }
                Attempt::Over(match (keep_alive, self.upload.is_complete()) {
                    (true, _) => Next::KeepAlive,
                    (false, true) => Next::Close,
                    (false, false) => Next::Linger,
                })
            }
            Ok(End::Upgraded) => {
                let websocket = self.head.upgrade == Some(Upgrade::WebSocket);
                // The log still wants to read the head when the tunnel has used the buffer.
                let head = self.client.buffer.bytes()[..self.head.len].to_vec();
                self.client.buffer.consume(self.upload.occupied());
                let end = tunnel::run(self.client, &mut connection, incoming, websocket).await;
                self.client.buffer = Buffer::from(head);
                self.account.end = end.as_str();
                Attempt::Over(match end {
                    TunnelEnd::Cut | TunnelEnd::Broken => Next::Abort,
                    TunnelEnd::Peers | TunnelEnd::Orderly => Next::Close,
                })
            }
            Err(failure) => {
                incoming.give_back();
                self.note(failure, endpoint);
                if failure.is_clean() {
                    Attempt::Failed(failure)
                } else {
                    Attempt::Over(Next::Abort)
                }
            }
        };
        scratch.give_back();
        outcome
    }

    /// Keeps a connection for the next request, for as long as the app said it would.
    fn keep(&self, endpoint: &Endpoint, mut connection: Box<Connection>, promised: Option<u32>) {
        let mut idle = self.pool.config.upstream.idle_timeout;
        if let Some(seconds) = promised {
            idle =
                idle.min(Duration::from_secs(u64::from(seconds)).saturating_sub(KEEP_ALIVE_MARGIN));
        }
        connection.expires = self.account.answered().saturating_add(idle);
        endpoint.release(connection);
    }

    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.clear();
        let preserve = self.pool.config.upstream.preserve_host;
        let edit = RequestEdit {
            policy: &self.config.headers,
            client_ip: &self.client.ip,
            trusted: self.client.trusted,
            scheme: "http",
            request_id: self.id.as_str(),
            host_override: (!preserve).then_some(&*endpoint.authority),
            fallback_host: &endpoint.authority,
        };
        write_request(out, self.client.buffer.bytes(), self.head, &edit);
    }

    /// Takes note of a failed attempt: for the log, for people, and as a hint for the prober.
    fn note(&mut self, failure: Failure, endpoint: &Endpoint) {
        self.account.end = match failure {
            Failure::Died { .. } => "upstream_died",
            Failure::Timeout => "timeout",
            Failure::Cut => CUT,
            Failure::BadResponse(_) => "bad_response",
            Failure::BadBody(_) | Failure::BodyTimeout => "bad_request",
            Failure::ClientGone => "client_closed",
            Failure::Truncated(_) => "truncated",
        };
        match failure {
            Failure::Died { .. } => endpoint.request_lost(),
            Failure::BadResponse(_) => endpoint.hint(),
            Failure::Truncated(cause) => {
                self.account.cause = cause;
                if cause == exchange::UPSTREAM_CLOSED {
                    endpoint.request_lost();
                }
            }
            _ => {}
        }
        if matches!(
            failure,
            Failure::Cut | Failure::Truncated(exchange::CUT_BY_DRAIN)
        ) {
            let buffer = self.client.buffer.bytes();
            tracing::warn!(
                pool = %endpoint.pool,
                backend = %endpoint.name,
                method = self.head.method.as_str(),
                path = %String::from_utf8_lossy(self.head.path.of(buffer)),
                age_ms = clock::now().saturating_sub(self.account.began).as_millis() as u64,
                "a request was cut at the drain's deadline"
            );
        }
    }
}

fn body_answer(error: UploadError) -> Answer {
    match error {
        UploadError::TooLarge => Answer::new(413, "the request's body is larger than max_body"),
        UploadError::Malformed => Answer::new(400, "the request's chunked body is malformed"),
    }
}

/// Gives the client an answer of our own.
async fn answer_locally(
    plane: &Plane,
    client: &mut Client,
    head: &RequestHead,
    account: &mut Account,
    answer: Answer,
    body_complete: bool,
) -> Next {
    // What is left of the body would be taken for the next request.
    // And an HTTP/1.0 client wants to be told that its connection stays open, which such an answer does not do.
    let keep_alive = head.keep_alive
        && head.version == Version::Http11
        && body_complete
        && !client.finished
        && !plane.is_lame();
    let mut out = Vec::with_capacity(256);
    let head_only = head.method == Method::Head;
    write_local_response(
        &mut out,
        answer.status,
        answer.cause,
        !keep_alive,
        head_only,
        answer.retry_after,
    );
    account.local(answer.status, answer.cause, out.len() as u64);
    match client.write_all(&out, clock::now() + PATIENCE).await {
        Ok(()) if keep_alive => Next::KeepAlive,
        Ok(()) if body_complete => Next::Close,
        Ok(()) => Next::Linger,
        Err(_) => {
            account.end = "client_closed";
            Next::Abort
        }
    }
}
