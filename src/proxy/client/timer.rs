//! A lazy deadline per client connection: it changes far more often than it expires.
//!
//! A timer that is already set to fire no later than the deadline is left alone. If it fires too early, it is set
//! again. So a busy connection sets a timer about once per timeout, not once per request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::core::Time;
use crate::rt::clock;

/// The connection's only timer.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Time,
    waiting: bool,
}

impl Timer {
    /// Returns whether `deadline` has passed; otherwise the task is woken at the deadline, or some time before.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Time) -> Poll<()> {
        if self.waiting && self.at <= deadline {
            let fired = self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed());
            if !fired {
                return Poll::Pending;
            }
        }
        loop {
            if clock::now() >= deadline {
                self.waiting = false;
                return Poll::Ready(());
            }
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(clock::sleep_until(deadline)));
            sleep.as_mut().reset(clock::instant(deadline));
            self.at = deadline;
            self.waiting = true;
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test]
    async fn fires_at_a_deadline_that_moved_back_and_forth() {
        let mut timer = Timer::default();
        let start = clock::now();
        let far = start + Duration::from_secs(60);
        let near = start + Duration::from_millis(30);
        poll_fn(|cx| {
            assert!(timer.poll(cx, far).is_pending());
            assert!(timer.poll(cx, near).is_pending());
            assert!(timer.poll(cx, far).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| timer.poll(cx, near)).await;
        assert!(clock::now() >= near);
        let later = clock::now() + Duration::from_millis(20);
        poll_fn(|cx| timer.poll(cx, later)).await;
        assert!(clock::now() >= later);
    }
}
