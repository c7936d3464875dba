//! Panes of drains, restarts, splits and certificates.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::bars::{progress_bar, share_columns};
use super::canvas::{TopCanvas, fit, line, width, wrap};
use crate::cli::top::picture::{
    CertificateRow, DrainRow, RestartPhase, RestartRow, SplitRow, TopPicture,
};
use crate::cli::top::screen::{TopPane, TopScreen};
use crate::cli::top::words::{fine_span, span};
use crate::registry::view::InFlight;
use crate::rt::output::count;

/// Days before a certificate expires from which it is not highlighted.
const DISTANT: i64 = 14;

/// Least width at which the text at the end of a row is wrapped.
const NARROWEST_TEXT: u16 = 12;

/// Number of lines that the first `rows` rows of a pane need without cutting any text.
pub(super) fn height(pane: TopPane, picture: &TopPicture, rows: usize, width: u16) -> u16 {
    let rows = 0..pane.len(picture).min(rows);
    let lines = rows.map(|n| usize::from(row_height(pane, picture, n, width)));
    u16::try_from(lines.sum::<usize>().max(1)).unwrap_or(u16::MAX / 2)
}

/// Number of lines that a row needs.
fn row_height(pane: TopPane, picture: &TopPicture, n: usize, width: u16) -> u16 {
    let (x, text) = row_end(pane, picture, n, width);
    match width.saturating_sub(x) {
        room if room < NARROWEST_TEXT => 1,
        room => u16::try_from(wrap(&text, room).len()).unwrap_or(u16::MAX),
    }
}

/// Text at the end of a row, and the column where it begins.
fn row_end(pane: TopPane, picture: &TopPicture, n: usize, width: u16) -> (u16, String) {
    match pane {
        TopPane::Backends => (0, String::new()),
        TopPane::Drains => {
            let several = picture.has_several_proxies();
            let (name, gauge) = drain_columns(width);
            (name + gauge + 17, drain_text(&picture.drains[n], several))
        }
        TopPane::Restarts => {
            let row = &picture.restarts[n];
            (restart_columns(row, width), row.account.clone())
        }
        TopPane::Splits => {
            let row = &picture.splits[n];
            (split_columns(row, width), row.note.clone())
        }
        TopPane::Certificates => {
            let row = &picture.certificates[n];
            let trouble = row.trouble.clone().unwrap_or_default();
            (certificate_columns(row, width), trouble)
        }
    }
}

/// Writes the text at the end of a row into all lines of the row.
fn draw_row_end(canvas: &mut TopCanvas<'_>, at: Rect, (x, text): (u16, String), style: Style) {
    if at.height < 2 {
        canvas.text(at, x, &text, style);
        return;
    }
    let mut lines = wrap(&text, at.width.saturating_sub(x));
    // Text that has no line left is marked as cut at the end of the last one.
    let rest = lines.split_off(lines.len().min(usize::from(at.height) - 1));
    lines.push(rest.join(" "));
    for (n, text) in lines.iter().enumerate() {
        canvas.text(line(at, n as u16), x, text, style);
    }
}

/// Draws a pane, scrolled as selected.
pub(super) fn draw_pane(
    canvas: &mut TopCanvas<'_>,
    picture: &TopPicture,
    screen: &TopScreen,
    pane: TopPane,
    area: Rect,
) {
    let all = pane.len(picture);
    if all == 0 {
        let text = match pane {
            TopPane::Backends => "no backends",
            TopPane::Drains => "nothing is being drained",
            TopPane::Restarts => "no restart has been seen",
            TopPane::Splits => "no route is split",
            TopPane::Certificates => "no listener has TLS",
        };
        canvas.text(area, 1, text, canvas.palette.quiet());
        return;
    }
    let height = usize::from(area.height);
    let scrolled = screen.scrolled[pane as usize];
    // Scrolling stops when the last line is at the bottom.
    let first = scrolled.min(all.saturating_sub(height));
    let last = all.min(first + height);
    // Each row gets one line; remaining lines go to rows with longer texts, from the top.
    let mut spare = (height - (last - first)) as u16;
    let mut y = 0;
    for n in first..last {
        let more = (row_height(pane, picture, n, area.width) - 1).min(spare);
        spare -= more;
        let at = Rect {
            y: area.y + y,
            height: more + 1,
            ..area
        };
        y += at.height;
        let style = match pane {
            TopPane::Backends => canvas.palette.plain(),
            TopPane::Drains => draw_drain(canvas, &picture.drains[n], at),
            TopPane::Restarts => draw_restart(canvas, picture, n, at),
            TopPane::Splits => draw_split(canvas, &picture.splits[n], at),
            TopPane::Certificates => draw_certificate(canvas, &picture.certificates[n], at),
        };
        let end = row_end(pane, picture, n, area.width);
        draw_row_end(canvas, at, end, style);
    }
}

