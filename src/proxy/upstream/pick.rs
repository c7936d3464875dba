//! Picks a backend from a pool: the balancer's choice among the remaining ones, and a permit from its gate.

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

/// What a request and its failed attempts say about the next backend.
#[derive(Debug, Default)]
pub struct ExcludedBackends {
    /// Backends that the request is not sent to again, with their epoch: a process that was restarted meanwhile is
    /// another one.
    tried: Vec<(BackendKey, u64)>,
    /// A backend has died during the request: see [`retry::youngest`].
    prefer_youngest: bool,
    /// The backend of its session.
    session: Option<SessionHome>,
    /// See [`PickInput::key`].
    hash_key: u64,
}

/// The backend of a request's session, by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHome {
    /// The backend's id.
    pub backend: u64,
    /// The session's id.
    pub session: u64,
}

/// Where a request goes because of its session.
enum SessionPick {
    /// To the session's backend.
    Entered(Permit),
    /// It waits for the session's backend, which has reached `max_in_flight`.
    Waits,
    /// To any backend.
    Free,
}

impl ExcludedBackends {
    /// Sets the hash key: requests with the same key should go to the same backend.
    pub fn set_hash_key(&mut self, key: u64) {
        self.hash_key = key;
    }

    /// Adds a backend that was entered in this epoch.
    pub fn add(&mut self, key: BackendKey, epoch: u64) {
        self.tried.push((key, epoch));
    }

    /// Prefers the youngest backends: one has died during the request, and in a rolling restart the older ones may be
    /// next.
    pub fn prefer_youngest(&mut self) {
        self.prefer_youngest = true;
    }

    /// Sets the backend of the request's session, if it has one.
    pub fn stay_with(&mut self, session: Option<SessionHome>) {
        self.session = session;
    }

    /// Returns the backend of the request's session, if the request may be sent there.
    fn home<'a>(&self, pool: &'a PoolSnapshot) -> Option<&'a Arc<Endpoint>> {
        let session = self.session.as_ref()?;
        let home = (pool.sticky.as_ref()?).home_of(session.backend, session.session)?;
        (!self.has(home)).then_some(home)
    }

    /// Returns whether the request goes to no other backend as long as this one takes it.
    pub fn stays_with(&self, pool: &PoolSnapshot, endpoint: &Endpoint) -> bool {
        self.session.is_some() && self.home(pool).is_some_and(|home| home.key == endpoint.key)
    }

    /// Tries the backend of the session. Slow start and suspicion only apply to clients without a session: a client
    /// with one would lose it on another backend.
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

    /// Returns whether the request waits for its session's own backend, which is full.
    pub fn waits_for_home(&self, pool: &PoolSnapshot) -> bool {
        let limit = pool.config.upstream.max_in_flight;
        limit > 0
            && self
                .home(pool)
                .is_some_and(|home| home.gate.in_flight() >= limit && !home.gate.is_closed_to_all())
    }

    /// Lets all backends be tried again (the pool has changed).
    pub fn clear(&mut self) {
        self.tried.clear();
    }

    /// Returns whether the backend is excluded.
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        !self.tried.is_empty() && self.tried.contains(&(endpoint.key, endpoint.epoch()))
    }

    /// Returns the positions of the excluded backends in the list of ready ones.
    fn indices(&self, pool: &PoolSnapshot) -> Vec<usize> {
        match self.tried.is_empty() {
            true => Vec::new(),
            false => indices(pool, |endpoint| self.has(endpoint)),
        }
    }

    /// Returns whether the request may still be sent to this backend.
    fn leaves(&self, endpoint: &Endpoint) -> bool {
        !self.has(endpoint) && !endpoint.gate.is_closed()
    }

    /// Returns whether an eligible backend is left, backups included.
    pub fn leaves_any(&self, pool: &PoolSnapshot) -> bool {
        let mut all = pool.ready.iter().chain(lower(pool));
        all.any(|endpoint| self.leaves(endpoint))
    }

    /// Returns whether an eligible backend is left that is not a backup.
    fn leaves_any_first(&self, pool: &PoolSnapshot) -> bool {
        before_backups(pool).any(|endpoint| self.leaves(endpoint))
    }

    /// Returns whether an eligible backend is left besides this one.
    pub fn leaves_any_but(&self, pool: &PoolSnapshot, one: &Endpoint) -> bool {
        let mut all = pool.ready.iter().chain(lower(pool));
        all.any(|endpoint| endpoint.key != one.key && self.leaves(endpoint))
    }
}

