//! The cases, by theme.

mod length;

use super::case::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    let themes = [("Content-Length", length::cases())];
    themes
        .into_iter()
        .flat_map(|(theme, cases)| cases.into_iter().map(move |case| Case { theme, ..case }))
        .collect()
}
