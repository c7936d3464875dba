//! Sticky sessions, each balance, outliers, zones, backups, weights and drains, all at once: worlds in which everything
//! happens in any order, and one model of where each request may go. The seed is printed; `LAMEDUCK_SEED` replays one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lameduck::config::BalanceConfig;
use lameduck::core::backend::ProbeResult;
use lameduck::core::outlier::AttemptError;
use lameduck::proxy::upstream::pick::{ExcludedBackends, SessionHome, admit, admit_backup};
use lameduck::registry::endpoint::outcomes::{AttemptOutcome, AttemptWatch};
use lameduck::registry::endpoint::{Endpoint, Permit};
use lameduck::registry::snapshot::PoolSnapshot;
use lameduck::registry::view::{BackendView, DrainRequest};
use lameduck::rt::clock;

use crate::rig::Rig;

/// Any moment will do: tokens go by what the caller says.
const NOW: u64 = 1_800_000_000;

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() >> 33) as usize % most
    }
}

/// A backend as the file has it.
#[derive(Clone)]
struct Written {
    name: String,
    zone: &'static str,
    backup: bool,
    weight: u32,
}

/// A client that keeps its token: where it is, and the token that says so.
struct Client {
    key: u64,
    home: Option<(String, String)>,
}

/// What has been seen in all worlds: what has not, was not tried.
#[derive(Debug, Default)]
struct Seen {
    kept: u32,
    moved: u32,
    ejected: u32,
    finished: u32,
    on_backups: u32,
    in_other_zones: u32,
    relieved: u32,
}

struct World {
    seed: u64,
    numbers: Numbers,
    rig: Rig,
    settings: String,
    backends: Vec<Written>,
    finishes: bool,
    max_ejected: f64,
    clients: Vec<Client>,
    /// Those that answer with 500.
    sick: HashSet<String>,
    /// Those whose drain lets sessions finish, for all that the world has done.
    finishing: HashSet<String>,
    in_flight: Vec<Permit>,
    /// Some connections are refused.
    refuses: bool,
    seen: Seen,
}

fn view_of<'a>(views: &'a [BackendView], name: &str) -> &'a BackendView {
    views.iter().find(|view| view.name == name).unwrap()
}

