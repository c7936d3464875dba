//! Splits the text of a shell into commands, each with its position and what follows it.

use std::ops::Range;

/// What follows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShellJoiner {
    /// The end of the text.
    End,
    /// `;`, `&&`, `||` or a new line: another command afterwards.
    Then,
    /// `|`: another command at the same time, which reads its output.
    Pipe,
    /// `&`: the shell continues at once.
    Background,
}

/// A command in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShellPiece {
    /// Words without redirections.
    pub(super) words: Vec<String>,
    /// Position in the text, including redirections.
    pub(super) span: Range<usize>,
    pub(super) joiner: ShellJoiner,
}

/// Keywords of the shell that may be before a command.
const KEYWORDS: [&str; 9] = [
    "then", "do", "else", "if", "elif", "while", "until", "!", "{",
];

/// Splits a text. Quotes and backslashes are always special; separators and redirections only for a `shell`.
pub(super) fn split(text: &str, shell: bool) -> Vec<ShellPiece> {
    let mut splitter = Splitter {
        text,
        at: 0,
        pieces: Vec::new(),
        words: Vec::new(),
        word: None,
        start: None,
        is_target: false,
    };
    while let Some(c) = splitter.peek() {
        splitter.take(c, shell);
    }
    splitter.end_piece(ShellJoiner::End, text.len());
    splitter.pieces
}

struct Splitter<'t> {
    text: &'t str,
    at: usize,
    pieces: Vec<ShellPiece>,
    words: Vec<String>,
    /// Word that is being read; quotes may make it empty.
    word: Option<String>,
    start: Option<usize>,
    /// Whether the word is the file of a redirection.
    is_target: bool,
}

impl Splitter<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn take(&mut self, c: char, shell: bool) {
        let here = self.at;
        self.next();
        match c {
            c if c.is_whitespace() && !(shell && c == '\n') => return self.end_word(),
            '\n' | ';' if shell => return self.end_piece(ShellJoiner::Then, here),
            '(' | ')' if shell => return self.end_piece(ShellJoiner::Then, here),
            '&' if shell => return self.ampersand(here),
            '|' if shell => {
                let joiner = match self.peek() {
                    Some('|') => ShellJoiner::Then,
                    _ => ShellJoiner::Pipe,
                };
                if matches!(self.peek(), Some('|' | '&')) {
                    self.next();
                }
                return self.end_piece(joiner, here);
            }
            '#' if shell && self.word.is_none() => {
                let line = self.text[self.at..].find('\n');
                self.at = line.map_or(self.text.len(), |end| self.at + end);
                return;
            }
            _ => {}
        }
        self.start.get_or_insert(here);
        match c {
            '>' | '<' if shell => self.redirect(),
            '\'' | '"' => self.quoted(c),
            '\\' => match self.next() {
                Some('\n') | None => {}
                Some(c) => self.push(c),
            },
            '$' if shell && self.peek() == Some('(') => {
                self.push('$');
                self.parentheses(true);
            }
            '`' if shell => {
                let rest = &self.text[self.at..];
                let end = rest.find('`').map_or(rest.len(), |end| end + 1);
                self.push('`');
                self.word.get_or_insert_default().push_str(&rest[..end]);
                self.at += end;
            }
            c => self.push(c),
        }
    }

    fn ampersand(&mut self, here: usize) {
        match self.peek() {
            Some('&') => {
                self.next();
                self.end_piece(ShellJoiner::Then, here);
            }
            Some('>') => {
                self.next();
                self.start.get_or_insert(here);
                self.redirect();
            }
            _ => self.end_piece(ShellJoiner::Background, here),
        }
    }

    /// Handles a redirection after its first `>` or `<`.
    fn redirect(&mut self) {
        // In `2>`, the number belongs to the redirection.
        if self
            .word
            .as_deref()
            .is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit()))
        {
            self.word = None;
        }
        self.end_word();
        while let Some('>' | '<' | '&' | '|') = self.peek() {
            self.next();
        }
        if self.peek() == Some('(') {
            self.parentheses(false);
            self.word = None;
            return;
        }
        while self.peek() == Some(' ') {
            self.next();
        }
        self.is_target = true;
        // In `> >(…)`, the file is a process substitution.
        if self.text[self.at..].starts_with(">(") {
            self.next();
            self.parentheses(false);
            self.word = None;
            self.is_target = false;
        }
    }

    /// Reads from `(` to its closing parenthesis, and keeps the text as it is.
    fn parentheses(&mut self, keep: bool) {
        let mut depth = 0u32;
        while let Some(c) = self.next() {
            if keep {
                self.push(c);
            }
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, open: char) {
        self.word.get_or_insert_default();
        while let Some(c) = self.next() {
            match c {
                c if c == open => return,
                '\\' if open == '"' => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => self.push(c),
                },
                c => self.push(c),
            }
        }
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            match self.is_target {
                true => self.is_target = false,
                false => self.words.push(word),
            }
        }
    }

    fn end_piece(&mut self, joiner: ShellJoiner, end: usize) {
        self.end_word();
        self.is_target = false;
        let start = self.start.take();
        let mut words = std::mem::take(&mut self.words);
        let own = |word: &String| KEYWORDS.contains(&word.as_str());
        let skipped = words.iter().take_while(|word| own(word)).count();
        words.drain(..skipped);
        match start {
            Some(start) if !words.is_empty() => {
                let end = start + self.text[start..end].trim_end().len();
                self.pieces.push(ShellPiece {
                    words,
                    span: start..end,
                    joiner,
                });
            }
            // In `a &` at the end, or `a; ; b`, the separator belongs to the command before.
            _ => {
                if let (Some(last), ShellJoiner::Background) = (self.pieces.last_mut(), joiner) {
                    last.joiner = joiner;
                }
            }
        }
    }
}

