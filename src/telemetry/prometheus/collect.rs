//! A scrape: every counter that exists now, with its labels. Label values are names from the configuration and words of
//! ours, never anything that a client sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;

use super::certificates::{certificate_reloads, managed_certificates, own_certificates, tls};
use super::families::FamilyBuilder;
use super::outliers::outliers;
use super::supervisors::supervisors;
use super::{EndedDrains, MetricsInner};
use crate::core::backend::DerivedState;
use crate::registry::Endpoint;
use crate::registry::saves::SaveLedger;
use crate::registry::snapshot::{PoolSnapshot, Snapshot};
use crate::rt::output::dropped_errors;
use crate::rt::panics;

pub(super) fn collect(inner: &MetricsInner) -> Vec<MetricFamily> {
    let snapshot = inner.registry.snapshot();
    let mut families = Vec::new();
    families.extend(requests(inner, &snapshot));
    families.extend(backends(&snapshot));
    families.extend(probes(&snapshot));
    families.extend(shared_out(&snapshot));
    families.extend(super::sessions::collect(&snapshot));
    families.extend(super::traces::collect(inner.tracer.get()));
    families.extend(outliers(&snapshot));
    families.extend(super::discovery::discovery(&inner.registry));
    families.extend(supervisors(inner.registry.supervisors()));
    families.extend(drains(inner, &snapshot));
    families.extend(plans(inner));
    families.extend(process(inner, &snapshot));
    families.extend(vital_signs(inner));
    if snapshot.config.compression.is_some() {
        families.extend(compression(inner));
    }
    if let Some(saves) = inner.registry.saves() {
        families.extend(kept(saves));
    }
    let to_clients = !inner.certificates.is_empty();
    if to_clients {
        families.extend(tls(inner));
        let managed = inner.certificates.managed.all();
        if !managed.is_empty() {
            families.extend(managed_certificates(&managed));
        }
    }
    if to_clients || snapshot.pools.iter().any(|pool| pool.config.tls.is_some()) {
        families.push(certificate_reloads(inner));
        families.push(own_certificates(&snapshot));
    }
    let mut families: Vec<_> = families
        .into_iter()
        .filter_map(FamilyBuilder::finish)
        .collect();
    families.extend(inner.process.collect());
    families
}

fn each_backend(snapshot: &Snapshot, mut visit: impl FnMut(&PoolSnapshot, &Arc<Endpoint>)) {
    for pool in &snapshot.pools {
        for endpoint in pool.backends.iter() {
            visit(pool, endpoint);
        }
    }
}

fn requests(inner: &MetricsInner, snapshot: &Snapshot) -> [FamilyBuilder; 9] {
    let mut answered = FamilyBuilder::counter(
        "lameduck_requests_total",
        "Requests answered by a backend, by status.",
    );
    let mut local = FamilyBuilder::counter(
        "lameduck_local_responses_total",
        "Responses made by lameduck itself, by status; without a pool where the request was for none.",
    );
    let mut durations = FamilyBuilder::histogram(
        "lameduck_request_duration_seconds",
        "From a request's first byte to the last of its response, streams included.",
    );
    let mut retries = FamilyBuilder::counter(
        "lameduck_retries_total",
        "Failed attempts: tried again (retried), or not for want of budget (denied).",
    );
    let mut connects = FamilyBuilder::counter(
        "lameduck_connect_failures_total",
        "Connects for requests that failed, by what they met.",
    );
    let mut held = FamilyBuilder::gauge(
        "lameduck_held_requests",
        "Requests that wait because no backend is eligible.",
    );
    let mut held_bytes = FamilyBuilder::gauge(
        "lameduck_held_bytes",
        "Request bytes buffered for requests that wait.",
    );
    let mut paused = FamilyBuilder::gauge(
        "lameduck_pool_paused",
        "1 while a pool is paused: its requests are held, or answered with a page.",
    );
    let mut holds = FamilyBuilder::histogram(
        "lameduck_hold_duration_seconds",
        "How long requests waited because no backend was eligible.",
    );
    for (status, count) in inner.plane.local.read() {
        local.add(&[("pool", ""), ("code", &status.to_string())], count);
    }
    for pool in &snapshot.pools {
        let (name, counters) = (("pool", &*pool.name), &pool.shared.counters);
        for (status, count) in counters.local.read() {
            local.add(&[name, ("code", &status.to_string())], count);
        }
        durations.add_histogram(&[name], &counters.durations);
        for (reasons, outcome) in [(&counters.retried, "retried"), (&counters.denied, "denied")] {
            for (reason, count) in reasons.read() {
                retries.add(&[name, ("reason", reason), ("outcome", outcome)], count);
            }
        }
        for (reason, count) in counters.connect_faults.read() {
            connects.add(&[name, ("reason", reason)], count);
        }
        let shared = &pool.shared;
        held.add(&[name], shared.held.load(Ordering::Relaxed) as u64);
        held_bytes.add(&[name], shared.held_bytes.load(Ordering::Relaxed));
        holds.add_histogram(&[name], &counters.holds);
        paused.add(&[name], u64::from(pool.pause.is_some()));
    }
    each_backend(snapshot, |pool, endpoint| {
        for (status, count) in endpoint.counters.by_code() {
            let labels = [
                ("pool", &*pool.name),
                ("backend", &*endpoint.name),
                ("code", &*status.to_string()),
            ];
            answered.add(&labels, count);
        }
    });
    [
        answered, local, durations, retries, connects, held, held_bytes, holds, paused,
    ]
}

