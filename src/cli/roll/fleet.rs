//! Combines several proxies before the same app to one for a roll: a drain ends when all reachable proxies have ended
//! it, and a backend is ready when all of them say so. A proxy that can't be reached is named and not waited for. When
//! it answers again, it takes part again and learns which backends are out.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::exit::Exit;
use super::super::fleet::stops_answering;
use super::plan::RollSettings;
use super::remote::{RemoteChanges, RollRemote};
use crate::client::http::AdminClient;
use crate::core::drain::DrainOutcome;
use crate::registry::view::{DrainResponse, PoolView};
use crate::rt::output::complain;
use crate::tools::roll::driver::{RollError, RollProxy, RollWatch, base, is_leaving};

/// Longest wait for quick answers, and time between two attempts to reach an absent proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One of the proxies.
struct Member {
    client: AdminClient,
    /// Its roll connection; `None`: the proxy can't be reached.
    remote: Option<Rc<RollRemote>>,
}

/// State that all parts share; on one thread.
struct FleetState {
    pool: String,
    members: Vec<Member>,
    /// Backends that this roll has taken out.
    out: BTreeSet<String>,
    /// Index of the proxy whose view was used last.
    lead: usize,
    /// Our own numbers for the processes, since each proxy numbers them by itself.
    processes: HashMap<(usize, u64, u64), u64>,
    next_process: u64,
    /// Names and processes as they were reported last.
    told: Vec<(String, u64)>,
}

/// The proxies, with the interface of one.
pub(super) struct RollFleet {
    state: Rc<RefCell<FleetState>>,
    id: String,
}

/// Events of all proxies.
pub(super) struct FleetChanges {
    state: Rc<RefCell<FleetState>>,
    settings: RollSettings,
    changes: Vec<Option<RemoteChanges>>,
    next: Instant,
}

impl FleetState {
    fn drop_proxy(&mut self, number: usize, why: &str) {
        let member = &mut self.members[number];
        if member.remote.take().is_some() {
            let name = member.client.name();
            complain(&format!(
                "warning: {name}: {why} The roll goes on without it, until it answers again."
            ));
        }
    }

    /// Proxies that can be reached.
    fn reached(&self) -> Vec<(usize, Rc<RollRemote>)> {
        let numbered = self.members.iter().enumerate();
        let reached = numbered.filter_map(|(n, member)| Some((n, member.remote.clone()?)));
        reached.collect()
    }

    /// Combines the views: that of the leading proxy, in which a backend is ready only if it is ready everywhere.
    fn merge(&mut self, views: Vec<(usize, String, PoolView)>, id: &str) -> Option<PoolView> {
        let mut views = views.into_iter();
        let (lead, lead_id, mut pool) = views.next()?;
        let others: Vec<_> = views.map(|(_, _, view)| view).collect();
        if lead != self.lead {
            // Another leading proxy has other numbers for the same processes.
            let mut told = self.told.clone();
            for backend in &pool.backends {
                let key = (lead, backend.id, backend.incarnation);
                let known = told
                    .iter()
                    .position(|(name, _)| name == base(&backend.name));
                if let (Some(place), false) = (known, self.processes.contains_key(&key)) {
                    self.processes.insert(key, told.remove(place).1);
                }
            }
            self.lead = lead;
        }
        self.told.clear();
        for backend in &mut pool.backends {
            let key = (lead, backend.id, backend.incarnation);
            let process = *self.processes.entry(key).or_insert_with(|| {
                self.next_process += 1;
                self.next_process
            });
            (backend.id, backend.incarnation) = (process, 0);
            self.told.push((base(&backend.name).to_owned(), process));
            for drain in backend
                .drains
                .iter_mut()
                .filter(|drain| drain.id == lead_id)
            {
                drain.id = id.to_owned();
            }
            for other in &others {
                let meant = other.backends.iter();
                let meant = meant.filter(|one| base(&one.name) == base(&backend.name));
                let meant: Vec<_> = meant.filter(|one| !is_leaving(one)).collect();
                backend.in_flight += meant.iter().map(|one| one.in_flight).sum::<u32>();
                let behind = meant.iter().find(|one| one.state != "ready");
                if backend.state != "ready" {
                    continue;
                }
                match behind {
                    Some(one) => backend.state.clone_from(&one.state),
                    None if meant.is_empty() => "starting".clone_into(&mut backend.state),
                    None => {}
                }
            }
        }
        Some(pool)
    }
}

