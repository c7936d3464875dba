//! What the corpora of HTTP/1 and HTTP/2 have in common: how cases are played, and when a corpus holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use futures_util::future::join_all;

use super::comparison::{Comparison, Evidence, Story};
use super::front::{Lane, Protocol, Target};
use lameduck_rig::setting::{is_ci, say, skip};

/// Proxies of a kind, each with its backend: cases that wait don't hold up the others.
const LANES: usize = 6;

/// What a case says of itself.
pub struct AboutCase {
    /// The file that it is in, as a heading.
    pub theme: &'static str,
    pub name: &'static str,
    /// The section that decides it.
    pub rule: &'static str,
    /// Why nginx or HAProxy does something else.
    pub differs: &'static str,
}

/// A case of one of them.
pub trait Case: Sized {
    /// What the client saw.
    type Got: Clone + fmt::Display;
    /// What clients speak.
    const PROTOCOL: Protocol;
    /// Where differences are explained.
    const REASONS: &str;
    /// The page, and what is kept in `target/`, without the ending.
    const PAGE: &str;
    /// The most of a table's cell that is shown.
    const SHOWN: usize;

    fn about(&self) -> AboutCase;
    async fn play(&self, lane: &Lane, index: usize) -> Evidence<Self::Got>;
    /// Whether it came out as it says.
    fn judge(&self, evidence: &Evidence<Self::Got>) -> Result<(), String>;
    /// What became of it, in words.
    fn story(&self, evidence: &Evidence<Self::Got>) -> Story;
    /// Whether what another did is no difference.
    fn is_the_same(ours: &Story, other: &Story) -> bool;
    /// Whether what comes next needs a proxy of its own.
    fn straggles(&self) -> bool {
        false
    }
    /// The differences, as the page shows them.
    fn differences(comparison: &Comparison) -> String;
    /// The page.
    fn page(differences: &str) -> String;
}

/// What came of all cases.
pub struct Run<C: Case> {
    /// Name and version.
    pub title: String,
    /// In the order of the cases.
    pub evidence: Vec<Evidence<C::Got>>,
}

impl<C: Case> Run<C> {
    /// Plays some cases once more, and keeps what comes of them now.
    async fn again(&mut self, target: Target, cases: &[C], some: &[usize]) {
        let evidence = play_some(target, cases, some).await;
        for (index, evidence) in some.iter().zip(evidence) {
            self.evidence[*index] = evidence;
        }
    }
}

/// Writes `target/….md` and, with all that was received, `target/….txt`; and the page itself if that was asked for.
fn write_pages<C: Case>(comparison: &Comparison) {
    let kept = lameduck_rig::place::target().join(C::PAGE);
    let differences = C::differences(comparison);
    std::fs::write(kept.with_extension("md"), &differences).unwrap();
    std::fs::write(kept.with_extension("txt"), &comparison.evidence).unwrap();
    if std::env::var_os("LAMEDUCK_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(page_of::<C>(), C::page(&differences)).unwrap();
    }
}

/// Where the page of these cases is kept.
pub fn page_of<C: Case>() -> String {
    format!("docs/{}.md", C::PAGE)
}

/// Plays all cases; `None`, aloud, where the proxy isn't installed.
async fn play_all<C: Case>(target: Target, cases: &[C]) -> Option<Run<C>> {
    let Some(title) = target.title() else {
        skip("conformance", target.name());
        return None;
    };
    let all: Vec<usize> = (0..cases.len()).collect();
    let evidence = play_some(target, cases, &all).await;
    Some(Run { title, evidence })
}

async fn play_some<C: Case>(target: Target, cases: &[C], some: &[usize]) -> Vec<Evidence<C::Got>> {
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
            let AboutCase { name, rule, .. } = case.about();
            wrong.push(format!("== {name} ({rule})\n{why}\n{evidence}"));
        }
    }
    let mut table = Comparison::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
    // On a machine that stands still for seconds, the others' timeouts pass; what differs then doesn't twice.
    let unexplained = table.unexplained();
    if !unexplained.is_empty() {
        for (target, run) in [(Target::Nginx, &mut nginx), (Target::HaProxy, &mut haproxy)] {
            if let Some(run) = run {
                run.again(target, cases, &unexplained).await;
            }
        }
        table = Comparison::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
    }
    write_pages::<C>(&table);
    assert!(
        wrong.is_empty(),
        "{} of {} cases are not as stated\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let unexplained = table.unexplained();
    let rows: Vec<_> = unexplained
        .iter()
        .map(|at| format!("   {}", table.rows[*at]))
        .collect();
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
        let AboutCase { name, rule, .. } = case.about();
        assert!(names.insert(name), "twice: {name}");
        assert!(rule.starts_with("RFC "), "{name}: {rule}");
    }
}
