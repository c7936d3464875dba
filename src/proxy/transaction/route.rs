//! Which pool a request is for: asks the table of routes, with as much of the request as it looks at.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::proxy::client::ClientConnection;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::forwarded;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::RoutedRequest;
use crate::registry::snapshot::{PoolSnapshot, Snapshot};

/// Where a request goes.
pub(super) struct FoundRoute {
    /// The configuration that says so.
    pub(super) config: Arc<Config>,
    /// `None`: no route fits.
    pub(super) pool: Option<Arc<PoolSnapshot>>,
    /// The route's name, if it has one.
    pub(super) name: Option<Arc<str>>,
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
    let (index, name) = match found {
        None if snapshot.routes.has_rules() => find_by_rules(&snapshot, client, head),
        found => (found, None),
    };
    FoundRoute {
        config,
        pool: index.and_then(|index| snapshot.pools.get(index).cloned()),
        name,
    }
}

/// The same where a route looks at more than host and path: the pool's index and the route's name.
#[cold]
#[inline(never)]
fn find_by_rules(
    snapshot: &Snapshot,
    client: &ClientConnection,
    head: &RequestHead,
) -> (Option<usize>, Option<Arc<str>>) {
    let request = ReceivedRequest {
        snapshot,
        buffer: client.buffer.bytes(),
        head,
        client: &client.origin,
    };
    let rule = snapshot.routes.find_rule(&request);
    rule.map_or((None, None), |rule| (Some(rule.pool), rule.name.clone()))
}

/// A request as its client has sent it.
struct ReceivedRequest<'a> {
    snapshot: &'a Snapshot,
    buffer: &'a [u8],
    head: &'a RequestHead,
    client: &'a ClientInfo,
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

    /// Fields that the app is not sent don't count: what a client claims of others without being trusted, and what it has
    /// named in `Connection`.
    fn has_field(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let counts = |kind: FieldKind| match kind {
            FieldKind::Dropped | FieldKind::Identity => false,
            FieldKind::Forwarded
            | FieldKind::XForwardedFor
            | FieldKind::XForwardedProto
            | FieldKind::XForwardedHost
            | FieldKind::Claim => self.client.trusted,
            _ => true,
        };
        self.head.fields.iter().any(|field| {
            counts(field.kind)
                && field
                    .name
                    .of(self.buffer)
                    .eq_ignore_ascii_case(name.as_bytes())
                && fits(field.value.of(self.buffer))
        })
    }

    fn client(&self) -> Option<IpAddr> {
        if !self.client.known {
            return None;
        }
        let own = self.client.address.ip().to_canonical();
        let told = self.client.trusted.then(|| {
            let headers = &self.snapshot.config.headers;
            forwarded::client(self.buffer, self.head, |address| headers.trusts(address))
        });
        Some(told.flatten().unwrap_or(own))
    }
}