fn left_in_words(left: InFlight) -> String {
    let kinds = [
        (left.request, "request"),
        (left.stream, "stream"),
        (left.upgrade, "upgrade"),
    ];
    let words = kinds.into_iter().filter(|(number, _)| *number > 0);
    let words: Vec<_> = words
        .map(|(number, kind)| count(number.into(), kind))
        .collect();
    match words.is_empty() {
        true => "nothing left".to_owned(),
        false => words.join(", "),
    }
}

/// What is still in flight, and who asked for the drain.
fn drain_text(row: &DrainRow, several: bool) -> String {
    let mut said = vec![left_in_words(row.left)];
    said.extend(row.oldest.as_ref().map(|oldest| format!("oldest {oldest}")));
    if several {
        said.push(format!("at {}", row.proxy));
    }
    said.push(row.why.clone());
    said.join("; ")
}

/// Widths of the name and of the bar.
fn drain_columns(width: u16) -> (u16, u16) {
    ((width / 5).clamp(12, 24), (width / 8).clamp(6, 20))
}

/// Draws a row without the text at its end; returns the style of that text.
fn draw_drain(canvas: &mut TopCanvas<'_>, row: &DrainRow, at: Rect) -> Style {
    let palette = canvas.palette;
    let (name_width, gauge) = drain_columns(at.width);
    let late = row.passed.is_some_and(|passed| passed >= 0.8);
    let style = match late {
        true => palette.bad(),
        false => palette.notice(),
    };
    let ends = match row.cuts_in {
        // Rounded up, because "0s" would mean that it has happened.
        Some(left) => {
            let seconds = left.as_millis().div_ceil(1000) as u64;
            format!("cuts in {}", span(std::time::Duration::from_secs(seconds)))
        }
        None => "no deadline".to_owned(),
    };
    let name = format!(" {}", row.name);
    canvas.text(at, 0, &fit(&name, name_width), palette.plain());
    if let Some(passed) = row.passed {
        canvas.text(at, name_width + 1, &progress_bar(passed, gauge), style);
    }
    canvas.text(at, name_width + gauge + 2, &fit(&ends, 14), style);
    palette.plain()
}

/// Column where the text at the end of a restart begins.
fn restart_columns(row: &RestartRow, row_width: u16) -> u16 {
    let (name, bar) = restart_widths(row_width);
    name + bar + 17 + width(&fine_span(row.whole()))
}

/// Widths of the name and of the bar.
fn restart_widths(width: u16) -> (u16, u16) {
    ((width / 5).clamp(10, 24), (width / 4).clamp(8, 40))
}

