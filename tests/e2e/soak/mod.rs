//! The soak: chaos of every kind, under load, against the oracle.
//!
//! `make soak` runs it for `SOAK_SECONDS` (600), `make test` for a few seconds. What is done comes from a seed,
//! which is printed; `SOAK_SEED=N make soak` does the same again, as far as time allows. The timeline (each
//! action, each death, each wait's end, in nanoseconds of `CLOCK_MONOTONIC`) goes to
//! `target/prove/soak.timeline.jsonl`, the figures to `target/prove/soak.md`, each explained loss with its evidence to
//! `target/prove/soak.lost.txt`; after a failure, journals, access
//! logs and the proxy's own log are kept, too.

mod hostile;
mod judge;
mod lanes;
mod plan;
mod report;
mod strangers;
mod world;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{Evidence, LoadAccount};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::apps::App;
use crate::harness::streams::Streams;
use crate::harness::watch::{self, Watch};
use crate::harness::{exe, skip, turn_alone, until};
use hostile::Hostile;
use lanes::{Doors, Stage};
use report::Report;
use strangers::Strangers;
use world::Diary;

/// One of each temper.
const APPS: [App; 4] = [
    App::BuiltIn,
    App::BuiltInAbrupt,
    App::Node,
    App::BuiltInLinger,
];
/// A request that is held for longer than this is answered with 503.
const HOLD: &str = "10s";

/// How long, how much, and from which seed.
#[derive(Debug, Clone, Copy)]
struct Scale {
    seed: u64,
    run: Duration,
    rate: u32,
    slow: Duration,
    deadline: Duration,
    hostile: u64,
    /// Of those who know what is dear.
    strangers: u64,
    /// Little time: things are done more often.
    brisk: bool,
}

fn scale() -> Scale {
    let number = |name| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let seed = number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    match number("SOAK_SECONDS") {
        Some(seconds) => Scale {
            seed,
            run: Duration::from_secs(seconds),
            rate: 250,
            slow: Duration::from_secs(2),
            deadline: Duration::from_secs(6),
            hostile: 24,
            strangers: 6,
            brisk: false,
        },
        None => Scale {
            seed,
            run: Duration::from_secs(12),
            rate: 100,
            slow: Duration::from_millis(700),
            deadline: Duration::from_secs(3),
            hostile: 8,
            strangers: 4,
            brisk: true,
        },
    }
}

/// Where the figures go.
fn out() -> PathBuf {
    lameduck_rig::place::prove()
}

/// A proxy's access log.
fn access_log(dir: &Path, name: &str) -> String {
    dir.join(format!("{name}.access")).display().to_string()
}

fn say(text: &str) {
    // Not `eprintln!`, whose text the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "soak: {text}");
}

async fn stage(dir: &Path, scale: Scale) -> Stage {
    let mut instances = Vec::new();
    for (index, app) in APPS.into_iter().enumerate() {
        let (app, program) = app
            .program()
            .map(|program| (app, program))
            .unwrap_or_else(|| {
                skip(
                    &format!("soak: {}", app.name()),
                    "node; a built-in app takes its place",
                );
                (App::BuiltIn, Program::built_in(exe()))
            });
        let name = format!("app-{}", index + 1);
        let instance = DemoInstance::launch(&name, &program, dir).await.unwrap();
        instances.push((instance, app));
    }
    let settings = ProxySettings {
        reuse_port: true,
        // A proxy that stops ends its streams by its deadline: no later than a drain.
        server: format!(
            "lame_duck = \"1s\"\ndeadline = \"{}ms\"\nheader_timeout = \"2s\"\nbody_timeout = \"2s\"\nidle_timeout = \"5s\"",
            scale.deadline.as_millis()
        ),
        // So that HTTP/2 is spoken, and strangers find the admin API.
        listener: "http2 = true".to_owned(),
        admin: "http = \"127.0.0.1:0\"".to_owned(),
        // Ten seconds of the full rate; close_spread below the deadline of each drain.
        // What a reload takes out drains by the pool's own deadline, streams and all.
        pool: format!(
            "[pool.hold]\ntimeout = \"{HOLD}\"\nmax_requests = 5000\n[pool.drain]\nclose_spread = \"1s\"\n\
             deadline = \"{}ms\"\n{}",
            scale.deadline.as_millis(),
            strangers::VACANT
        ),
        access_log: access_log(dir, "proxy-0"),
        ..ProxySettings::default()
    };
    let backends: Vec<_> = instances
        .iter()
        .map(|(i, _)| (i.name().to_owned(), i.address()))
        .collect();
    let mut proxy = DemoProxy::start_with(exe(), "proxy-0", dir, &settings, &backends)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    std::fs::copy(proxy.config(), dir.join("good.toml")).unwrap();
    let doors = Doors::of(&proxy).await.unwrap();
    let diary = Diary::new(&out().join("soak.timeline.jsonl"));
    Stage::new(
        instances,
        diary,
        settings,
        scale.deadline,
        dir.to_owned(),
        proxy,
        doors,
    )
}

