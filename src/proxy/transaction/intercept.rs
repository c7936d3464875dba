//! Replaces responses of the app with an error page where the route says so: `intercept = true`.

use super::Transaction;
use super::local_response::LocalResponse;
use crate::config::{Config, Route};
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::InterceptedAnswers;
use crate::proxy::h1::method::Method;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::h1::response::ResponseHead;

/// Header fields of a replaced error response that clients still need: how to sign in, when to retry, which methods
/// are allowed.
const KEPT: [&[u8]; 3] = [b"www-authenticate", b"retry-after", b"allow"];

/// Returns the header lines of a replaced response that the client still gets.
#[cold]
pub(super) fn kept_fields(response: &ResponseHead, buffer: &[u8]) -> String {
    let mut lines = String::new();
    for field in &response.fields {
        let (name, value) = (field.name.of(buffer), field.value.of(buffer));
        let is_kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
        if let (true, Ok(name), Ok(value)) = (
            is_kept,
            std::str::from_utf8(name),
            std::str::from_utf8(value),
        ) {
            lines.extend([name, ": ", value, "\r\n"]);
        }
    }
    lines
}

/// Returns the rule for which responses to this request are replaced. HEAD requests, gRPC calls and upgrades get no
/// page.
pub(super) fn interceptable<'a>(
    head: &RequestHead,
    route: &'a Route,
    config: &'a Config,
) -> Option<InterceptedAnswers<'a>> {
    let reads_pages = head.method != Method::Head && !head.is_grpc && head.upgrade.is_none();
    (route.intercept && reads_pages).then_some(InterceptedAnswers { config, route })
}

impl Transaction<'_> {
    /// Sends the error page. In all statistics, it counts as the app's response.
    pub(super) async fn answer_instead(&mut self, status: u16, fields: String) -> AfterRequest {
        self.answer(LocalResponse {
            fields: Some(fields),
            ..LocalResponse::new(status, "")
        })
        .await
    }
}
