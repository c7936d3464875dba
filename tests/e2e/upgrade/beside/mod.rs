//! A process in the place of another one, again and again, under every protocol at once: lameduck, and other proxies by their
//! own means, before the same clients. In full with
//! `LAMEDUCK_PROVE=1`, which ends with a table; `BESIDE=nginx,lameduck` tries some.

mod clients;
mod fronts;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clients::{Clients, Findings};
use fronts::{Peer, Site};

use super::{goes_on, refused, script, text, view};
use crate::harness::apps::App;
use crate::harness::{Bench, proving, turn_alone, until};
use lameduck_rig::setting::say;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    rate: u32,
    sockets: usize,
    events: usize,
    upgrades: u32,
    /// Between two upgrades.
    pause: Duration,
}

/// The figures that an upgrade has to stand.
const FULL: Crowd = Crowd {
    rate: 500,
    sockets: 1_000,
    events: 200,
    upgrades: 20,
    pause: Duration::from_secs(2),
};

/// What is seen of one proxy.
struct Outcome {
    name: String,
    means: &'static str,
    findings: Findings,
    /// The longest that anybody waited before, and while upgrades ran.
    calm: Duration,
    /// Processes, their memory and descriptors: after the first upgrade and after the last one.
    first: fronts::Footprint,
    last: fronts::Footprint,
    slowest: Duration,
}

async fn try_peer(peer: Peer, crowd: Crowd) -> Option<Outcome> {
    let bench = Bench::start("upgrade-beside", App::BuiltIn, 3).await?;
    crate::encrypted::certificates(bench.scratch.path());
    let grpc = clients::start_grpc_app().await;
    let Some(mut site) = Site::start(peer, &bench, grpc).await else {
        say(&format!("{} is not here", peer.name()));
        return None;
    };
    let mut clients = Clients::start(&site, bench.scratch.path(), crowd).await;
    tokio::time::sleep(crowd.pause * 2).await;
    let calm = clients.forget_pauses();
    let (mut first, mut slowest) = (None, Duration::ZERO);
    for _ in 0..crowd.upgrades {
        let began = Instant::now();
        site.upgrade().await;
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(crowd.pause).await;
        first.get_or_insert_with(|| site.footprint());
    }
    let last = site.footprint();
    let findings = clients.stop().await;
    let outcome = Outcome {
        name: site.title(),
        means: peer.means(),
        findings,
        calm,
        first: first.unwrap(),
        last,
        slowest,
    };
    site.stop().await;
    Some(outcome)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| proxy | by | requests | refused | reset or lost | WebSockets closed | event streams ended | messages lost or doubled | longest pause (before) | slowest upgrade | processes | memory, first → last | descriptors, first → last |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for one in outcomes {
        let Outcome {
            findings: seen,
            first,
            last,
            ..
        } = one;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} ms ({} ms) | {} ms | {} → {} | {} → {} MiB | {} → {} |",
            one.name,
            one.means,
            seen.answered,
            seen.refused,
            seen.lost,
            seen.sockets_closed,
            seen.events_ended,
            seen.messages_lost,
            seen.pause.as_millis(),
            one.calm.as_millis(),
            one.slowest.as_millis(),
            first.processes,
            last.processes,
            first.kib >> 10,
            last.kib >> 10,
            first.descriptors,
            last.descriptors,
        );
    }
    text
}

/// In CI: a small crowd, and lameduck alone. Nobody is refused, reset or lost, nothing is closed, no message is lost or doubled;
/// then some upgrades fail, with the same zeros.
#[lameduck_rig::test(threads = 2)]
async fn nobody_notices_upgrades_in_a_row_nor_five_that_fail() {
    let _turn = turn_alone().await;
    let crowd = match proving() {
        true => FULL,
        false => Crowd {
            rate: 100,
            sockets: 30,
            events: 10,
            upgrades: 2,
            pause: Duration::from_millis(400),
        },
    };
    let wanted = std::env::var("BESIDE").unwrap_or_default();
    let is_wanted = |peer: Peer| match wanted.as_str() {
        "" => proving() || peer == Peer::Lameduck,
        some => some.split(',').any(|one| one == peer.name()),
    };
    let mut outcomes = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| is_wanted(*peer)) {
        if let Some(outcome) = try_peer(peer, crowd).await {
            say(&format!("{}: {:#?}", outcome.name, outcome.findings));
            outcomes.push(outcome);
        }
    }
    say(&table(&outcomes));
    let own = outcomes
        .iter()
        .find(|one| one.means == Peer::Lameduck.means());
    let Some(own) = own else { return };
    own.findings.assert_nothing_noticed();
    if proving() {
        let (first, last) = (own.first, own.last);
        assert!(
            last.kib < first.kib * 3 / 2 + (32 << 10),
            "{first:?}, {last:?}"
        );
        assert!(
            last.descriptors < first.descriptors * 5 / 4 + 100,
            "{first:?}, {last:?}"
        );
        assert!(last.processes <= first.processes, "{first:?}, {last:?}");
    }
    if wanted.is_empty() || is_wanted(Peer::Lameduck) {
        five_fail(crowd).await;
    }
}

/// A bad program, one that hangs, one that is killed, and bad configurations: the crowd notices none of it.
async fn five_fail(crowd: Crowd) {
    let bench = Bench::start("upgrade-beside", App::BuiltIn, 3)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    crate::encrypted::certificates(&dir);
    let grpc = clients::start_grpc_app().await;
    let site = Site::start(Peer::Lameduck, &bench, grpc).await.unwrap();
    let (socket, pid) = (site.socket(), view(&site.socket()).await.pid);
    let clients = Clients::start(&site, &dir, crowd).await;
    let ends = script(&dir, "ends", "exit 7");
    let hangs = script(&dir, "hangs", "exec sleep 60");
    let dies = script(&dir, "dies", "kill -9 $$");
    let broken = dir.join("broken.toml");
    std::fs::write(&broken, "[[listener]]\nadress = \"127.0.0.1:1\"\n").unwrap();
    for words in [
        vec!["--binary", text(&ends)],
        vec!["--binary", text(&hangs), "--timeout", "1s"],
        vec!["--binary", text(&dies)],
        vec!["-c", text(&broken)],
        vec!["--binary", "/nowhere/lameduck"],
    ] {
        goes_on(clients.load(), 30).await;
        refused(&socket, &words).await;
        assert_eq!(view(&socket).await.pid, pid, "{words:?}");
    }
    goes_on(clients.load(), 30).await;
    let findings = clients.stop().await;
    say(&format!("five that fail: {findings:#?}"));
    findings.assert_nothing_noticed();
    until("no process to be left", super::PATIENCE, async || {
        lameduck_rig::process::children(pid).is_empty()
    })
    .await;
    site.stop().await;
}
