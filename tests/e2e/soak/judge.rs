//! The oracle of the soak: each lost request is explained by a rule, or it is unexplained. Pure.
//!
//! A rule believes the proxy's own log only where the harness's records say the same: which process was killed
//! when, what had reached it, who was drained with which deadline, and whether anybody could have answered.

use std::collections::{BTreeMap, HashMap};

use lameduck::tools::demo::oracle::{DemoRequestKind, Life, Loss, Sent};
use serde::Deserialize;

use super::world::{Death, End, Span, World};

/// Clocks are the same; who writes what down first is not.
const SLACK: u64 = 20_000_000;
/// An instance that was well for this long while a request waited should have answered it.
const WELL: u64 = 500_000_000;

/// What the proxy says of a request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Log {
    pub request_id: String,
    pub status: u16,
    pub backend: String,
    pub attempts: u32,
    pub held_ms: f64,
    pub retry_reason: String,
    pub end: String,
    pub cause: String,
}

/// An arrival: instance, which of its processes, when.
pub type Arrival = (String, usize, u64);

/// Where each request arrived.
pub fn arrivals(lives: &[Vec<Life>]) -> HashMap<u64, Vec<Arrival>> {
    let mut all: HashMap<u64, Vec<Arrival>> = HashMap::new();
    for (number, life) in lives.iter().flat_map(|lives| lives.iter().enumerate()) {
        for &(id, at) in &life.arrivals {
            all.entry(id)
                .or_default()
                .push((life.name.clone(), number, at));
        }
    }
    all
}

/// Why a request was lost; `None` if nothing explains it.
pub fn explain(
    sent: &Sent,
    log: Option<&Log>,
    arrived: &[Arrival],
    world: &World,
) -> Option<&'static str> {
    let loss = sent.outcome.err()?;
    let log = log?;
    let span = Span {
        from: sent.at.saturating_sub(SLACK),
        to: sent.at + sent.latency + SLACK,
    };
    let died: Vec<&Death> = world
        .deaths
        .iter()
        .filter(|death| death.instance == log.backend && death.span.meets(span))
        .collect();
    let received = |death: &&Death| {
        let there = |(name, life, at): &Arrival| {
            *name == death.instance && *life == death.life && *at <= death.span.to
        };
        arrived.iter().any(there)
    };
    let hard = |death: &&Death| death.end == End::Hard;
    let idempotent = sent.kind != DemoRequestKind::Post;
    match loss {
        Loss::ProxyError(502) if log.end == "upstream_died" && !idempotent => {
            let killed: Vec<&Death> = died.iter().copied().filter(hard).collect();
            if killed.iter().any(received) {
                Some("POST, received by a process that was killed")
            } else if !killed.is_empty() && arrived.is_empty() {
                Some("POST, on its way into a process that was killed")
            } else if !died.is_empty() && arrived.is_empty() {
                Some("POST, sent to a process that was stopping, which never saw it")
            } else {
                None
            }
        }
        Loss::ProxyError(502) if log.end == "upstream_died" && log.retry_reason == "attempts" => {
            taken_along(log, arrived, world, span)
                .then_some("idempotent, taken along by as many processes as it has attempts")
        }
        Loss::ProxyError(502) if log.end == "cut" && !idempotent => {
            let deadline = |(name, cut): &(String, Span)| *name == log.backend && cut.meets(span);
            (world.cut.iter().any(deadline)).then_some("POST, cut at a drain's deadline")
        }
        Loss::Truncated | Loss::Reset if log.end == "truncated" => died
            .iter()
            .any(|death| hard(death) && received(death))
            .then_some("its answer had begun when the process was killed"),
        Loss::Truncated | Loss::Reset if log.end == "cut" => {
            let deadline = |(name, cut): &(String, Span)| *name == log.backend && cut.meets(span);
            (world.cut.iter().any(deadline)).then_some("its answer was cut at a drain's deadline")
        }
        Loss::ProxyError(503) if log.held_ms > 0.0 && arrived.is_empty() => {
            let could = |(_, well): &(String, Span)| well.overlap(span) >= WELL;
            (!world.well.iter().any(could)).then_some("held; no instance was well")
        }
        _ => None,
    }
}

/// How many attempts may reach an app before a request is given up (`[pool.retry] attempts`).
const ATTEMPTS: usize = 3;

