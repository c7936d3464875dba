//! Decides about a request before its first attempt: it is routed to a pool, or answered at once.

use std::sync::Arc;

use super::actions::{OwnAction, perform_action};
use super::changes::KeptValues;
use super::local_response::{self, LocalResponse, answer_locally, body_answer};
use super::placeholders::RequestValues;
use super::received_request::ReceivedRequest;
use super::record::RequestRecord;
use super::request_id::RequestId;
use crate::config::Config;
use crate::proxy::client::upload::{RequestUpload, UploadError};
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::client_info::ListenerAnswer;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::passes;
use crate::proxy::h1::method::Method;
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::{PoolSplit, RouteRule, RouteTarget};
use crate::registry::snapshot::{PoolSnapshot, Snapshot};

/// Why a request goes to no backend.
pub(super) enum UnroutedReason {
    /// The listener redirects its clients to HTTPS, at this port.
    Redirect(u16),
    /// Response to a certificate authority's challenge.
    Challenge(String),
    /// The route has an action of its own, in this configuration.
    Act(OwnAction, Arc<Config>),
    /// The route's guards have to decide first.
    Guarded,
    /// A response that the proxy generates, and whether the request has been read to its end.
    Answer(LocalResponse, bool),
}

/// A request that goes to a pool.
pub(super) struct RoutedToPool {
    pub(super) config: Arc<Config>,
    pub(super) pool: Arc<PoolSnapshot>,
    pub(super) upload: RequestUpload,
}

/// The detail for a request in a loop, which is an error in the configuration.
const CIRCLE: &str = "this request has passed lameduck again and again: a backend, or a proxy behind it, sends it back";

/// Finds what a request needs for its first attempt: its configuration, its pool, and the state of its body. `routed`
/// receives the pool for which the request is counted, even if it goes to no backend.
pub(super) fn route_request(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    id: &RequestId,
    routed: &mut Option<Arc<PoolSnapshot>>,
) -> Result<RoutedToPool, UnroutedReason> {
    if client.origin.listener_answer != ListenerAnswer::Nothing {
        answer_by_listener(plane, client, head)?;
    }
    let FoundRoute { config, pool, rule } = find_pool(plane, client, head);
    // A single test for everything that only routes with rules have.
    if rule.is_some() || account.rule.is_some() {
        account.rule = rule;
        prepare_changes(&config, client, head, account, id)?;
        if is_to_be_admitted(account) {
            return Err(UnroutedReason::Guarded);
        }
    }
    let Some(pool) = pool else {
        return Err(act_without_pool(head, account, config));
    };
    *routed = Some(pool.clone());
    if passes::is_circle(client.buffer.bytes(), head) {
        account.occupied = head.len;
        let answer = LocalResponse::new(508, CIRCLE);
        return Err(UnroutedReason::Answer(answer, head.body.is_empty()));
    }
    match begin_upload(head, account, config.server.max_body) {
        Ok(upload) => Ok(RoutedToPool {
            config,
            pool,
            upload,
        }),
        Err(error) => Err(UnroutedReason::Answer(body_answer(error), false)),
    }
}

/// Returns the response that the listener itself gives, if any.
#[cold]
#[inline(never)]
fn answer_by_listener(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
) -> Result<(), UnroutedReason> {
    let answer = client.origin.listener_answer;
    if matches!(answer, ListenerAnswer::Challenges { .. })
        && matches!(head.method, Method::Get | Method::Head)
    {
        let path = head.path.of(client.buffer.bytes());
        if let Some(answer) = plane.certificates.challenges.http(path) {
            return Err(UnroutedReason::Challenge(answer));
        }
    }
    match answer.redirect() {
        Some(port) => Err(UnroutedReason::Redirect(port)),
        None => Ok(()),
    }
}

/// Computes the values for the route's changes to the request and its response.
pub(super) fn prepare_changes(
    config: &Config,
    client: &ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    id: &RequestId,
) -> Result<(), UnroutedReason> {
    // Values computed for an earlier route don't apply to this one.
    account.made = KeptValues::default();
    let Some(rule) = &account.rule else {
        return Ok(());
    };
    let Some(changes) = rule.changes.as_deref().filter(|changes| !changes.is_fixed) else {
        return Ok(());
    };
    let values = RequestValues {
        request: ReceivedRequest::new(config, client, head),
        id,
        rule,
    };
    let (made, done) = KeptValues::make(changes, &values);
    account.made = made;
    done.map_err(|answer| {
        account.occupied = head.len;
        UnroutedReason::Answer(answer, head.body.is_empty())
    })
}

