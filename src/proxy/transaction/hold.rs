//! A request that waits because nothing is eligible: woken when that changes, first come, first served.

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

/// A request that waits for room is woken when there is some; it checks by itself only in case a reload has just set
/// the limit.
const ROOM_ROUND: u32 = 4;

/// How a wait ended.
#[derive(Debug)]
pub enum HoldEnd {
    /// Try again, and let go of the place afterwards.
    Released(HoldTicket),
    /// A backend had room after all.
    Admitted(Permit),
    /// It may not wait, or has waited long enough: 503. The text is for the client.
    GaveUp(HoldRefusal, &'static str),
    /// Nothing became eligible in time: 503.
    NoneReady,
    /// The process is at its end: 503.
    ShutDown,
    /// `total_timeout` is over: 503.
    TooLate,
    /// Nothing is eligible and the pool fails open.
    FailOpen,
    /// Another configuration is in force: it has to be routed anew.
    Reconfigured,
    /// The pool was paused, or is no longer: other rules hold for its wait.
    PauseChanged,
    /// The client has gone.
    ClientGone,
}

/// A request that has to wait.
#[derive(Debug)]
pub struct HoldRequest<'a> {
    /// When it first had to.
    pub since: Time,
    /// When its `total_timeout` is over.
    pub ends: Option<Time>,
    /// Some backend may be used by fail-open and was not tried by this request.
    pub may_fail_open: bool,
    /// Something is eligible, and only full.
    pub for_room: bool,
    /// Only the backend of its session will do. Such a request takes no place in the queue for room on the others,
    /// and checks by itself.
    pub for_home: bool,
    /// Backends that it is not sent to again.
    pub excluded: &'a ExcludedBackends,
    /// The configuration that it was routed by.
    pub config: &'a Arc<Config>,
    /// What its route has of its own.
    pub own: Option<RouteHold>,
    /// Its body, as far as it has come.
    pub upload: &'a mut RequestUpload,
}

/// A place in the queue: counts a waiting request for as long as it waits.
#[derive(Debug)]
pub struct HoldTicket {
    shared: Arc<PoolShared>,
    bytes: u64,
    for_room: bool,
    /// It was released, and has not tried a backend yet.
    granted: bool,
}

impl HoldTicket {
    /// The second value: see [`CapacityWaiters::wait`](crate::registry::endpoint::waiters::CapacityWaiters::wait).
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

    /// Counts what has arrived in the meantime; says how large the buffer may become at most.
    fn grow(&mut self, buffered: u64, max_bytes: u64) -> usize {
        let more = buffered.saturating_sub(self.bytes);
        let held = self.shared.held_bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bytes += more;
        let left = max_bytes.saturating_sub(held);
        usize::try_from(buffered.saturating_add(left)).unwrap_or(usize::MAX)
    }

    /// The request has tried: the room that it was released for is taken, by this request or by another.
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
        // Released without success: the next request may try.
        if self.granted {
            self.shared.queue.on_room(true);
        }
    }
}

/// Waits until the pool has something eligible, with room.
pub async fn wait(
    registry: &RegistryHandle,
    pool: &PoolSnapshot,
    client: &mut ClientConnection,
    wish: HoldRequest<'_>,
) -> HoldEnd {
    let is_current = || Arc::ptr_eq(&registry.snapshot().config, wish.config);
    // By the rules of a pool that is gone, it might try for ever to enter backends that no longer admit requests.
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
    // Whoever publishes a snapshot looks at `held` afterwards; we counted first and look at the snapshot now.
    // Where something is eligible and yet refused us (it was tried, or is full), no publication will wake us.
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
        // What no room is left for stays in the kernel, and holds the client back.
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

/// The pool as it is now.
fn newest(registry: &RegistryHandle, pool: &PoolSnapshot) -> Option<Arc<PoolSnapshot>> {
    let snapshot = registry.snapshot();
    let mut pools = snapshot.pools.iter();
    pools
        .find(|other| Arc::ptr_eq(&other.shared, &pool.shared))
        .cloned()
}
