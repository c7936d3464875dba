//! Guards: a route's conditions that a request has to meet before anything is done for it.
//!
//! `admit` is called once, after the route is found. It checks first whether the client has to use HTTPS, then, in
//! this order: networks and certificates (`access`), concurrent requests of a key (`at_once`), the request rate
//! (`rate`), and the user: `basic` by a password, `forward` by the response of another server. `edit` makes the
//! resulting changes to the head for the app. Files come last: a request for an existing file is answered here, any
//! other goes on to the route's pool.

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

/// A request's admission by its route's guards, kept until the request is over.
#[derive(Debug)]
pub struct RouteAdmission {
    /// The route.
    rule: Arc<RouteRule>,
    /// Its place among the concurrent requests.
    _place: Option<CountedKey<u64>>,
    /// Header fields that the app gets, as lines.
    lines: Vec<u8>,
}

impl RouteAdmission {
    /// Returns the admission for a copy of the request, which takes no place.
    pub(super) fn of_copy(&self) -> Self {
        Self {
            rule: self.rule.clone(),
            _place: None,
            lines: self.lines.clone(),
        }
    }

    /// Returns whether the admission is for this route, or for one with the same guards.
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

/// A request whose route's guards are being checked.
struct GuardedRequest<'a> {
    plane: &'a Arc<DataPlane>,
    client: &'a mut ClientConnection,
    head: &'a RequestHead,
    account: &'a mut RequestRecord,
    rule: Arc<RouteRule>,
    /// The client's address; `None`: unknown.
    address: Option<IpAddr>,
}

/// A refusal: its reason, and the response for the client.
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

/// Decides whether a request is admitted: if so, that is stored in its record; if not, it has been answered.
pub(super) async fn admit(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
) -> Result<(), AfterRequest> {
    let Some(rule) = account.rule.clone() else {
        return Ok(());
    };
    // An admission by an earlier route doesn't count for this one, and must not keep a place.
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

/// The same for a request that another process has admitted: it takes its place among the concurrent requests, even
/// beyond the limit, and nothing else is checked.
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

/// Returns the client's address; `None` if a trusted proxy reports that it doesn't know the address.
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

    /// Sends the refusal instead of the app's response.
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

    /// Returns the number under which the request is counted for a limit.
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

    /// Returns the values of a header field that the app gets, in any spelling of its name.
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

/// Returns the value under which a request is counted, if there is exactly one: of several, it is unknown which one
/// the app uses.
fn only_value<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then_some(first)
}

/// Returns whether two names are the same to an app that ignores case and treats `_` as `-`.
fn same_name(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| fold_byte(*a) == fold_byte(*b))
}