/// Returns what happens to a request that has no pool.
pub(super) fn act_without_pool(
    head: &RequestHead,
    account: &mut RequestRecord,
    config: Arc<Config>,
) -> UnroutedReason {
    account.occupied = head.len;
    let rule = account.rule.as_ref();
    match rule.and_then(|rule| OwnAction::of(&rule.route)) {
        Some(action) => UnroutedReason::Act(action, config),
        None => UnroutedReason::Answer(LocalResponse::NO_ROUTE, head.body.is_empty()),
    }
}

/// Returns whether the route has guards that have not admitted this request yet.
pub(super) fn is_to_be_admitted(account: &RequestRecord) -> bool {
    let Some(rule) = &account.rule else {
        return false;
    };
    rule.is_guarded && !(account.admission.as_ref()).is_some_and(|admission| admission.is_for(rule))
}

/// Creates the state of the request's body, with the settings of its route.
#[inline]
pub(super) fn begin_upload(
    head: &RequestHead,
    account: &RequestRecord,
    max_body: u64,
) -> Result<RequestUpload, UploadError> {
    match &account.rule {
        None => RequestUpload::new(head.body, head.len, max_body),
        Some(rule) => {
            let max_body = rule.route.max_body.unwrap_or(max_body);
            let mut upload = RequestUpload::new(head.body, head.len, max_body)?;
            if let Some(changes) = account.changes() {
                changes.guard_trailers(&mut upload);
            }
            // These names include the ones that the changes remove.
            if let Some(names) = &rule.said_names {
                upload.forbid_trailers(names);
            }
            Ok(upload)
        }
    }
}

/// Where a request goes.
pub(super) struct FoundRoute {
    /// The configuration in which the route was found.
    pub(super) config: Arc<Config>,
    /// `None`: no route matches, or the route has an action instead of a pool.
    pub(super) pool: Option<Arc<PoolSnapshot>>,
    /// The route, unless it consists of a pool only.
    pub(super) rule: Option<Arc<RouteRule>>,
}

/// Finds the pool of the request at the start of the client's buffer, in the newest snapshot.
pub(super) fn find_pool(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
) -> FoundRoute {
    let buffer = client.buffer.bytes();
    let snapshot = plane.registry.snapshot();
    let config = snapshot.config.clone();
    let found = snapshot
        .routes
        .lookup(head.host.of(buffer), head.path.of(buffer));
    let (index, rule) = match found {
        Some(RouteTarget::Pool(index)) => (Some(index), None),
        Some(RouteTarget::Rule(rule)) => {
            (pool_of(rule, &snapshot, client, head), Some(rule.clone()))
        }
        None if snapshot.routes.asks_for_more() => {
            let rule = find_by_rules(&snapshot, client, head);
            let pool = rule
                .as_ref()
                .and_then(|rule| pool_of(rule, &snapshot, client, head));
            (pool, rule)
        }
        None => (None, None),
    };
    FoundRoute {
        config,
        pool: index.and_then(|index| snapshot.pools.get(index).cloned()),
        rule,
    }
}

/// The same if a route matches on more than host and path.
#[cold]
#[inline(never)]
fn find_by_rules(
    snapshot: &Snapshot,
    client: &ClientConnection,
    head: &RequestHead,
) -> Option<Arc<RouteRule>> {
    let request = ReceivedRequest::new(&snapshot.config, client, head);
    snapshot.routes.find_rule(&request).cloned()
}

/// Returns the index of a route's pool for a request.
#[inline]
fn pool_of(
    rule: &RouteRule,
    snapshot: &Snapshot,
    client: &ClientConnection,
    head: &RequestHead,
) -> Option<usize> {
    let Some(split) = &rule.split else {
        return rule.pool;
    };
    choose_pool(split, snapshot, client, head)
}

/// The same if the route has several pools.
#[cold]
#[inline(never)]
fn choose_pool(
    split: &PoolSplit,
    snapshot: &Snapshot,
    client: &ClientConnection,
    head: &RequestHead,
) -> Option<usize> {
    let request = ReceivedRequest::new(&snapshot.config, client, head);
    split.choose(&request, fastrand::u64(..))
}

/// Answers a request that goes to no backend.
pub(super) async fn answer_unrouted(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    id: &RequestId,
    why: UnroutedReason,
) -> AfterRequest {
    match why {
        UnroutedReason::Redirect(port) => {
            local_response::redirect(plane, client, head, account, port).await
        }
        UnroutedReason::Challenge(answer) => {
            local_response::answer_challenge(plane, client, head, account, &answer).await
        }
        UnroutedReason::Act(action, config) => {
            perform_action(plane, client, head, account, id, (action, &config)).await
        }
        // The guards decide before a response is chosen.
        UnroutedReason::Guarded => {
            let answer = LocalResponse::new(503, "the route's guards were not asked");
            answer_locally(plane, client, head, account, answer, head.body.is_empty()).await
        }
        UnroutedReason::Answer(answer, is_whole) => {
            answer_locally(plane, client, head, account, answer, is_whole).await
        }
    }
}
