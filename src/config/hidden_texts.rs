//! Texts from the environment that may be secrets: a printed configuration shows the reference instead of the value.

use super::print::{text, verbatim};

/// Texts and their replacements, each for its key: elsewhere the same text is no secret.
#[derive(Debug, Clone, Default)]
pub struct HiddenTexts(Vec<HiddenText>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct HiddenText {
    header: &'static str,
    key: String,
    /// Value, as TOML; so is `shown`.
    value: String,
    shown: String,
}

/// Always equal, because configurations are the same wherever their values came from.
impl PartialEq for HiddenTexts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl HiddenTexts {
    /// Hides another text in the values of a section's key.
    pub(super) fn add(&mut self, header: &'static str, key: &str, value: &str, written: &str) {
        let hidden = HiddenText {
            header,
            key: key.to_owned(),
            value: text(value),
            shown: verbatim(written),
        };
        if !self.0.contains(&hidden) {
            self.0.push(hidden);
        }
    }

    /// Returns a value as TOML, without the hidden texts.
    pub(super) fn hide(&self, header: &str, key: &str, value: &str) -> String {
        let own = |hidden: &&HiddenText| hidden.header == header && hidden.key == key;
        let hide = |value: String, hidden: &HiddenText| value.replace(&hidden.value, &hidden.shown);
        self.0.iter().filter(own).fold(value.to_owned(), hide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_text_of_the_key_is_replaced_by_its_reference() {
        let mut hidden = HiddenTexts::default();
        let (header, value) = (
            "[pool.health]",
            r#"{ a = "s3cret", b = "s3cret and more" }"#,
        );
        hidden.add(header, "headers", "s3cret", "${TOKEN}");
        let shown = hidden.hide(header, "headers", value);
        assert_eq!(shown, r#"{ a = "${TOKEN}", b = "s3cret and more" }"#);
        assert_eq!(hidden.hide(header, "path", value), value);
        assert_eq!(hidden.hide("[headers]", "headers", value), value);
    }
}
