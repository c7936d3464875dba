//! Holds a request while no backend is eligible. Held requests are released first come, first served, when that
//! changes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Poll, ready};

use crate::config::{self, Config, RouteHold};
use crate::core::Time;
use crate::core::hold::{
    self, HoldAdmission, HoldCandidate, HoldLimits, HoldRefusal, OnEmpty, admit, second_look,
};
use crate::core::pause::paused_limits;
use crate::proxy::buffer::LARGE;
use crate::proxy::client::ClientConnection;
use crate::proxy::client::heard::{ClientLooks, WaitEnd};
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::upstream::pick::{ExcludedBackends, admit_waiter};
use crate::registry::RegistryHandle;
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::{PoolShared, PoolSnapshot};
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Number of doublings of the polling interval for a request that waits for a free place on a backend. Such a request
/// is woken when a place becomes free; it only polls in case a reload has just set the limit.
const ROOM_ROUND: u32 = 4;

/// How a wait ended.
#[derive(Debug)]
pub enum HoldEnd {
    /// The request may try again; it drops its place in the queue afterwards.
    Released(HoldTicket),
    /// A backend had a free place after all.
    Admitted(Permit),
    /// The request may not wait, or has waited for the longest time allowed: 503. The text is for the client.
    GaveUp(HoldRefusal, &'static str),
    /// No backend became eligible in time: 503.
    NoneReady,
    /// The process is shutting down: 503.
    ShutDown,
    /// `total_timeout` has passed: 503.
    TooLate,
    /// No backend is eligible, and the pool fails open.
    FailOpen,
    /// A new configuration is in effect: the request has to be routed again.
    Reconfigured,
    /// The pool was paused or resumed: different rules apply to the wait.
    PauseChanged,
    /// The client has disconnected.
    ClientGone,
}

/// A request that has to wait.
#[derive(Debug)]
pub struct HoldRequest<'a> {
    /// Start of its first wait.
    pub since: Time,
    /// End of its `total_timeout`.
    pub ends: Option<Time>,
    /// Whether a backend can be used by fail-open that this request hasn't tried yet.
    pub may_fail_open: bool,
    /// Whether backends are eligible but all of them are full.
    pub for_room: bool,
    /// Whether only the backend of its session will do. Such a request doesn't join the queue for a free place on any
    /// backend; it polls instead.
    pub for_home: bool,
    /// Backends that the request is not sent to again.
    pub excluded: &'a ExcludedBackends,
    /// The configuration by which the request was routed.
    pub config: &'a Arc<Config>,
    /// Hold settings of its route that override the pool's.
    pub own: Option<RouteHold>,
    /// The part of its body that has arrived.
    pub upload: &'a mut RequestUpload,
}

/// A place in the queue: counts a request as held for as long as it waits.
#[derive(Debug)]
pub struct HoldTicket {
    shared: Arc<PoolShared>,
    bytes: u64,
    for_room: bool,
    /// Whether it was released and has not tried a backend yet.
    granted: bool,
}

impl HoldTicket {
    /// Enters the queue. For the second value see
    /// [`CapacityWaiters::wait`](crate::registry::endpoint::waiters::CapacityWaiters::wait).
    fn new(shared: Arc<PoolShared>, bytes: u64, for_room: bool) -> (Self, bool) {
        shared.held.fetch_add(1, Ordering::SeqCst);
        shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let first = for_room && shared.queue.room.wait();
        let place = Self {
            shared,
            bytes,
            for_room,
            granted: false,
        };
        (place, first)
    }

    /// Counts bytes that have arrived meanwhile, and returns the maximum size of the buffer.
    fn grow(&mut self, buffered: u64, max_bytes: u64) -> usize {
        let more = buffered.saturating_sub(self.bytes);
        let held = self.shared.held_bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bytes += more;
        let left = max_bytes.saturating_sub(held);
        usize::try_from(buffered.saturating_add(left)).unwrap_or(usize::MAX)
    }

    /// Notes that the request has tried: the free place for which it was released is taken, by this request or
    /// another.
    pub fn used(&mut self) {
        self.granted = false;
    }
}

impl Drop for HoldTicket {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::SeqCst);
        self.shared
            .held_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
        if self.for_room {
            self.shared.queue.room.leave();
        }
        // The request was released but did not use the place: the next request may try.
        if self.granted {
            self.shared.queue.on_room(true);
        }
    }
}

