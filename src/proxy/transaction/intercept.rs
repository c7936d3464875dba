//! Answers of the app that a route answers in its place, with an error page: `intercept = true`.

use super::Transaction;
use super::local_response::LocalResponse;
use crate::config::{Config, Route};
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::InterceptedAnswers;
use crate::proxy::h1::method::Method;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::h1::response::ResponseHead;

/// What clients need of an error that is not shown: how to sign in, when to come back, which methods there are.
const KEPT: [&[u8]; 3] = [b"www-authenticate", b"retry-after", b"allow"];

/// The lines of an intercepted answer's head that go on.
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

/// What is intercepted of the answers to a request. HEAD requests, calls of gRPC and upgrades get no page.
pub(super) fn interceptable<'a>(
    head: &RequestHead,
    route: &'a Route,
    config: &'a Config,
) -> Option<InterceptedAnswers<'a>> {
    let reads_pages = head.method != Method::Head && !head.is_grpc && head.upgrade.is_none();
    (route.intercept && reads_pages).then_some(InterceptedAnswers { config, route })
}

impl Transaction<'_> {
    /// Answers in the app's place. It stays the app's answer in all counts.
    pub(super) async fn answer_instead(&mut self, status: u16, fields: String) -> AfterRequest {
        self.answer(LocalResponse {
            fields: Some(fields),
            ..LocalResponse::new(status, "")
        })
        .await
    }
}
