//! What is done to whom: drawn from a seed alone, so that a run can be repeated as far as time allows.

use std::time::Duration;

use serde::Serialize;

use crate::harness::apps::App;

/// Something done to one instance. Durations are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// SIGKILL; the next process is started `down` later.
    Kill { down: u64 },
    /// SIGTERM, and nobody told the proxy.
    Terminate { down: u64 },
    /// SIGSTOP, SIGCONT `pause` later.
    Freeze { pause: u64 },
    /// SIGSTOP, SIGKILL `pause` later.
    FreezeAndKill { pause: u64, down: u64 },
    /// `/health` answers too late for a while (SIGUSR2).
    SlowProbes { pause: u64 },
    /// `/health` says 503 for a while (SIGUSR1).
    Outage { pause: u64 },
    /// Drain, SIGTERM, start, resume.
    Roll,
    /// Drain until restarted, SIGTERM, start.
    RollUntilRestarted,
    /// Drain, and resume `pause` later.
    DrainAndResume { pause: u64 },
    /// Drain with a deadline that cuts what is in flight, and resume.
    DrainTooShort { deadline: u64 },
    /// Drain, and SIGKILL before it has drained.
    DrainAndKill { down: u64 },
}

/// Something done to the proxy, or to all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Global {
    /// A reload that changes how the pool is balanced.
    Reload { round_robin: bool },
    /// A reload of a file that is not a configuration.
    BrokenReload,
    /// A reload without one instance, and another one with it `pause` later.
    Without { instance: usize, pause: u64 },
    /// All instances get SIGTERM at once, and are started again.
    RestartAll,
    /// All instances get SIGKILL at once, and are started again.
    KillAll,
    /// So many connections at once that say nothing and go.
    Storm { connections: usize },
}

/// What is next, and how long nothing is done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<A> {
    pub pause: Duration,
    pub action: A,
}

/// A generator of its own for each part of the run, so that none shifts another's numbers.
pub fn rng(seed: u64, part: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ (part + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What is done to an instance, without end. `brisk` leaves shorter pauses.
pub fn lane(mut rng: fastrand::Rng, app: App, brisk: bool) -> impl Iterator<Item = Step<Action>> {
    let pauses = if brisk { 200..1_500 } else { 500..6_000 };
    std::iter::repeat_with(move || Step {
        pause: Duration::from_millis(rng.u64(pauses.clone())),
        action: action(&mut rng, app),
    })
}

fn action(rng: &mut fastrand::Rng, app: App) -> Action {
    let down = rng.u64(0..2_000);
    let pause = rng.u64(200..4_000);
    // The other apps know nothing of the signals that play slow probes and outages.
    let built_in = matches!(app, App::BuiltIn | App::BuiltInAbrupt | App::BuiltInLinger);
    match rng.u32(0..100) {
        0..14 => Action::Kill { down },
        14..32 => Action::Terminate { down },
        32..42 => Action::Freeze { pause },
        42..47 => Action::FreezeAndKill {
            pause: pause / 2,
            down,
        },
        47..53 if built_in => Action::SlowProbes { pause: 2 * pause },
        53..59 if built_in => Action::Outage { pause },
        47..77 => Action::Roll,
        77..84 => Action::RollUntilRestarted,
        84..90 => Action::DrainAndResume { pause },
        90..95 => Action::DrainTooShort {
            deadline: rng.u64(100..1_000),
        },
        _ => Action::DrainAndKill { down },
    }
}

/// What is done to the whole, without end.
pub fn global(
    mut rng: fastrand::Rng,
    instances: usize,
    brisk: bool,
) -> impl Iterator<Item = Step<Global>> {
    let pauses = if brisk { 1_000..3_000 } else { 3_000..12_000 };
    std::iter::repeat_with(move || {
        let pause = Duration::from_millis(rng.u64(pauses.clone()));
        let action = match rng.u32(0..100) {
            0..35 => Global::Reload {
                round_robin: rng.bool(),
            },
            35..45 => Global::BrokenReload,
            45..60 => Global::Without {
                instance: rng.usize(0..instances),
                pause: rng.u64(500..3_000),
            },
            60..72 => Global::RestartAll,
            72..80 => Global::KillAll,
            _ => Global::Storm {
                connections: rng.usize(50..300),
            },
        };
        Step { pause, action }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_does_the_same() {
        let steps = |seed| {
            let lane: Vec<_> = lane(rng(seed, 1), App::BuiltIn, false).take(200).collect();
            let global: Vec<_> = global(rng(seed, 0), 4, false).take(200).collect();
            (lane, global)
        };
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn only_apps_that_understand_them_get_the_playing_signals() {
        let plays = |app| {
            lane(rng(3, 1), app, false).take(2_000).any(|step| {
                matches!(
                    step.action,
                    Action::SlowProbes { .. } | Action::Outage { .. }
                )
            })
        };
        assert!(plays(App::BuiltIn));
        assert!(!plays(App::Node));
    }
}
