//! What may happen to a backend, at random.

use lameduck::core::Time;
use lameduck::core::backend::{BackendPolicy, ProbeResult};
use lameduck::core::drain::DrainActor;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub enum Act {
    Wait(u64),
    /// A probe that began so many milliseconds ago.
    Probe {
        probe: ProbeResult,
        age: u64,
        listener: Option<u64>,
    },
    PeerClosed,
    Hint,
    Lost(u32),
    Enter,
    Leave,
    EnterWithSession,
    /// So many sessions are there from now on.
    Sessions(u32),
    Drain {
        actor: DrainActor,
        id: u8,
        deadline: Option<u64>,
        restarted: bool,
        expires: Option<u64>,
    },
    Resume(bool),
    LeaseEnded(u8),
    Withdrawn(DrainActor, u8),
    /// Expires so many milliseconds from now.
    Orphaned(DrainActor, u8, u64),
    Replaced,
    /// Seen so many epochs ago.
    Quiesced(u64),
}

pub fn acts() -> impl Strategy<Value = Vec<Act>> {
    let probe = prop_oneof![
        5 => Just(ProbeResult::Pass),
        2 => Just(ProbeResult::Unavailable),
        2 => Just(ProbeResult::Refused),
        1 => Just(ProbeResult::Reset),
        1 => Just(ProbeResult::Status(500)),
        2 => Just(ProbeResult::Timeout),
    ];
    let age = prop_oneof![4 => Just(0), 1 => 1..2000_u64];
    let listener = prop_oneof![4 => Just(None), 2 => Just(Some(1)), 1 => Just(Some(2))];
    let actor = prop_oneof![
        Just(DrainActor::Supervisor),
        Just(DrainActor::Operator),
        Just(DrainActor::Config),
    ];
    let deadline = proptest::option::of(0..40_000_u64);
    let expires = proptest::option::weighted(0.3, 0..60_000_u64);
    let act = prop_oneof![
        5 => prop_oneof![0..300_u64, 0..20_000_u64].prop_map(Act::Wait),
        12 => (probe, age, listener).prop_map(|(probe, age, listener)| Act::Probe { probe, age, listener }),
        1 => Just(Act::PeerClosed),
        1 => Just(Act::Hint),
        1 => (1..4_u32).prop_map(Act::Lost),
        4 => Just(Act::Enter),
        4 => Just(Act::Leave),
        2 => Just(Act::EnterWithSession),
        2 => (0..3_u32).prop_map(Act::Sessions),
        2 => (actor.clone(), 0..2_u8, deadline, any::<bool>(), expires).prop_map(
            |(actor, id, deadline, restarted, expires)| Act::Drain { actor, id, deadline, restarted, expires }
        ),
        1 => any::<bool>().prop_map(Act::Resume),
        1 => (0..2_u8).prop_map(Act::LeaseEnded),
        1 => (actor.clone(), 0..2_u8).prop_map(|(actor, id)| Act::Withdrawn(actor, id)),
        1 => (actor.clone(), 0..2_u8, 1..20_000_u64).prop_map(|(actor, id, ms)| Act::Orphaned(actor, id, ms)),
        1 => Just(Act::Replaced),
        4 => (0..3_u64).prop_map(Act::Quiesced),
    ];
    proptest::collection::vec(act, 0..150)
}

/// Any numbers; what an app's 503 does stays the default.
pub fn policies() -> impl Strategy<Value = BackendPolicy> {
    let seconds = (1..40_u64, 0..10_u64);
    (1..4_u32, 1..4_u32, 1..6_u32, seconds, any::<bool>()).prop_map(
        |(rise, fall, fall_timeout, (absent, spread), finishes_sessions)| BackendPolicy {
            finishes_sessions,
            rise,
            fall,
            fall_timeout,
            absent_after: Time::from_secs(absent),
            close_spread: Time::from_secs(spread),
            ..BackendPolicy::default()
        },
    )
}
