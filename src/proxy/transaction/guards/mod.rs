//! What a route asks of its clients before anything is done for them.
//!
//! `admit` is asked once, after the route is found: first whether the client has to come by HTTPS, then, in this
//! order, for networks and certificates (`access`), how many requests of a key are under way (`at_once`), how fast
//! they come (`rate`), and who it is: `basic` by a password, `forward` by the answer of another server. `edit` is
//! what the app then gets other than the client has sent it. Last come files: what is one is answered here, and what
//! is none goes on to the route's pool.

mod access;
mod at_once;
mod basic;
mod edit;
mod forward;
mod rate;

pub(super) use edit::replace_fields;

use std::net::IpAddr;
use std::sync::Arc;

use super::actions::answer_if_file;
use super::local_response::{self, LocalResponse, answer_locally};
use super::placeholders::scheme_of;
use super::received_request::{ReceivedRequest, client_address};
use super::record::{RequestEnd, RequestRecord};
use crate::config::{Config, LimitKey, Route};
use crate::metrics::RouteRefusal;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::forwarded;
use crate::proxy::h1::fields::{FieldKind, fold_byte};
use crate::proxy::h1::request::RequestHead;
use crate::proxy::per_client::{ClientKey, CountedKey};
use crate::registry::routes::RouteRule;

/// A request that has passed its route's guards, for as long as it is under way.
#[derive(Debug)]
pub struct RouteAdmission {
    /// The route.
    rule: Arc<RouteRule>,
    /// Its place among the requests that are served at once.
    _place: Option<CountedKey<u64>>,
    /// Header fields that the app gets, as lines.
    lines: Vec<u8>,
}

impl RouteAdmission {
    /// What it makes of a copy of the request, which takes no place.
    pub(super) fn of_copy(&self) -> Self {
        Self {
            rule: self.rule.clone(),
            _place: None,
            lines: self.lines.clone(),
        }
    }

    /// Whether it is for this route, or for one that asks for the same.
    pub(super) fn is_for(&self, rule: &Arc<RouteRule>) -> bool {
        Arc::ptr_eq(&self.rule, rule) || asks_for_the_same(&self.rule.route, &rule.route)
    }
}

fn asks_for_the_same(one: &Route, other: &Route) -> bool {
    one.allow == other.allow
        && one.deny == other.deny
        && one.rate == other.rate
        && one.connections == other.connections
        && one.client_certificate == other.client_certificate
        && one.auth == other.auth
        && one.redirect_https == other.redirect_https
        && one.files == other.files
}

/// A request at its route's guards.
struct GuardedRequest<'a> {
    plane: &'a Arc<DataPlane>,
    client: &'a mut ClientConnection,
    head: &'a RequestHead,
    account: &'a mut RequestRecord,
    rule: Arc<RouteRule>,
    /// `None`: nobody knows.
    address: Option<IpAddr>,
}

/// A refusal: its reason, and the answer for the client.
struct Refusal {
    reason: RouteRefusal,
    answer: LocalResponse,
}

impl Refusal {
    fn new(reason: RouteRefusal, status: u16, cause: &'static str) -> Self {
        Self {
            reason,
            answer: LocalResponse::new(status, cause),
        }
    }

    fn after(mut self, seconds: u32) -> Self {
        self.answer.retry_after = Some(seconds);
        self
    }
}

/// Whether a request may go its route's way: if so, that is noted in its account; if not, it has been answered.
pub(super) async fn admit(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
) -> Result<(), AfterRequest> {
    let Some(rule) = account.rule.clone() else {
        return Ok(());
    };
    // What an earlier route has let in doesn't count for this one, nor keep a place.
    account.admission = None;
    account.occupied = head.len;
    let config = plane.registry.snapshot().config.clone();
    if let Some(port) = rule.route.redirect_https
        && scheme_of(&ReceivedRequest::new(&config, client, head)) == "http"
    {
        return Err(local_response::redirect(plane, client, head, account, port).await);
    }
    let address = guarded_address(&config, client, head);
    let mut request = GuardedRequest {
        plane,
        client,
        head,
        account,
        rule,
        address,
    };
    match request.pass().await {
        Ok(admission) => {
            let rule = admission.rule.clone();
            account.admission = Some(Box::new(admission));
            match answer_if_file(plane, client, head, account, &config, &rule).await {
                Some(next) => Err(next),
                None => Ok(()),
            }
        }
        Err(next) => Err(next),
    }
}