#[lameduck_rig::test]
async fn chaos() {
    let _turn = turn_alone().await;
    let scale = scale();
    say(&format!("SOAK_SEED={} for {:?}", scale.seed, scale.run));
    let scratch = ScratchDir::new("lameduck-soak").unwrap();
    let stage = Arc::new(stage(scratch.path(), scale).await);
    stage.settle().await.unwrap();
    stage.diary.line("all", format!("{scale:?}"));
    let base = watch::look(stage.pid()).unwrap();

    let watched = stage.clone();
    let watch = Watch::start(move || watched.pid());
    let address = stage.proxy().address();
    let load = Load::start(LoadPlan {
        slow: scale.slow,
        ..LoadPlan::new(address, scale.rate)
    });
    let streams = Streams::open(address, 3).await;
    let hostile = Hostile::start(address, scale.hostile, scale.seed);
    let strangers = Strangers::start(stage.clone(), scale.strangers, scale.seed);
    act(&stage, scale, &load).await;
    stage.finish().await;

    let ends = streams.close();
    let opened = hostile.opened();
    hostile.stop();
    let strangers = strangers.stop().await;
    let sent = load.stop().await;
    // What all of them have left is closed after `idle_timeout`, and the pool's after its own.
    let mut left = base;
    let returned = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            left = watch::look(stage.pid()).unwrap();
            if left.1 <= base.1 + 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let returned = returned.await.is_ok();
    until("nothing in flight", Duration::from_secs(10), async || {
        let pool = stage.proxy().pool().await.unwrap();
        pool.held == 0
            && pool.backends.iter().all(|backend| backend.in_flight == 0)
            && strangers::held(&stage.doors()).await == 0
    })
    .await;
    let (held, retried) = stage.proxy().counts().await.unwrap();

    let mut lives = Vec::new();
    for lane in &stage.lanes {
        lives.push(lane.lock().await.instance.lives().unwrap());
    }
    let account = LoadAccount::of(&Evidence {
        sent: sent.clone(),
        lives: lives.iter().flatten().cloned().collect(),
        held,
        retried,
    });
    let mut report = Report {
        seed: scale.seed,
        seconds: scale.run.as_secs(),
        account,
        world: stage.diary.world(),
        begun: stage.diary.begun(),
        hostile: opened,
        strangers,
        base,
        left,
        samples: watch.samples(),
        ..Report::default()
    };
    if !returned {
        report.world.violations.push(format!(
            "{} descriptors at the end, {} at the beginning",
            left.1, base.1
        ));
    }
    report.judge(&sent, &lives, &ends, scratch.path());
    std::fs::write(out().join("soak.md"), report.to_string()).unwrap();
    std::fs::write(out().join("soak.lost.txt"), report.lost.join("\n")).unwrap();
    say(&format!("\n{report}"));
    if !report.failures().is_empty() {
        let kept = scratch.path().to_owned();
        std::mem::forget(scratch);
        panic!(
            "SOAK_SEED={}: {}\nevidence: {}, {}",
            scale.seed,
            report.failures().join("; "),
            kept.display(),
            out().join("soak.timeline.jsonl").display()
        );
    }
}

/// The chaos itself; the last part of it changes the proxy, too.
async fn act(stage: &Arc<Stage>, scale: Scale, load: &Load) {
    until("requests", Duration::from_secs(20), async || {
        load.progress().answered > 50
    })
    .await;
    let end = Instant::now() + scale.run;
    let hand_overs = end - scale.run / 8;
    let mut tasks = JoinSet::new();
    for (index, lane) in stage.lanes.iter().enumerate() {
        let app = lane.lock().await.app;
        let steps = plan::lane(plan::rng(scale.seed, 1 + index as u64), app, scale.brisk);
        let stage = stage.clone();
        tasks.spawn(async move {
            for step in steps {
                if Instant::now() + step.pause >= end {
                    break;
                }
                tokio::time::sleep(step.pause).await;
                stage.act(index, step.action).await;
            }
        });
    }
    let stage = stage.clone();
    tasks.spawn(async move {
        let steps = plan::global(plan::rng(scale.seed, 0), stage.lanes.len(), scale.brisk);
        for step in steps {
            if Instant::now() + step.pause >= hand_overs {
                break;
            }
            tokio::time::sleep(step.pause).await;
            stage.act_on_all(step.action).await;
        }
        let mut number = 0;
        while number == 0 || Instant::now() < end {
            number += 1;
            if let Err(error) = stage.hand_over(number).await {
                stage
                    .diary
                    .violation("all", &format!("hand-over: {error:#}"));
                break;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
