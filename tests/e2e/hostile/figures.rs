//! What good traffic gets while somebody attacks, and how that is judged.

use std::fmt;
use std::time::{Duration, Instant};

use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::oracle::{DemoRequestKind, Sent};

use crate::harness::front::Front;
use crate::harness::watch::{Sample, Watch, look};
use lameduck_rig::process::{children, cpu_ms_with_children as cpu_ms};

/// The promise: the 99th percentile grows by this at most.
const PROMISE: f64 = 1.5;
/// Two runs of the same thing differ by this at least.
const NOISE: f64 = 1.1;

/// Of an attack.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// The attackers arrive, and what they ask for at first is done for them.
    Coming,
    /// All of them are there.
    Standing,
}

/// Thousands of connections that are closed at once are work for the kernel, which is no quiet.
const CLEARING: Duration = Duration::from_secs(2);

/// Good traffic's 99th percentile, in milliseconds, before, under and after an attack.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub before: f64,
    /// In each [`Part`] of the attack.
    pub under: [f64; 2],
    pub after: f64,
    /// A bystander's, in those parts.
    pub elsewhere: [f64; 2],
    /// The proxy's CPU time under the attack, in milliseconds a second.
    pub cpu: f64,
    /// The most descriptors and MiB of its processes.
    pub descriptors: u64,
    pub memory_mib: u64,
}

impl Figures {
    /// How much longer it takes, in both parts of the attack, than in the worse of the two quiet spells, or than it takes
    /// a bystander meanwhile.
    fn growth(&self, part: Part) -> f64 {
        let quiet = self.before.max(self.after);
        self.under[part as usize] / quiet.max(self.elsewhere[part as usize])
    }

    /// The promise, and `slack` milliseconds more, while the attack stands; a machine that stands still does so for a
    /// bystander, too.
    pub fn is_kept(&self, slack: f64) -> bool {
        let standing = Part::Standing as usize;
        let usual = self.before.max(self.after).max(self.elsewhere[standing]);
        self.under[standing] <= PROMISE * usual + slack
    }

    /// Attacker, load and app share the machine with the proxy. What an attack takes from them, it takes from everybody
    /// behind any proxy: where the better of the peers doesn't keep the promise in the same run, doing no worse than
    /// that peer is the bound.
    pub fn is_kept_or_no_worse(&self, part: Part, peers: &[Self]) -> bool {
        let is_kept = |figures: &Self| figures.growth(part) <= PROMISE;
        let p99 = |figures: &Self| figures.under[part as usize];
        let better = peers.iter().min_by(|a, b| p99(a).total_cmp(&p99(b)));
        is_kept(self) || better.is_some_and(|peer| !is_kept(peer) && p99(self) <= NOISE * p99(peer))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [coming, standing] = [Part::Coming, Part::Standing].map(|part| self.growth(part));
        write!(
            f,
            "p99 {:.1} before, {:.1} as they come (a bystander {:.1}: {coming:.2}×), {:.1} while they stay \
             (a bystander {:.1}: {standing:.2}×), {:.1} ms after; {:.0} ms of CPU a second; at most {} descriptors, {} MiB",
            self.before,
            self.under[0],
            self.elsewhere[0],
            self.under[1],
            self.elsewhere[1],
            self.after,
            self.cpu,
            self.descriptors,
            self.memory_mib
        )
    }
}

/// `None` of too few requests.
fn p99(sent: &[Sent], from: u64, to: u64) -> Option<f64> {
    let quick = |s: &&Sent| s.kind != DemoRequestKind::Slow && (from..to).contains(&s.at);
    let mut all: Vec<u64> = sent.iter().filter(quick).map(|s| s.latency).collect();
    all.sort_unstable();
    (all.len() > 100).then(|| all[all.len() * 99 / 100] as f64 / 1e6)
}

