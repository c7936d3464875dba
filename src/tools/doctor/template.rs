//! Detects templates that are not rendered yet: Helm's and Go's `{{ }}`, Jinja's `{% %}`, ERB's `<% %>`.

use std::ops::Range;

/// Suffixes of templates; the rest of the name is that of the rendered file.
const ENDS: [&str; 9] = [
    ".j2",
    ".jinja2",
    ".jinja",
    ".erb",
    ".tpl",
    ".tmpl",
    ".template",
    ".gotmpl",
    ".in",
];

/// Name that the rendered file will have.
pub(super) fn rendered_name(name: &str) -> &str {
    let mut name = name;
    for end in ENDS {
        name = name.strip_suffix(end).unwrap_or(name);
    }
    name
}

/// How certain a sign of a template has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplateStrictness {
    /// Any sign counts, because the text can't be parsed.
    AnySign,
    /// Only signs that can't be values, because the text can be parsed.
    Certain,
}

/// Position of a sign that a text is a template, and how to render it.
pub(super) fn find(text: &str, look: TemplateStrictness) -> Option<(Range<usize>, &'static str)> {
    let helm =
        text.contains(".Values.") || text.contains("{{ include ") || text.contains("{{- include ");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let trimmed = line.trim();
        let span = start + (line.len() - line.trim_start().len())..start + line.trim_end().len();
        if trimmed.starts_with('#') && !trimmed.starts_with("#{") {
            continue;
        }
        let begins = |marks: &[&str]| marks.iter().any(|mark| trimmed.starts_with(mark));
        // In `replicas: {{ .Values.replicas }}`; no YAML value begins like this.
        let bare = [": {{", "- {{", "= {{", "={{"].iter().any(|mark| {
            let at = trimmed.find(mark).map(|at| &trimmed[..at]);
            at.is_some_and(|before| {
                before.matches('"').count() % 2 == 0 && before.matches('\'').count() % 2 == 0
            })
        });
        let inside =
            trimmed.contains("{{") && trimmed.contains("}}") && !trimmed.contains("format");
        if begins(&["{%", "<%", "{#"])
            || (look == TemplateStrictness::AnySign
                && (trimmed.contains("{%") || trimmed.contains("<%=")))
        {
            return Some((
                span,
                "render it first, with the tool whose template it is, and name what comes out, or pipe it: `… | lameduck doctor -`",
            ));
        }
        if begins(&["{{"]) || bare || (look == TemplateStrictness::AnySign && inside) {
            let how = match helm {
                true => "render it first: `helm template CHART | lameduck doctor -`",
                false => {
                    "render it first, with the tool whose template it is, and name what comes out, or pipe it: `… | lameduck doctor -`"
                }
            };
            return Some((span, how));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_distinguished_from_text_with_braces() {
        let is = |text: &str| find(text, TemplateStrictness::Certain).is_some();
        assert!(is("replicas: {{ .Values.n }}\n"));
        assert!(is("{{- if .Values.x }}\n"));
        assert!(is("{% for a in b %}\n"));
        assert!(!is("a: \"{{ image }}\"\n"));
        assert!(!is("a: { b: \"'X: {{y}}'\" }\n"));
        assert!(!is("- docker ps --format '{{ .Names }}'\n"));
        assert!(!is("apps: [{a: {b: 1}}]\n"));
    }
}
