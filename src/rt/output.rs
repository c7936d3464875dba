//! Output to terminals, pipes and files. No other module uses the standard streams.
//!
//! The readers of these streams may be slow, stopped or gone. Printing must neither stop nor end a command:
//!
//! - [`complain`], [`say`], [`ErrorWriter`] (standard error) and [`print()`], [`print_json`], [`PrintWriter`] (standard
//!   output of commands that do something) go through a bounded queue; what does not fit is dropped and counted.
//! - [`answer`], [`answer_json`] and [`AnswerWriter`] are for commands whose output is their result: they wait for the
//!   reader, as `less` needs it, and report if it can't be written. They may only be called where signals end the
//!   process.
//! - [`use_no_thread`] makes standard error work without a thread: for the launcher, which forks.
//!
//! [`finish`] waits a moment for the last messages.

mod lines;
mod queue;
mod standard;
mod unblocked;

use std::io::{self, IsTerminal};

pub use lines::LineWriter;
pub use standard::{
    AnswerWriter, ErrorWriter, PrintWriter, answer, answer_json, answered, complain,
    dropped_errors, duplicate_stdout, finish, print, print_answer, print_error, print_json,
    retry_errors, say, take_panics, tell_losses_by, use_no_thread,
};

/// Message about lost lines, for processes without a log.
fn describe_losses(lost: u64) -> String {
    let lines = count(lost, "line");
    format!("lameduck: {lines} said here were lost: the reader or disk was too slow, or gone\n")
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output takes colour.
pub fn colour() -> bool {
    colour_on(&io::stdout())
}

/// Whether standard error takes colour.
pub fn error_colour() -> bool {
    colour_on(&io::stderr())
}

/// Whether this stream takes colour: it is a terminal, and `NO_COLOR` is unset or empty.
fn colour_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Escapes text from elsewhere, so that it can't move the cursor or fake a line.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_showable(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Whether a character may be printed as it is. Control characters steer a terminal, and characters that set the
/// direction of text change how the rest of the line is read.
pub fn is_showable(c: char) -> bool {
    let directs = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !c.is_control() && !directs
}

/// A status line on the terminal that is replaced again and again. Prints nothing if standard error is not a terminal.
#[derive(Debug)]
pub struct ProgressLine {
    terminal: bool,
    shown: bool,
}

impl ProgressLine {
    /// On standard error, if that is a terminal and `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self {
            terminal: wanted && io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Whether it is printed.
    pub fn is_visible(&self) -> bool {
        self.terminal
    }

    /// Replaces the line.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            say(&format!("\r\x1b[K{text}"));
        }
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            say("\r\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
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
