#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
//! Whole pools, simulated: processes that crash, restart and fall ill, operators and supervisors that drain,
//! traffic that must not notice. Every run has a seed, and a failing one prints it:
//!
//! `LAMEDUCK_SIM_SEED=17 cargo test --test core_simulation` replays one seed,
//! `LAMEDUCK_SIM_SEEDS=10000` runs that many instead of 256.

mod edge;
mod life;
mod people;
mod process;
mod quiet;
mod rng;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use process::Manners;
use world::{Settings, World};

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}

/// Runs `scenario` with many seeds, or with the one that the environment names.
fn seeds(name: &str, scenario: impl Fn(u64)) {
    let seeds = match number("LAMEDUCK_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LAMEDUCK_SIM_SEEDS").unwrap_or(256),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            eprintln!("{name}: replay with LAMEDUCK_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Drain, wait for zero, kill without mercy, start, wait until ready, next: nobody may notice.
#[test]
fn a_coordinated_roll_loses_nothing() {
    seeds("a_coordinated_roll_loses_nothing", |seed| {
        let mut world = World::new(
            seed,
            Settings {
                manners: Manners::None,
                ..Settings::calm(2, 5)
            },
        );
        world.roll_all(5);
        world.run(120);
        world.assert_all_ready();
        world.assert_restarted();
        assert_eq!(world.tally.cut + world.tally.lost, 0, "{:?}", world.tally);
        assert!(world.tally.answered > 1000, "{:?}", world.tally);
    });
}

/// The same with one instance: requests wait meanwhile, and get their answers.
#[test]
fn a_coordinated_restart_of_the_only_instance_loses_nothing() {
    seeds(
        "a_coordinated_restart_of_the_only_instance_loses_nothing",
        |seed| {
            let settings = Settings {
                manners: Manners::None,
                longest: 1500,
                ..Settings::calm(1, 2)
            };
            let mut world = World::new(seed, settings);
            world.roll_all(5);
            world.run(60);
            world.assert_all_ready();
            world.assert_restarted();
            assert_eq!(world.tally.cut + world.tally.lost, 0, "{:?}", world.tally);
            assert!(world.tally.held > 0, "{:?}", world.tally);
        },
    );
}

/// Nobody asks us: the supervisor just sends SIGTERM to an app that behaves.
#[test]
fn stops_that_nobody_announced_lose_nothing_of_a_well_behaved_app() {
    seeds(
        "stops_that_nobody_announced_lose_nothing_of_a_well_behaved_app",
        |seed| {
            let mut world = World::new(
                seed,
                Settings {
                    manners: Manners::Good,
                    ..Settings::calm(2, 5)
                },
            );
            world.terminate_all(5, 12);
            world.run(120);
            world.assert_all_ready();
            world.assert_restarted();
            assert_eq!(world.tally.cut + world.tally.lost, 0, "{:?}", world.tally);
        },
    );
}

/// Everything at once. What is lost is lost; but nothing is admitted where it must not be, nothing is counted
/// wrongly, everybody who waits is told once, and when the chaos is over, everything is ready again.
#[test]
fn random_faults_strand_no_request() {
    let trouble = std::cell::Cell::new((0, 0, 0));
    seeds("random_faults_strand_no_request", |seed| {
        let manners = if seed % 2 == 0 {
            Manners::Good
        } else {
            Manners::None
        };
        let mut world = World::new(
            seed,
            Settings {
                manners,
                ..Settings::calm(1, 5)
            },
        );
        world.chaos(5, 60);
        world.run(200);
        world.assert_all_ready();
        let (drained, died, timed_out) = trouble.get();
        let outcomes = &world.tally.outcomes;
        trouble.set((
            drained + outcomes[0],
            died + outcomes[1],
            timed_out + outcomes[2],
        ));
    });
    let (drained, died, timed_out) = trouble.get();
    if number("LAMEDUCK_SIM_SEED").is_none() && number("LAMEDUCK_SIM_SEEDS").is_none() {
        // The simulation is worth nothing if it never gets there.
        assert!(
            drained > 100 && died > 10 && timed_out > 10,
            "{drained} {died} {timed_out}"
        );
    }
}
