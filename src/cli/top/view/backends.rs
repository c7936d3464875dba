//! Draws pools and their backends, with more columns on wider screens.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::bars::past_bars;
use super::canvas::{TableColumn, TopCanvas, TopPalette, line, width};
use super::split_top;
use crate::cli::top::picture::{BackendRow, PoolBlock, TopPicture};
use crate::cli::top::screen::{BackendLine, TopPane, TopScreen};
use crate::cli::top::words::{known_rate, span};

/// Seconds of a backend's history that are shown.
const HISTORY_SECONDS: u16 = 10;

/// A column of the table of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackendField {
    Name,
    Proxy,
    State,
    Since,
    Requests,
    Streams,
    Upgrades,
    Rate,
    Errors,
    Past,
    Connections,
    Weight,
    Address,
    Probe,
    Why,
}

use BackendField as F;

/// Columns by importance: from the one that is always shown to the one that needs the widest screen.
const BY_WORTH: [BackendField; 15] = [
    F::Name,
    F::State,
    F::Requests,
    F::Rate,
    F::Proxy,
    F::Errors,
    F::Since,
    F::Why,
    F::Past,
    F::Streams,
    F::Upgrades,
    F::Connections,
    F::Address,
    F::Weight,
    F::Probe,
];

/// Columns from left to right.
const IN_ORDER: [BackendField; 15] = [
    F::Name,
    F::Proxy,
    F::State,
    F::Since,
    F::Requests,
    F::Streams,
    F::Upgrades,
    F::Rate,
    F::Errors,
    F::Past,
    F::Connections,
    F::Weight,
    F::Address,
    F::Probe,
    F::Why,
];

impl BackendField {
    fn column(self, name_width: u16) -> TableColumn {
        let (title, width, right) = match self {
            F::Name => ("NAME", name_width, false),
            F::Proxy => ("PROXY", 16, false),
            F::State => ("STATE", 8, false),
            F::Since => ("SINCE", 6, true),
            F::Requests => ("FLIGHT", 6, true),
            F::Streams => ("STREAM", 6, true),
            F::Upgrades => ("UPGR", 5, true),
            F::Rate => ("REQ/S", 6, true),
            F::Errors => ("ERR/S", 5, true),
            F::Past => ("", HISTORY_SECONDS, false),
            F::Connections => ("CONNS", 5, true),
            F::Weight => ("WEIGHT", 6, true),
            F::Address => ("ADDRESS", 21, false),
            F::Probe => ("PROBE", 13, false),
            F::Why => ("WHY", 22, false),
        };
        TableColumn {
            title,
            width,
            right,
        }
    }

    fn cell(self, row: &BackendRow, palette: TopPalette, has_kinds: bool) -> (String, Style) {
        let plain = palette.plain();
        let quiet_zero = |number: u32| match number {
            0 => ("0".to_owned(), palette.quiet()),
            number => (number.to_string(), plain),
        };
        let kinds = row.in_flight;
        match self {
            F::Name => (format!(" {}", row.name), plain),
            F::Proxy => (row.proxy_name.clone(), palette.quiet()),
            F::State => (row.state.clone(), palette.state(&row.state)),
            F::Since => (row.since.map_or_else(String::new, span), palette.quiet()),
            // If kinds have columns of their own, this one counts requests only.
            F::Requests if has_kinds => quiet_zero(kinds.request),
            F::Requests => quiet_zero(kinds.request + kinds.stream + kinds.upgrade),
            F::Streams => quiet_zero(kinds.stream),
            F::Upgrades => quiet_zero(kinds.upgrade),
            F::Rate => (known_rate(row.rates.map(|rates| rates.answers)), plain),
            F::Errors => match row.rates.map(|rates| rates.errors) {
                Some(errors) if errors > 0.0 => (known_rate(Some(errors)), palette.bad()),
                errors => (known_rate(errors), palette.quiet()),
            },
            F::Past => (
                past_bars(&row.past, HISTORY_SECONDS, 1).concat(),
                palette.past(),
            ),
            F::Connections => quiet_zero(row.connections),
            F::Weight => (row.weight.to_string(), palette.quiet()),
            F::Address => (row.address.clone(), palette.quiet()),
            F::Probe => (row.probe.clone(), palette.quiet()),
            F::Why => (row.why.clone(), plain),
        }
    }
}

/// Fields for which there is room, with their columns; the last one gets the rest of the width.
fn fields(room: u16, name_width: u16, several: bool) -> (Vec<BackendField>, Vec<TableColumn>) {
    let mut kept = Vec::new();
    let mut used = 0;
    for field in BY_WORTH {
        if field == F::Proxy && !several {
            continue;
        }
        let own = field.column(name_width).width + 1;
        if used + own > room + 1 && field != F::Name {
            break;
        }
        used += own;
        kept.push(field);
    }
    let shown: Vec<_> = IN_ORDER
        .into_iter()
        .filter(|field| kept.contains(field))
        .collect();
    let mut columns: Vec<_> = shown.iter().map(|field| field.column(name_width)).collect();
    if let Some(last) = columns.last_mut() {
        last.width += (room + 1).saturating_sub(used);
    }
    (shown, columns)
}

