//! A request as its client sent it, as routes, guards and splits see it.

use std::net::IpAddr;

use crate::config::{self, Config, ListenAddress};
use crate::proxy::client::ClientConnection;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::forward::forwarded;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::RoutedRequest;

/// A request as its client sent it.
pub(super) struct ReceivedRequest<'a> {
    /// The `[headers]` section of the configuration.
    pub(super) policy: &'a config::HeadersConfig,
    pub(super) buffer: &'a [u8],
    pub(super) head: &'a RequestHead,
    pub(super) client: &'a ClientInfo,
}

impl<'a> ReceivedRequest<'a> {
    /// Returns the request at the start of the client's buffer.
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

    /// Returns the values of the header fields with this name. Header fields that are removed before the app sees the
    /// request are skipped: what an untrusted client claims about other hops, and fields that `Connection` names.
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

/// Returns the client's address; behind trusted proxies, the address that they report. `None`: it is unknown.
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
