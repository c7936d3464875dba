//! Makes common spellings acceptable that the YAML parser refuses, without moving positions: brackets that are closed
//! in the column of their key, and comments in JSON.

use super::{Node, ValueKind};

/// Replaces JavaScript's comments and tabs by spaces, byte for byte.
pub(in crate::tools) fn without_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let (mut at, mut quote) = (0, None);
    while at < out.len() {
        let c = out[at];
        match (quote, c) {
            (Some(_), b'\\') => at += 1,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'' | b'`') => quote = Some(c),
            (None, b'\t') => out[at] = b' ',
            (None, b'/') if out.get(at + 1) == Some(&b'/') => {
                while at < out.len() && out[at] != b'\n' {
                    out[at] = b' ';
                    at += 1;
                }
            }
            (None, b'/') if out.get(at + 1) == Some(&b'*') => {
                let mut last = b' ';
                let start = at;
                while at < out.len() && !(last == b'*' && out[at] == b'/' && at > start + 2) {
                    last = out[at];
                    if last != b'\n' {
                        out[at] = b' ';
                    }
                    at += 1;
                }
                if let Some(slash) = out.get_mut(at) {
                    *slash = b' ';
                }
            }
            _ => {}
        }
        at += 1;
    }
    // Only whole characters, or bytes of a comment, were replaced by spaces.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// A text with some lines moved to the right.
pub(in crate::tools) struct Indented {
    pub(in crate::tools) text: String,
    /// Positions of added spaces in bytes of the new text, and their number.
    added: Vec<(usize, usize)>,
}

impl Indented {
    /// Converts a position to one of the original text.
    pub(in crate::tools) fn place(&self, at: usize) -> usize {
        let mut before = 0;
        for (start, count) in &self.added {
            match at {
                at if at >= start + count => before += count,
                at if at > *start => before += at - start,
                _ => break,
            }
        }
        at - before
    }

    /// Converts the positions in a tree.
    pub(in crate::tools) fn restore(&self, node: &mut Node) {
        node.span = self.place(node.span.start)..self.place(node.span.end);
        match &mut node.kind {
            ValueKind::List(items) => items.iter_mut().for_each(|item| self.restore(item)),
            ValueKind::Map(entries) => {
                for entry in entries {
                    entry.key_span =
                        self.place(entry.key_span.start)..self.place(entry.key_span.end);
                    self.restore(&mut entry.value);
                }
            }
            _ => {}
        }
    }
}

/// Moves lines within brackets to the right of the line that opened them; `None`: nothing had to be moved.
pub(in crate::tools) fn indent_flow(text: &str) -> Option<Indented> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut added = Vec::new();
    let mut scan = Scan::default();
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if scan.is_block_text(line, indent) {
            out.push_str(line);
            continue;
        }
        if scan.depth == 0 {
            scan.base = indent + dashes(&line[indent..]);
        } else if scan.quote.is_none() && indent <= scan.base && !line.trim().is_empty() {
            let count = scan.base + 1 - indent;
            added.push((out.len(), count));
            out.extend(std::iter::repeat_n(' ', count));
        }
        out.push_str(line);
        scan.line(line, indent);
    }
    (!added.is_empty()).then_some(Indented { text: out, added })
}

/// Number of columns by which `- - ` moves the following text.
fn dashes(line: &str) -> usize {
    let mut at = 0;
    while line[at..].starts_with("- ") {
        at += 2;
    }
    at
}

#[derive(Default)]
struct Scan {
    /// Number of open brackets.
    depth: usize,
    quote: Option<char>,
    /// Column of the line with the outermost bracket.
    base: usize,
    /// Column of the line with `|` or `>`, below which there is a block of text.
    block: Option<usize>,
}

impl Scan {
    fn is_block_text(&mut self, line: &str, indent: usize) -> bool {
        match self.block {
            Some(_) if line.trim().is_empty() => true,
            Some(column) if indent > column => true,
            _ => {
                self.block = None;
                false
            }
        }
    }

    fn line(&mut self, line: &str, indent: usize) {
        let mut before = ' ';
        // Whether a value may begin here.
        let mut fresh = true;
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match (self.quote, c) {
                (Some('"'), '\\') => {
                    chars.next();
                }
                (Some(open), c) if c == open => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => break,
                (None, '"' | '\'') if fresh || self.depth > 0 && "[{,: ".contains(before) => {
                    self.quote = Some(c);
                }
                (None, '[' | '{') if fresh || self.depth > 0 => self.depth += 1,
                (None, ']' | '}') if self.depth > 0 => self.depth -= 1,
                _ => {}
            }
            fresh = match c {
                c if c.is_whitespace() => fresh || before == ':' || before == '-',
                '-' | '?' => fresh,
                '[' | '{' | ',' => self.depth > 0,
                _ => false,
            };
            before = c;
        }
        let end = line.split(" #").next().unwrap_or(line).trim_end();
        let end = end
            .trim_end_matches(['+', '-'])
            .trim_end_matches(|c: char| c.is_ascii_digit());
        if self.depth == 0 && self.quote.is_none() && (end.ends_with(" |") || end.ends_with(" >")) {
            self.block = Some(indent);
        }
        // Multi-line texts outside of brackets do not matter here.
        if self.depth == 0 {
            self.quote = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_may_close_in_their_key_s_column() {
        let text = "a:\n  b: [\n    x,\n  ]\nc: {\n}\nd: |\n  [\n] \n";
        let moved = indent_flow(text).unwrap();
        assert!(
            moved
                .text
                .starts_with("a:\n  b: [\n    x,\n   ]\nc: {\n }\nd: |"),
            "{}",
            moved.text
        );
        let at = moved.text.find("c:").unwrap();
        assert_eq!(&text[moved.place(at)..][..2], "c:");
        assert!(indent_flow("a: [1, 2]\nb: don't [\n").is_none());
    }

    #[test]
    fn comments_become_blanks() {
        let text = "{ // one\n \"u\": \"http://x\", /* é\n */ a: 1,\n}";
        let clean = without_comments(text);
        assert_eq!(clean.len(), text.len());
        assert!(clean.contains("http://x") && !clean.contains("one") && clean.contains("a: 1"));
    }
}
