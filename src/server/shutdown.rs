//! Shutdown of the proxy: lame duck, stop accepting, finish what is in flight, exit.

use std::time::Duration;

use tracing::{info, warn};

use super::listeners::PublicListeners;
use super::quiet::QuietPeriod;
use super::workers::DataThreads;
use crate::config;
use crate::core::Time;
use crate::proxy::data_plane::DataPlane;
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Time between two checks for remaining connections.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Longest time before the deadline over which the ends of streams and upgraded connections are spread.
const MAX_SPREAD: Duration = Duration::from_secs(5);

/// Time that connections have to notice that they are cut, and that sessions with backends have to send GOAWAY.
const CUT_TIME: Duration = Duration::from_millis(250);

/// Result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Number of connections that were cut at the deadline.
    pub cut: u32,
    /// Duration, including the lame duck.
    pub took: Duration,
}

/// Ends the data plane in order. `told` is when the process was told to stop; the deadline counts from then.
/// `lame_since` is when the lame duck began, if it was requested before.
///
/// It uses the clock's own timers, because the control thread may be stuck.
///
/// 1. Each response says `Connection: close`, and new connections are still accepted, for `lame_duck` (`"auto"`:
///    until nothing new comes). Without a lame duck, no response says so before the listeners are closed: its client
///    would reconnect at once, perhaps to this process.
/// 2. The listeners close; connections that the kernel had queued are still served.
/// 3. Idle connections close; requests in flight finish; it ends the instant nothing is left.
/// 4. Before `deadline`, streams and upgrades end in their orderly way; at it, the rest is cut.
/// 5. With no client left, HTTP/2 sessions with backends end with GOAWAY.
pub async fn shut_down(
    plane: &DataPlane,
    listeners: &mut PublicListeners,
    server: &config::ServerConfig,
    quiet: &QuietPeriod,
    told: Time,
    lame_since: Option<Time>,
) -> ShutdownReport {
    let began = told;
    let deadline = began + server.deadline;
    let accept_until = (lame_since.unwrap_or(began) + server.longest_lame_duck()).min(deadline);
    if accept_until > began {
        plane.set_lame(true);
        info!(
            connections = plane.clients.open(),
            "lame duck: still accepting, asking clients to go elsewhere"
        );
        match server.lame_duck {
            Some(_) => clock::sleep_until(accept_until).await,
            None => {
                quiet.begin(began);
                let heard = quiet.wait(accept_until).await;
                info!(
                    arrivals = heard.arrivals,
                    silence_ms = heard.silence.as_millis() as u64,
                    after_ms = clock::now().saturating_sub(began).as_millis() as u64,
                    "nothing new is expected any more"
                );
            }
        }
    }
    listeners.stop().await;
    plane.set_lame(true);
    plane.clients.raise(ShutdownLevel::Finish);
    info!(
        connections = plane.clients.open(),
        "no longer accepting; finishing what is in flight"
    );

    let cut = end_connections(plane, listeners, server, deadline).await;
    leave_backends(plane, listeners).await;
    ShutdownReport {
        cut,
        took: clock::now() - began,
    }
}

/// Shortest lame duck of a hand-over: a client that sends a request just when its idle connection is closed would lose
/// it, so it has at least this long to send one.
const MIN_LAME_DUCK: Duration = Duration::from_secs(1);

/// Time that requests in flight have to end: their connections then move to the other process instead of being closed.
const MOVE_TIME: Duration = Duration::from_secs(1);

/// Time in which connections may still arrive that the process before has moved here, after it has ended.
const ARRIVAL_TIME: Duration = Duration::from_millis(50);

/// Finishes the connections of a process after another one has taken over at `since`; no connection is accepted here
/// any more. After a second, each response has `Connection: close` (or GOAWAY is sent), idle connections are closed
/// after `lame_duck`, and the rest is as in [`shut_down`]. While `waits` returns true, the process before this one
/// still moves connections here, which then have to move on; all of that waits until then, but no longer than the
/// deadline.
pub async fn finish_handed_over(
    plane: &DataPlane,
    listeners: &mut PublicListeners,
    server: &config::ServerConfig,
    since: Time,
    waits: impl Fn() -> bool,
) -> ShutdownReport {
    let deadline = since + server.deadline;
    let threads = listeners.threads();
    let mut moves_since = since;
    while waits() && clock::now() < deadline {
        clock::sleep(CHECK_INTERVAL).await;
        moves_since = clock::now();
    }
    if moves_since > since {
        clock::sleep(ARRIVAL_TIME).await;
    }
    let lame_from = moves_since + MOVE_TIME;
    while threads.have_connections() && clock::now() < lame_from.min(deadline) {
        clock::sleep(CHECK_INTERVAL).await;
    }
    plane.set_lame(true);
    let idle_until = lame_from + server.longest_lame_duck().max(MIN_LAME_DUCK);
    while threads.have_connections() && clock::now() < idle_until.min(deadline) {
        clock::sleep(CHECK_INTERVAL).await;
    }
    plane.clients.raise(ShutdownLevel::Finish);
    let cut = end_connections(plane, listeners, server, deadline).await;
    leave_backends(plane, listeners).await;
    ShutdownReport {
        cut,
        took: clock::now() - since,
    }
}

/// Ends all connections at once, as far as possible in order: no process serves any more, and a supervisor waits for
/// the end of this one.
pub async fn end_at_once(plane: &DataPlane, threads: &DataThreads) -> ShutdownReport {
    let began = clock::now();
    for level in [ShutdownLevel::End, ShutdownLevel::Cut] {
        plane.clients.raise(level);
        let until = clock::now() + CUT_TIME;
        while threads.have_connections() && clock::now() < until {
            clock::sleep(CHECK_INTERVAL).await;
        }
    }
    ShutdownReport {
        cut: plane.clients.open(),
        took: clock::now() - began,
    }
}

/// Lets requests in flight finish, ends streams before the deadline, and cuts the rest at it; returns the number of cut
/// ones.
async fn end_connections(
    plane: &DataPlane,
    listeners: &PublicListeners,
    server: &config::ServerConfig,
    deadline: Time,
) -> u32 {
    let spread = MAX_SPREAD.min(server.deadline / 2);
    wait(plane, listeners, deadline.saturating_sub(spread)).await;
    if plane.clients.open() > 0 {
        plane
            .clients
            .raise_spread(ShutdownLevel::End, clock::now(), deadline);
        wait(plane, listeners, deadline).await;
    }
    let cut = plane.clients.open();
    if cut > 0 {
        warn!(cut, "the deadline has passed: cutting what is left");
        plane.clients.raise(ShutdownLevel::Cut);
        wait(plane, listeners, clock::now() + CUT_TIME).await;
    }
    cut
}

/// Waits until every connection has ended, including accepted ones whose task has not run yet.
async fn wait(plane: &DataPlane, listeners: &PublicListeners, until: Time) {
    let threads = listeners.threads();
    while threads.have_connections() && clock::now() < until {
        // A connection may have been accepted just after the level was raised for the others.
        plane.clients.raise(ShutdownLevel::Finish);
        clock::sleep(CHECK_INTERVAL).await;
    }
}

/// Ends the sessions with backends, which are not used any more.
async fn leave_backends(plane: &DataPlane, listeners: &PublicListeners) {
    let pools = plane.registry.snapshot().pools.clone();
    for endpoint in pools.iter().flat_map(|pool| pool.backends.iter()) {
        endpoint.sessions.close_idle();
    }
    let until = clock::now() + CUT_TIME;
    while listeners.threads().have_tasks() && clock::now() < until {
        clock::sleep(CHECK_INTERVAL).await;
    }
}
