//! A collector behind TLS: by the authority that the configuration names, and one that nobody can believe.

use std::time::{Duration, Instant};

use lameduck_rig::collector::Collector;

use super::{ask, rig, rig_metric};
use crate::authority::{Authority, Server};

#[lameduck_rig::test]
async fn collector_with_a_private_authority_is_sent_traces() {
    let authority = Authority::new();
    let identity = authority.identity("127.0.0.1");
    let collector = Collector::encrypted(identity.serve(&Server::default())).await;
    let more = format!("sample = 1\nca = {:?}", authority.ca());
    let rig = rig(&collector, 1, &more).await;
    ask(&rig, "").await;
    assert_eq!(collector.spans(2).await.len(), 2);
}

/// Nobody waits for it, the log says it once, and a better certificate is believed at once.
#[lameduck_rig::test]
async fn bad_certificate_of_a_collector_is_told_once_and_delays_no_request() {
    let authority = Authority::new();
    let server = Server::default();
    let expired = authority.expired("127.0.0.1").serve(&server);
    let collector = Collector::encrypted(expired).await;
    let more = format!("sample = 1\ntimeout = \"20s\"\nca = {:?}", authority.ca());
    let rig = rig(&collector, 1, &more).await;
    let lost = "lameduck_trace_spans_total{outcome=\"failed\"}";
    let mut failed = 0;
    for bad in [
        authority.expired("127.0.0.1"),
        authority.identity("another.test"),
        Authority::new().identity("127.0.0.1"),
    ] {
        collector.set_acceptor(bad.serve(&server));
        let began = Instant::now();
        ask(&rig, "").await;
        assert!(began.elapsed() < Duration::from_secs(10));
        failed = rig_metric(&rig, lost, failed + 2).await;
    }
    rig.logs("certificate expired").await;
    let log = rig.log();
    let about: Vec<_> = log
        .lines()
        .filter(|line| line.contains("spans") || line.contains("certificate"))
        .collect();
    assert_eq!(about.len(), 1, "{log}");
    assert_eq!(collector.requests(), 0);
    let good = authority.identity("127.0.0.1");
    collector.set_acceptor(good.serve(&server));
    ask(&rig, "").await;
    assert_eq!(collector.spans(2).await.len(), 2);
}