/// An attack's spells, as they pass.
pub struct Spells {
    pid: u32,
    /// One for each process: nginx has several.
    watches: Vec<Watch>,
    started: u64,
    begun: (u64, u64),
    stands: u64,
    ended: (u64, u64),
    cleared: u64,
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
            stands: 0,
            ended: (0, 0),
            cleared: 0,
        };
        spells.begin();
        spells
    }

    /// The attack begins, or what has come so far of it is not to count.
    pub fn begin(&mut self) {
        self.begun = (monotonic_ns(), cpu_ms(self.pid));
        self.stands = self.begun.0;
    }

    /// All the attackers are there.
    pub fn stand(&mut self) {
        self.stands = monotonic_ns();
    }

    /// Waits until no more of them come, for so long at most.
    pub async fn until_all_came(&mut self, most: Duration) {
        const STILL: Duration = Duration::from_secs(2);
        let end = Instant::now() + most;
        let (mut seen, mut since) = (self.descriptors(), Instant::now());
        while since.elapsed() < STILL && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.descriptors();
            if now > seen + seen / 50 {
                (seen, since) = (now, Instant::now());
            }
        }
        self.stand();
    }

    /// The attackers are about to leave.
    pub fn end(&mut self) {
        self.ended = (monotonic_ns(), cpu_ms(self.pid));
    }

    /// What they left behind is cleared away; the second quiet spell begins, and lasts so long.
    pub async fn quiet_again(&mut self, quiet: Duration) {
        tokio::time::sleep(CLEARING).await;
        self.cleared = monotonic_ns();
        tokio::time::sleep(quiet).await;
    }

    /// Descriptors of the proxy now.
    pub fn descriptors(&self) -> u64 {
        look(self.pid).unwrap().1
    }

    /// All of it, by what was sent, and what a bystander has sent meanwhile, if there is one.
    pub fn figures(&self, sent: &[Sent], bystander: &[Sent]) -> Figures {
        // An attack that is small comes at once.
        let coming = |sent| p99(sent, self.begun.0, self.stands).unwrap_or(0.0);
        let standing = |sent| p99(sent, self.stands, self.ended.0);
        let most = |of: fn(&Sample) -> u64| -> u64 {
            let most = |watch: &Watch| watch.samples().iter().map(of).max();
            self.watches.iter().filter_map(most).sum()
        };
        let seconds = (self.ended.0 - self.begun.0) as f64 / 1e9;
        Figures {
            before: p99(sent, self.started, self.begun.0).unwrap(),
            under: [coming(sent), standing(sent).unwrap()],
            after: p99(sent, self.cleared, u64::MAX).unwrap(),
            elsewhere: [coming(bystander), standing(bystander).unwrap_or(0.0)],
            cpu: (self.ended.1 - self.begun.1) as f64 / seconds,
            descriptors: most(|sample| sample.descriptors),
            memory_mib: most(|sample| sample.rss) / 1024,
        }
    }
}

#[test]
fn a_peer_excuses_only_what_it_does_not_keep_itself() {
    let of = |before, standing| Figures {
        before,
        under: [before, standing],
        after: before,
        ..Figures::default()
    };
    use Part::{Coming, Standing};
    assert!(of(2.0, 3.0).is_kept_or_no_worse(Standing, &[]));
    assert!(!of(2.0, 3.1).is_kept_or_no_worse(Standing, &[]));
    let peers = [of(5.0, 90.0), of(3.0, 46.0)];
    assert!(of(2.0, 50.0).is_kept_or_no_worse(Standing, &peers));
    // The better one of them is what counts…
    assert!(!of(2.0, 60.0).is_kept_or_no_worse(Standing, &peers));
    // …and if it keeps the promise, so must we.
    let peers = [of(5.0, 7.0), of(3.0, 90.0)];
    assert!(!of(2.0, 7.0).is_kept_or_no_worse(Standing, &peers));
    // Each part of an attack is judged by itself.
    let coming = Figures {
        under: [9.0, 2.0],
        ..of(2.0, 2.0)
    };
    assert!(coming.is_kept_or_no_worse(Standing, &[]));
    assert!(!coming.is_kept_or_no_worse(Coming, &[of(5.0, 7.0)]));
    assert!(coming.is_kept_or_no_worse(Coming, std::slice::from_ref(&coming)));
    // What a bystander suffers, too, is the machine's.
    let everywhere = Figures {
        elsewhere: [6.0, 1.0],
        ..coming
    };
    assert!(everywhere.is_kept_or_no_worse(Coming, &[]));
}
