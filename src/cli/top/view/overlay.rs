//! The bottom line, the list of keys, and the confirmation of a change.

use ratatui::layout::Rect;
use ratatui::widgets::{Block, Clear, Paragraph, Widget, Wrap};

use super::canvas::TopCanvas;
use crate::cli::top::screen::{AskedChange, BackendChange, TopScreen};
use crate::rt::output::printable;

/// Keys and their meanings.
const KEYS: [(&str, &str); 11] = [
    ("q, Ctrl-C", "end"),
    ("↑ ↓, j k, PgUp PgDn", "select a backend, or scroll"),
    ("g G", "the first, the last"),
    ("Tab, Shift-Tab", "the next pane, the one before"),
    ("/", "filter by pool, name, state, address"),
    ("Esc", "clear the filter"),
    ("s", "sort by name, state, in flight, rate, errors"),
    ("p", "pause the display"),
    ("d", "drain the selected backend"),
    ("r", "resume it"),
    ("?", "these keys"),
];

/// Draws the keys, the filter while it is typed, or the result of the last change.
pub(super) fn draw_footer(canvas: &mut TopCanvas<'_>, screen: &TopScreen, line: Rect) {
    let palette = canvas.palette;
    if screen.is_typing {
        let text = format!("/{}▏ Enter: keep, Esc: clear", screen.filter);
        canvas.text(line, 0, &text, palette.strong());
        return;
    }
    if let Some(message) = &screen.message {
        canvas.text(line, 0, message, palette.notice());
        return;
    }
    let order = screen.order.title();
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("/", "filter"),
        ("s", order),
        ("p", "pause"),
        ("d", "drain"),
        ("r", "resume"),
        ("Tab", "pane"),
    ];
    let mut x = 0;
    for (key, what) in keys {
        x += canvas.text(line, x, key, palette.strong()) + 1;
        let what = match key {
            "s" => format!("by {what}"),
            _ => what.to_owned(),
        };
        x += canvas.text(line, x, &what, palette.quiet()) + 2;
    }
}

/// Draws the confirmation or the list of keys.
pub(super) fn draw_overlay(canvas: &mut TopCanvas<'_>, screen: &TopScreen, area: Rect) {
    if let Some(asked) = &screen.asked {
        let (title, text) = question(asked);
        draw_box(canvas, area, &title, &text, 60);
    } else if screen.is_help_open {
        let lines = KEYS.map(|(key, what)| format!("{key:<20} {what}"));
        draw_box(canvas, area, "Keys", &lines.join("\n"), 70);
    }
}

fn question(asked: &AskedChange) -> (String, String) {
    let (pool, name) = &asked.backend;
    let backend = printable(&format!("{pool}/{name}"));
    let at = match asked.proxies.len() {
        0 | 1 => String::new(),
        several => format!(" at {several} proxies"),
    };
    let (title, what) = match asked.change {
        BackendChange::Drain => (
            "Drain",
            "It gets nothing new. What is in flight goes on until it ends, or until the pool's deadline. \
             It stays drained until it is resumed.",
        ),
        BackendChange::Resume => (
            "Resume",
            "Operators' drains of it are lifted. Those of apps and supervisors stay.",
        ),
    };
    let text = format!("{title} {backend}{at}?\n\n{what}\n\ny: yes    any other key: no");
    (title.to_owned(), text)
}

fn draw_box(canvas: &mut TopCanvas<'_>, area: Rect, title: &str, text: &str, width: u16) {
    let width = width.min(area.width);
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let lines: usize = text
        .lines()
        .map(|line| line.chars().count().div_ceil(inner).max(1))
        .sum();
    // One line more, for words that do not end at the end of a line.
    let height = (lines as u16 + 3).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .title(format!(" {title} "))
        .border_style(canvas.palette.notice())
        .padding(ratatui::widgets::Padding::horizontal(1));
    Clear.render(place, canvas.buffer);
    let text = Paragraph::new(text.to_owned())
        .wrap(Wrap { trim: false })
        .block(block);
    text.render(place, canvas.buffer);
}