fn no_proxy_left() -> RollError {
    RollError {
        gone: true,
        text: "none of the proxies can be reached any more".to_owned(),
    }
}

impl RollFleet {
    /// Takes the right to roll the pool at all reachable proxies.
    pub(super) async fn open(
        clients: &[AdminClient],
        pool: &str,
        settings: &RollSettings,
    ) -> Result<(Self, FleetChanges), Exit> {
        let opened = clients.iter().map(|client| open(client, pool, settings));
        let (mut members, mut changes, mut away) = (Vec::new(), Vec::new(), None);
        for (client, opened) in clients.iter().zip(join_all(opened).await) {
            let (remote, watch) = match opened {
                Ok((remote, watch)) => (Some(Rc::new(remote)), Some(watch)),
                Err(exit) if exit.code == 5 => {
                    let text = format!("{}: {}", client.name(), exit.message);
                    complain(&format!("warning: {text} The roll begins without it."));
                    away.get_or_insert(exit);
                    (None, None)
                }
                Err(mut exit) => {
                    exit.message = format!("{}: {}", client.name(), exit.message);
                    return Err(exit);
                }
            };
            members.push(Member {
                client: client.clone(),
                remote,
            });
            changes.push(watch);
        }
        let lead = members.iter().position(|member| member.remote.is_some());
        let first = lead.and_then(|lead| members[lead].remote.clone());
        let (Some(lead), Some(first)) = (lead, first) else {
            return Err(away.unwrap_or_else(|| Exit::unreachable(no_proxy_left().text)));
        };
        let state = Rc::new(RefCell::new(FleetState {
            pool: pool.to_owned(),
            members,
            out: BTreeSet::new(),
            lead,
            processes: HashMap::new(),
            next_process: 0,
            told: Vec::new(),
        }));
        let fleet = Self {
            state: state.clone(),
            id: first.id().to_owned(),
        };
        let changes = FleetChanges {
            state,
            settings: settings.clone(),
            changes,
            next: Instant::now(),
        };
        Ok((fleet, changes))
    }

    /// Id of this roll in the messages of its drains.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn drop_proxy(&self, number: usize, why: &str) {
        self.state.borrow_mut().drop_proxy(number, why);
    }

    /// Calls `ask` for each reachable proxy, for requests with a quick answer; fails if none succeeds.
    async fn ask_each_proxy<T>(
        &self,
        ask: impl AsyncFn(&RollRemote) -> Result<T, RollError>,
    ) -> Result<Vec<(usize, String, T)>, RollError> {
        let reached = self.state.borrow().reached();
        let asked = reached
            .iter()
            .map(|(_, remote)| timeout(ANSWER_TIMEOUT, ask(remote)));
        let (mut done, mut refused) = (Vec::new(), None);
        for ((number, remote), answer) in reached.iter().zip(join_all(asked).await) {
            match answer {
                Ok(Ok(answer)) => done.push((*number, remote.id().to_owned(), answer)),
                Ok(Err(trouble)) if !trouble.gone => drop(refused.get_or_insert(trouble)),
                Ok(Err(trouble)) => self.drop_proxy(*number, &trouble.text),
                Err(_elapsed) => self.drop_proxy(*number, "it does not answer."),
            }
        }
        match (done.is_empty(), refused) {
            (false, _) => Ok(done),
            (true, Some(trouble)) => Err(trouble),
            (true, None) => Err(no_proxy_left()),
        }
    }
}

async fn open(
    client: &AdminClient,
    pool: &str,
    settings: &RollSettings,
) -> Result<(RollRemote, RemoteChanges), Exit> {
    let opened = timeout(
        ANSWER_TIMEOUT,
        RollRemote::open(client.clone(), pool, settings),
    )
    .await;
    opened.unwrap_or_else(|_elapsed| Err(Exit::unreachable("it does not answer.")))
}

