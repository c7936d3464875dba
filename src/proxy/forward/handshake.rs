//! Responses with status 101: checks whether they switch to the requested protocol. For clients of HTTP/2, the proxy
//! makes the WebSocket handshake with the backend.

use super::{Exchange, ForwardFailure};
use crate::proxy::h1::method::UpgradeProtocol;
use crate::proxy::h1::span::HeaderField;
use crate::proxy::messages::websocket;

impl Exchange<'_> {
    /// Checks whether a 101 response is a valid answer to the client's request.
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

    /// Returns whether a 101 response switches to a protocol that the client has offered.
    fn switches_as_offered(&self) -> bool {
        let request = self.order.request;
        let offered = request.offered(self.client.buffer.bytes());
        self.response.agrees(self.incoming.bytes(), offered)
    }

    /// Returns whether a WebSocket's backend has accepted the handshake. An HTTP/1 client checks that itself; for an
    /// HTTP/2 client the proxy generated the key, and so has to check the response (RFC 6455 §4.1).
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

/// Returns the value of a header field that is present exactly once.
fn value_of<'a>(fields: &[HeaderField], buffer: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = fields
        .iter()
        .filter(|field| field.name.of(buffer).eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (Some(field), None) => Some(field.value.of(buffer)),
        _ => None,
    }
}