fn backends(snapshot: &Snapshot) -> [FamilyBuilder; 7] {
    let mut sent = FamilyBuilder::counter(
        "lameduck_backend_requests_total",
        "Requests sent to a backend, answered or not, repeated ones included.",
    );
    let mut in_flight = FamilyBuilder::gauge(
        "lameduck_in_flight",
        "Requests, streams and upgrades in flight on a backend.",
    );
    let mut kinds = FamilyBuilder::gauge(
        "lameduck_in_flight_by_kind",
        "The same by kind: request, stream (of events) or upgrade.",
    );
    let mut states = FamilyBuilder::gauge(
        "lameduck_backend_state",
        "1 for the state a backend is in, 0 for the others.",
    );
    let mut open = FamilyBuilder::gauge(
        "lameduck_backend_connections",
        "Open connections to a backend, the probe's included.",
    );
    let mut idle = FamilyBuilder::gauge(
        "lameduck_backend_idle_connections",
        "Of those, idle ones that are ready for reuse.",
    );
    let mut broken = FamilyBuilder::counter(
        "lameduck_backend_sessions_broken_total",
        "Sessions of HTTP/2 that were closed because the backend ended most of their latest requests early, or sent too many frames without use.",
    );
    each_backend(snapshot, |pool, endpoint| {
        let labels = [("pool", &*pool.name), ("backend", &*endpoint.name)];
        broken.add(&labels, endpoint.sessions.broken());
        sent.add(&labels, endpoint.counters.requests());
        let total = endpoint.gate.in_flight();
        in_flight.add(&labels, total.into());
        for (kind, number) in endpoint.kinds.split(total).kinds() {
            kinds.add(&[labels[0], labels[1], ("kind", kind)], number.into());
        }
        open.add(&labels, endpoint.connections.open().into());
        idle.add(&labels, endpoint.idle.len() as u64);
        let current = endpoint.state();
        for state in DerivedState::ALL {
            let labels = [labels[0], labels[1], ("state", state.as_str())];
            states.add(&labels, u64::from(state == current));
        }
    });
    [sent, in_flight, kinds, states, open, idle, broken]
}

/// Only if a route is split or mirrored.
fn shared_out(snapshot: &Snapshot) -> [FamilyBuilder; 4] {
    let mut weights = FamilyBuilder::gauge(
        "lameduck_split_weight",
        "The weight of a pool in the split of a route that has a name.",
    );
    let mut planned = FamilyBuilder::gauge(
        "lameduck_split_plan_running",
        "1 while a plan moves the split of a route, 0 otherwise.",
    );
    let mut mirrored = FamilyBuilder::counter(
        "lameduck_mirrored_total",
        "Copies of requests that a pool was sent and has answered; nobody gets the answers.",
    );
    let mut dropped = FamilyBuilder::counter(
        "lameduck_mirror_dropped_total",
        "Copies of requests that were not made or came to nothing, by reason.",
    );
    for (rule, split) in snapshot.routes.splits() {
        let Some(route) = rule.name.as_deref() else {
            continue;
        };
        planned.add(&[("route", route)], u64::from(split.meter().is_some()));
        for (pool, weight) in split.weights() {
            weights.add(&[("route", route), ("pool", pool)], weight.into());
        }
    }
    let routes = snapshot.config.routes.iter();
    let shadows: BTreeSet<&str> = routes
        .filter_map(|route| Some(&*route.mirror.as_ref()?.pool))
        .collect();
    for pool in &snapshot.pools {
        if !shadows.contains(&*pool.name) {
            continue;
        }
        let (name, counters) = (("pool", &*pool.name), &pool.shared.counters.mirror);
        mirrored.add(&[name], counters.answered.load(Ordering::Relaxed));
        for (reason, count) in counters.dropped.read() {
            dropped.add(&[name, ("reason", reason)], count);
        }
    }
    [weights, planned, mirrored, dropped]
}

