//! What follows a request to its end besides its record: the figures of a split plan, and a trace. Most requests have
//! neither, and pay for one pointer.

use super::ClientConnection;
use crate::core::call_status::CallStatus;
use crate::core::trace_context::trace_id_text;
use crate::metrics::MeteredRequest;
use crate::telemetry::spans::record::{AttemptSpan, RequestTrace};

/// What follows a request.
#[derive(Debug, Default)]
pub struct FollowedRequest {
    /// Counts the request where a plan moves its route's split.
    pub metered: Option<MeteredRequest>,
    /// The request's part of its trace, where that is recorded.
    pub trace: Option<Box<RequestTrace>>,
    /// The trace that it belongs to, for the log; 0: none.
    pub trace_id: u128,
    /// The trace context that it came with is broken, or not believed: backends don't get it.
    pub is_stripped: bool,
}

impl FollowedRequest {
    /// What is recorded of the attempt that is under way, or was the last one.
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

    /// Notes the gRPC status that the client was sent.
    pub fn follow_call(&mut self, code: u8) {
        let followed = self.followed.as_mut();
        if let Some(trace) = followed.and_then(|followed| followed.trace.as_mut()) {
            trace.call_status = Some(CallStatus(code));
        }
    }

    /// The trace that the current request belongs to, for a line of the log; `None`: none.
    pub fn trace_id_text(&self) -> Option<String> {
        let followed = self.followed.as_ref()?;
        let text = trace_id_text(followed.trace_id);
        (followed.trace_id != 0).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
