//! Leases: the open connection of a launcher represents a running instance.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::AdminState;
use super::apps::CallersRegistry;
use super::body::{JsonBody, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::lease::LeaseHandle;
use crate::registry::view::{DrainResponse, LeaseDrainRequest, LeaseEvent, LeaseRequest};

/// Interval of lines on a silent stream.
const ALIVE: Duration = Duration::from_secs(2);

/// `POST …/{name}/lease`: registers an instance for as long as this connection is open; the response is a stream of
/// the instance's events, one line of JSON each.
pub(super) async fn lease(
    State(admin): State<AdminState>,
    CallersRegistry(registry): CallersRegistry,
    PathParameters((pool, name)): PathParameters<(String, String)>,
    JsonBody(request): JsonBody<LeaseRequest>,
) -> Result<Response, ProblemDocument> {
    let lease = registry.lease(&pool, &name, request).await?;
    let mut alive = interval(ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.reset();
    let held = HeldLease {
        lease,
        alive,
        stop: admin.stop.clone(),
        stays: false,
    };
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let lines = stream::unfold(held, HeldLease::line);
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// A lease and its connection. hyper drops it when the client disconnects, which ends the lease.
struct HeldLease {
    lease: LeaseHandle,
    alive: Interval,
    stop: watch::Receiver<bool>,
    /// Another process has taken over, but it was not given this lease, because the backend leaves.
    stays: bool,
}

impl HeldLease {
    async fn line(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let news = tokio::select! {
            biased;
            event = self.lease.next() => Some(event?),
            () = stopped(&mut self.stop), if !self.stays => {
                // The launcher waits for the end of the drain, which only this process notices. A lease that was given
                // to another process has ended here.
                self.stays = self.is_draining().await;
                if !self.stays {
                    return None;
                }
                None
            }
            _ = self.alive.tick() => None,
        };
        let event = match news {
            Some(event) => event,
            None => self.lease.status().await?,
        };
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        Some((Ok(line.into()), self))
    }
}

impl HeldLease {
    async fn is_draining(&self) -> bool {
        let status = self.lease.status().await;
        matches!(status, Some(LeaseEvent::Alive { state, .. }) if state.starts_with("drain"))
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // If the sender is gone, the process is exiting.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// `POST /v1/leases/{lease}/drain`: drains the lease's own instance, and no other one with its name.
pub(super) async fn drain(
    CallersRegistry(registry): CallersRegistry,
    PathParameters(lease): PathParameters<String>,
    JsonBody(request): JsonBody<LeaseDrainRequest>,
) -> Result<axum::Json<DrainResponse>, ProblemDocument> {
    Ok(axum::Json(registry.drain_lease(&lease, request).await?))
}