/// Quotes a word so that a POSIX shell reads it back.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%^{}[]*?~".contains(c);
    match !word.is_empty() && word.chars().all(plain) && !word.contains(['*', '?', '{', '[']) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Joins words to a text that a POSIX shell splits into the same words.
pub(super) fn join(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, ShellJoiner)> {
        let pieces = split(text, true).into_iter();
        pieces.map(|p| (p.words.join("_"), p.joiner)).collect()
    }

    #[test]
    fn commands_end_at_what_joins_them_and_not_at_redirections() {
        let cases: [(&str, &[(&str, ShellJoiner)]); 8] = [
            ("node a.js > /log 2>&1", &[("node_a.js", ShellJoiner::End)]),
            (
                "cd /srv && . ./env && exec node a",
                &[
                    ("cd_/srv", ShellJoiner::Then),
                    ("._./env", ShellJoiner::Then),
                    ("exec_node_a", ShellJoiner::End),
                ],
            ),
            (
                "node a 2>&1 | tee -a x",
                &[
                    ("node_a", ShellJoiner::Pipe),
                    ("tee_-a_x", ShellJoiner::End),
                ],
            ),
            ("node a &> x", &[("node_a", ShellJoiner::End)]),
            (
                "a & wait",
                &[("a", ShellJoiner::Background), ("wait", ShellJoiner::End)],
            ),
            (
                "echo $(date; id) b",
                &[("echo_$(date; id)_b", ShellJoiner::End)],
            ),
            ("a > >(tee x) 2>&1", &[("a", ShellJoiner::End)]),
            (
                "if x; then exec y; fi # z",
                &[
                    ("x", ShellJoiner::Then),
                    ("exec_y", ShellJoiner::Then),
                    ("fi", ShellJoiner::End),
                ],
            ),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(w, j)| ((*w).to_owned(), *j))
                .collect();
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn places_hold_whole_commands() {
        let text = "cd /srv && node 'a b' > /log 2>&1; true";
        let pieces = split(text, true);
        assert_eq!(&text[pieces[1].span.clone()], "node 'a b' > /log 2>&1");
    }

    #[test]
    fn quoted_words_come_back() {
        for word in ["a", "a b", "it's", "", "$HOME", "a>b", "*"] {
            let back = split(&quote(word), true);
            assert_eq!(back[0].words, [word], "{word}");
        }
    }
}
