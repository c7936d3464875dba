//! The book of docs/book: it has every page, and its links hold.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::{links, pages};

#[test]
fn summary_of_the_book_names_every_page_once() {
    let text = std::fs::read_to_string("docs/book/SUMMARY.md").unwrap();
    let named = links(&text).into_iter();
    let named: Vec<_> = named
        .map(|link| {
            let path = Path::new("docs/book").join(&link);
            std::fs::canonicalize(path).unwrap_or_else(|error| panic!("{link}: {error}"))
        })
        .collect();
    let once: BTreeSet<_> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "a page stands there twice");
    for page in pages() {
        let path = std::fs::canonicalize(&page.path).unwrap();
        assert!(once.contains(&path), "not in it: {}", page.path.display());
    }
}

#[test]
fn book_is_built_and_its_links_hold() {
    let Some(mdbook) = lameduck_rig::place::in_venv("book-venv", "mdbook") else {
        return lameduck_rig::setting::skip("the book", "mdbook (tests/setup.sh fetches it)");
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("book");
    let built = Command::new("docs/book/build")
        .arg(&out)
        .env("MDBOOK", mdbook)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let page = std::fs::read_to_string(out.join("docs/draining.html")).unwrap();
    assert!(page.contains("pictures/drain.svg"));
    // Nothing is asked of other hosts: whoever reads it offline sees it all.
    assert!(!page.contains("src=\"http"), "{page}");
}