fn probes(snapshot: &Snapshot) -> [FamilyBuilder; 2] {
    let mut total = FamilyBuilder::counter("lameduck_probe_total", "Health probes, by result.");
    let mut durations = FamilyBuilder::histogram(
        "lameduck_probe_duration_seconds",
        "How long health probes took, connecting included.",
    );
    each_backend(snapshot, |pool, endpoint| {
        let labels = [("pool", &*pool.name), ("backend", &*endpoint.name)];
        let probes = &endpoint.counters.probes;
        for (result, count) in probes.by_result() {
            total.add(&[labels[0], labels[1], ("result", result)], count);
        }
        durations.add_histogram(&labels, probes.durations());
    });
    [total, durations]
}

fn drains(inner: &MetricsInner, snapshot: &Snapshot) -> [FamilyBuilder; 4] {
    let mut total =
        FamilyBuilder::counter("lameduck_drain_total", "Drains that ended, by outcome.");
    let mut durations = FamilyBuilder::histogram(
        "lameduck_drain_duration_seconds",
        "From the request to drain until the drain ended.",
    );
    let mut cut = FamilyBuilder::counter(
        "lameduck_drain_cut_total",
        "Requests and streams cut at a drain's deadline.",
    );
    let mut lost = FamilyBuilder::counter(
        "lameduck_drain_lost_total",
        "Requests lost because the backend died while it drained.",
    );
    let mut pools = inner.drains.lock();
    pools.retain(|name, _| snapshot.pools.iter().any(|pool| &*pool.name == name));
    let none = EndedDrains::default();
    for pool in &snapshot.pools {
        let label = ("pool", &*pool.name);
        let drains = pools.get(&*pool.name).unwrap_or(&none);
        for (outcome, count) in &drains.outcomes {
            total.add(&[label, ("outcome", outcome)], *count);
        }
        durations.add_histogram(&[label], &drains.durations);
        cut.add(&[label], drains.cut);
        lost.add(&[label], drains.lost);
    }
    [total, durations, cut, lost]
}

/// Only if a plan has ended.
fn plans(inner: &MetricsInner) -> Option<FamilyBuilder> {
    let ended = inner.plans.lock();
    if ended.is_empty() {
        return None;
    }
    let mut total = FamilyBuilder::counter(
        "lameduck_split_plan_total",
        "Plans that moved the weights of a split and have ended, by outcome.",
    );
    for (outcome, count) in &*ended {
        total.add(&[("outcome", outcome)], *count);
    }
    Some(total)
}

/// Only with `[compression]`.
fn compression(inner: &MetricsInner) -> [FamilyBuilder; 3] {
    let mut answers = FamilyBuilder::counter(
        "lameduck_compressed_responses_total",
        "Responses that were compressed, by content coding.",
    );
    let mut bytes = FamilyBuilder::counter(
        "lameduck_compression_bytes_total",
        "Bytes of their bodies, by content coding: in (before) and out (after).",
    );
    let mut refused = FamilyBuilder::counter(
        "lameduck_compression_refused_total",
        "Responses that went out uncompressed because a limit was reached: max_at_once or max_memory.",
    );
    let counters = &inner.plane.compression;
    for (name, coding) in counters.codings() {
        let label = ("coding", name);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        answers.add(&[label], read(&coding.answers));
        bytes.add(&[label, ("side", "in")], read(&coding.bytes_in));
        bytes.add(&[label, ("side", "out")], read(&coding.bytes_out));
    }
    for (limit, count) in counters.refusals() {
        refused.add(&[("limit", limit)], count);
    }
    [answers, bytes, refused]
}

