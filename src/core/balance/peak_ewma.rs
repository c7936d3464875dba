//! Lowest expected wait: the better of two random candidates by latency × (requests in flight + 1) / weight.
//!
//! The latency is a moving average that follows increases at once and decreases within some 10 s ("peak EWMA", as in
//! Finagle), kept by [`LatencyFigure`](super::LatencyFigure) of `src/registry/endpoint/latency.rs`. A candidate
//! without an average gets one request at once: it is preferred while it is idle, and skipped until that request is
//! answered.

use super::{BalanceCandidate, around, below, remix};

/// Draws for each of the two candidates before any remaining candidate is taken: only excluded candidates cost
/// further draws.
const DRAWS: usize = 6;

/// Cost of picking a candidate; the lower is picked.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Cost {
    /// No average yet, and idle.
    Untried,
    /// Expected wait, divided by the weight.
    Wait(f64),
    /// No average yet, with unanswered requests: their number, divided by the weight.
    Unanswered(f64),
}

pub(super) fn pick<C: BalanceCandidate>(
    candidates: &[C],
    random: u64,
    excluded: &[usize],
) -> Option<usize> {
    let usable = |index: &usize| candidates[*index].weight() > 0 && !excluded.contains(index);
    let mut random = random;
    let mut drawn = std::iter::from_fn(|| {
        let index = below(random, candidates.len());
        random = remix(random);
        Some(index)
    });
    let first = match candidates.is_empty() {
        true => return None,
        false => drawn.by_ref().take(DRAWS).find(usable),
    };
    let first = first.or_else(|| {
        let start = drawn.next().unwrap_or_default();
        around(candidates.len(), start).find(usable)
    })?;
    let other = |index: &usize| *index != first && usable(index);
    let second = drawn.by_ref().take(DRAWS).find(other);
    let second = second.or_else(|| {
        let start = drawn.next().unwrap_or_default();
        around(candidates.len(), start).find(other)
    });
    Some(match second {
        Some(second) if cost(&candidates[second]) < cost(&candidates[first]) => second,
        _ => first,
    })
}

fn cost<C: BalanceCandidate>(candidate: &C) -> Cost {
    let in_flight = candidate.in_flight();
    let load = (f64::from(in_flight) + 1.0) / f64::from(candidate.weight().max(1));
    match candidate.latency() {
        Some(latency) => Cost::Wait(latency.as_secs_f64() * load),
        None if in_flight == 0 => Cost::Untried,
        None => Cost::Unanswered(load),
    }
}
