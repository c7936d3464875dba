//! Pages of the documentation of which a part is made from the code.

use std::path::Path;

/// Compares what stands between two marks of a page with what the code says, or writes it there with `LAMEDUCK_BLESS`.
pub fn check_generated(page: impl AsRef<Path>, begin: &str, end: &str, generated: &str) {
    let page = page.as_ref();
    let text = std::fs::read_to_string(page).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}{generated}{end}{after}");
    if std::env::var_os("LAMEDUCK_BLESS").is_some() {
        std::fs::write(page, &expected).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        expected,
        "{}: run the tests with LAMEDUCK_BLESS=1",
        page.display()
    );
}
