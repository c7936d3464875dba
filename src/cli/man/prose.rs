//! Converts the Markdown of declarations (code, links, emphasis) to roff.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Adds a paragraph; `.PP` separates paragraphs.
pub(super) fn paragraph(roff: &mut Roff, text: &str) {
    roff.text(spans(text));
}

/// Adds a term and its meaning.
pub(super) fn entry(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text(spans(meaning));
}

/// Converts code to bold, and links to their text.
pub(super) fn spans(text: &str) -> Vec<Inline> {
    let mut text = text.to_owned();
    while let Some(plain) = without_first_link(&text) {
        text = plain;
    }
    // Every second part was between two backticks.
    let parts = text.split('`').enumerate();
    parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(n, part)| match n % 2 {
            1 => bold(part),
            _ => roman(part),
        })
        .collect()
}

/// Replaces the first `[text](target)` by `text`; `None`: there is no link.
fn without_first_link(text: &str) -> Option<String> {
    let middle = text.find("](")?;
    let start = text[..middle].rfind('[')?;
    let end = middle + text[middle..].find(')')?;
    let label = &text[start + 1..middle];
    Some(format!("{}{label}{}", &text[..start], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_becomes_bold_and_a_link_its_text() {
        let spans = spans("see [the `limits`](limits.md#x) and `a-b`");
        assert_eq!(
            spans,
            [
                roman("see the "),
                bold("limits"),
                roman(" and "),
                bold("a-b")
            ]
        );
    }

    #[test]
    fn brackets_without_a_target_stay() {
        assert_eq!(
            spans("`timeout` in [pool.hold]"),
            [bold("timeout"), roman(" in [pool.hold]")]
        );
    }
}