/// Whether each process that had it was killed with it, and enough others were killed meanwhile, the last attempt's
/// among them, to make up for the attempts that left no trace. What a drain has cut uses up none.
fn taken_along(log: &Log, arrived: &[Arrival], world: &World, span: Span) -> bool {
    let killed = (world.deaths.iter()).filter(|d| d.end == End::Hard && d.span.meets(span));
    let mut killed: Vec<&Death> = killed.collect();
    let mut taken = 0;
    let mut last = false;
    for (name, life, at) in arrived {
        let with = |d: &&Death| d.instance == *name && d.life == *life && *at <= d.span.to;
        if let Some(death) = killed.iter().position(with) {
            killed.swap_remove(death);
            taken += 1;
            last |= *name == log.backend;
            continue;
        }
        let cut = |(cut, when): &(String, Span)| cut == name && *at <= when.to && when.meets(span);
        if !world.cut.iter().any(cut) {
            return false;
        }
    }
    last |= killed.iter().any(|death| death.instance == log.backend);
    last && log.attempts as usize >= ATTEMPTS && taken + killed.len() >= ATTEMPTS
}

/// Requests that must arrive once and arrived more often: POSTs, by the ids that `is_post` knows.
pub fn duplicated(
    arrivals: &HashMap<u64, Vec<Arrival>>,
    is_post: impl Fn(u64) -> bool,
) -> (Vec<u64>, u64) {
    let twice = arrivals.iter().filter(|(_, places)| places.len() > 1);
    let (posts, others): (Vec<u64>, Vec<u64>) =
        twice.map(|(&id, _)| id).partition(|&id| is_post(id));
    (posts, others.len() as u64)
}

/// Requests that reached an instance between "it is drained" and "resume it".
pub fn reached_drained(arrivals: &HashMap<u64, Vec<Arrival>>, world: &World) -> Vec<u64> {
    let mut reached = Vec::new();
    let mut by_instance: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for (name, span) in &world.drained {
        by_instance.entry(name).or_default().push(*span);
    }
    for (&id, places) in arrivals {
        let closed = |(name, _, at): &Arrival| {
            let spans = by_instance.get(name.as_str());
            spans.is_some_and(|spans| spans.iter().any(|span| (span.from..span.to).contains(at)))
        };
        if places.iter().any(closed) {
            reached.push(id);
        }
    }
    reached
}

