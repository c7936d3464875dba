//! Templates that are not rendered yet: Helm's and Go's `{{ }}`, Jinja's `{% %}`, ERB's `<% %>`.

use std::ops::Range;

/// Endings of templates; what stands before them says what they will be.
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

/// The name that the rendered file will have.
pub(super) fn rendered_name(name: &str) -> &str {
    let mut name = name;
    for end in ENDS {
        name = name.strip_suffix(end).unwrap_or(name);
    }
    name
}

/// How strictly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplateStrictness {
    /// The text can't be read as it stands: any sign will do.
    AnySign,
    /// It can: only what is certainly no value.
    Certain,
}

/// Where a text is a template, and how to render it.
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
        // `replicas: {{ .Values.replicas }}`: no value of YAML's begins so.
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
    fn templates_are_told_from_text_that_has_braces() {
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
