//! The response of a paused pool that has a page: the page, or a problem document for clients that prefer JSON.

use super::Transaction;
use super::local_response::send_page;
use super::record::RequestEnd;
use crate::core::Time;
use crate::proxy::client::AfterRequest;
use crate::proxy::error_response::reason_phrase;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;
use crate::registry::pause::{MaintenancePage, PoolPause};
use crate::rt::clock;

/// `Retry-After` of a pause without an end time, in seconds.
const RETRY_AFTER: u64 = 60;

/// The cause for the log.
pub(super) const PAUSED: &str = "the pool is paused and answers with a page";

impl Transaction<'_> {
    /// Sends the page of a paused pool.
    pub(super) async fn answer_page(
        &mut self,
        pause: &PoolPause,
        page: &MaintenancePage,
    ) -> AfterRequest {
        self.account.end = RequestEnd::Paused;
        let wants_json = !page.media_type.contains("json")
            && prefers_json(self.client.buffer.bytes(), self.head);
        let retry_after = retry_after(page.status, pause.term.until, clock::now());
        let answer = match wants_json {
            true => PageAnswer {
                status: page.status,
                media_type: "application/problem+json",
                body: problem(page.status),
                retry_after,
            },
            false => PageAnswer {
                status: page.status,
                media_type: &page.media_type,
                body: page.body.clone(),
                retry_after,
            },
        };
        let is_whole = self.upload.is_complete();
        send_page(
            self.plane,
            self.client,
            self.head,
            self.account,
            answer,
            is_whole,
        )
        .await
    }
}

/// The page to send.
pub(super) struct PageAnswer<'a> {
    pub(super) status: u16,
    media_type: &'a str,
    body: String,
    retry_after: Option<u64>,
}

impl PageAnswer<'_> {
    /// Appends the complete response.
    pub(super) fn write(&self, out: &mut Vec<u8>, close: bool, head_only: bool) {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nCache-Control: no-store\r\nVary: Accept\r\nContent-Length: {}\r\n",
            self.status,
            reason_phrase(self.status),
            self.media_type,
            self.body.len()
        );
        if let Some(seconds) = self.retry_after {
            head.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// Returns the seconds until the pause ends, rounded up and at least 1, for a status that invites a retry.
fn retry_after(status: u16, until: Option<Time>, now: Time) -> Option<u64> {
    let asks_again = matches!(status, 429 | 503);
    asks_again.then(|| match until {
        Some(until) => {
            let left = until.saturating_sub(now).as_millis().div_ceil(1000);
            u64::try_from(left).unwrap_or(u64::MAX).max(1)
        }
        None => RETRY_AFTER,
    })
}

/// Returns the problem document that replaces the page (RFC 9457).
fn problem(status: u16) -> String {
    format!(
        "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{status},\"detail\":\"This service is paused.\"}}\n",
        reason_phrase(status)
    )
}

/// Returns whether the client accepts JSON but not HTML.
fn prefers_json(buffer: &[u8], head: &RequestHead) -> bool {
    let accept = head.fields.iter().filter(|field| {
        field.kind == FieldKind::Other && field.name.of(buffer).eq_ignore_ascii_case(b"accept")
    });
    let (mut json, mut html) = (false, false);
    for field in accept {
        let value = field.value.of(buffer).to_ascii_lowercase();
        json |= [&b"application/json"[..], b"+json"]
            .iter()
            .any(|kind| memchr::memmem::find(&value, kind).is_some());
        html |= memchr::memmem::find(&value, b"text/html").is_some();
    }
    json && !html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_to_ask_again_when_the_pause_ends() {
        let second = Time::from_secs(1);
        assert_eq!(retry_after(503, Some(second * 90), second), Some(89));
        assert_eq!(
            retry_after(503, Some(second + Time::from_millis(1)), second),
            Some(1)
        );
        assert_eq!(retry_after(503, Some(second), second), Some(1));
        assert_eq!(retry_after(429, None, second), Some(RETRY_AFTER));
        assert_eq!(retry_after(200, None, second), None);
    }

    #[test]
    fn a_problem_document_is_json() {
        let problem: serde_json::Value = serde_json::from_str(&problem(503)).unwrap();
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["title"], "Service Unavailable");
    }
}
