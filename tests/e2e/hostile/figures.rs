//! What good traffic gets while somebody attacks, and how that is judged.

use std::fmt;
use std::time::Duration;

use lameduck::demo::oracle::{Kind, Sent};
use lameduck::sys::monotonic_ns;

use crate::harness::front::Front;
use crate::harness::watch::{Sample, Watch, children, cpu_ms, look};

/// The promise: the 99th percentile grows by this at most.
const PROMISE: f64 = 1.5;
/// Two runs of the same thing differ by this at least.
const NOISE: f64 = 1.1;

/// Good traffic's 99th percentile, in milliseconds, before, under and after an attack.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub before: f64,
    pub under: f64,
    pub after: f64,
    /// The proxy's CPU time under the attack, in milliseconds a second.
    pub cpu: f64,
    /// The most descriptors and MiB of its processes.
    pub descriptors: u64,
    pub memory_mib: u64,
}

impl Figures {
    /// How much longer it takes under the attack than in the worse of the two quiet spells.
    pub fn growth(&self) -> f64 {
        self.under / self.before.max(self.after)
    }

    /// The promise, and `slack` milliseconds more.
    pub fn is_kept(&self, slack: f64) -> bool {
        self.under <= PROMISE * self.before.max(self.after) + slack
    }

    /// Attacker, load and app share the machine with the proxy. What an attack takes from them, it takes from everybody
    /// behind any proxy: where the better of the peers doesn't keep the promise in the same run, doing no worse than
    /// that peer is the bound.
    pub fn is_kept_or_no_worse(&self, peers: &[Self]) -> bool {
        let better = peers.iter().min_by(|a, b| a.under.total_cmp(&b.under));
        self.is_kept(0.0)
            || better.is_some_and(|peer| !peer.is_kept(0.0) && self.under <= NOISE * peer.under)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p99 {:.1} / {:.1} / {:.1} ms ({:.2}×); {:.0} ms of CPU a second; at most {} descriptors, {} MiB",
            self.before,
            self.under,
            self.after,
            self.growth(),
            self.cpu,
            self.descriptors,
            self.memory_mib
        )
    }
}

pub fn p99(sent: &[Sent], from: u64, to: u64) -> f64 {
    let quick = |s: &&Sent| s.kind != Kind::Slow && (from..to).contains(&s.at);
    let mut all: Vec<u64> = sent.iter().filter(quick).map(|s| s.latency).collect();
    assert!(all.len() > 100, "only {} requests", all.len());
    all.sort_unstable();
    all[all.len() * 99 / 100] as f64 / 1e6
}

/// An attack's three spells, as they pass.
pub struct Spells {
    pid: u32,
    /// One for each process: nginx has several.
    watches: Vec<Watch>,
    started: u64,
    begun: (u64, u64),
    ended: (u64, u64),
}

impl Spells {
    /// The quiet spell begins, and lasts so long.
    pub async fn quiet(front: &mut Front, quiet: Duration) -> Self {
        let pid = front.pid().unwrap();
        let started = monotonic_ns();
        tokio::time::sleep(quiet).await;
        let mut spells = Self {
            pid,
            watches: [pid]
                .into_iter()
                .chain(children(pid))
                .map(|pid| Watch::start(move || pid))
                .collect(),
            started,
            begun: (0, 0),
            ended: (0, 0),
        };
        spells.begin();
        spells
    }

    /// The attack begins, or what has come so far of it is not to count.
    pub fn begin(&mut self) {
        self.begun = (monotonic_ns(), cpu_ms(self.pid));
    }

    /// The attack is over.
    pub fn end(&mut self) {
        self.ended = (monotonic_ns(), cpu_ms(self.pid));
    }

    /// Descriptors of the proxy now.
    pub fn descriptors(&self) -> u64 {
        look(self.pid).unwrap().1
    }

    /// All of it, by what was sent.
    pub fn figures(&self, sent: &[Sent]) -> Figures {
        let most = |of: fn(&Sample) -> u64| -> u64 {
            let most = |watch: &Watch| watch.samples().iter().map(of).max();
            self.watches.iter().filter_map(most).sum()
        };
        let seconds = (self.ended.0 - self.begun.0) as f64 / 1e9;
        Figures {
            before: p99(sent, self.started, self.begun.0),
            under: p99(sent, self.begun.0, self.ended.0),
            after: p99(sent, self.ended.0, u64::MAX),
            cpu: (self.ended.1 - self.begun.1) as f64 / seconds,
            descriptors: most(|sample| sample.descriptors),
            memory_mib: most(|sample| sample.rss) / 1024,
        }
    }
}

#[test]
fn a_peer_excuses_only_what_it_does_not_keep_itself() {
    let of = |before, under| Figures {
        before,
        under,
        after: before,
        ..Figures::default()
    };
    assert!(of(2.0, 3.0).is_kept_or_no_worse(&[]));
    assert!(!of(2.0, 3.1).is_kept_or_no_worse(&[]));
    assert!(of(2.0, 50.0).is_kept_or_no_worse(&[of(5.0, 90.0), of(3.0, 46.0)]));
    // The better one of them is what counts…
    assert!(!of(2.0, 60.0).is_kept_or_no_worse(&[of(5.0, 90.0), of(3.0, 46.0)]));
    // …and if it keeps the promise, so must we.
    assert!(!of(2.0, 7.0).is_kept_or_no_worse(&[of(5.0, 7.0), of(3.0, 90.0)]));
}
