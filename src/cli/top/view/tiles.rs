//! Figures at the top, each with its history.

use ratatui::layout::Rect;

use super::bars::past_bars;
use super::canvas::{TopCanvas, line};
use crate::cli::top::picture::FigureTile;
use crate::cli::top::words::known_rate;

/// Least width of a figure.
const NARROWEST: u16 = 15;

/// Draws as many figures side by side as there is room for.
pub(super) fn draw_tiles(canvas: &mut TopCanvas<'_>, tiles: &[FigureTile], area: Rect) {
    let room = usize::from(area.width / NARROWEST).clamp(1, tiles.len().max(1));
    let width = area.width / room as u16;
    let palette = canvas.palette;
    for (n, tile) in tiles.iter().take(room).enumerate() {
        let tile_area = Rect {
            x: area.x + n as u16 * width,
            width: width - 1,
            ..area
        };
        let bad = tile.bad && tile.value.is_some_and(|value| value > 0.0);
        let style = match bad {
            true => palette.bad(),
            false => palette.strong(),
        };
        let used = canvas.text(tile_area, 0, tile.title, palette.quiet());
        canvas.text(tile_area, used + 1, &known_rate(tile.value), style);
        let bars = past_bars(
            &tile.past,
            tile_area.width,
            area.height.saturating_sub(1).max(1),
        );
        let style = match bad {
            true => palette.bad(),
            false => palette.past(),
        };
        for (n, bars) in bars.iter().enumerate() {
            canvas.text(line(tile_area, n as u16 + 1), 0, bars, style);
        }
    }
}