/// The same for a request that another process has let in: it takes its place among those that are served at once,
/// however many they are, and is asked nothing more.
pub(super) fn readmit(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
) {
    let Some(rule) = account.rule.clone().filter(|rule| rule.limits.is_some()) else {
        return;
    };
    let config = plane.registry.snapshot().config.clone();
    let address = guarded_address(&config, client, head);
    let request = GuardedRequest {
        plane,
        client,
        head,
        account,
        rule: rule.clone(),
        address,
    };
    let place = request.retake_place();
    account.admission = Some(Box::new(RouteAdmission {
        rule,
        _place: place,
        lines: Vec::new(),
    }));
}

/// The client's address. Not the one of a trusted proxy that says it doesn't know whom it comes for.
fn guarded_address(
    config: &Config,
    client: &ClientConnection,
    head: &RequestHead,
) -> Option<IpAddr> {
    let buffer = client.buffer.bytes();
    let told = FieldKind::XForwardedFor.bit() | FieldKind::Forwarded.bit();
    if client.origin.trusted && head.kinds & told != 0 {
        let is_said = head.fields.iter().any(|field| {
            field.kind.bit() & told != 0 && !field.value.of(buffer).trim_ascii().is_empty()
        });
        let trusts = |address| config.headers.trusts(address);
        if is_said && forwarded::client(buffer, head, trusts).is_none() {
            return None;
        }
    }
    client_address(&config.headers, buffer, head, &client.origin)
}

impl GuardedRequest<'_> {
    async fn pass(&mut self) -> Result<RouteAdmission, AfterRequest> {
        if let Err(refusal) = self.check_network().and_then(|()| self.check_certificate()) {
            return Err(self.refuse(refusal).await);
        }
        let place = match self.take_place().and_then(|place| {
            self.check_rate()?;
            Ok(place)
        }) {
            Ok(place) => place,
            Err(refusal) => return Err(self.refuse(refusal).await),
        };
        let rule = self.rule.clone();
        let lines = match &rule.route.auth {
            None => Vec::new(),
            Some(auth) if auth.forward.is_some() => self.ask_server(auth).await?,
            Some(auth) => match self.check_password(auth).await {
                Ok(lines) => lines,
                Err(refusal) => return Err(self.refuse(refusal).await),
            },
        };
        Ok(RouteAdmission {
            rule,
            _place: place,
            lines,
        })
    }

    /// Answers it in the app's place.
    async fn refuse(&mut self, refusal: Refusal) -> AfterRequest {
        self.count(refusal.reason);
        let is_whole = self.head.body.is_empty();
        let next = answer_locally(
            self.plane,
            self.client,
            self.head,
            self.account,
            refusal.answer,
            is_whole,
        )
        .await;
        if next != AfterRequest::Abort {
            self.account.end = RequestEnd::Refused(refusal.reason);
        }
        next
    }

    fn count(&self, reason: RouteRefusal) {
        let name = self.rule.name.as_deref().unwrap_or_default();
        self.plane.counters.route_refused(name, reason);
    }

    /// The number by which it is counted for a limit.
    fn counted_as(&self, limit: u64, key: &LimitKey) -> u64 {
        let state = &self.plane.guards;
        let buffer = self.client.buffer.bytes();
        let by_client = || state.key((limit, "client", self.address.map(ClientKey::from)));
        match key {
            LimitKey::Client => by_client(),
            LimitKey::Route => state.key((limit, "route")),
            LimitKey::Header(name) => match only_value(self.field_values(buffer, name)) {
                Some(value) => state.key((limit, "value", value)),
                None => by_client(),
            },
            LimitKey::Cookie(name) => match only_value(self.head.cookies(buffer, name)) {
                Some(value) => state.key((limit, "value", value)),
                None => by_client(),
            },
        }
    }

    /// The values of this header field that the app gets, in whatever spelling of its name.
    fn field_values<'b>(&self, buffer: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        let trusted = self.client.origin.trusted;
        self.head.fields.iter().filter_map(move |field| {
            let is_sent = match field.kind {
                FieldKind::Dropped | FieldKind::Identity => false,
                FieldKind::Claim => trusted,
                _ => true,
            };
            let is_named = same_name(field.name.of(buffer), name.as_bytes());
            (is_sent && is_named).then(|| field.value.of(buffer))
        })
    }
}

/// The value by which a request is counted. Only where there is one alone: of several, nobody knows which one the app
/// takes.
fn only_value<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then_some(first)
}

/// Whether two names are one for an app that folds case and takes `_` for `-`.
fn same_name(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| fold_byte(*a) == fold_byte(*b))
}
