//! Which pool a request is for: asks the table of routes, with as much of the request as it looks at.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{self, Config, ListenAddress};
use crate::proxy::client::ClientConnection;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::forwarded;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::{PoolSplit, RouteRule, RouteTarget, RoutedRequest};
use crate::registry::snapshot::{PoolSnapshot, Snapshot};

/// Where a request goes.
pub(super) struct FoundRoute {
    /// The configuration that says so.
    pub(super) config: Arc<Config>,
    /// `None`: no route fits, or its action isn't a pool.
    pub(super) pool: Option<Arc<PoolSnapshot>>,
    /// The route, unless it is a pool and nothing more.
    pub(super) rule: Option<Arc<RouteRule>>,
}

/// Finds the pool that the request at the start of the client's buffer is for, by the newest snapshot.
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

/// The same where a route looks at more than host and path.
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

/// The index of a route's pool for a request.
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

/// The same where there are several.
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

/// A request as its client has sent it.
pub(super) struct ReceivedRequest<'a> {
    /// `[headers]`.
    pub(super) policy: &'a config::HeadersConfig,
    pub(super) buffer: &'a [u8],
    pub(super) head: &'a RequestHead,
    pub(super) client: &'a ClientInfo,
}

impl<'a> ReceivedRequest<'a> {
    /// The request at the start of the client's buffer.
    pub(super) fn new(
        config: &'a Config,
        client: &'a ClientConnection,
        head: &'a RequestHead,
    ) -> Self {
        Self {
            policy: &config.headers,
            buffer: client.buffer.bytes(),
            head,
            client: &client.origin,
        }
    }

    /// The values of the lines with this name, as far as they count. Fields that the app is not sent don't: what a client
    /// claims of others without being trusted, and what it has named in `Connection`.
    pub(super) fn lines(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let (buffer, trusted) = (self.buffer, self.client.trusted);
        let counts = move |kind: FieldKind| match kind {
            FieldKind::Dropped | FieldKind::Identity => false,
            FieldKind::Forwarded
            | FieldKind::XForwardedFor
            | FieldKind::XForwardedProto
            | FieldKind::XForwardedHost
            | FieldKind::Claim => trusted,
            _ => true,
        };
        let fields = self.head.fields.iter().filter(move |field| {
            counts(field.kind) && field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes())
        });
        fields.map(move |field| field.value.of(buffer))
    }
}

impl RoutedRequest for ReceivedRequest<'_> {
    fn host(&self) -> &[u8] {
        self.head.host.of(self.buffer)
    }

    fn path(&self) -> &[u8] {
        self.head.path.of(self.buffer)
    }

    fn method(&self) -> &[u8] {
        self.head.method_span.of(self.buffer)
    }

    fn query(&self) -> &[u8] {
        let origin = self.head.origin.of(self.buffer);
        memchr::memchr(b'?', origin).map_or(&b""[..], |at| &origin[at + 1..])
    }

    fn has_field(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.lines(name).any(fits)
    }

    fn client(&self) -> Option<IpAddr> {
        client_address(self.policy, self.buffer, self.head, self.client)
    }

    fn listener(&self) -> Option<&ListenAddress> {
        self.client.listener.as_deref()
    }
}

/// The client's address; behind trusted proxies, the one that they report. `None`: it is unknown.
pub(super) fn client_address(
    headers: &config::HeadersConfig,
    buffer: &[u8],
    head: &RequestHead,
    client: &ClientInfo,
) -> Option<IpAddr> {
    let told = client
        .trusted
        .then(|| forwarded::client(buffer, head, |address| headers.trusts(address)));
    let own = client.address.filter(|_| client.known);
    told.flatten()
        .or_else(|| own.map(|own| own.ip().to_canonical()))
}