/// Only with a `state_dir`.
fn kept(saves: &SaveLedger) -> [FamilyBuilder; 2] {
    let mut failures = FamilyBuilder::counter(
        "lameduck_state_save_failures_total",
        "Times that drains and registrations could not be saved in state_dir.",
    );
    let mut unsaved = FamilyBuilder::gauge(
        "lameduck_state_unsaved",
        "1 while a restart would forget the latest drains and registrations, because saving fails.",
    );
    failures.add(&[], saves.failures());
    unsaved.add(&[], u64::from(saves.trouble().is_some()));
    [failures, unsaved]
}

/// Metrics of the process's own health.
fn vital_signs(inner: &MetricsInner) -> [FamilyBuilder; 2] {
    let mut dropped = FamilyBuilder::counter(
        "lameduck_log_dropped_total",
        "Lines of lameduck's own log lost because standard error was too slow or could not be written.",
    );
    let mut stalls = FamilyBuilder::counter(
        "lameduck_control_stalls_total",
        "Times that the control thread did not turn for some seconds.",
    );
    dropped.add(&[], dropped_errors());
    stalls.add(&[], inner.vitals.get().map_or(0, |vitals| vitals.stalls()));
    [dropped, stalls]
}

fn process(inner: &MetricsInner, snapshot: &Snapshot) -> [FamilyBuilder; 10] {
    let mut connections = FamilyBuilder::gauge(
        "lameduck_connections",
        "Open connections, by side: client or upstream.",
    );
    let mut dropped = FamilyBuilder::counter(
        "lameduck_access_log_dropped_total",
        "Access-log lines lost because the disk or the reader was too slow.",
    );
    let mut refused = FamilyBuilder::counter(
        "lameduck_refused_total",
        "Connections and requests turned away before they were routed, by reason.",
    );
    let mut limited = FamilyBuilder::counter(
        "lameduck_limited_total",
        "Connections and requests that ran into a limit of [server], by its key.",
    );
    let mut routes = FamilyBuilder::counter(
        "lameduck_route_refused_total",
        "Requests refused by a route, by its name and reason.",
    );
    let mut named = FamilyBuilder::counter(
        "lameduck_route_requests_total",
        "Requests of routes that have a name, by it and the class of their answer's status.",
    );
    let mut forgotten = FamilyBuilder::counter(
        "lameduck_rate_keys_forgotten_total",
        "Keys of routes' rates that were forgotten for want of room.",
    );
    let mut reloads = FamilyBuilder::counter(
        "lameduck_config_reload_total",
        "Configuration reloads, by outcome: applied or refused.",
    );
    let mut panics = FamilyBuilder::counter(
        "lameduck_panics_total",
        "Mistakes in lameduck (panics), by the role of the thread: data, accept, control or other.",
    );
    let mut build = FamilyBuilder::gauge("lameduck_build_info", "1, with the version as a label.");
    if let Some(attached) = inner.attached.get() {
        let clients = (attached.clients)();
        connections.add(&[("side", "client")], clients.into());
        dropped.add(&[], attached.access_log.dropped());
    }
    let mut upstream = 0;
    each_backend(snapshot, |_, endpoint| {
        upstream += u64::from(endpoint.connections.open());
    });
    connections.add(&[("side", "upstream")], upstream);
    for (reason, count) in inner.plane.refused.read() {
        refused.add(&[("reason", reason)], count);
    }
    for (limit, count) in inner.plane.limited.read() {
        limited.add(&[("limit", limit)], count);
    }
    let configured = &snapshot.config.routes;
    let is_there =
        |name: &str| (configured.iter()).any(|route| route.name.as_deref() == Some(name));
    for (route, reason, count) in inner.plane.routes.read(is_there) {
        routes.add(&[("route", &*route), ("reason", reason)], count);
    }
    for (route, class, count) in inner.plane.route_requests.read(is_there) {
        named.add(&[("route", &*route), ("code", class)], count);
    }
    forgotten.add(&[], inner.plane.forgotten_keys.load(Ordering::Relaxed));
    for (outcome, counter) in [
        ("applied", &inner.reloads_applied),
        ("refused", &inner.reloads_refused),
    ] {
        reloads.add(&[("outcome", outcome)], counter.load(Ordering::Relaxed));
    }
    for (role, count) in panics::counts() {
        panics.add(&[("thread", role.as_str())], count);
    }
    build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    [
        connections,
        dropped,
        refused,
        limited,
        routes,
        named,
        forgotten,
        reloads,
        panics,
        build,
    ]
}
