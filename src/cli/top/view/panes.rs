//! Drains, restarts, splits and certificates.

use ratatui::layout::Rect;

use super::bars::{progress_bar, share_columns};
use super::canvas::{TableColumn, TopCanvas, fit, line, width};
use crate::cli::top::picture::{
    CertificateRow, DrainRow, RestartPhase, RestartRow, SplitRow, TopPicture,
};
use crate::cli::top::screen::{TopPane, TopScreen};
use crate::cli::top::words::{fine_span, span};
use crate::registry::view::InFlight;
use crate::rt::output::count;

/// Days from which on a certificate is nothing to think about.
const DISTANT: i64 = 14;

/// The lines that a pane would take.
pub(super) fn height(pane: TopPane, picture: &TopPicture) -> u16 {
    let rows = pane.len(picture).max(1);
    u16::try_from(rows).unwrap_or(u16::MAX / 2)
}

/// Draws one, scrolled as it is.
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
    // The last lines stay at the bottom.
    let first = scrolled.min(all.saturating_sub(height));
    let several = picture.has_several_proxies();
    for n in first..all.min(first + height) {
        let at = line(area, (n - first) as u16);
        match pane {
            TopPane::Backends => {}
            TopPane::Drains => draw_drain(canvas, &picture.drains[n], several, at),
            TopPane::Restarts => draw_restart(canvas, picture, n, at),
            TopPane::Splits => draw_split(canvas, &picture.splits[n], at),
            TopPane::Certificates => draw_certificate(canvas, &picture.certificates[n], at),
        }
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

fn draw_drain(canvas: &mut TopCanvas<'_>, row: &DrainRow, several: bool, at: Rect) {
    let palette = canvas.palette;
    let name_width = (at.width / 5).clamp(12, 24);
    let gauge = (at.width / 8).clamp(6, 20);
    let late = row.passed.is_some_and(|passed| passed >= 0.8);
    let style = match late {
        true => palette.bad(),
        false => palette.notice(),
    };
    let ends = match row.cuts_in {
        // Rounded up: "0s" would say that it has happened.
        Some(left) => {
            let seconds = left.as_millis().div_ceil(1000) as u64;
            format!("cuts in {}", span(std::time::Duration::from_secs(seconds)))
        }
        None => "no deadline".to_owned(),
    };
    let bar = row.passed.map(|passed| progress_bar(passed, gauge));
    let mut said = vec![left_in_words(row.left)];
    said.extend(row.oldest.as_ref().map(|oldest| format!("oldest {oldest}")));
    if several {
        said.push(format!("at {}", row.proxy));
    }
    said.push(row.why.clone());
    let columns = [
        column(name_width, false),
        column(gauge, false),
        column(14, false),
        column(at.width.saturating_sub(name_width + gauge + 17), false),
    ];
    let cells = [
        (format!(" {}", row.name), palette.plain()),
        (bar.unwrap_or_default(), style),
        (ends, style),
        (said.join("; "), palette.plain()),
    ];
    canvas.row(at, &columns, &cells);
}

fn column(width: u16, right: bool) -> TableColumn {
    TableColumn {
        title: "",
        width,
        right,
    }
}

/// A restart as a bar, as long as the longest that is shown fills the room for it.
fn draw_restart(canvas: &mut TopCanvas<'_>, picture: &TopPicture, n: usize, at: Rect) {
    let (row, palette): (&RestartRow, _) = (&picture.restarts[n], canvas.palette);
    let wholes = picture.restarts.iter().map(RestartRow::whole);
    let longest = wholes.max().unwrap_or_default().as_secs_f64();
    let name_width = (at.width / 5).clamp(10, 24);
    let bar_width = (at.width / 4).clamp(8, 40);
    let mut x = canvas.text(at, 1, &fit(&row.name, name_width), palette.plain());
    x = x.max(name_width) + 2;
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
    x += canvas.text(at, x, &fine_span(row.whole()), palette.plain()) + 2;
    let style = match row.is_bad {
        true => palette.bad(),
        false => palette.quiet(),
    };
    canvas.text(at, x, &row.account, style);
}

fn draw_split(canvas: &mut TopCanvas<'_>, row: &SplitRow, at: Rect) {
    let palette = canvas.palette;
    let name_width = (at.width / 5).clamp(10, 24);
    let bar_width = (at.width / 5).clamp(8, 24);
    let x = canvas.text(at, 1, &fit(&row.route, name_width), palette.plain());
    let mut x = x.max(name_width) + 2;
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
    for (pool, share) in &row.shares {
        x += canvas.text(at, x, &format!("{pool} {share:.0} %"), palette.plain()) + 2;
    }
    if !row.note.is_empty() {
        canvas.text(at, x, &row.note, palette.notice());
    }
}

fn draw_certificate(canvas: &mut TopCanvas<'_>, row: &CertificateRow, at: Rect) {
    let palette = canvas.palette;
    let days = count(row.days_left.max(0).unsigned_abs(), "day");
    let style = match row.days_left {
        left if left < DISTANT / 2 => palette.bad(),
        left if left < DISTANT => palette.notice(),
        _ => palette.good(),
    };
    let name_width = (at.width / 3).clamp(12, 40);
    let x = canvas.text(at, 1, &fit(&row.names, name_width), palette.plain());
    let mut x = x.max(name_width) + 2;
    x += canvas.text(at, x, &days, style).max(width("999 days")) + 2;
    let date = row.expires.get(..10).unwrap_or(&row.expires);
    x += canvas.text(at, x, date, palette.quiet()) + 2;
    x += canvas.text(at, x, &row.issuer, palette.quiet()) + 2;
    if let Some(why) = &row.trouble {
        canvas.text(at, x, why, palette.bad());
    }
}
