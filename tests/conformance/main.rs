//! The HTTP/1 corpus: what lameduck does with each message, byte for byte, and what nginx and HAProxy do with it.
//!
//! Each case in [`corpus`] says what a client sends, how the backend answers, and what must come of it, with the
//! section of the RFC that says so. It is played against a lameduck, an nginx and an HAProxy, each with a backend
//! of its own that keeps what it receives; after each case a **canary** asks on a connection of its own, through
//! the same upstream connections, and must get its own answer. lameduck must do what the case says. What the two
//! others do isn't judged, but where it differs from lameduck, the case must say why ([`table`]).
//!
//! [`h2`] is the same for HTTP/2 from clients, with a corpus of its own.
//!
//! To add a case: a `case(…)` in the file of its theme. `LAMEDUCK_BLESS=1 cargo test --test conformance` writes
//! docs/conformance.md anew.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod backend;
mod case;
mod client;
mod comparison;
mod corpora;
mod corpus;
mod front;
mod h2;
mod judge;
mod message;
mod run;
mod sweep;
mod table;

/// All cases against lameduck: each one must come out as it says.
/// Then the same against the others, and every difference must be explained.
#[lameduck_rig::test]
async fn the_corpus() {
    let cases = corpus::all();
    let held = corpora::hold(&cases);
    tokio::task::LocalSet::new().run_until(held).await;
}

#[test]
fn cases_have_names_of_their_own_and_name_their_rule() {
    corpora::are_named(&corpus::all());
}

/// The page lists every case with what the corpus says of it.
#[test]
fn the_page_is_up_to_date() {
    let page = std::fs::read_to_string(corpora::page_of::<case::Case>()).unwrap_or_default();
    let cases = corpus::all();
    let list = table::list(&cases);
    assert!(
        page.ends_with(&list),
        "{} doesn't list the cases as they are; write it anew: LAMEDUCK_BLESS=1 cargo test --test conformance",
        corpora::page_of::<case::Case>()
    );
}