/// Waits until the pool has an eligible backend with a free place.
pub async fn wait(
    registry: &RegistryHandle,
    pool: &PoolSnapshot,
    client: &mut ClientConnection,
    wish: HoldRequest<'_>,
) -> HoldEnd {
    let is_current = || Arc::ptr_eq(&registry.snapshot().config, wish.config);
    // In a pool that was removed, the request might try for ever to enter backends that admit no more requests.
    if !is_current() {
        return HoldEnd::Reconfigured;
    }
    let shared = &pool.shared;
    let config = &pool.config.hold;
    let own = wish.own.as_ref();
    let mut limits = HoldLimits {
        on_empty: match own.and_then(|own| own.on_empty).unwrap_or(config.on_empty) {
            config::OnEmptyConfig::Hold => OnEmpty::Hold,
            config::OnEmptyConfig::Fail => OnEmpty::Fail,
            config::OnEmptyConfig::FailOpen => OnEmpty::FailOpen,
        },
        timeout: own.and_then(|own| own.timeout).unwrap_or(config.timeout),
        max_requests: config.max_requests,
        max_bytes: config.max_bytes,
    };
    if let Some(until) = pool.pause.as_ref().and_then(|pause| pause.term.until) {
        limits = paused_limits(limits, wish.since, until);
    }
    let bytes = client.buffer.len() as u64;
    let held = hold::HeldTotals {
        requests: shared.held.load(Ordering::Relaxed),
        bytes: shared.held_bytes.load(Ordering::Relaxed),
    };
    let waiter = HoldCandidate {
        bytes,
        since: wish.since,
        may_fail_open: wish.may_fail_open,
    };
    let mut deadline = match admit(held, waiter, &limits, clock::now()) {
        HoldAdmission::Hold { until } => until,
        HoldAdmission::Fail(refusal) => return HoldEnd::GaveUp(refusal, refusal.as_str()),
        HoldAdmission::FailOpen => return HoldEnd::FailOpen,
    };
    let mut late = match wish.for_room {
        true => HoldEnd::GaveUp(HoldRefusal::TooLong, "no backend had room in time"),
        false => HoldEnd::NoneReady,
    };
    if let Some(ends) = wish.ends.filter(|ends| *ends < deadline) {
        (deadline, late) = (ends, HoldEnd::TooLate);
    }
    let in_queue = wish.for_room && !wish.for_home;
    let (mut place, first) = HoldTicket::new(shared.clone(), bytes, in_queue);
    let mut reconfigured = pin!(shared.queue.reconfigured.notified());
    reconfigured.as_mut().enable();
    // Publishing a snapshot is followed by reading `held`; here, `held` is incremented first and the snapshot read
    // afterwards, so no change is missed. If a backend is eligible but not for this request (already tried, or full),
    // no publication will wake it.
    fence(Ordering::SeqCst);
    if !is_current() {
        return HoldEnd::Reconfigured;
    }
    let newest = newest(registry, pool);
    let paused = |pool: &PoolSnapshot| pool.pause.as_ref().map(Arc::as_ptr);
    if newest
        .as_ref()
        .is_some_and(|newest| paused(newest) != paused(pool))
    {
        return HoldEnd::PauseChanged;
    }
    if first
        && let Some(newest) = &newest
        && let Some(permit) = admit_waiter(newest, wish.excluded)
    {
        return HoldEnd::Admitted(permit);
    }
    let round = if in_queue { ROOM_ROUND } else { 0 };
    let mut look_again = newest
        .is_some_and(|newest| wish.for_home || !newest.ready.is_empty())
        .then(|| Box::pin(clock::sleep(second_look(round))));
    let mut released = Box::pin(shared.queue.release.acquire());
    let mut looks = ClientLooks::default();
    let end = poll_fn(|cx| {
        if !wish.for_home
            && let Poll::Ready(permit) = released.as_mut().poll(cx)
        {
            if let Ok(permit) = permit {
                permit.forget();
            }
            place.granted = true;
            return Poll::Ready(None);
        }
        if look_again
            .as_mut()
            .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(None);
        }
        if reconfigured.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(match is_current() {
                true => HoldEnd::PauseChanged,
                false => HoldEnd::Reconfigured,
            }));
        }
        client.interrupt.register(cx.waker());
        if client.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(Some(HoldEnd::ShutDown));
        }
        // Bytes for which there is no room stay in the kernel's buffer, and TCP flow control slows the client down.
        let most = place.grow(client.buffer.len() as u64, limits.max_bytes);
        let gone = client.poll_gone(cx, most, wish.upload);
        place.grow(client.buffer.len() as u64, limits.max_bytes);
        if gone {
            return Poll::Ready(Some(HoldEnd::ClientGone));
        }
        let is_deaf = client.finished || !client.buffer.has_room(most.min(LARGE));
        match ready!(looks.poll(cx, client, is_deaf, deadline)) {
            WaitEnd::Enough => Poll::Ready(Some(std::mem::replace(&mut late, HoldEnd::ClientGone))),
            WaitEnd::Abandoned => Poll::Ready(Some(HoldEnd::ClientGone)),
        }
    })
    .await;
    end.unwrap_or(HoldEnd::Released(place))
}

/// Returns the pool's state in the newest snapshot.
fn newest(registry: &RegistryHandle, pool: &PoolSnapshot) -> Option<Arc<PoolSnapshot>> {
    let snapshot = registry.snapshot();
    let mut pools = snapshot.pools.iter();
    pools
        .find(|other| Arc::ptr_eq(&other.shared, &pool.shared))
        .cloned()
}
