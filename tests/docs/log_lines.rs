//! docs/operations.md has every line of the log, as the source says it, and no other.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = "docs/operations.md";

/// Level and text; what differs from time to time is `…`.
type LogLine = (String, String);

/// The calls of `info!`, `warn!` and `error!` in a source, without its tests. Macros hide calls from a parser (those within
/// `select!` are tokens to it), so the text is read.
fn lines_of(source: &str) -> Vec<LogLine> {
    let product = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let call = regex::Regex::new(r"\b(info|warn|error)!\(").unwrap();
    let literal = regex::Regex::new(r#"(?s)"((?:\\.|[^"\\])*)""#).unwrap();
    let mut found = Vec::new();
    for one in call.captures_iter(product) {
        let inner = inside_parentheses(&product[one.get(0).unwrap().end()..]);
        // The first literal is the text: fields come before it without any, and arguments of the text after it. One that
        // joins a list is an argument of a field.
        let mut texts = literal.captures_iter(inner).map(|text| plain(&text[1]));
        let text = texts.find(|text| text != ", ");
        let text = text.unwrap_or_else(|| panic!("no text in {inner}"));
        // A text of another place: it is told as it is.
        if text != "…" {
            found.push((one[1].to_uppercase(), text));
        }
    }
    found
}

/// Up to the parenthesis that closes, texts left out of the count.
fn inside_parentheses(text: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (1, false, false);
    for (at, letter) in text.char_indices() {
        match (in_text, letter) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_text = !in_text,
            (true, _) => {}
            (false, '(') => depth += 1,
            (false, ')') if depth == 1 => return &text[..at],
            (false, ')') => depth -= 1,
            (false, _) => {}
        }
    }
    panic!("not closed: {text}");
}

fn plain(literal: &str) -> String {
    let joined = regex::Regex::new(r"\\\n\s*").unwrap();
    let hole = regex::Regex::new(r"\{[^}]*\}").unwrap();
    let text = joined.replace_all(literal, "").replace("\\\"", "\"");
    hole.replace_all(&text, "…").replace("\\n…", "…")
}

fn lines_in_source(dir: &Path, found: &mut BTreeSet<LogLine>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines_in_source(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.extend(lines_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn lines_on_page() -> BTreeSet<LogLine> {
    let text = std::fs::read_to_string(PAGE).unwrap();
    let (_, rows) = text.split_once("## Log lines").unwrap();
    let rows = rows.lines().filter_map(|row| row.strip_prefix("| "));
    let rows = rows.filter_map(|row| row.split_once(" | `"));
    rows.map(|(level, rest)| {
        let (line, meaning) = rest.split_once("` | ").unwrap();
        assert_eq!(meaning.matches(" | ").count(), 1, "{line}: {meaning}");
        (level.to_owned(), line.to_owned())
    })
    .collect()
}

#[test]
fn page_of_operations_explains_every_line_of_the_log_and_no_other() {
    let mut source = BTreeSet::new();
    lines_in_source(Path::new("src"), &mut source);
    let page = lines_on_page();
    assert!(source.len() > 100, "{}", source.len());
    let shown = |lines: Vec<&LogLine>| {
        let rows = lines
            .iter()
            .map(|(level, line)| format!("| {level} | `{line}` |"));
        rows.collect::<Vec<_>>().join("\n")
    };
    let missing = shown(source.difference(&page).collect());
    assert!(
        missing.is_empty(),
        "{PAGE} lacks these: say there what each means, and what to do\n{missing}"
    );
    let gone = shown(page.difference(&source).collect());
    assert!(
        gone.is_empty(),
        "{PAGE} has these, and the source does not\n{gone}"
    );
}

#[test]
fn reader_of_log_lines_finds_texts_behind_fields_and_over_several_lines() {
    let source = "warn!(%error, a = f(\"\"), \"it {why}: \\\n    go\"); select! { _ = x => info!(\"a\\n{b}\") }";
    // A literal among the fields would be taken for the text: the source has none but the separator of lists.
    let source = source.replace("f(\"\")", "f(1)");
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    assert_eq!(
        lines_of(&source),
        [line("WARN", "it …: go"), line("INFO", "a…")]
    );
}
