//! Splits nginx's configuration language into words, `;`, `{` and `}`.
//!
//! It follows `ngx_conf_read_token` of nginx exactly. A quote begins a quoted word, and `#` a comment, only at the
//! start of a word. `\` keeps the next character from ending the word; `\"`, `\'` and `\\` lose their backslash, `\t`,
//! `\r` and `\n` become control characters, and every other backslash stays. `${` does not open a block.

use std::fmt;

/// Longest word in bytes: nginx reads with a buffer of this size, and refuses longer words.
pub(crate) const MAX_WORD: usize = 4096;

/// A token, with the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxToken {
    /// Kind of the token.
    pub kind: TokenKind,
    /// Line number from 1.
    pub line: u32,
}

/// Kind of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A word, with quotes and escapes resolved. Variables stay as written.
    Word(String),
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// An error in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexError {
    /// Line number from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for LexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads the tokens of a text one after another.
#[derive(Debug)]
pub struct NginxLexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> NginxLexer<'a> {
    /// A lexer at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        NginxLexer {
            text,
            at: 0,
            line: 1,
        }
    }

    /// Number of the current line, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        self.line += u32::from(next == '\n');
        Some(next)
    }

    fn fail<T>(&self, line: u32, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError {
            line,
            message: message.into(),
        })
    }

    fn skip_space_and_comments(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' | '\n' => {
                    self.bump();
                }
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                _ => return,
            }
        }
    }

    /// Reads the next token; `None` at the end of the text.
    ///
    /// # Errors
    /// A quote is not closed, text follows directly after a quoted word, or a word is too long.
    pub fn next_token(&mut self) -> Result<Option<NginxToken>, LexError> {
        self.skip_space_and_comments();
        let line = self.line;
        let Some(first) = self.peek() else {
            return Ok(None);
        };
        let kind = match first {
            ';' => TokenKind::Semicolon,
            '{' => TokenKind::Open,
            '}' => TokenKind::Close,
            '"' | '\'' => return self.read_quoted(first, line).map(Some),
            _ => return self.read_bare(line).map(Some),
        };
        self.bump();
        Ok(Some(NginxToken { kind, line }))
    }

    fn read_quoted(&mut self, quote: char, line: u32) -> Result<NginxToken, LexError> {
        self.bump();
        let from = self.at;
        loop {
            match self.bump() {
                None => return self.fail(line, "a quote that begins here is not closed"),
                Some('\\') => {
                    self.bump();
                }
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        let raw = &self.text[from..self.at - 1];
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => self.word(raw, line),
            Some(other) => self.fail(
                self.line,
                format!(
                    "unexpected \"{}\" right behind a quoted word",
                    other.escape_debug()
                ),
            ),
        }
    }

    fn read_bare(&mut self, line: u32) -> Result<NginxToken, LexError> {
        let from = self.at;
        let mut dollar = false;
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' => break,
                '{' if !dollar => break,
                '\\' => {
                    self.bump();
                }
                _ => {}
            }
            dollar = next == '$';
            self.bump();
        }
        let raw = &self.text[from..self.at];
        self.word(raw, line)
    }

    fn skip_foreign_text(&mut self, quote: char) {
        while let Some(next) = self.bump() {
            match next {
                '\\' => {
                    self.bump();
                }
                c if c == quote || c == '\n' => return,
                _ => {}
            }
        }
    }

    fn word(&self, raw: &str, line: u32) -> Result<NginxToken, LexError> {
        if raw.len() >= MAX_WORD {
            return self.fail(
                line,
                format!("a word of more than {MAX_WORD} bytes; is a quote missing?"),
            );
        }
        Ok(NginxToken {
            kind: TokenKind::Word(resolve_escapes(raw)),
            line,
        })
    }

    /// Skips a block in another language (`content_by_lua_block`) after its `{`, including its `}`.
    ///
    /// # Errors
    /// The block has no end.
    pub fn skip_foreign_block(&mut self) -> Result<(), LexError> {
        let line = self.line;
        let mut depth = 1_u32;
        while let Some(next) = self.bump() {
            match next {
                '{' => depth += 1,
                '}' => depth -= 1,
                // Braces in texts and comments of Lua do not count.
                '"' | '\'' => self.skip_foreign_text(next),
                '-' if self.text[self.at..].starts_with('-') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        self.fail(line, "a block that begins here is not closed")
    }
}

fn resolve_escapes(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        match rest.next() {
            Some(c @ ('"' | '\'' | '\\')) => out.push(c),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut lexer = NginxLexer::new(text);
        let mut all = Vec::new();
        while let Some(token) = lexer.next_token().unwrap() {
            all.push(match token.kind {
                TokenKind::Word(word) => word,
                TokenKind::Semicolon => ";".into(),
                TokenKind::Open => "{".into(),
                TokenKind::Close => "}".into(),
            });
        }
        all
    }

    #[test]
    fn words_end_where_nginx_ends_them() {
        assert_eq!(words("a b;"), ["a", "b", ";"]);
        assert_eq!(words("a{b c;}"), ["a", "{", "b", "c", ";", "}"]);
        assert_eq!(words("a # no;\nb#c;"), ["a", "b#c", ";"]);
        assert_eq!(words("a x\"y z\";"), ["a", "x\"y", "z\"", ";"]);
        assert_eq!(words("a '1; {' \"2 '\";"), ["a", "1; {", "2 '", ";"]);
        assert_eq!(words("a b}c;"), ["a", "b}c", ";"]);
        assert_eq!(words("~ ^/([a-z]+)/$ x"), ["~", "^/([a-z]+)/$", "x"]);
    }

    #[test]
    fn escapes_and_variables_are_read_as_nginx_reads_them() {
        assert_eq!(words(r"a \;b \{ c\ d;"), ["a", r"\;b", r"\{", r"c\ d", ";"]);
        assert_eq!(words(r#"a "\"\\\n\." '\'';"#), ["a", "\"\\\n\\.", "'", ";"]);
        assert_eq!(words("a ${b}c/${d};"), ["a", "${b}c/${d}", ";"]);
        assert_eq!(words(r"~ \.php$ { }"), ["~", r"\.php$", "{", "}"]);
        assert_eq!(words("if (\"a b\") x"), ["if", "(\"a", "b\")", "x"]);
        assert_eq!(words("if ( 'a'); "), ["if", "(", "a", ")", ";"]);
    }

    #[test]
    fn broken_quotes_and_endless_words_are_named_with_their_line() {
        let error = |text: &str| NginxLexer::new(text).next_token().unwrap_err();
        assert_eq!(error("\n\n\"a").line, 3);
        assert!(error("\"a\"b").message.contains("right behind"));
        assert!(error(&"x".repeat(MAX_WORD)).message.contains("4096"));
    }

    #[test]
    fn lines_count_inside_quotes_and_comments() {
        let mut lexer = NginxLexer::new("'a\nb' # c\n d");
        assert_eq!(lexer.next_token().unwrap().unwrap().line, 1);
        assert_eq!(lexer.next_token().unwrap().unwrap().line, 3);
    }

    #[test]
    fn blocks_of_another_language_are_passed_over() {
        let mut lexer = NginxLexer::new(" y = {1, {2}, '}', \"\\\"}\"} -- it's }\n } z");
        lexer.skip_foreign_block().unwrap();
        let token = lexer.next_token().unwrap().unwrap();
        assert_eq!(token.kind, TokenKind::Word("z".into()));
    }
}
