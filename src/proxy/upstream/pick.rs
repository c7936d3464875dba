//! From a pool to a backend: the balancer's pick among those that are left, and its gate's permit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::balance::{BalanceCandidate, PickInput};
use crate::core::retry;
use crate::registry::endpoint::{BackendKey, Endpoint, Permit, SessionPermit};
use crate::registry::snapshot::{LowerTier, PoolSnapshot};
use crate::rt::clock;

impl BalanceCandidate for Arc<Endpoint> {
    fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    fn weight(&self) -> u32 {
        Endpoint::weight(self)
    }

    fn latency(&self) -> Option<Duration> {
        self.latency.expected(clock::now())
    }
}

/// What a request, and its failed attempts, say about where it should go next.
#[derive(Debug, Default)]
pub struct ExcludedBackends {
    /// Backends that it is not sent to again, and in which epoch: a process that was restarted meanwhile is another.
    tried: Vec<(BackendKey, u64)>,
    /// A backend has died during the request: see [`retry::youngest`].
    prefer_youngest: bool,
    /// Where its session is.
    session: Option<SessionHome>,
    /// See [`PickInput::key`].
    hash_key: u64,
}

/// Where the session of a request is, by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHome {
    /// The backend's id.
    pub backend: u64,
    /// The session's.
    pub session: u64,
}

/// What the session of a request says of where it goes.
enum SessionPick {
    /// To its backend.
    Entered(Permit),
    /// It waits for its backend, which has `max_in_flight` requests.
    Waits,
    /// Anywhere.
    Free,
}

impl ExcludedBackends {
    /// Takes the hash of what the request has in common with those that should meet the same backend.
    pub fn set_hash_key(&mut self, key: u64) {
        self.hash_key = key;
    }

    /// Adds one that was entered in this epoch.
    pub fn add(&mut self, key: BackendKey, epoch: u64) {
        self.tried.push((key, epoch));
    }

    /// Its backend has died during the request, so in a rolling restart the others may be next.
    pub fn prefer_youngest(&mut self) {
        self.prefer_youngest = true;
    }

    /// Its session is there, if it has one.
    pub fn stay_with(&mut self, session: Option<SessionHome>) {
        self.session = session;
    }

    /// The backend that its session is on, if it may be sent there.
    fn home<'a>(&self, pool: &'a PoolSnapshot) -> Option<&'a Arc<Endpoint>> {
        let session = self.session.as_ref()?;
        let home = (pool.sticky.as_ref()?).home_of(session.backend, session.session)?;
        (!self.has(home)).then_some(home)
    }

    /// Whether it goes nowhere else as long as this backend takes it.
    pub fn stays_with(&self, pool: &PoolSnapshot, endpoint: &Endpoint) -> bool {
        self.session.is_some() && self.home(pool).is_some_and(|home| home.key == endpoint.key)
    }

    /// What its session says. Slow start and suspicion hold only for clients without a session: one with a session
    /// would lose it elsewhere.
    fn pick_home(&self, pool: &PoolSnapshot) -> SessionPick {
        let Some(home) = self.home(pool) else {
            return SessionPick::Free;
        };
        match home.permit_for_session(pool.config.upstream.max_in_flight) {
            SessionPermit::Entered(permit) => SessionPick::Entered(permit),
            SessionPermit::Full => SessionPick::Waits,
            SessionPermit::Closed => SessionPick::Free,
        }
    }

    /// Whether it waits for its session's own backend, which is full.
    pub fn waits_for_home(&self, pool: &PoolSnapshot) -> bool {
        let limit = pool.config.upstream.max_in_flight;
        limit > 0
            && self
                .home(pool)
                .is_some_and(|home| home.gate.in_flight() >= limit && !home.gate.is_closed_to_all())
    }

    /// All backends may be tried again (the pool has changed).
    pub fn clear(&mut self) {
        self.tried.clear();
    }

    /// Whether it is excluded.
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        !self.tried.is_empty() && self.tried.contains(&(endpoint.key, endpoint.epoch()))
    }

    /// Where they are in the list of those that are ready.
    fn indices(&self, pool: &PoolSnapshot) -> Vec<usize> {
        match self.tried.is_empty() {
            true => Vec::new(),
            false => indices(pool, |endpoint| self.has(endpoint)),
        }
    }

    /// Whether it may still be sent there.
    fn leaves(&self, endpoint: &Endpoint) -> bool {
        !self.has(endpoint) && !endpoint.gate.is_closed()
    }

    /// Whether something eligible is left, backups included.
    pub fn leaves_any(&self, pool: &PoolSnapshot) -> bool {
        let mut all = pool.ready.iter().chain(lower(pool));
        all.any(|endpoint| self.leaves(endpoint))
    }

    /// Whether something eligible is left that is no backup.
    fn leaves_any_first(&self, pool: &PoolSnapshot) -> bool {
        before_backups(pool).any(|endpoint| self.leaves(endpoint))
    }

    /// Whether something eligible is left besides this one.
    pub fn leaves_any_but(&self, pool: &PoolSnapshot, one: &Endpoint) -> bool {
        let mut all = pool.ready.iter().chain(lower(pool));
        all.any(|endpoint| endpoint.key != one.key && self.leaves(endpoint))
    }
}

/// Eligible ones that are no backups, while others than backups are eligible.
fn before_backups(pool: &PoolSnapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let others = pool.other_zones.iter();
    let others = others.flat_map(|others| &others.ready);
    pool.ready.iter().chain(others)
}

/// Eligible ones that come after those that are ready.
fn lower(pool: &PoolSnapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let tiers = pool.other_zones.iter().chain(&pool.backups);
    tiers.flat_map(|tier| &tier.ready)
}

