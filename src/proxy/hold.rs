//! A request that waits because nothing is eligible: woken when that changes, first come, first served.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;

use super::h1::client::Client;
use crate::clock;
use crate::config;
use crate::core::Time;
use crate::core::hold::{self, Admission, Limits, OnEmpty, Waiter, admit, second_look};
use crate::interrupt::Level;
use crate::registry::Handle;
use crate::registry::snapshot::{Pool, PoolShared};

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Try again.
    Released,
    /// It may not wait, or has waited long enough: 503.
    GaveUp(&'static str),
    /// Nothing is eligible and the pool fails open.
    FailOpen,
    /// The client has gone.
    ClientGone,
}

/// Counts a waiting request for as long as it waits.
struct Place<'a> {
    shared: &'a PoolShared,
    bytes: u64,
}

impl<'a> Place<'a> {
    fn new(shared: &'a PoolShared, bytes: u64) -> Self {
        shared.held.fetch_add(1, Ordering::SeqCst);
        shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { shared, bytes }
    }

    /// Counts what has arrived in the meantime; says how large the buffer may become at most.
    fn grow(&mut self, buffered: u64, max_bytes: u64) -> usize {
        let more = buffered.saturating_sub(self.bytes);
        let held = self.shared.held_bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bytes += more;
        let left = max_bytes.saturating_sub(held);
        usize::try_from(buffered.saturating_add(left)).unwrap_or(usize::MAX)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::SeqCst);
        self.shared
            .held_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Waits until the pool has something eligible; `since` is when the request first had to wait.
pub async fn wait(
    registry: &Handle,
    pool: &Pool,
    client: &mut Client,
    since: Time,
    may_fail_open: bool,
) -> Held {
    let shared = &pool.shared;
    let config = &pool.config.hold;
    let limits = Limits {
        on_empty: match config.on_empty {
            config::OnEmpty::Hold => OnEmpty::Hold,
            config::OnEmpty::Fail => OnEmpty::Fail,
            config::OnEmpty::FailOpen => OnEmpty::FailOpen,
        },
        timeout: config.timeout,
        max_requests: config.max_requests,
        max_bytes: config.max_bytes,
    };
    let bytes = client.buffer.len() as u64;
    let held = hold::Held {
        requests: shared.held.load(Ordering::Relaxed),
        bytes: shared.held_bytes.load(Ordering::Relaxed),
    };
    let waiter = Waiter {
        bytes,
        since,
        may_fail_open,
    };
    let deadline = match admit(held, waiter, &limits, clock::now()) {
        Admission::Hold { until } => until,
        Admission::Fail(refusal) => return Held::GaveUp(refusal.as_str()),
        Admission::FailOpen => return Held::FailOpen,
    };
    let mut place = Place::new(shared, bytes);
    // Whoever publishes a snapshot looks at `held` afterwards; we counted first and look at the snapshot now.
    // Where something is eligible and yet refused us (it was tried, or is full), no publication will wake us.
    fence(Ordering::SeqCst);
    let mut look_again =
        has_ready(registry, pool).then(|| Box::pin(tokio::time::sleep(second_look(0))));
    let mut released = Box::pin(shared.release.acquire());
    poll_fn(|cx| {
        if let Poll::Ready(permit) = released.as_mut().poll(cx) {
            if let Ok(permit) = permit {
                permit.forget();
            }
            return Poll::Ready(Held::Released);
        }
        if look_again
            .as_mut()
            .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Held::Released);
        }
        if client.timer.poll(cx, deadline).is_ready() {
            return Poll::Ready(Held::GaveUp("no backend became ready in time"));
        }
        client.interrupt.register(cx.waker());
        if client.interrupt.level() == Level::Cut {
            return Poll::Ready(Held::GaveUp("lameduck is shutting down"));
        }
        // What no room is left for stays in the kernel, and holds the client back.
        let most = place.grow(client.buffer.len() as u64, limits.max_bytes);
        let gone = client.poll_gone(cx, most);
        place.grow(client.buffer.len() as u64, limits.max_bytes);
        if gone {
            Poll::Ready(Held::ClientGone)
        } else {
            Poll::Pending
        }
    })
    .await
}

fn has_ready(registry: &Handle, pool: &Pool) -> bool {
    let snapshot = registry.snapshot();
    let same = snapshot
        .pools
        .iter()
        .find(|other| Arc::ptr_eq(&other.shared, &pool.shared));
    same.is_some_and(|pool| !pool.ready.is_empty())
}
