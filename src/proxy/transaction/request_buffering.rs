//! Receives a short request body completely before a backend is chosen.
//!
//! A slow client then occupies a buffer, not a backend's connection and worker; a drain doesn't wait for it; and the
//! backend is chosen by its state at the time of sending. (nginx does the same with `proxy_request_buffering`,
//! HAProxy with `option http-buffer-request`.)

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::super::buffer::{AHEAD, BODY_STEP, LARGE};
use super::Transaction;
use super::local_response::{LocalResponse, body_answer};
use crate::core::Time;
use crate::metrics::ServerLimit;
use crate::proxy::client::AfterRequest;
use crate::proxy::error_response::SHUTTING_DOWN;
use crate::proxy::forward::min_rate::MinRatePace;
use crate::proxy::h1::request::RequestBody;
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Minimum rate of a body that is buffered, in bytes per second, applied after `body_timeout` unless `min_body_rate`
/// sets a rate. Otherwise a client could keep a request in the proxy's memory by sending a byte now and then.
const SLOWEST: u64 = 1024;

/// Memory of a waiting request besides its buffer's surplus, in bytes: its task, its stream, a small buffer.
const WAITING: usize = 8 * 1024;

/// How long a request is safe from being evicted in favour of others, unless it is large: most bodies arrive right
/// after their heads.
const NEWCOMER: Duration = Duration::from_millis(500);

/// How the wait for the body ended.
enum BodyRead {
    Whole,
    /// Memory for waiting is used up: the body is streamed instead.
    NoRoom,
    Refused(LocalResponse),
    ClientGone,
}

impl Transaction<'_> {
    /// Waits for the body, if it is to be buffered; returns how the request ends if the body never comes.
    ///
    /// While no backend is ready, the request is held first, in memory that `[pool.hold]` limits, and the rest of its
    /// body is received after its release.
    pub(super) async fn buffer_body(&mut self) -> Result<(), AfterRequest> {
        match self.worth_buffering() {
            Some(most) => self.receive(most).await,
            None => Ok(()),
        }
    }

    /// Returns the maximum size of the buffer, if the body is to be buffered now.
    #[inline]
    pub(super) fn worth_buffering(&self) -> Option<usize> {
        let most = self.worth_waiting()?;
        (!self.pool.ready.is_empty()).then_some(most)
    }

    /// Waits for the rest of the body, whether or not a backend is ready. The buffer becomes no larger than `most`.
    pub(super) async fn receive(&mut self, most: usize) -> Result<(), AfterRequest> {
        let began = clock::now();
        let server = &self.config.server;
        let pace = match server.min_body_rate {
            Some(rate) if rate > 0 => (rate, server.rate_grace),
            _ => (SLOWEST, server.body_timeout),
        };
        let mut wait = BodyWait {
            most,
            newcomer_until: Some(began + NEWCOMER),
            progress: began,
            pace: MinRatePace::new(pace),
        };
        wait.goes_on(began);
        let arrival = poll_fn(|cx| self.poll_body(cx, &mut wait)).await;
        self.client.place = None;
        match arrival {
            BodyRead::Whole | BodyRead::NoRoom => {
                // The wait may have been long, and the pool may have changed.
                self.refresh_snapshot();
                Ok(())
            }
            BodyRead::Refused(answer) => Err(self.answer(answer).await),
            BodyRead::ClientGone => Err(self.client_gone()),
        }
    }

    /// Returns the maximum size of the buffer, if the rest of the body is to be received first.
    ///
    /// `None` for example if the body is too large to be kept for another attempt, if its length is not known, or if
    /// the client sent `Expect: 100-continue` (RFC 9110, section 10.1.1), which only the backend can answer.
    #[inline]
    pub(super) fn worth_waiting(&self) -> Option<usize> {
        let RequestBody::Length(length) = self.head.body else {
            return None;
        };
        if self.upload.is_complete()
            || self.head.is_grpc
            || self.head.expect_continue
            || !self.is_buffered()
        {
            return None;
        }
        let whole = usize::try_from(length).ok()?.checked_add(self.head.len)?;
        (whole <= LARGE).then_some(whole + AHEAD)
    }

    /// Returns whether request buffering is on.
    fn is_buffered(&self) -> bool {
        let own = self
            .own_settings()
            .and_then(|route| route.request_buffering);
        own.unwrap_or(self.pool.config.upstream.request_buffering)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, wait: &mut BodyWait) -> Poll<BodyRead> {
        loop {
            if let Err(error) = self.upload.absorb(&self.client.buffer) {
                return Poll::Ready(BodyRead::Refused(body_answer(error)));
            }
            if self.upload.is_complete() {
                return Poll::Ready(BodyRead::Whole);
            }
            let growth = self.client.buffer.growth(wait.most, BODY_STEP);
            if growth > 0 && !self.client.may_grow(growth) {
                return Poll::Ready(BodyRead::NoRoom);
            }
            let (buffer, stream) = (&mut self.client.buffer, &mut self.client.stream);
            match buffer.poll_fill_by(cx, stream, wait.most, BODY_STEP) {
                Poll::Ready(Ok(count)) if count > 0 => wait.moved(clock::now()),
                Poll::Ready(_) => return Poll::Ready(BodyRead::ClientGone),
                Poll::Pending => break,
            }
        }
        self.client.interrupt.register(cx.waker());
        if self.client.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(BodyRead::Refused(LocalResponse::new(503, SHUTTING_DOWN)));
        }
        let (at, limit) = self.patience(wait);
        if let Some(until) = wait.newcomer_until
            && until < at
            && self.client.buffer.surplus() == 0
        {
            if self.client.timer.poll(cx, until).is_pending() {
                return Poll::Pending;
            }
            wait.newcomer_until = None;
        }
        if self.client.poll_evicted(cx, WAITING) {
            let answer = LocalResponse::limited(ServerLimit::Memory, 408);
            return Poll::Ready(BodyRead::Refused(answer));
        }
        let answer = LocalResponse::limited(limit, 408);
        self.client
            .timer
            .poll(cx, at)
            .map(|()| BodyRead::Refused(answer))
    }

    /// Returns the deadline of the wait for the body, and the limit that sets it.
    fn patience(&self, wait: &BodyWait) -> (Time, ServerLimit) {
        let silent = wait.progress + self.config.server.body_timeout;
        let slow = wait.pace.deadline(self.upload.total());
        let late = self.ends();
        [
            (slow, ServerLimit::BodyRate),
            (late, ServerLimit::TotalTimeout),
        ]
        .into_iter()
        .filter_map(|(at, limit)| Some((at?, limit)))
        .fold((silent, ServerLimit::BodyTimeout), |first, other| {
            if other.0 < first.0 { other } else { first }
        })
    }
}

/// The state of a wait for a body.
struct BodyWait {
    /// Maximum size of the buffer.
    most: usize,
    /// The request can't be evicted before this time; `None`: the time has passed.
    newcomer_until: Option<Time>,
    progress: Time,
    pace: MinRatePace,
}

impl BodyWait {
    fn moved(&mut self, now: Time) {
        self.progress = now;
        self.pace.moved(now);
        self.goes_on(now);
    }

    fn goes_on(&mut self, now: Time) {
        if self.pace.wants_to_know() {
            self.pace.wait(now);
        }
    }
}
