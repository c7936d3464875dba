//! Escaping of text for HTML pages: error pages and reports show text from untrusted clients.

use std::fmt::{self, Write as _};

use super::output::is_showable;

/// Text that is shown as it is, in an element or an attribute: no markup, and no control characters that change how
/// other text is shown.
#[derive(Debug, Clone, Copy)]
pub struct EscapedHtml<'a>(pub &'a str);

impl fmt::Display for EscapedHtml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                letter if !is_showable(letter) => f.write_char('\u{fffd}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_become_text() {
        let text = "<a href=\"x\" title='y'>&\x1b[2J\n</a> é";
        assert_eq!(
            EscapedHtml(text).to_string(),
            "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;\u{fffd}[2J\u{fffd}&lt;/a&gt; é"
        );
    }
}
