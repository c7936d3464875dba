//! Liveness, startup and readiness checks, and the lame-duck phase.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::apps::CallersRegistry;
use super::body::{JsonBody, QueryParams};
use super::problem::{ProblemDocument, ProblemKind};
use super::{AdminDoor, AdminState};
use crate::registry::bounds::check_reason;
use crate::tls::certificate::date;
use crate::tls::managed::ManagedStatus;
use crate::tls::server::ServedCertificate;

/// Timeout for an answer of the registry, which normally takes almost no time; a slower registry has stopped working.
const ANSWERS: Duration = Duration::from_secs(3);

/// `GET /-/live`: returns whether the process works: the control thread runs, the registry answers, and no vital task
/// has died.
pub(super) async fn live(State(admin): State<AdminState>) -> Result<&'static str, ProblemDocument> {
    let dead = |why: String| ProblemDocument::new(ProblemKind::NotAlive, why);
    admin.process.live().map_err(dead)?;
    match timeout(ANSWERS, admin.registry.answers()).await {
        Ok(Ok(())) => Ok("live\n"),
        Ok(Err(_)) => Err(dead(
            "The registry has ended: nothing can be drained any more, and no health is known. Restart lameduck."
                .to_owned(),
        )),
        Err(_elapsed) => Err(dead(format!(
            "The registry has not answered for {} s: drains and health checks wait for it. Ask again; restart lameduck \
             if it lasts.",
            ANSWERS.as_secs()
        ))),
    }
}

/// `GET /-/started`: returns whether the configuration is loaded and the listeners are bound. Never waits for an app.
pub(super) async fn started(
    State(admin): State<AdminState>,
) -> Result<&'static str, ProblemDocument> {
    if !admin.process.started() {
        let detail = "Still starting: not every listener is bound. Ask again.";
        return Err(ProblemDocument::new(ProblemKind::NotReady, detail));
    }
    Ok("started\n")
}

/// Query of `GET /-/ready`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    pool: Option<String>,
}

/// `GET /-/ready[?pool=]`: returns whether the first round of probes is over and the proxy is not lame duck; with
/// `pool`, also whether that pool has a backend that takes requests.
pub(super) async fn ready(
    State(admin): State<AdminState>,
    QueryParams(query): QueryParams<ReadyQuery>,
) -> Result<&'static str, ProblemDocument> {
    if admin.process.is_lame_duck() {
        let detail = "Lame duck: still serving, but send new clients elsewhere. DELETE /v1/lame-duck ends it, \
                      unless the process is stopping.";
        return Err(ProblemDocument::new(ProblemKind::NotReady, detail));
    }
    admin
        .process
        .ready()
        .map_err(|why| ProblemDocument::new(ProblemKind::NotReady, why))?;
    if let Some(name) = query.pool {
        admin.check_pool(&name)?;
        // The usual case is answered without asking the registry, so that a flood of such requests doesn't keep it
        // busy.
        let snapshot = admin.registry.snapshot();
        let mut pools = snapshot.pools.iter();
        if pools.any(|pool| *pool.name == *name && !pool.ready.is_empty()) {
            return Ok("ready\n");
        }
        drop(snapshot);
        let (eligible, all) = admin.registry.count_backends(&name).await?;
        if eligible == 0 {
            let detail = format!(
                "Pool `{name}` has no backend that takes requests ({all} in all). GET /v1/pools/{name} says why."
            );
            return Err(ProblemDocument::new(ProblemKind::NotReady, detail));
        }
    }
    Ok("ready\n")
}

/// Body of `POST /v1/lame-duck`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LameDuck {
    reason: Option<String>,
    lease: Option<String>,
}

/// `POST /v1/lame-duck`: makes the proxy not ready, while it still serves. If a lease requests it, the lame-duck
/// phase ends with the lease, unless no backend is left that takes requests.
pub(super) async fn lame_duck(
    State(admin): State<AdminState>,
    CallersRegistry(registry): CallersRegistry,
    JsonBody(request): JsonBody<LameDuck>,
) -> Result<axum::Json<Value>, ProblemDocument> {
    check_reason(request.reason.as_deref())?;
    if admin.door == AdminDoor::Apps {
        let owns = match &request.lease {
            Some(lease) => registry.owns_lease(lease).await?,
            None => false,
        };
        if !owns {
            let detail = "Through this socket only the holder of a lease may ask for it, with its `lease`: it ends with \
                          that. Use the admin socket.";
            return Err(ProblemDocument::new(ProblemKind::NotYours, detail));
        }
    }
    let reason = request.reason.as_deref().unwrap_or("asked for by the API");
    match &request.lease {
        Some(lease) => admin.process.lame_duck_of_lease(lease, reason),
        None => admin.process.lame_duck(true, reason),
    }
    Ok(lame_duck_state(&admin))
}

/// `GET /v1/lame-duck`: returns whether the proxy is lame duck, and whether new requests are still expected.
pub(super) async fn lame_duck_now(State(admin): State<AdminState>) -> axum::Json<Value> {
    lame_duck_state(&admin)
}

/// `DELETE /v1/lame-duck`: ends the lame-duck phase.
pub(super) async fn end_lame_duck(State(admin): State<AdminState>) -> axum::Json<Value> {
    admin.process.lame_duck(false, "lifted by the API");
    lame_duck_state(&admin)
}

fn lame_duck_state(admin: &AdminState) -> axum::Json<Value> {
    let mut state = json!({ "lame_duck": admin.process.is_lame_duck() });
    if let Some(heard) = admin.process.quiet() {
        state["quiet"] = heard.is_quiet.into();
        state["arrivals"] = heard.arrivals.into();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        state["silence_ms"] = millis(heard.silence).into();
        state["quiet_in_ms"] = millis(heard.left).into();
    }
    axum::Json(state)
}

/// `GET /v1/listeners`: returns the addresses for clients, with the real port if 0 is configured.
pub(super) async fn listeners(State(admin): State<AdminState>) -> axum::Json<Value> {
    let (addresses, served) = (admin.process.listeners(), admin.process.certificates());
    let listeners = addresses.iter().map(|address| {
        let mut listener = json!({ "address": address.to_string() });
        let of_it = served.iter().filter(|served| served.listener == *address);
        let certificates: Vec<Value> = of_it.map(certificate).collect();
        if !certificates.is_empty() {
            listener["certificates"] = certificates.into();
        }
        let ordered = admin.process.managed_certificates(address);
        if !ordered.is_empty() {
            listener["acme"] = ordered.iter().map(managed).collect();
        }
        listener
    });
    axum::Json(listeners.collect())
}

fn certificate(served: &ServedCertificate) -> Value {
    json!({
        "names": served.names,
        "file": served.file.display().to_string(),
        "issuer": served.issuer,
        "expires": served.expires,
        "days_left": served.left.as_secs() / 86_400,
    })
}

/// Describes a certificate that is ordered and renewed automatically, whether or not it exists yet.
fn managed(status: &ManagedStatus) -> Value {
    json!({
        "names": status.names,
        "file": status.file.display().to_string(),
        "directory": status.directory,
        "state": status.state.as_str(),
        "next_order": status.next_order.map(date),
        "last_error": status.last_error,
        "failures": status.failures,
    })
}