/// Combines the results of a drain at several proxies.
fn combine_responses(answers: Vec<DrainResponse>) -> Option<DrainResponse> {
    let rank = |one: &DrainResponse| match one.ending() {
        Some(DrainOutcome::Died { .. }) => 3,
        Some(DrainOutcome::TimedOut { .. }) => 2,
        Some(DrainOutcome::Resumed) | None => 1,
        Some(DrainOutcome::Drained) => 0,
    };
    let sum = |of: fn(&DrainResponse) -> u32| answers.iter().map(of).sum();
    let (cut, lost) = (sum(|one| one.cut), sum(|one| one.lost));
    let waited_ms = answers.iter().map(|one| one.waited_ms).max()?;
    let mut worst = answers.into_iter().max_by_key(rank)?;
    (worst.cut, worst.lost, worst.waited_ms) = (cut, lost, waited_ms);
    Some(worst)
}

impl RollProxy for RollFleet {
    fn drain(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<DrainResponse, RollError>> + 'static {
        let state = self.state.clone();
        let reached = {
            let mut state = state.borrow_mut();
            state.out.insert(name.to_owned());
            state.reached()
        };
        let asked: Vec<_> = reached
            .into_iter()
            .map(|(number, remote)| {
                let client = state.borrow().members[number].client.clone();
                let name = name.to_owned();
                async move {
                    tokio::select! {
                        drained = remote.drain(&name) => (number, drained),
                        () = stops_answering(&client) => (number, Err(RollError {
                            gone: true,
                            text: "it has stopped answering.".to_owned(),
                        })),
                    }
                }
            })
            .collect();
        async move {
            let (mut answers, mut refused) = (Vec::new(), None);
            for (number, answer) in join_all(asked).await {
                match answer {
                    Ok(answer) => answers.push(answer),
                    Err(trouble) if trouble.gone => {
                        state.borrow_mut().drop_proxy(number, &trouble.text);
                    }
                    Err(trouble) => {
                        let name = state.borrow().members[number].client.name();
                        complain(&format!("warning: {name}: {}", trouble.text));
                        refused.get_or_insert(trouble);
                    }
                }
            }
            match combine_responses(answers) {
                Some(answer) => Ok(answer),
                None => Err(refused.unwrap_or_else(no_proxy_left)),
            }
        }
    }

    async fn await_probes(&self, name: &str) -> Result<(), RollError> {
        let asked =
            self.ask_each_proxy(async |remote: &RollRemote| remote.await_probes(name).await);
        asked.await.map(drop)
    }

    async fn lift_drain(&self, name: &str) -> Result<(), RollError> {
        self.state.borrow_mut().out.remove(name);
        let lifted = self.ask_each_proxy(async |remote: &RollRemote| remote.lift_drain(name).await);
        lifted.await.map(drop)
    }

    async fn fetch_pool(&self) -> Result<PoolView, RollError> {
        let views = self.ask_each_proxy(async |remote: &RollRemote| remote.fetch_pool().await);
        let views = views.await?;
        let mut state = self.state.borrow_mut();
        let merged = state.merge(views, &self.id).ok_or_else(no_proxy_left)?;
        // A backend that takes requests everywhere has come back.
        let back = merged.backends.iter().filter(|one| one.state == "ready");
        let back: Vec<_> = back.map(|one| base(&one.name).to_owned()).collect();
        state.out.retain(|name| !back.contains(name));
        Ok(merged)
    }
}

impl FleetChanges {
    /// Tries to reach the absent proxies.
    async fn take_back(&mut self) {
        let away: Vec<_> = {
            let state = self.state.borrow();
            let numbered = state.members.iter().enumerate();
            let away = numbered.filter(|(_, member)| member.remote.is_none());
            away.map(|(number, member)| (number, member.client.clone()))
                .collect()
        };
        let pool = self.state.borrow().pool.clone();
        let opened = away
            .iter()
            .map(|(_, client)| open(client, &pool, &self.settings));
        for ((number, client), opened) in away.iter().zip(join_all(opened).await) {
            let Ok((remote, changes)) = opened else {
                continue;
            };
            let out: Vec<_> = self.state.borrow().out.iter().cloned().collect();
            for name in &out {
                // A proxy that does not know the backend sends it no requests.
                drop(remote.ask_drain(name).await);
            }
            complain(&format!(
                "{}: it answers again, and takes part.",
                client.name()
            ));
            self.state.borrow_mut().members[*number].remote = Some(Rc::new(remote));
            self.changes[*number] = Some(changes);
        }
    }
}

