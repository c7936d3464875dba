//! Writes text to a buffer, never outside of the given area.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// Styles of text, with and without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopPalette {
    /// Whether there is colour.
    pub has_colour: bool,
}

impl TopPalette {
    fn coloured(self, colour: Color) -> Style {
        match self.has_colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// Normal text.
    pub(crate) fn plain(self) -> Style {
        Style::new()
    }

    /// Important text.
    pub(crate) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Unimportant text.
    pub(crate) fn quiet(self) -> Style {
        match self.has_colour {
            true => Style::new().fg(Color::DarkGray),
            false => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// For good states.
    pub(crate) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// For something in progress.
    pub(crate) fn notice(self) -> Style {
        self.coloured(Color::Yellow)
    }

    /// For something that needs attention.
    pub(crate) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// For histories.
    pub(crate) fn past(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// For the selected pane or line.
    pub(crate) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    /// For a backend's state.
    pub(crate) fn state(self, state: &str) -> Style {
        match state {
            "ready" => self.good(),
            "starting" | "draining" | "drained" | "ejected" => self.notice(),
            _ => self.bad(),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableColumn {
    /// Heading.
    pub title: &'static str,
    /// Its width.
    pub width: u16,
    /// Whether the text is aligned to the right, as for numbers.
    pub right: bool,
}

/// A buffer to write to, with its styles.
pub(super) struct TopCanvas<'a> {
    /// The buffer.
    pub buffer: &'a mut Buffer,
    /// Styles of text.
    pub palette: TopPalette,
}

impl<'a> TopCanvas<'a> {
    /// A canvas for this buffer.
    pub(super) fn new(buffer: &'a mut Buffer, palette: TopPalette) -> Self {
        Self { buffer, palette }
    }

    /// Writes text into the first line of `area`, `x` columns from its left, cut at its end; returns the number of
    /// columns used.
    pub(super) fn text(&mut self, area: Rect, x: u16, text: &str, style: Style) -> u16 {
        let room = area.width.saturating_sub(x);
        if area.height == 0 || room == 0 {
            return 0;
        }
        let text = fit(text, room);
        let (end, _) = self
            .buffer
            .set_stringn(area.x + x, area.y, &text, room.into(), style);
        end - area.x - x
    }

    /// Writes text at the right end of the first line.
    pub(super) fn text_right(&mut self, area: Rect, text: &str, style: Style) {
        let width = width(text).min(area.width);
        self.text(area, area.width - width, text, style);
    }

    /// Draws a horizontal line.
    pub(super) fn rule(&mut self, area: Rect) {
        let line = "─".repeat(area.width.into());
        self.text(area, 0, &line, self.palette.quiet());
    }

    /// Writes the heading of a pane.
    pub(super) fn heading(&mut self, area: Rect, title: &str, chosen: bool) {
        self.rule(area);
        let style = match chosen {
            true => self.palette.chosen(),
            false => self.palette.strong(),
        };
        self.text(area, 1, &format!(" {title} "), style);
    }

    /// Writes a row of a table.
    pub(super) fn row(&mut self, area: Rect, columns: &[TableColumn], cells: &[(String, Style)]) {
        let mut x = 0;
        for (column, (text, style)) in columns.iter().zip(cells) {
            let width = column.width.min(area.width.saturating_sub(x));
            let cell = Rect {
                x: area.x + x,
                width,
                height: area.height.min(1),
                ..area
            };
            match column.right {
                true => self.text_right(cell, text, *style),
                false => drop(self.text(cell, 0, text, *style)),
            }
            x += column.width + 1;
        }
    }

    /// Writes the headings of a table.
    pub(super) fn header(&mut self, area: Rect, columns: &[TableColumn]) {
        let style = self.palette.quiet();
        let titles = columns
            .iter()
            .map(|column| (column.title.to_owned(), style));
        let titles: Vec<_> = titles.collect();
        self.row(area, columns, &titles);
    }
}

/// Width of a text in columns.
pub(super) fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// Text cut to this many columns, with a mark if something is left out.
pub(super) fn fit(text: &str, room: u16) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let own = width(letter.encode_utf8(&mut [0; 4]));
        if used + own >= room {
            break;
        }
        used += own;
        kept.push(letter);
    }
    if room > 0 {
        kept.push('…');
    }
    kept
}

/// Text wrapped to lines of this many columns, at words, or within a word that is longer than a line.
pub(super) fn wrap(text: &str, room: u16) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let gap = u16::from(!line.is_empty());
        if width(&line) + gap + width(word) > room && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in word.chars() {
            let own = width(letter.encode_utf8(&mut [0; 4]));
            if width(&line) + own > room && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    lines.push(line);
    lines
}

/// Line number `n` of `area`; empty if it has fewer lines.
pub(super) fn line(area: Rect, n: u16) -> Rect {
    Rect {
        y: area.y + n.min(area.height),
        height: u16::from(n < area.height),
        ..area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_text_has_each_word_and_no_line_that_is_too_long() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("2 cut, 2 lost", 13), ["2 cut, 2 lost"]);
        assert_eq!(wrap("2 cut, 2 lost", 12), ["2 cut, 2", "lost"]);
        assert_eq!(wrap("GET /a/long/path x", 8), ["GET", "/a/long/", "path x"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn text_that_is_too_long_is_cut_at_whole_letters() {
        assert_eq!(fit("api-0", 5), "api-0");
        assert_eq!(fit("api-10", 5), "api-…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!((fit("x", 0), fit("xy", 1)), (String::new(), "…".to_owned()));
    }
}
