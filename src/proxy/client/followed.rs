//! What follows a request to its end besides its record, where somebody wants to know: a plan that moves a split, and its
//! trace. Most requests have none of it, and pay for one pointer.

use super::ClientConnection;
use crate::core::call_status::CallStatus;
use crate::core::trace_context::trace_id_text;
use crate::metrics::MeteredRequest;
use crate::telemetry::spans::record::{AttemptSpan, RequestTrace};

/// What follows a request.
#[derive(Debug, Default)]
pub struct FollowedRequest {
    /// Counts it, where a plan moves its route's split.
    pub metered: Option<MeteredRequest>,
    /// What is recorded of it, where its trace is.
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
    /// The current request is another process's, and belongs to this trace; empty: to none.
    pub fn follow_trace(&mut self, trace_id: &str) {
        if let Ok(trace_id) = u128::from_str_radix(trace_id, 16) {
            self.followed = Some(Box::new(FollowedRequest {
                trace_id,
                ..FollowedRequest::default()
            }));
        }
    }

    /// The client was told here what has become of its call.
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
