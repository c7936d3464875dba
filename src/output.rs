//! Printing: to terminals, pipes and files.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Prints text and a newline on standard output. If nobody reads it, so be it: what a command did is told by
/// its exit code.
pub fn print(text: &str) {
    let _ = try_print(text);
}

/// As [`print()`], for those who would print for ever.
///
/// # Errors
/// When nobody reads it any more.
pub fn try_print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => print(&text),
        Err(error) => complain(&format!("can't print this as JSON: {error}")),
    }
}

/// Says something on standard error.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "lameduck: {text}");
}

/// Whether standard output takes colour.
pub fn colour() -> bool {
    colour_on(&io::stdout())
}

/// Whether this stream takes colour: it is a terminal, and `NO_COLOR` is unset or empty.
pub fn colour_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Makes text from elsewhere harmless: it must not move the cursor or fake a line.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A line on the terminal that is drawn over and over. Silent where standard error is not a terminal.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// On standard error, if that is a terminal and `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self {
            terminal: wanted && io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Whether anybody sees it.
    pub fn is_visible(&self) -> bool {
        self.terminal
    }

    /// Replaces the line.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `1 request`, `2 requests`.
pub fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_don_t_reach_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\r\nc"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c"
        );
        assert_eq!(printable("déploiement 42"), "déploiement 42");
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(count(0, "request"), "0 requests");
        assert_eq!(count(1, "request"), "1 request");
    }
}