/// Whether the end of a stream at `at` without a farewell has a reason.
pub fn explains_broken_stream(at: u64, world: &World) -> bool {
    let shortly_before = Span {
        from: at.saturating_sub(2_000_000_000),
        to: at,
    };
    let died = world
        .deaths
        .iter()
        .any(|death| death.end == End::Hard && death.span.meets(shortly_before));
    let cut = world.cut.iter().any(|(_, span)| span.meets(shortly_before));
    let well = |(_, span): &(String, Span)| span.overlap(shortly_before) >= WELL;
    died || cut || !world.well.iter().any(well)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn post(loss: Loss) -> Sent {
        Sent {
            id: 1,
            kind: DemoRequestKind::Post,
            at: 10 * S,
            latency: S,
            outcome: Err(loss),
            closing: false,
            retry_after: None,
        }
    }

    fn log(end: &str) -> Log {
        Log {
            backend: "a".into(),
            end: end.into(),
            attempts: 1,
            ..Log::default()
        }
    }

    fn killed(from: u64, to: u64, end: End) -> World {
        let death = Death {
            instance: "a".into(),
            life: 0,
            end,
            span: Span { from, to },
        };
        World {
            deaths: vec![death],
            ..World::default()
        }
    }

    #[test]
    fn a_post_is_lost_with_the_process_that_had_it_and_not_otherwise() {
        let sent = post(Loss::ProxyError(502));
        let log = log("upstream_died");
        let had_it = [("a".to_owned(), 0, 10 * S + 1)];
        let other = [("b".to_owned(), 0, 10 * S + 1)];
        let then = killed(10 * S + 2, 10 * S + 3, End::Hard);
        assert!(explain(&sent, Some(&log), &had_it, &then).is_some());
        assert!(explain(&sent, Some(&log), &[], &then).is_some());
        assert_eq!(explain(&sent, Some(&log), &other, &then), None);
        // Nobody died then; it died gracefully, with the request; the proxy knows nothing of it.
        let later = killed(12 * S, 12 * S + 1, End::Hard);
        let graceful = killed(10 * S + 2, 10 * S + 3, End::Graceful);
        assert_eq!(explain(&sent, Some(&log), &had_it, &later), None);
        assert_eq!(explain(&sent, Some(&log), &had_it, &graceful), None);
        assert_eq!(explain(&sent, None, &had_it, &then), None);
    }

    #[test]
    fn an_idempotent_request_is_not_lost_with_one_process() {
        let sent = Sent {
            kind: DemoRequestKind::Get,
            ..post(Loss::ProxyError(502))
        };
        let then = killed(10 * S + 2, 10 * S + 3, End::Hard);
        assert_eq!(
            explain(&sent, Some(&log("upstream_died")), &[], &then),
            None
        );
    }

    #[test]
    fn three_deaths_explain_an_idempotent_one_only_where_it_was() {
        let sent = Sent {
            kind: DemoRequestKind::Get,
            ..post(Loss::ProxyError(502))
        };
        let log = Log {
            attempts: 3,
            retry_reason: "attempts".into(),
            ..log("upstream_died")
        };
        let death = |instance: &str, end| Death {
            instance: instance.into(),
            life: 0,
            end,
            span: Span {
                from: 10 * S + 2,
                to: 10 * S + 3,
            },
        };
        let world = |deaths| World {
            deaths,
            ..World::default()
        };
        let at = |name: &str| (name.to_owned(), 0, 10 * S + 1);
        let three = || ["a", "b", "c"].map(|name| death(name, End::Hard)).to_vec();
        let explained = |arrived: &[Arrival], world: &World| {
            explain(&sent, Some(&log), arrived, world).is_some()
        };
        assert!(explained(&[], &world(three())));
        assert!(explained(&[at("a"), at("b")], &world(three())));
        // It was somewhere else, too, and that did not die; the last one did not; one of them finished its work.
        assert!(!explained(&[at("d")], &world(three())));
        let others = ["b", "c", "d"].map(|name| death(name, End::Hard));
        assert!(!explained(&[], &world(others.to_vec())));
        let mut graceful = three();
        graceful[1].end = End::Graceful;
        assert!(!explained(&[], &world(graceful)));
        // A second visit to the same process is no second death.
        assert!(!explained(&[at("a"), at("a")], &world(three())));
        // What was cut is no attempt.
        let mut cut = world(three());
        let span = Span {
            from: 10 * S,
            to: 10 * S + 5,
        };
        cut.cut.push(("d".into(), span));
        assert!(explained(&[at("d"), at("a")], &cut));
        cut.deaths.pop();
        assert!(!explained(&[at("d"), at("a")], &cut));
    }

    #[test]
    fn a_hold_runs_out_only_while_nobody_is_well() {
        let sent = Sent {
            latency: 10 * S,
            ..post(Loss::ProxyError(503))
        };
        let log = Log {
            held_ms: 10_000.0,
            ..log("")
        };
        let mut world = World::default();
        assert!(explain(&sent, Some(&log), &[], &world).is_some());
        let well = |from, to| ("b".to_owned(), Span { from, to });
        world.well.push(well(0, 10 * S));
        assert!(explain(&sent, Some(&log), &[], &world).is_some());
        world.well.push(well(15 * S, 16 * S));
        assert_eq!(explain(&sent, Some(&log), &[], &world), None);
    }

    #[test]
    fn what_has_no_rule_is_unexplained() {
        let then = killed(10 * S + 2, 10 * S + 3, End::Hard);
        let had_it = [("a".to_owned(), 0, 10 * S + 1)];
        for loss in [
            Loss::Refused,
            Loss::Empty,
            Loss::TimedOut,
            Loss::Corrupted,
            Loss::Unfinished,
            Loss::ProxyError(504),
        ] {
            let log = log("upstream_died");
            assert_eq!(explain(&post(loss), Some(&log), &had_it, &then), None);
        }
    }

    #[test]
    fn an_arrival_in_a_drained_instance_is_found() {
        let mut world = World::default();
        world
            .drained
            .push(("a".into(), Span { from: S, to: 2 * S }));
        let arrivals = |name: &str, at| HashMap::from([(7, vec![(name.to_owned(), 0, at)])]);
        assert_eq!(reached_drained(&arrivals("a", S + 1), &world), [7]);
        assert!(reached_drained(&arrivals("a", 2 * S), &world).is_empty());
        assert!(reached_drained(&arrivals("b", S + 1), &world).is_empty());
    }

    #[test]
    fn a_second_delivery_is_found_by_kind() {
        let place = ("a".to_owned(), 0, 1);
        let twice = vec![place.clone(), place];
        let arrivals = HashMap::from([(1, twice.clone()), (2, twice)]);
        assert_eq!(duplicated(&arrivals, |id| id == 1), (vec![1], 1));
    }
}
