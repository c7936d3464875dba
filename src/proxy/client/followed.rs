//! What follows a request to its end besides its record: the figures of a split plan, and a trace. Most requests have
//! neither, and only need one pointer.

use super::ClientConnection;
use crate::core::call_status::CallStatus;
use crate::core::trace_context::trace_id_text;
use crate::metrics::MeteredRequest;
use crate::telemetry::spans::record::{AttemptSpan, RequestTrace};

/// What follows a request.
#[derive(Debug, Default)]
pub struct FollowedRequest {
    /// Counts the request, if a plan moves its route's split.
    pub metered: Option<MeteredRequest>,
    /// The request's part of its trace, if that is recorded.
    pub trace: Option<Box<RequestTrace>>,
    /// The id of its trace, for the log; 0: none.
    pub trace_id: u128,
    /// Whether its trace context is invalid or not trusted: backends don't get it.
    pub is_stripped: bool,
}

impl FollowedRequest {
    /// Returns the record of the current attempt, or of the last one.
    pub fn attempt(&mut self) -> Option<&mut AttemptSpan> {
        self.trace.as_mut()?.attempts.last_mut()
    }
}

impl ClientConnection {
    /// Sets the trace of a request that another process has begun; empty: none.
    pub fn follow_trace(&mut self, trace_id: &str) {
        if let Ok(trace_id) = u128::from_str_radix(trace_id, 16) {
            self.followed = Some(Box::new(FollowedRequest {
                trace_id,
                ..FollowedRequest::default()
            }));
        }
    }

    /// Records the gRPC status that the client was sent.
    pub fn follow_call(&mut self, code: u8) {
        let followed = self.followed.as_mut();
        if let Some(trace) = followed.and_then(|followed| followed.trace.as_mut()) {
            trace.call_status = Some(CallStatus(code));
        }
    }

    /// Returns the trace of the current request, for a log line; `None`: it has none.
    pub fn trace_id_text(&self) -> Option<String> {
        let followed = self.followed.as_ref()?;
        let text = trace_id_text(followed.trace_id);
        (followed.trace_id != 0).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
