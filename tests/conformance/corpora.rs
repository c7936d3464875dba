//! What the corpora of HTTP/1 and HTTP/2 have in common: how cases are played, and when a corpus holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use futures_util::future::join_all;

use super::front::{Lane, Protocol, Target};
use lameduck_rig::setting::{is_ci, say, skip};

/// Proxies of a kind, each with its backend: cases that wait don't hold up the others.
const LANES: usize = 6;

/// A case of one of them.
pub trait Case {
    /// What came of it.
    type Evidence: Clone + fmt::Display;
    /// How the cases come out with each proxy.
    type Table: Table<Self>
    where
        Self: Sized;
    /// What clients speak.
    const PROTOCOL: Protocol;
    /// Where differences are explained.
    const REASONS: &str;

    fn name(&self) -> &'static str;
    /// The section that decides it.
    fn rule(&self) -> &'static str;
    async fn play(&self, lane: &Lane, index: usize) -> Self::Evidence;
    /// Whether it came out as it says.
    fn judge(&self, evidence: &Self::Evidence) -> Result<(), String>;
    /// Whether what comes next needs a proxy of its own.
    fn straggles(&self) -> bool {
        false
    }
}

/// All cases beside each other.
pub trait Table<C: Case> {
    fn new(
        cases: &[C],
        ours: &Run<C::Evidence>,
        nginx: Option<&Run<C::Evidence>>,
        haproxy: Option<&Run<C::Evidence>>,
    ) -> Self;
    /// The cases in which somebody differs and nobody says why: their places.
    fn unexplained(&self) -> Vec<usize>;
    /// One case, with what all did.
    fn row(&self, at: usize) -> String;
    /// Whether all that are there are versions whose differences were looked at.
    fn has_known_peers(&self) -> bool;
    fn write(&self);
}

/// What came of all cases.
pub struct Run<E> {
    /// Name and version.
    pub title: String,
    /// In the order of the cases.
    pub evidence: Vec<E>,
}

impl<E: Clone + fmt::Display> Run<E> {
    /// Plays some cases once more, and keeps what comes of them now.
    async fn again<C: Case<Evidence = E>>(&mut self, target: Target, cases: &[C], some: &[usize]) {
        let evidence = play_some(target, cases, some).await;
        for (index, evidence) in some.iter().zip(evidence) {
            self.evidence[*index] = evidence;
        }
    }
}

/// Plays all cases; `None`, aloud, where the proxy isn't installed.
async fn play_all<C: Case>(target: Target, cases: &[C]) -> Option<Run<C::Evidence>> {
    let Some(title) = target.title() else {
        skip("conformance", target.name());
        return None;
    };
    let all: Vec<usize> = (0..cases.len()).collect();
    let evidence = play_some(target, cases, &all).await;
    Some(Run { title, evidence })
}

async fn play_some<C: Case>(target: Target, cases: &[C], some: &[usize]) -> Vec<C::Evidence> {
    let next = Cell::new(0);
    let evidence = RefCell::new(vec![None; some.len()]);
    join_all((0..LANES.min(some.len())).map(async |_| {
        let mut lane = target.start(C::PROTOCOL).await;
        loop {
            let turn = next.get();
            let Some(index) = some.get(turn) else { return };
            next.set(turn + 1);
            let found = cases[*index].play(&lane, *index).await;
            evidence.borrow_mut()[turn] = Some(found);
            if cases[*index].straggles() {
                lane = target.start(C::PROTOCOL).await;
            }
        }
    }))
    .await;
    let evidence = evidence.into_inner().into_iter();
    evidence.map(Option::unwrap).collect()
}

/// All cases against lameduck: each one must come out as it says.
/// Then the same against the others, and every difference must be explained.
pub async fn hold<C: Case>(cases: &[C]) {
    let (ours, mut nginx, mut haproxy) = tokio::join!(
        play_all(Target::Lameduck, cases),
        play_all(Target::Nginx, cases),
        play_all(Target::HaProxy, cases),
    );
    let ours = ours.unwrap();
    let mut wrong = Vec::new();
    for (case, evidence) in cases.iter().zip(&ours.evidence) {
        if let Err(why) = case.judge(evidence) {
            let (name, rule) = (case.name(), case.rule());
            wrong.push(format!("== {name} ({rule})\n{why}\n{evidence}"));
        }
    }
    let mut table = C::Table::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
    // On a machine that stands still for seconds, the others' timeouts pass; what differs then doesn't twice.
    let unexplained = table.unexplained();
    if !unexplained.is_empty() {
        for (target, run) in [(Target::Nginx, &mut nginx), (Target::HaProxy, &mut haproxy)] {
            if let Some(run) = run {
                run.again(target, cases, &unexplained).await;
            }
        }
        table = C::Table::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
    }
    table.write();
    assert!(
        wrong.is_empty(),
        "{} of {} cases are not as stated\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let unexplained = table.unexplained();
    let rows: Vec<_> = unexplained.iter().map(|at| table.row(*at)).collect();
    let message = format!(
        "{} differences without a word in {}\n{}",
        rows.len(),
        C::REASONS,
        rows.join("\n")
    );
    if rows.is_empty() || table.has_known_peers() || is_ci() {
        assert!(rows.is_empty(), "{message}");
    } else {
        say(&format!(
            "{message}\nlameduck does as stated; this nginx or HAProxy is one that nobody has tried yet"
        ));
    }
}

/// Cases have names of their own, and name their rule.
pub fn are_named<C: Case>(cases: &[C]) {
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in cases {
        let (name, rule) = (case.name(), case.rule());
        assert!(names.insert(name), "twice: {name}");
        assert!(rule.starts_with("RFC "), "{name}: {rule}");
    }
}
