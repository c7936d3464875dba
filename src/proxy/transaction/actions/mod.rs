//! Actions: what a route does with its requests if no pool answers them.

mod files;
mod redirect;
mod respond;

use std::borrow::Cow;

pub(super) use files::answer_if_file;
use files::answer_with_file;

use super::compressed_answer::compress_answer;
use super::local_response::{LocalResponse, answer_locally, may_be_kept, send};
use super::placeholders::RequestValues;
use super::received_request::ReceivedRequest;
use super::record::{RequestEnd, RequestRecord};
use super::request_id::RequestId;
use crate::config::{Config, Route};
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::error_response::reason_phrase;
use crate::proxy::h1::method::Method;
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::RouteRule;

/// An action of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnAction {
    /// `redirect`.
    Redirect,
    /// `respond`.
    Respond,
    /// `files`.
    Files,
}

impl OwnAction {
    /// Returns the action of a route; `None`: a pool answers.
    pub(super) fn of(route: &Route) -> Option<Self> {
        match (&route.redirect, &route.respond, &route.files) {
            (Some(_), ..) => Some(Self::Redirect),
            (None, Some(_), _) => Some(Self::Respond),
            (None, None, Some(_)) => Some(Self::Files),
            (None, None, None) => None,
        }
    }
}

/// The response of an action.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ActionAnswer {
    pub(super) status: u16,
    pub(super) location: Option<Vec<u8>>,
    pub(super) content_type: String,
    pub(super) content: Vec<u8>,
}

impl ActionAnswer {
    /// Appends the response as HTTP/1.1.
    fn write(&self, out: &mut Vec<u8>, close: bool, head_only: bool) {
        let mut number = itoa::Buffer::new();
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        let status = number.format(self.status).as_bytes();
        let phrase = reason_phrase(self.status).as_bytes();
        put(&[b"HTTP/1.1 ", status, b" ", phrase, b"\r\n"]);
        if let Some(location) = &self.location {
            put(&[b"Location: ", location, b"\r\n"]);
        }
        if !self.content.is_empty() {
            let content_type = self.content_type.as_bytes();
            put(&[b"Content-Type: ", content_type, b"\r\n"]);
        }
        // RFC 9110 §8.6: no length in a 204; in a 304 it would be the length of another response.
        if !matches!(self.status, 204 | 304) {
            let length = number.format(self.content.len()).as_bytes();
            put(&[b"Content-Length: ", length, b"\r\n"]);
        }
        if close {
            put(&[b"Connection: close\r\n"]);
        }
        put(&[b"\r\n"]);
        if !head_only {
            put(&[&self.content]);
        }
    }
}

/// Performs the action of a route without a pool.
pub(super) async fn perform_action(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    id: &RequestId,
    (action, config): (OwnAction, &Config),
) -> AfterRequest {
    let is_whole = take_body(client, head, account);
    if action == OwnAction::Files
        && let Some(rule) = account.rule.clone()
    {
        // Boxed: its state is large, and most requests don't need it.
        return Box::pin(answer_with_file(
            plane, client, head, account, config, &rule, is_whole,
        ))
        .await;
    }
    let made = match account.rule.clone() {
        Some(rule) => {
            let values = RequestValues {
                request: ReceivedRequest::new(config, client, head),
                id,
                rule: &rule,
            };
            match bare_status(&rule.route, config) {
                Some(status) => Err(LocalResponse::new(status, "")),
                None => make_answer(action, &rule, &values),
            }
        }
        None => Err(LocalResponse::NO_ROUTE),
    };
    let answer = match made {
        Ok(answer) => answer,
        Err(answer) => return answer_locally(plane, client, head, account, answer, is_whole).await,
    };
    let keep_alive = may_be_kept(plane, client, head, is_whole);
    let mut out = Vec::with_capacity(256 + answer.content.len());
    answer.write(&mut out, !keep_alive, head.method == Method::Head);
    account.local(answer.status, Cow::Borrowed(""));
    // While a slow client receives the response, one copy stays in memory instead of two.
    drop(answer);
    let out = compress_answer(plane, client, head, account, out).await;
    let next = send(plane, client, account, out, keep_alive, is_whole).await;
    if next == AfterRequest::Abort {
        account.end = RequestEnd::ClientClosed;
    }
    next
}

/// Returns the status of a fixed error response without a body, if there is an error page for it.
fn bare_status(route: &Route, config: &Config) -> Option<u16> {
    let respond = route
        .respond
        .as_ref()
        .filter(|r| route.redirect.is_none() && r.status >= 400)?;
    let has_page = || config.error_page(respond.status, Some(route)).is_some();
    (respond.body.as_str().is_empty() && has_page()).then_some(respond.status)
}

fn make_answer(
    action: OwnAction,
    rule: &RouteRule,
    values: &RequestValues<'_>,
) -> Result<ActionAnswer, LocalResponse> {
    match (action, &rule.route.redirect, &rule.route.respond) {
        (OwnAction::Redirect, Some(redirect), _) => redirect::make_redirect(redirect, values),
        (OwnAction::Respond, _, Some(respond)) => respond::make_response(respond, values),
        _ => Err(LocalResponse::NO_ROUTE),
    }
}

/// Counts the part of the body that has arrived, and returns whether it is complete. The rest is not waited for: the
/// connection is closed after the response.
fn take_body(client: &ClientConnection, head: &RequestHead, account: &mut RequestRecord) -> bool {
    account.occupied = head.len;
    let Ok(mut upload) = RequestUpload::new(head.body, head.len, 0) else {
        return false;
    };
    if upload.absorb(&client.buffer).is_err() {
        return false;
    }
    account.occupied = upload.occupied();
    account.bytes_in += upload.total();
    upload.is_complete()
}
