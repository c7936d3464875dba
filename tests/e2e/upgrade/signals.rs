//! Signals to a process that is about to become a stand-in: each reaches the process that serves.

use std::time::{Duration, Instant};

use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use super::{EndOnDrop, PATIENCE, upgraded};
use crate::harness::apps::App;
use crate::harness::{Bench, exe, proving, turn, until};
use lameduck_rig::process::is_running;

/// Whether the process has become a stand-in.
fn stands_in(pid: u32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words
        .split(|byte| *byte == 0)
        .any(|word| word == b"stand-in")
}

/// TERM at each moment around the exchange of the program. A single one that is lost is a supervisor that waits for its kill.
#[lameduck_rig::test]
async fn term_around_the_stand_in_s_start_stops_the_process_that_serves() {
    let _turn = turn().await;
    let bench = Bench::start("upgrade", App::BuiltIn, 1).await.unwrap();
    let settings = ProxySettings {
        admin: "http = \"\"".to_owned(),
        server: "lame_duck = \"0s\"\ndeadline = \"5s\"".to_owned(),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path();
    // From the upgrade's answer to the new program, as the rounds so far have seen it.
    let mut exchange = Duration::ZERO;
    for round in 0..if proving() { 300 } else { 25 } {
        let mut proxy = DemoProxy::start(exe(), "proxy", dir, &settings, &bench.instances)
            .await
            .unwrap();
        let first = proxy.process().pid();
        let report = upgraded(proxy.socket()).await;
        let serving = EndOnDrop::of(&report);
        let answered = Instant::now();
        if round == 0 {
            while !stands_in(first) {
                assert!(answered.elapsed() < PATIENCE, "no stand-in");
                std::hint::spin_loop();
            }
            exchange = answered.elapsed();
        }
        // From a little before to a little after.
        let aim = exchange.mul_f64(f64::from(round % 12) / 10.0);
        while answered.elapsed() < aim {
            std::hint::spin_loop();
        }
        let status = proxy.stop(PATIENCE).await.unwrap();
        assert!(
            status.success(),
            "round {round}, TERM after {aim:?}: {status}"
        );
        until("the process that serves to end", PATIENCE, async || {
            !is_running(serving.0)
        })
        .await;
    }
}