/// Whether it takes those who have no session.
fn takes(view: &BackendView) -> bool {
    view.state == "ready" && view.ejected.is_none() && view.weight > 0
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| {
            numbers.next();
        });
        let count = 3 + numbers.below(4);
        let backends: Vec<_> = (0..count)
            .map(|n| Written {
                name: format!("b{n}"),
                zone: ["a", "a", "b"][numbers.below(3)],
                backup: n > 0 && numbers.below(4) == 0,
                weight: 1 + numbers.below(2) as u32,
            })
            .collect();
        let finishes = numbers.below(2) == 0;
        let max_ejected = [0.3, 0.6, 1.0][numbers.below(3)];
        let (balance, _) = BalanceConfig::WORDS[seed as usize % BalanceConfig::WORDS.len()];
        let on_drain = if finishes { "finish" } else { "move" };
        let settings = format!(
            "[pool.sticky]\non_drain = \"{on_drain}\"\n[pool.drain]\nclose_spread = \"0s\"\n\
             [pool.outlier]\nconsecutive_errors = 3\nerror_rate = 0\nlatency_factor = 0\nmax_ejected = {max_ejected:?}\n\
             window = \"1s\"\nejection = \"300ms\"\nmax_ejection = \"900ms\"\n"
        );
        let settings = format!("{balance}\n{settings}");
        let rig = Rig::new(&text(&settings, &backends));
        for backend in &backends {
            rig.ready(&backend.name).await;
        }
        let clients = (0..12).map(|_| Client {
            key: numbers.next(),
            home: None,
        });
        Self {
            seed,
            clients: clients.collect(),
            numbers,
            rig,
            settings,
            backends,
            finishes,
            max_ejected,
            sick: HashSet::new(),
            finishing: HashSet::new(),
            in_flight: Vec::new(),
            refuses: true,
            seen: Seen::default(),
        }
    }

    /// A snapshot, and what people see at the same moment.
    async fn look(&self) -> (Arc<PoolSnapshot>, Vec<BackendView>) {
        loop {
            let before = self.rig.snapshot();
            let views = self.rig.handle.pool("app").await.unwrap().backends;
            let after = self.rig.snapshot();
            if Arc::ptr_eq(&before, &after) {
                return (after, views);
            }
        }
    }

    /// The backends of the best rank that there is, of those that are left.
    fn serving<'a>(&self, views: &'a [BackendView], tried: &HashSet<String>) -> Vec<&'a str> {
        let rank = |view: &BackendView| {
            let written = self.backends.iter().find(|one| one.name == view.name);
            written.map_or(0, |one| match one {
                Written { backup: true, .. } => 2,
                Written { zone: "a", .. } => 0,
                _ => 1,
            })
        };
        let left = || {
            views
                .iter()
                .filter(|view| takes(view) && !tried.contains(&view.name))
        };
        let best = left().map(rank).min();
        let serving = left().filter(|view| Some(rank(view)) == best);
        serving.map(|view| &*view.name).collect()
    }

    /// One request of a client, to its end.
    async fn ask(&mut self, number: usize) {
        let (snapshot, views) = self.look().await;
        self.judge_ejections(&views);
        let sticky = snapshot.sticky.as_ref().unwrap();
        let config = snapshot.config.sticky.as_ref().unwrap();
        let client = &self.clients[number];
        let home = client.home.as_ref().map(|(name, _)| name.clone());
        let believed = client.home.as_ref().map(|(_, token)| {
            let read = sticky.read("app", config, token.as_bytes(), NOW);
            read.expect("a token of ours").token
        });
        let session = believed.map_or(client.key, |token| token.session);
        let mut excluded = ExcludedBackends::default();
        excluded.set_hash_key(client.key);
        excluded.stay_with(believed.map(|token| SessionHome {
            backend: token.backend,
            session,
        }));
        let mut tried = HashSet::new();
        loop {
            let context = || {
                format!(
                    "seed {}: {home:?}, tried {tried:?}, of {views:#?}",
                    self.seed
                )
            };
            let serving = self.serving(&views, &tried);
            let picked = admit(&snapshot, &excluded).or_else(|| admit_backup(&snapshot, &excluded));
            let home = home.as_deref().filter(|name| !tried.contains(*name));
            let stays = home.is_some_and(|name| {
                // A session that nobody remembers is not waited for.
                let is_counted = || self.rig.endpoint(name).holders.has(session);
                self.must_stay(view_of(&views, name), is_counted)
            });
            let Some(permit) = picked else {
                assert!(
                    serving.is_empty() && !stays,
                    "nobody is picked, {}",
                    context()
                );
                return;
            };
            let name = permit.endpoint().name.to_string();
            let is_home = home == Some(&*name);
            match stays {
                true => assert!(is_home, "it left for {name}, {}", context()),
                false if is_home => {
                    let may = self.may_stay(view_of(&views, &name));
                    assert!(may, "it stayed, {}", context());
                }
                false => assert!(serving.contains(&&*name), "{name} is picked, {}", context()),
            }
            self.note_seen(&views, &name, is_home);
            // As a request does it: it is counted before it is sent, and its client is told.
            let endpoint = permit.endpoint().clone();
            endpoint
                .holders
                .enter(session, is_home, config.idle, clock::now());
            if let Some(token) = believed {
                let others = sticky.named(token.backend);
                others
                    .filter(|other| other.key != endpoint.key)
                    .for_each(|other| other.holders.forget(session));
            }
            endpoint.holders.leave(session, clock::now());
            let is_refused = self.numbers.below(40) == 0 && self.refuses;
            self.note_outcome(&permit, &endpoint, is_refused);
            if is_refused {
                excluded.add(endpoint.key, permit.epoch());
                tried.insert(name);
                continue;
            }
            let token = sticky.write("app", &endpoint.name, session, NOW);
            let token = String::from_utf8(token.to_vec()).unwrap();
            self.clients[number].home = Some((name, token));
            if self.numbers.below(4) == 0 {
                self.in_flight.push(permit);
            }
            return;
        }
    }

    /// Whether a session that is there may go nowhere else.
    fn must_stay(&self, view: &BackendView, is_counted: impl Fn() -> bool) -> bool {
        let finishes = view.state == "draining" && self.finishing.contains(&view.name);
        takes(view) || (finishes && view.weight > 0 && is_counted())
    }

    fn may_stay(&self, view: &BackendView) -> bool {
        takes(view) || (self.finishes && view.state == "draining" && view.weight > 0)
    }

    fn note_outcome(&self, permit: &Permit, endpoint: &Endpoint, is_refused: bool) {
        let watch = AttemptWatch {
            endpoint,
            epoch: permit.epoch(),
            began: clock::now(),
            is_prompt: true,
        };
        let error = match (is_refused, self.sick.contains(&*endpoint.name)) {
            (true, _) => Some(AttemptError::Connect),
            (false, true) => Some(AttemptError::Status(500)),
            (false, false) => None,
        };
        let now = clock::now();
        match error {
            Some(error) => watch.note(AttemptOutcome::Failed(error), now),
            None => {
                watch.note(AttemptOutcome::Head { error: None }, now);
                watch.note(AttemptOutcome::Whole, now);
            }
        }
    }

    /// Never more than a share, never the last, and never one that drains or is down.
    fn judge_ejections(&mut self, views: &[BackendView]) {
        let ejected = views.iter().filter(|view| view.ejected.is_some()).count();
        let allowed = ((self.max_ejected * views.len() as f64 + 1e-9) as usize).max(1);
        assert!(ejected <= allowed, "seed {}: {views:#?}", self.seed);
        let is_away = |view: &BackendView| view.ejected.is_some() && view.state != "ready";
        assert!(!views.iter().any(is_away), "seed {}: {views:#?}", self.seed);
        let ready = |view: &&BackendView| view.state == "ready" && view.weight > 0;
        let left = views.iter().filter(ready).count();
        assert!(
            left == 0 || views.iter().any(takes),
            "seed {}: the last one is ejected: {views:#?}",
            self.seed
        );
        self.seen.ejected += ejected as u32;
    }

    fn note_seen(&mut self, views: &[BackendView], name: &str, is_home: bool) {
        let view = view_of(views, name);
        let written = self.backends.iter().find(|one| one.name == name).unwrap();
        self.seen.kept += u32::from(is_home);
        self.seen.moved += u32::from(!is_home);
        self.seen.finished += u32::from(is_home && view.state == "draining");
        self.seen.on_backups += u32::from(written.backup);
        self.seen.in_other_zones += u32::from(written.zone != "a");
    }

    /// Something happens to somebody.
    async fn disturb(&mut self) {
        let one = self.numbers.below(self.backends.len());
        let name = self.backends[one].name.clone();
        let view = self.rig.view(&name).await.unwrap();
        match self.numbers.below(12) {
            0 | 1 if !self.sick.remove(&name) => drop(self.sick.insert(name)),
            2 | 3 if view.state == "ready" => {
                let request = DrainRequest {
                    timeout: Some("10m".into()),
                    wait: Some(false),
                    ..DrainRequest::default()
                };
                self.rig.handle.drain("app", &name, request).await.unwrap();
                if self.finishes {
                    self.finishing.insert(name);
                }
            }
            4 | 5 if !view.drains.is_empty() => {
                self.finishing.remove(&name);
                self.rig.resume(&name, true).await.unwrap();
                (0..2).for_each(|_| self.rig.probe(&name, ProbeResult::Pass));
            }
            6 => {
                // What drains has to take requests for sessions to be finished there.
                self.finishing.remove(&name);
                (0..3).for_each(|_| self.rig.probe(&name, ProbeResult::Status(500)));
            }
            7 | 8 => (0..2).for_each(|_| self.rig.probe(&name, ProbeResult::Pass)),
            9 => {
                self.backends[one].weight = self.numbers.below(3) as u32;
                let changed = text(&self.settings, &self.backends);
                self.rig.apply(&changed).await;
            }
            10 => self.in_flight.clear(),
            _ if view.ejected.is_some() => {
                let resumed = self.rig.resume(&name, false).await.unwrap();
                assert!(resumed.ended_ejection.is_some() || resumed.ejected.is_none());
                self.seen.relieved += 1;
            }
            _ => {}
        }
        self.rig.settled().await;
    }

    async fn run(mut self, steps: usize) -> Seen {
        for _ in 0..steps {
            for _ in 0..4 {
                let client = self.numbers.below(self.clients.len());
                self.ask(client).await;
            }
            if self.numbers.below(3) == 0 {
                self.disturb().await;
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
        self.calm_down().await;
        self.seen
    }

    /// All are well again: everybody has one backend, and stays there.
    async fn calm_down(&mut self) {
        self.sick.clear();
        self.finishing.clear();
        self.in_flight.clear();
        self.backends.iter_mut().for_each(|one| one.weight = 1);
        let calm = text(&self.settings, &self.backends);
        self.rig.apply(&calm).await;
        for backend in self.backends.clone() {
            self.rig.resume(&backend.name, true).await.unwrap();
            (0..2).for_each(|_| self.rig.probe(&backend.name, ProbeResult::Pass));
        }
        let well = |view: &BackendView| view.state == "ready" && view.ejected.is_none();
        while !self.look().await.1.iter().all(well) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.refuses = false;
        // What was suspected before may be ejected yet, and comes back.
        let mut homes: HashMap<usize, String> = HashMap::new();
        let mut quiet_rounds = 0;
        for _ in 0..300 {
            let mut has_moved = false;
            for number in 0..self.clients.len() {
                self.ask(number).await;
                let (name, _) = self.clients[number].home.clone().unwrap();
                has_moved |= homes.insert(number, name.clone()) != Some(name);
            }
            quiet_rounds = if has_moved { 0 } else { quiet_rounds + 1 };
            if quiet_rounds == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("seed {}: sessions never come to rest", self.seed);
    }
}

/// The file. The first line of `settings` is the balance.
fn text(settings: &str, backends: &[Written]) -> String {
    let (balance, sections) = settings.split_once('\n').unwrap();
    let mut text =
        format!("[server]\nzone = \"a\"\n[[pool]]\nname = \"app\"\nbalance = \"{balance}\"\n");
    for (place, one) in backends.iter().enumerate() {
        text += &format!(
            "[[pool.backend]]\nname = {:?}\naddress = \"127.0.0.1:{}\"\nzone = {:?}\nbackup = {}\nweight = {}\n",
            one.name,
            4100 + place,
            one.zone,
            one.backup,
            one.weight
        );
    }
    text + sections
}

#[lameduck_rig::test]
async fn sessions_stay_or_go_as_balance_zones_drains_and_ejections_say() {
    let given = std::env::var("LAMEDUCK_SEED").ok();
    let given: Option<u64> = given.map(|seed| seed.parse().unwrap());
    let (most, steps) = match lameduck_rig::setting::proving() {
        true => (48, 250),
        false => (12, 120),
    };
    let seeds = given.map_or(1..1 + most, |seed| seed..seed + 1);
    println!("seeds {seeds:?}");
    let worlds = seeds
        .clone()
        .map(async |seed| World::new(seed).await.run(steps).await);
    let mut all = Seen::default();
    for seen in futures_util::future::join_all(worlds).await {
        all.kept += seen.kept;
        all.moved += seen.moved;
        all.ejected += seen.ejected;
        all.finished += seen.finished;
        all.on_backups += seen.on_backups;
        all.in_other_zones += seen.in_other_zones;
        all.relieved += seen.relieved;
    }
    println!("{all:?}");
    if given.is_none() {
        let least = [
            all.kept,
            all.moved,
            all.ejected,
            all.finished,
            all.on_backups,
            all.in_other_zones,
        ];
        assert!(least.iter().all(|count| *count > 0), "{all:?}");
    }
}
