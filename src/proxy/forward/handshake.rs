//! Answers of 101: whether they switch to what was asked for. Handshakes of WebSockets are made here on behalf of clients
//! of HTTP/2.

use super::{Exchange, ForwardFailure};
use crate::proxy::h1::method::UpgradeProtocol;
use crate::proxy::h1::span::HeaderField;
use crate::proxy::messages::websocket;

impl Exchange<'_> {
    /// Whether a 101 is the answer to what the client has asked for.
    pub(super) fn judge_upgrade(&self) -> Result<(), ForwardFailure> {
        if !self.switches_as_offered() {
            return Err(ForwardFailure::BadResponse(
                "101 to another protocol than was asked for",
            ));
        }
        if self.response.upgrade == Some(UpgradeProtocol::WebSocket) && !self.is_accepted() {
            return Err(ForwardFailure::BadResponse(
                "101 without the Sec-WebSocket-Accept that was asked for",
            ));
        }
        Ok(())
    }

    /// Whether a 101 switches to a protocol that the client has offered.
    fn switches_as_offered(&self) -> bool {
        let request = self.order.request;
        let offered = request.offered(self.client.buffer.bytes());
        self.response.agrees(self.incoming.bytes(), offered)
    }

    /// Whether a WebSocket's backend has understood the handshake. A client of HTTP/1 checks that itself; for one of
    /// HTTP/2 the proxy made the key, and so has to check the answer (RFC 6455 §4.1).
    fn is_accepted(&self) -> bool {
        if !self.client.origin.is_http2() {
            return true;
        }
        let request = self.client.buffer.bytes();
        let key = value_of(&self.order.request.fields, request, b"sec-websocket-key");
        let head = self.incoming.bytes();
        let answer = value_of(&self.response.fields, head, b"sec-websocket-accept");
        match (key, answer) {
            (Some(key), Some(answer)) => websocket::accepts(key, answer),
            _ => false,
        }
    }
}

/// The value of a field that is there once.
fn value_of<'a>(fields: &[HeaderField], buffer: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = fields
        .iter()
        .filter(|field| field.name.of(buffer).eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (Some(field), None) => Some(field.value.of(buffer)),
        _ => None,
    }
}
