//! The HTTP/2 corpus: malformed frames, and what becomes of messages on their way from HTTP/2 to HTTP/1.1 and back.
//!
//! As for HTTP/1: each case says which frames a client sends (cleartext, by prior knowledge), how the backend answers,
//! and what must come of it; it is played against a lameduck, an nginx and an HAProxy, each with a backend of its own
//! that keeps every byte. Behind each case comes one more request on the same connection, where that should survive,
//! and a **canary** on another, over the same upstream connections. Whatever the backend gets must mean one thing to
//! any reader ([`judge`]).

mod case;
mod client;
mod corpus;
mod frame;
mod hpack;
mod judge;
mod run;
mod table;

use std::collections::BTreeSet;

use crate::front::Target;
use crate::run::{is_ci, say};

/// A plain GET for this path.
fn plain_path(path: &str) -> Vec<u8> {
    let mut fields = case::PLAIN;
    fields[3].1 = path;
    hpack::block(&fields)
}

/// All cases against lameduck: each one must come out as it says.
/// Then the same against the others, and every difference must be explained.
#[tokio::test]
async fn the_corpus() {
    let cases = corpus::all();
    tokio::task::LocalSet::new().run_until(play(&cases)).await;
}

async fn play(cases: &[case::Case]) {
    let (ours, mut nginx, mut haproxy) = tokio::join!(
        run::play_all(Target::Lameduck, cases),
        run::play_all(Target::Nginx, cases),
        run::play_all(Target::HaProxy, cases),
    );
    let ours = ours.unwrap();
    let mut wrong = Vec::new();
    for (case, evidence) in cases.iter().zip(&ours.evidence) {
        if let Err(why) = judge::judge(case, evidence) {
            wrong.push(format!(
                "== {} ({})\n{why}\n{evidence}",
                case.name, case.rule
            ));
        }
    }
    let mut table = table::Table::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
    // On a machine that stands still for seconds, the others' timeouts pass; what differs then doesn't twice.
    let unexplained = table.unexplained();
    if !unexplained.is_empty() {
        for (target, run) in [(Target::Nginx, &mut nginx), (Target::HaProxy, &mut haproxy)] {
            if let Some(run) = run {
                run.again(target, cases, &unexplained).await;
            }
        }
        table = table::Table::new(cases, &ours, nginx.as_ref(), haproxy.as_ref());
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
        "{} differences without a word in h2/corpus/why.rs\n{}",
        rows.len(),
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

#[test]
fn cases_have_names_of_their_own_and_name_their_rule() {
    let cases = corpus::all();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in &cases {
        assert!(names.insert(case.name), "twice: {}", case.name);
        assert!(
            case.rule.starts_with("RFC "),
            "{}: {}",
            case.name,
            case.rule
        );
    }
}

/// The page counts every case.
#[test]
fn the_page_is_up_to_date() {
    let page = std::fs::read_to_string(table::PAGE).unwrap_or_default();
    let list = table::list(&corpus::all());
    assert!(
        page.contains(&list),
        "{} doesn't count the cases as they are; write it anew: LAMEDUCK_BLESS=1 cargo test --test conformance",
        table::PAGE
    );
}