/// Returns the eligible backends that are not backups, while there are any.
fn before_backups(pool: &PoolSnapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let others = pool.other_zones.iter();
    let others = others.flat_map(|others| &others.ready);
    pool.ready.iter().chain(others)
}

/// Returns the eligible backends of lower priority than the ready ones.
fn lower(pool: &PoolSnapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let tiers = pool.other_zones.iter().chain(&pool.backups);
    tiers.flat_map(|tier| &tier.ready)
}

fn indices(pool: &PoolSnapshot, test: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
    (0..pool.ready.len())
        .filter(|index| test(&pool.ready[*index]))
        .collect()
}

/// Picks an eligible backend and enters its gate. Excluded backends are left out. While there is any other, so are
/// backends that are still warming up (slow start) or may be on their way out, and, for a request whose backend has
/// died, those that a rolling restart would reach next. Requests that already wait for a free place go first.
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

/// Like [`admit`], for a request whose turn it is.
pub fn admit_waiter(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    match excluded.pick_home(pool) {
        SessionPick::Entered(permit) => Some(permit),
        SessionPick::Waits => None,
        SessionPick::Free => admit_anywhere(pool, excluded),
    }
}

/// Like [`admit_waiter`], regardless of the request's session.
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

/// Picks a ready backend and enters its gate, but none that is warming up or may be on its way out.
pub fn admit_unsuspected(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    enter(pool, excluded, excluded.indices(pool), Choice::Best)
}

/// Enters a backup for a request that none of the other backends takes: it has tried all of them, or they have just
/// closed. As long as one of them is only full, the request waits: a backup replaces failed backends, it doesn't take
/// extra load.
///
/// Call this only when [`admit`] has given no permit.
pub fn admit_backup(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let backups = pool.backups.as_ref()?;
    if excluded.leaves_any_first(pool) || excluded.waits_for_home(pool) {
        return None;
    }
    enter_lower(pool, backups, excluded)
}

/// Enters a backend of lower priority.
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

/// Which backends are acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Only backends that are not warming up and are not suspected to be on their way out.
    Best,
    /// If necessary, also backends that are still warming up or may be on their way out.
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

/// Returns the balancer's input for the next pick.
#[inline]
fn next_input(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> PickInput {
    PickInput {
        cursor: pool.shared.cursor.fetch_add(1, Ordering::Relaxed),
        random: fastrand::u64(..),
        key: excluded.hash_key,
    }
}

/// Returns the number that decides whether a backend that is warming up takes a request: random, or from the
/// request's hash key. In the latter case the backend takes more and more keys, and keeps each of them.
fn warm_up_chance(pool: &PoolSnapshot, input: PickInput) -> u32 {
    match pool.balancer.hashes() {
        true => input.key as u32,
        false => input.random as u32,
    }
}

/// Returns whether there is an eligible backend that this request has not tried: if it got no permit, all of those
/// are full.
pub fn waits_for_room(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    let has_untried = || before_backups(pool).any(|endpoint| !excluded.has(endpoint));
    pool.config.upstream.max_in_flight > 0 && has_untried()
}

/// Returns whether there is a backend that fail-open may try.
pub fn has_last_resort(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    pool.last_resort
        .iter()
        .any(|endpoint| !excluded.has(endpoint))
}

/// Enters a backend that fail-open may try, although its gate is closed.
pub fn admit_anyway(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let open: Vec<_> = pool
        .last_resort
        .iter()
        .filter(|endpoint| !excluded.has(endpoint))
        .collect();
    fastrand::choice(open).and_then(|endpoint| endpoint.permit_anyway())
}
