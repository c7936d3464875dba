//! The HTTP/2 corpus: malformed frames, and what becomes of messages on their way from HTTP/2 to HTTP/1.1 and back.
//!
//! As for HTTP/1: each case says which frames a client sends (cleartext, by prior knowledge), how the backend answers,
//! and what must come of it; it is played against a lameduck, an nginx and an HAProxy, each with a backend of its own
//! that keeps every byte. Behind each case comes one more request on the same connection, where that should survive,
//! and a **canary** on another, over the same upstream connections. Whatever the backend gets must mean one thing to
//! any reader ([`judge`]).

pub mod case;
pub mod client;
mod corpus;
mod hpack;
mod judge;
mod run;
mod table;

use crate::corpora;

/// A plain GET for this path.
fn plain_path(path: &str) -> Vec<u8> {
    let mut fields = case::PLAIN;
    fields[3].1 = path;
    lameduck_rig::hpack::block(&fields)
}

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

/// The page counts every case.
#[test]
fn the_page_is_up_to_date() {
    let page = std::fs::read_to_string(corpora::page_of::<case::Case>()).unwrap_or_default();
    let list = table::list(&corpus::all());
    assert!(
        page.contains(&list),
        "{} doesn't count the cases as they are; write it anew: LAMEDUCK_BLESS=1 cargo test --test conformance",
        corpora::page_of::<case::Case>()
    );
}