/// Draws a restart as a bar; the longest one that is shown fills the width.
fn draw_restart(canvas: &mut TopCanvas<'_>, picture: &TopPicture, n: usize, at: Rect) -> Style {
    let (row, palette): (&RestartRow, _) = (&picture.restarts[n], canvas.palette);
    let wholes = picture.restarts.iter().map(RestartRow::whole);
    let longest = wholes.max().unwrap_or_default().as_secs_f64();
    let (name_width, bar_width) = restart_widths(at.width);
    canvas.text(at, 1, &fit(&row.name, name_width), palette.plain());
    let mut x = name_width + 2;
    let ago = row
        .ago
        .map_or_else(String::new, |ago| format!("{} ago", span(ago)));
    canvas.text(at, x, &ago, palette.quiet());
    x += 11;
    let own = row.whole().as_secs_f64();
    let columns = match longest > 0.0 {
        true => ((own / longest * f64::from(bar_width)).round() as u16).max(1),
        false => 0,
    };
    let parts: Vec<_> = row
        .phases
        .iter()
        .map(|(_, time)| time.as_secs_f64())
        .collect();
    let mut end = x;
    for ((phase, _), columns) in row.phases.iter().zip(share_columns(&parts, columns)) {
        let (sign, style) = match phase {
            RestartPhase::Draining => ("▓", palette.notice()),
            RestartPhase::Away => ("░", palette.quiet()),
            RestartPhase::Starting => ("▒", palette.past()),
        };
        end += canvas.text(at, end, &sign.repeat(columns.into()), style);
    }
    if !row.is_over {
        canvas.text(at, end, "▸", palette.notice());
    }
    x += bar_width + 2;
    canvas.text(at, x, &fine_span(row.whole()), palette.plain());
    match row.is_bad {
        true => palette.bad(),
        false => palette.quiet(),
    }
}

/// Column where the text at the end of a split begins.
fn split_columns(row: &SplitRow, row_width: u16) -> u16 {
    let (name, bar) = split_widths(row_width);
    let shares = share_texts(row).map(|text| width(&text) + 2);
    name + bar + 4 + shares.sum::<u16>()
}

/// Widths of the name and of the bar.
fn split_widths(width: u16) -> (u16, u16) {
    ((width / 5).clamp(10, 24), (width / 5).clamp(8, 24))
}

fn share_texts(row: &SplitRow) -> impl Iterator<Item = String> {
    let shares = row.shares.iter();
    shares.map(|(pool, share)| format!("{pool} {share:.0} %"))
}

fn draw_split(canvas: &mut TopCanvas<'_>, row: &SplitRow, at: Rect) -> Style {
    let palette = canvas.palette;
    let (name_width, bar_width) = split_widths(at.width);
    canvas.text(at, 1, &fit(&row.route, name_width), palette.plain());
    let mut x = name_width + 2;
    let parts: Vec<_> = row.shares.iter().map(|(_, share)| *share).collect();
    let signs = ["█", "▒", "░", "▓"];
    let styles = [
        palette.past(),
        palette.notice(),
        palette.good(),
        palette.quiet(),
    ];
    let mut end = x;
    let shares = share_columns(&parts, bar_width).into_iter();
    for (n, columns) in shares.enumerate() {
        let bar = signs[n % signs.len()].repeat(columns.into());
        end += canvas.text(at, end, &bar, styles[n % styles.len()]);
    }
    x += bar_width + 2;
    for text in share_texts(row) {
        x += canvas.text(at, x, &text, palette.plain()) + 2;
    }
    palette.notice()
}

/// Column where the text at the end of a certificate begins.
fn certificate_columns(row: &CertificateRow, row_width: u16) -> u16 {
    let days = width(&days_text(row)).max(width("999 days"));
    certificate_name(row_width) + days + width(date_text(row)) + width(&row.issuer) + 8
}

/// Width of the names.
fn certificate_name(width: u16) -> u16 {
    (width / 3).clamp(12, 40)
}

fn days_text(row: &CertificateRow) -> String {
    count(row.days_left.max(0).unsigned_abs(), "day")
}

fn date_text(row: &CertificateRow) -> &str {
    row.expires.get(..10).unwrap_or(&row.expires)
}

fn draw_certificate(canvas: &mut TopCanvas<'_>, row: &CertificateRow, at: Rect) -> Style {
    let palette = canvas.palette;
    let style = match row.days_left {
        left if left < DISTANT / 2 => palette.bad(),
        left if left < DISTANT => palette.notice(),
        _ => palette.good(),
    };
    let name_width = certificate_name(at.width);
    canvas.text(at, 1, &fit(&row.names, name_width), palette.plain());
    let mut x = name_width + 2;
    let days = days_text(row);
    x += canvas.text(at, x, &days, style).max(width("999 days")) + 2;
    x += canvas.text(at, x, date_text(row), palette.quiet()) + 2;
    canvas.text(at, x, &row.issuer, palette.quiet());
    palette.bad()
}
