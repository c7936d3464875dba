//! Answers that we give ourselves: what went wrong, as a status and a line for people.

use std::time::Duration;

use super::super::account::Account;
use super::super::client::{Client, Next};
use super::super::exchange::Failure;
use super::super::method::{Method, Version};
use super::super::request::RequestHead;
use super::super::upload::UploadError;
use super::{CUT, Transaction};
use crate::clock;
use crate::core::hold::RETRY_AFTER;
use crate::core::retry;
use crate::proxy::errors::write_local_response;
use crate::proxy::plane::Plane;
use crate::telemetry::metrics::Limit;

/// How long a client may take to take an answer of ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that we give ourselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) cause: &'static str,
    pub(super) retry_after: Option<u32>,
    /// The limit of `[server]` that it is about.
    pub(super) limit: Option<Limit>,
}

impl Answer {
    pub(super) const fn new(status: u16, cause: &'static str) -> Self {
        Self {
            status,
            cause,
            retry_after: None,
            limit: None,
        }
    }

    /// A limit of `[server]` was reached.
    pub(super) const fn limited(limit: Limit, status: u16) -> Self {
        let cause = match limit {
            Limit::BodyTimeout => "the request's body made no progress",
            Limit::BodyRate => "the request's body came too slowly",
            Limit::Body => "the request's body is larger than max_body",
            _ if status == 408 => "the request took too long to arrive",
            _ if status == 504 => "the backend took longer than total_timeout",
            _ => "no backend became ready within total_timeout",
        };
        Self {
            limit: Some(limit),
            ..Self::new(status, cause)
        }
    }
}

impl Transaction<'_> {
    pub(super) async fn give_up_as(&mut self, failure: retry::Failure) -> Next {
        let answer = match failure {
            retry::Failure::ConnectFailed => Answer {
                retry_after: Some(RETRY_AFTER),
                ..Answer::new(503, "no backend could be reached")
            },
            retry::Failure::Timeout => Answer::new(504, "the backend did not answer in time"),
            _ if self.account.end == CUT => {
                Answer::new(502, "the backend is stopping and did not answer in time")
            }
            _ => Answer::new(502, "the backend closed the connection before it answered"),
        };
        self.account.end = match failure {
            retry::Failure::Timeout => "timeout",
            _ if self.account.end == CUT => CUT,
            _ => "upstream_died",
        };
        self.answer(answer).await
    }

    pub(super) async fn give_up(&mut self, failure: Failure) -> Next {
        let answer = match failure {
            Failure::BadResponse(cause) => Answer::new(502, cause),
            Failure::BadBody(error) => body_answer(error),
            Failure::Limited {
                limit,
                answer: Some(status),
            } => Answer::limited(limit, status),
            _ => Answer::new(502, "the backend's answer could not be passed on"),
        };
        self.answer(answer).await
    }

    pub(super) async fn answer(&mut self, answer: Answer) -> Next {
        answer_locally(
            self.plane,
            self.client,
            self.head,
            self.account,
            answer,
            self.upload.is_complete(),
        )
        .await
    }
}

pub(super) fn body_answer(error: UploadError) -> Answer {
    match error {
        UploadError::TooLarge => Answer::limited(Limit::Body, 413),
        UploadError::Malformed => Answer::new(400, "the request's chunked body is malformed"),
    }
}

/// Gives the client an answer of our own.
pub(super) async fn answer_locally(
    plane: &Plane,
    client: &mut Client,
    head: &RequestHead,
    account: &mut Account,
    answer: Answer,
    body_complete: bool,
) -> Next {
    if let Some(limit) = answer.limit {
        plane.counters.limited(limit);
        account.end = limit.key();
    }
    // What is left of the body would be taken for the next request.
    // And an HTTP/1.0 client wants to be told that its connection stays open, which such an answer does not do.
    let keep_alive = head.keep_alive
        && head.version == Version::Http11
        && body_complete
        && !client.finished
        && !plane.is_lame();
    let mut out = Vec::with_capacity(256);
    let head_only = head.method == Method::Head;
    write_local_response(
        &mut out,
        answer.status,
        answer.cause,
        !keep_alive,
        head_only,
        answer.retry_after,
    );
    let body = memchr::memmem::find(&out, b"\r\n\r\n").map_or(0, |end| out.len() - end - 4);
    account.local(answer.status, answer.cause, body as u64);
    match client.write_all(&out, clock::now() + PATIENCE).await {
        Ok(()) if keep_alive => Next::KeepAlive,
        Ok(()) if body_complete => Next::Close,
        Ok(()) => Next::Linger,
        Err(_) => {
            if answer.limit.is_none() {
                account.end = "client_closed";
            }
            Next::Abort
        }
    }
}