/// Draws the pools and backends that match the filter, with the selected one in sight.
pub(super) fn draw_backends(
    canvas: &mut TopCanvas<'_>,
    picture: &TopPicture,
    screen: &TopScreen,
    area: Rect,
) {
    let lines = screen.lines(picture);
    let names = lines.iter().filter_map(|line| match line {
        BackendLine::Backend(row) => Some(width(&row.name) + 1),
        BackendLine::Pool(_) => None,
    });
    let most = if area.width >= 100 { 32 } else { 18 };
    let name_width = names.max().unwrap_or(0).clamp(9, most);
    let (shown, columns) = fields(area.width, name_width, picture.has_several_proxies());
    let (head, body) = split_top(area, 1);
    let palette = canvas.palette;
    canvas.header(head, &columns);
    if lines.is_empty() {
        let text = match picture.pools.is_empty() {
            true => "no pools",
            false => "nothing has what the filter says; Esc clears it",
        };
        canvas.text(line(body, 0), 1, text, palette.quiet());
        return;
    }
    let selected = screen.selected_line(&lines);
    let height = usize::from(body.height);
    let first = first_shown(selected.unwrap_or(0), lines.len(), height);
    let has_kinds = shown.contains(&F::Upgrades);
    for (n, entry) in lines.iter().enumerate().skip(first).take(height) {
        let at = line(body, (n - first) as u16);
        match entry {
            BackendLine::Pool(pool) => draw_pool(canvas, pool, at),
            BackendLine::Backend(row) => {
                let cells = shown
                    .iter()
                    .map(|field| field.cell(row, palette, has_kinds));
                let cells: Vec<_> = cells.collect();
                canvas.row(at, &columns, &cells);
            }
        }
        if selected == Some(n) && screen.pane == TopPane::Backends {
            let reversed = Style::new().add_modifier(Modifier::REVERSED);
            canvas.buffer.set_style(at, reversed);
        }
    }
    let above = first;
    let below = lines.len().saturating_sub(first + height);
    if above + below > 0 {
        let text = format!(" {above} lines above, {below} below ");
        canvas.text_right(head, &text, palette.notice());
    }
}

/// First of `all` lines to show in `height` lines, so that `selected` is in sight, if possible in the middle.
fn first_shown(selected: usize, all: usize, height: usize) -> usize {
    let last = all.saturating_sub(height);
    selected.saturating_sub(height / 2).min(last)
}

fn draw_pool(canvas: &mut TopCanvas<'_>, pool: &PoolBlock, at: Rect) {
    let palette = canvas.palette;
    let used = canvas.text(at, 0, &pool.name, palette.strong());
    let style = match pool.is_closed {
        true => palette.bad(),
        false => palette.quiet(),
    };
    let used = used + 2 + canvas.text(at, used + 2, &pool.summary, style);
    let rates = pool.rates.unwrap_or_default();
    let mut figures = format!(", {} in flight", pool.in_flight);
    if pool.rates.is_some() {
        figures.push_str(&format!(", {} requests/s", known_rate(Some(rates.answers))));
    }
    let used = used + canvas.text(at, used, &figures, palette.quiet());
    if rates.errors > 0.0 {
        let errors = format!(", {} errors/s", known_rate(Some(rates.errors)));
        canvas.text(at, used, &errors, palette.bad());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_screens_show_more_and_lose_no_column_that_narrow_ones_have() {
        let mut before: Vec<BackendField> = Vec::new();
        for room in 20..220 {
            let (shown, columns) = fields(room, 12, true);
            assert!(before.iter().all(|field| shown.contains(field)), "{room}");
            let used: u16 = columns.iter().map(|column| column.width + 1).sum();
            assert!(used <= room + 1, "{room}: {used}");
            before = shown;
        }
        assert_eq!(before.len(), BY_WORTH.len());
        let (narrow, _) = fields(80, 16, false);
        for field in [
            F::Name,
            F::State,
            F::Since,
            F::Requests,
            F::Rate,
            F::Errors,
            F::Why,
        ] {
            assert!(narrow.contains(&field), "{field:?}");
        }
    }

    #[test]
    fn selected_line_is_always_in_sight() {
        for all in 1..40 {
            for height in 1..20 {
                for selected in 0..all {
                    let first = first_shown(selected, all, height);
                    assert!(first <= selected && selected < first + height);
                    assert!(first == 0 || first + height <= all);
                }
            }
        }
    }
}
