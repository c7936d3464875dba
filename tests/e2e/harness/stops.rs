//! What a row of runs with many stops comes to: which methods were lost, how long a stopping instance was still sent
//! requests, and how long it took to exit once its own work was done. Pure.

use std::collections::HashMap;

use lameduck::tools::demo::oracle::{DemoRequestKind, Evidence, LoadAccount, Sent};

/// Ids of different runs must differ: each run has so many of its own.
const RUN: u64 = 1 << 32;

/// The evidence of several runs, put together.
#[derive(Default)]
pub struct Runs {
    pub evidence: Evidence,
    count: u64,
}

impl Runs {
    /// Adds one run.
    pub fn add(&mut self, mut run: Evidence) {
        let offset = self.count * RUN;
        self.count += 1;
        for sent in &mut run.sent {
            sent.id += offset;
        }
        for (id, _) in run.lives.iter_mut().flat_map(|life| &mut life.arrivals) {
            *id += offset;
        }
        let all = &mut self.evidence;
        all.sent.append(&mut run.sent);
        all.lives.append(&mut run.lives);
        all.held = sum(all.held, run.held);
        all.retried = sum(all.retried, run.retried);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn account(&self) -> LoadAccount {
        LoadAccount::of(&self.evidence)
    }

    pub fn stops(&self) -> Stops {
        Stops::of(&self.evidence)
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// What the stops came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stops {
    /// Lost GETs, the slow ones among them.
    pub lost_gets: u64,
    /// Lost POSTs that an app had received.
    pub lost_posts: u64,
    /// Lost POSTs that no app has ever seen: they were in a dying accept queue, or unread in a dying connection.
    pub unseen_posts: u64,
    /// POSTs that reached apps more than once.
    pub posts_twice: u64,
    /// For each stop, milliseconds from the signal to the last request that reached the instance; 0: none did.
    pub last_arrivals: Vec<f64>,
    /// For each stop, milliseconds from the end of the instance's own work to its exit.
    pub idle_exits: Vec<f64>,
}

impl Stops {
    fn of(evidence: &Evidence) -> Self {
        let sent: HashMap<u64, &Sent> = evidence.sent.iter().map(|sent| (sent.id, sent)).collect();
        let mut arrivals: HashMap<u64, u64> = HashMap::new();
        let mut stops = Self::default();
        for (id, _) in evidence.lives.iter().flat_map(|life| &life.arrivals) {
            *arrivals.entry(*id).or_default() += 1;
        }
        for life in &evidence.lives {
            let Some(signalled) = life.signalled else {
                continue;
            };
            let latest = life.arrivals.iter().map(|(_, at)| *at).max().unwrap_or(0);
            stops
                .last_arrivals
                .push(milliseconds(latest.saturating_sub(signalled)));
            let Some(exited) = life.exited else {
                continue;
            };
            // What nobody else has got was answered by this process, and before its exit, even where the client took
            // note of it later.
            let own = life.arrivals.iter().filter(|(id, _)| arrivals[id] == 1);
            let answered = own
                .filter_map(|(id, _)| sent.get(id))
                .filter(|sent| sent.outcome.is_ok())
                .map(|sent| (sent.at + sent.latency).min(exited))
                .max()
                .unwrap_or(0);
            let idle = exited.saturating_sub(answered.max(signalled));
            stops.idle_exits.push(milliseconds(idle));
        }
        for sent in &evidence.sent {
            let seen = arrivals.get(&sent.id).copied().unwrap_or(0);
            let lost = sent.outcome.is_err();
            let counter = match sent.kind {
                DemoRequestKind::Get | DemoRequestKind::Slow => &mut stops.lost_gets,
                DemoRequestKind::Post => {
                    stops.posts_twice += u64::from(seen > 1);
                    match seen {
                        0 => &mut stops.unseen_posts,
                        _ => &mut stops.lost_posts,
                    }
                }
            };
            *counter += u64::from(lost);
        }
        stops.last_arrivals.sort_by(f64::total_cmp);
        stops.idle_exits.sort_by(f64::total_cmp);
        stops
    }

    /// The median of the last arrivals, in milliseconds.
    pub fn median_last_arrival(&self) -> f64 {
        middle(&self.last_arrivals)
    }

    /// For the table.
    pub fn notes(&self) -> Vec<String> {
        let latest = |sorted: &[f64]| sorted.last().copied().unwrap_or(0.0);
        vec![
            format!(
                "lost GETs {}, POSTs {} received and {} unseen by any app, POSTs delivered twice {}",
                self.lost_gets, self.lost_posts, self.unseen_posts, self.posts_twice
            ),
            format!(
                "last arrival after the signal: median {:.1} ms, at most {:.1} ms",
                self.median_last_arrival(),
                latest(&self.last_arrivals)
            ),
            format!(
                "exit after its own work: median {:.1} ms, at most {:.1} ms",
                middle(&self.idle_exits),
                latest(&self.idle_exits)
            ),
        ]
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

mod tests {
    use super::*;
    use lameduck::tools::demo::oracle::{Life, Loss};

    fn sent(id: u64, kind: DemoRequestKind, outcome: Result<u16, Loss>) -> Sent {
        Sent {
            id,
            kind,
            at: 1_000_000,
            latency: 2_000_000,
            outcome,
            closing: false,
            retry_after: None,
        }
    }

    /// Signalled at 2 ms with its own answer at 3 ms, one more arrival at 2.5 ms, exit at 7 ms.
    fn run() -> Evidence {
        let life = Life {
            name: "a".into(),
            signalled: Some(2_000_000),
            exited: Some(7_000_000),
            arrivals: vec![(0, 1_500_000), (1, 2_500_000)],
        };
        Evidence {
            sent: vec![
                sent(0, DemoRequestKind::Get, Ok(200)),
                sent(1, DemoRequestKind::Post, Err(Loss::Reset)),
                sent(2, DemoRequestKind::Post, Err(Loss::Reset)),
                sent(3, DemoRequestKind::Slow, Err(Loss::Reset)),
            ],
            lives: vec![life],
            ..Evidence::default()
        }
    }

    #[test]
    fn each_figure_is_what_it_says() {
        let mut runs = Runs::default();
        runs.add(run());
        runs.add(run());
        let stops = runs.stops();
        assert_eq!(
            (stops.lost_gets, stops.lost_posts, stops.unseen_posts),
            (2, 2, 2)
        );
        assert_eq!(stops.posts_twice, 0, "the same id in two runs");
        assert_eq!(stops.last_arrivals, [0.5, 0.5]);
        assert_eq!(stops.idle_exits, [4.0, 4.0]);
        assert_eq!((runs.count(), runs.account().sent), (2, 8));
    }

    #[test]
    fn a_post_at_two_instances_was_delivered_twice() {
        let mut run = run();
        run.lives.push(run.lives[0].clone());
        let mut runs = Runs::default();
        runs.add(run);
        assert_eq!(runs.stops().posts_twice, 1);
    }
}
