//! Metrics of TLS with clients, and of the certificates on both sides.

use super::MetricsInner;
use super::families::FamilyBuilder;
use crate::config::BuiltClient;
use crate::registry::snapshot::Snapshot;
use crate::tls::managed::{ManagedState, ManagedStatus};
use crate::tls::upstream::BackendTls;

/// Only if a listener has TLS.
pub(super) fn tls(inner: &MetricsInner) -> [FamilyBuilder; 2] {
    let mut handshakes = FamilyBuilder::counter(
        "lameduck_tls_handshakes_total",
        "TLS handshakes with clients, by outcome: full and resumed are the good ones.",
    );
    let mut expiry = FamilyBuilder::gauge(
        "lameduck_certificate_expiry_timestamp_seconds",
        "When a certificate in use expires, as Unix time, by its first name and its file.",
    );
    for (outcome, count) in inner.plane.handshakes.read() {
        handshakes.add(&[("outcome", outcome)], count);
    }
    for served in inner.certificates.served() {
        let labels = [
            ("listener", &*served.listener.to_string()),
            ("name", served.names.first().map_or("", String::as_str)),
            ("file", &*served.file.display().to_string()),
        ];
        expiry.add(&labels, u64::try_from(served.not_after).unwrap_or(0));
    }
    [handshakes, expiry]
}

/// Only if lameduck orders certificates itself.
pub(super) fn managed_certificates(all: &[ManagedStatus]) -> [FamilyBuilder; 3] {
    let mut states = FamilyBuilder::gauge(
        "lameduck_certificate_order_state",
        "1 for the state that the order of a certificate is in, by the certificate's first name.",
    );
    let mut orders = FamilyBuilder::counter(
        "lameduck_certificate_orders_total",
        "Orders of certificates by this process, by first name and outcome: issued or failed.",
    );
    let mut next = FamilyBuilder::gauge(
        "lameduck_certificate_next_order_timestamp_seconds",
        "When a certificate is ordered next, as Unix time, by its first name.",
    );
    for status in all {
        let name = status.names.first().map_or("", String::as_str);
        for state in ManagedState::ALL {
            let labels = [("name", name), ("state", state.as_str())];
            states.add(&labels, u64::from(status.state == state));
        }
        orders.add(&[("name", name), ("outcome", "issued")], status.orders.0);
        orders.add(&[("name", name), ("outcome", "failed")], status.orders.1);
        if let Some(at) = status.next_order {
            next.add(&[("name", name)], u64::try_from(at).unwrap_or(0));
        }
    }
    [states, orders, next]
}

/// Only if a pool has a client certificate for its backends.
pub(super) fn own_certificates(snapshot: &Snapshot) -> FamilyBuilder {
    let mut expiry = FamilyBuilder::gauge(
        "lameduck_upstream_certificate_expiry_timestamp_seconds",
        "When the certificate that lameduck shows a pool's backends expires, as Unix time.",
    );
    for pool in &snapshot.pools {
        let built = pool.config.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let client = built.and_then(BuiltClient::get::<BackendTls>);
        if let Some(own) = client.as_deref().and_then(BackendTls::identity) {
            let labels = [
                ("pool", &*pool.name),
                ("name", own.name()),
                ("file", &*own.file.display().to_string()),
            ];
            expiry.add(&labels, u64::try_from(own.not_after).unwrap_or(0));
        }
    }
    expiry
}

/// Only if a listener or a pool has TLS.
pub(super) fn certificate_reloads(inner: &MetricsInner) -> FamilyBuilder {
    let mut reloads = FamilyBuilder::counter(
        "lameduck_certificate_reload_total",
        "Times that changed certificate files were noticed, by outcome: applied or refused.",
    );
    let (taken, refused) = inner.certificates.reload_counts();
    reloads.add(&[("outcome", "applied")], taken);
    reloads.add(&[("outcome", "refused")], refused);
    reloads
}