impl RollWatch for FleetChanges {
    async fn changed(&mut self) -> Result<(), RollError> {
        if Instant::now() >= self.next {
            self.take_back().await;
            self.next = Instant::now() + ANSWER_TIMEOUT;
        }
        let ended = {
            let watched = self.changes.iter_mut().enumerate();
            let watched: Vec<_> = watched
                .filter_map(|(number, changes)| {
                    let changes = changes.as_mut()?;
                    Some(Box::pin(async move { (number, changes.changed().await) }))
                })
                .collect();
            if watched.is_empty() {
                return Err(no_proxy_left());
            }
            tokio::select! {
                (ended, ..) = select_all(watched) => ended,
                () = sleep_until(self.next) => return Ok(()),
            }
        };
        if let (number, Err(trouble)) = ended {
            self.changes[number] = None;
            self.state.borrow_mut().drop_proxy(number, &trouble.text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(backends: &[(&str, u64, &str)]) -> PoolView {
        let backends: Vec<_> = backends
            .iter()
            .map(|(name, id, state)| {
                json!({
                    "id": id, "name": name, "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
                    "state": state, "health": "up", "source": "lease", "last_probe": null, "drains": [],
                    "in_flight": 1, "connections": 0, "requests": 0,
                })
            })
            .collect();
        let pool = json!({"name": "app", "balance": "random", "eligible": 0, "held": 0, "backends": backends});
        serde_json::from_value(pool).unwrap()
    }

    fn state() -> FleetState {
        FleetState {
            pool: "app".into(),
            members: Vec::new(),
            out: BTreeSet::new(),
            lead: 0,
            processes: HashMap::new(),
            next_process: 0,
            told: Vec::new(),
        }
    }

    fn merged(state: &mut FleetState, views: &[(usize, PoolView)]) -> Vec<(u64, String)> {
        let views = views.iter();
        let views = views.map(|(number, view)| (*number, format!("roll-{number}"), view.clone()));
        let pool = state.merge(views.collect(), "roll-0").unwrap();
        let backends = pool.backends.into_iter();
        backends.map(|one| (one.id, one.state)).collect()
    }

    #[test]
    fn backend_is_ready_when_it_is_so_everywhere() {
        let mut state = state();
        let lead = view(&[("a", 1, "ready"), ("b", 2, "ready"), ("c", 3, "ready")]);
        let other = view(&[("a", 7, "ready"), ("b", 8, "drained")]);
        let states: Vec<_> = merged(&mut state, &[(0, lead), (1, other)]);
        let states: Vec<_> = states.iter().map(|(_, state)| state.as_str()).collect();
        assert_eq!(states, ["ready", "drained", "starting"]);
    }

    #[test]
    fn process_keeps_its_number_when_another_proxy_reports_it() {
        let mut state = state();
        let first = merged(
            &mut state,
            &[(0, view(&[("a", 1, "ready"), ("b", 2, "ready")]))],
        );
        // The leading proxy is gone. The other one has different numbers, and later b has a new process.
        let second = merged(
            &mut state,
            &[(1, view(&[("a", 1, "ready"), ("b", 9, "ready")]))],
        );
        assert_eq!(first, second);
        let third = merged(
            &mut state,
            &[(1, view(&[("a", 1, "ready"), ("b", 10, "ready")]))],
        );
        assert_eq!(third[0], first[0]);
        assert_ne!(third[1].0, first[1].0);
    }

    #[test]
    fn drain_ended_as_badly_as_the_worst_and_counts_all() {
        let answer = |outcome: &str, cut, lost, waited_ms| {
            let json = json!({"outcome": outcome, "in_flight": 0, "cut": cut, "lost": lost, "waited_ms": waited_ms});
            serde_json::from_value::<DrainResponse>(json).unwrap()
        };
        let all = vec![
            answer("drained", 0, 0, 9),
            answer("timed_out", 2, 0, 5),
            answer("timed_out", 1, 0, 5),
        ];
        let whole = combine_responses(all).unwrap();
        assert_eq!(
            (&*whole.outcome, whole.cut, whole.waited_ms),
            ("timed_out", 3, 9)
        );
        assert!(combine_responses(Vec::new()).is_none());
    }
}