fn indices(pool: &PoolSnapshot, test: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
    (0..pool.ready.len())
        .filter(|index| test(&pool.ready[*index]))
        .collect()
}

/// Picks an eligible backend and enters its gate. Excluded ones are left out; and while there is any other, so are
/// those that are still warming up (slow start) or may be on their way out, and for a request whose backend has died,
/// those that a rolling restart would come to next. Where some wait for room already, they come first.
pub fn admit(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let has_waiters =
        || pool.config.upstream.max_in_flight > 0 && pool.shared.queue.room.is_waited_for();
    match excluded.pick_home(pool) {
        SessionPick::Entered(permit) => Some(permit),
        SessionPick::Waits => None,
        SessionPick::Free if has_waiters() => None,
        SessionPick::Free => admit_anywhere(pool, excluded),
    }
}

/// As [`admit`], for one whose turn it is.
pub fn admit_waiter(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    match excluded.pick_home(pool) {
        SessionPick::Entered(permit) => Some(permit),
        SessionPick::Waits => None,
        SessionPick::Free => admit_anywhere(pool, excluded),
    }
}

/// As [`admit_waiter`], wherever its session is.
fn admit_anywhere(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    if excluded.prefer_youngest {
        let ready = pool.ready.iter().filter(|endpoint| !excluded.has(endpoint));
        let since = ready.map(|endpoint| endpoint.ready_since());
        if let Some(young) = retry::youngest(since, clock::now()) {
            let older = |endpoint: &Endpoint| endpoint.ready_since() < young;
            let out = indices(pool, |endpoint| excluded.has(endpoint) || older(endpoint));
            if let Some(permit) = enter(pool, excluded, out, Choice::Best) {
                return Some(permit);
            }
        }
    }
    enter(pool, excluded, excluded.indices(pool), Choice::Any).or_else(|| {
        let others = pool.other_zones.as_ref()?;
        enter_lower(pool, others, excluded)
    })
}

/// The same, but none that may be on its way out.
pub fn admit_unsuspected(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    enter(pool, excluded, excluded.indices(pool), Choice::Best)
}

/// Enters a backup of a request that none of the others takes: it has tried all of them, or they have just closed. As
/// long as one of them is only full, it is waited for: a backup is for those that fail, and not for more load.
///
/// Call this only when [`admit`] has given no permit.
pub fn admit_backup(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let backups = pool.backups.as_ref()?;
    if excluded.leaves_any_first(pool) || excluded.waits_for_home(pool) {
        return None;
    }
    enter_lower(pool, backups, excluded)
}

/// Enters one of those that come after others.
fn enter_lower(
    pool: &PoolSnapshot,
    tier: &LowerTier,
    excluded: &ExcludedBackends,
) -> Option<Permit> {
    let limit = pool.config.upstream.max_in_flight;
    let candidates = &tier.ready;
    let mut out: Vec<usize> = (0..candidates.len())
        .filter(|index| excluded.has(&candidates[*index]))
        .collect();
    for _ in 0..candidates.len() {
        let index = (tier.balancer).pick(candidates, next_input(pool, excluded), &out)?;
        if let Some(permit) = candidates[index].permit(limit) {
            return Some(permit);
        }
        out.push(index);
    }
    None
}

/// Which ones will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Only backends that neither warm up nor may be on their way out.
    Best,
    /// If need be, those that still warm up, or may be on their way out.
    Any,
}

fn enter(
    pool: &PoolSnapshot,
    excluded: &ExcludedBackends,
    mut out: Vec<usize>,
    choice: Choice,
) -> Option<Permit> {
    let limit = pool.config.upstream.max_in_flight;
    let warm_up = pool.config.slow_start.window;
    let mut second: Vec<usize> = Vec::new();
    for _ in 0..pool.ready.len() {
        let input = next_input(pool, excluded);
        let Some(index) = pool.balancer.pick(&pool.ready, input, &out) else {
            break;
        };
        let endpoint = &pool.ready[index];
        let is_warming =
            !warm_up.is_zero() && endpoint.is_warming(warm_up, warm_up_chance(pool, input));
        if is_warming || endpoint.suspicion.is_raised() {
            second.push(index);
        } else if let Some(permit) = endpoint.permit(limit) {
            return Some(permit);
        }
        out.push(index);
    }
    if choice == Choice::Best {
        return None;
    }
    second
        .into_iter()
        .find_map(|index| pool.ready[index].permit(limit))
}

/// The numbers of the next pick.
#[inline]
fn next_input(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> PickInput {
    PickInput {
        cursor: pool.shared.cursor.fetch_add(1, Ordering::Relaxed),
        random: fastrand::u64(..),
        key: excluded.hash_key,
    }
}

/// What says whether a backend that warms up takes a request: chance, or the request's key. Then it takes ever more keys,
/// and each of them once and for all.
fn warm_up_chance(pool: &PoolSnapshot, input: PickInput) -> u32 {
    match pool.balancer.hashes() {
        true => input.key as u32,
        false => input.random as u32,
    }
}

/// Whether something is eligible that this request has not tried: if it got no permit, all of that is full.
pub fn waits_for_room(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    let has_untried = || before_backups(pool).any(|endpoint| !excluded.has(endpoint));
    pool.config.upstream.max_in_flight > 0 && has_untried()
}

/// Whether there is a backend that fail-open may try.
pub fn has_last_resort(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    pool.last_resort
        .iter()
        .any(|endpoint| !excluded.has(endpoint))
}

/// Enters a backend that fail-open may try, though its gate is closed.
pub fn admit_anyway(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let open: Vec<_> = pool
        .last_resort
        .iter()
        .filter(|endpoint| !excluded.has(endpoint))
        .collect();
    fastrand::choice(open).and_then(|endpoint| endpoint.permit_anyway())
}
