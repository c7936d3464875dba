//! Draws a picture on a screen of any size. Pure: it only writes to a buffer.

mod backends;
mod bars;
mod canvas;
mod overlay;
mod panes;
mod tiles;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::picture::{ProxyStanding, TopPicture};
use super::screen::{TopPane, TopScreen};
use super::words::span;
use canvas::TopCanvas;

pub(super) use canvas::TopPalette;

/// Width from which the other panes are beside the backends.
const WIDE_FROM: u16 = 140;
/// Height from which histories are taller, and more warnings are shown.
const TALL_FROM: u16 = 34;

/// Draws the picture over the whole of `area`.
pub(super) fn draw(
    picture: &TopPicture,
    screen: &TopScreen,
    palette: TopPalette,
    area: Rect,
    buffer: &mut Buffer,
) {
    let mut canvas = TopCanvas::new(buffer, palette);
    if area.width < 20 || area.height < 6 {
        canvas.text(area, 0, "too small", palette.plain());
        return;
    }
    let rest = draw_title(&mut canvas, picture, screen, area);
    let rest = draw_warnings(&mut canvas, picture, rest, area.height >= TALL_FROM);
    let (rest, footer) = split_bottom(rest, 1);
    let tall = if area.height >= TALL_FROM { 4 } else { 2 };
    let (top, rest) = split_top(rest, tall);
    tiles::draw_tiles(&mut canvas, &picture.tiles, top);
    let (tabs, rest) = split_top(rest, 1);
    draw_tabs(&mut canvas, picture, screen, tabs);
    match area.width >= WIDE_FROM {
        true => draw_beside(&mut canvas, picture, screen, rest),
        false => draw_below(&mut canvas, picture, screen, rest),
    }
    overlay::draw_footer(&mut canvas, screen, footer);
    overlay::draw_overlay(&mut canvas, screen, area);
}

/// Splits off the top `height` lines; returns them and the rest.
fn split_top(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let top = Rect { height, ..area };
    let rest = Rect {
        y: area.y + height,
        height: area.height - height,
        ..area
    };
    (top, rest)
}

/// Splits off the bottom `height` lines; returns the rest and them.
fn split_bottom(area: Rect, height: u16) -> (Rect, Rect) {
    let (rest, bottom) = split_top(area, area.height.saturating_sub(height));
    (rest, bottom)
}

fn draw_title(
    canvas: &mut TopCanvas<'_>,
    picture: &TopPicture,
    screen: &TopScreen,
    area: Rect,
) -> Rect {
    let (line, rest) = split_top(area, 1);
    let palette = canvas.palette;
    let mut x = canvas.text(line, 0, "lameduck top", palette.strong());
    let (text, style) = match &*picture.proxies {
        [(name, standing)] => match standing {
            ProxyStanding::Asked => (format!("{name}  asking"), palette.quiet()),
            ProxyStanding::Answers(None) => (format!("{name}  ready"), palette.plain()),
            ProxyStanding::Answers(Some(_)) => (format!("{name}  not ready"), palette.notice()),
            ProxyStanding::Away { .. } => (format!("{name}  no answer"), palette.bad()),
        },
        several => {
            let away = |(_, standing): &&(String, ProxyStanding)| {
                matches!(standing, ProxyStanding::Away { .. })
            };
            match several.iter().filter(away).count() {
                0 => (format!("{} proxies", several.len()), palette.plain()),
                away => (
                    format!("{} proxies, {away} without an answer", several.len()),
                    palette.bad(),
                ),
            }
        }
    };
    x += canvas.text(line, x + 2, &text, style) + 2;
    let clock = match screen.is_frozen {
        true => format!("display paused (p)  {} UTC", picture.clock),
        false => format!("{} UTC", picture.clock),
    };
    let room = line.width.saturating_sub(x + 2);
    if usize::from(room) >= clock.len() {
        let style = match screen.is_frozen {
            true => palette.notice(),
            false => palette.quiet(),
        };
        canvas.text_right(line, &clock, style);
    }
    rest
}

/// Draws proxies that do not answer, and then other warnings.
fn draw_warnings(canvas: &mut TopCanvas<'_>, picture: &TopPicture, area: Rect, tall: bool) -> Rect {
    let several = picture.has_several_proxies();
    let mut lines = Vec::new();
    for (name, standing) in &picture.proxies {
        let named = |text: String| match several {
            true => format!("{name}: {text}"),
            false => text,
        };
        match standing {
            ProxyStanding::Away { why, silent } => {
                let silent = match silent {
                    Some(time) => format!("no answer for {}, trying on: ", span(*time)),
                    None => "no answer yet, trying on: ".to_owned(),
                };
                lines.push((named(format!("{silent}{why}")), canvas.palette.bad()));
            }
            ProxyStanding::Answers(Some(why)) => {
                let text = named(format!("not ready: {why}"));
                lines.push((text, canvas.palette.notice()));
            }
            _ => {}
        }
    }
    let warnings = picture.warnings.iter();
    lines.extend(warnings.map(|text| (text.clone(), canvas.palette.notice())));
    let room = if tall { 4 } else { 2 };
    let more = lines.len().saturating_sub(room);
    let mut rest = area;
    for (n, (text, style)) in lines.into_iter().take(room).enumerate() {
        let line;
        (line, rest) = split_top(rest, 1);
        let text = match more {
            more if more > 0 && n + 1 == room => format!("! {text} (+{more} more)"),
            _ => format!("! {text}"),
        };
        canvas.text(line, 0, &text, style);
    }
    rest
}

fn draw_tabs(canvas: &mut TopCanvas<'_>, picture: &TopPicture, screen: &TopScreen, line: Rect) {
    let palette = canvas.palette;
    canvas.rule(line);
    let mut x = 1;
    for pane in TopPane::ALL {
        let text = format!(" {} {} ", pane.title(), pane.len(picture));
        let style = match pane == screen.pane {
            true => palette.chosen(),
            false => palette.quiet(),
        };
        x += canvas.text(line, x, &text, style) + 1;
    }
    if !screen.filter.is_empty() {
        let text = format!(" /{} ", screen.filter);
        canvas.text(line, x, &text, palette.notice());
    }
}

/// Draws all panes in one column: the pane with the focus gets the lines that the others leave.
fn draw_below(canvas: &mut TopCanvas<'_>, picture: &TopPicture, screen: &TopScreen, area: Rect) {
    let mut rest = area;
    let mut strips = Vec::new();
    if screen.pane == TopPane::Backends {
        // The newest restart is at the bottom of the screen, with the drains above it.
        for (pane, most) in [(TopPane::Restarts, 3), (TopPane::Drains, 4)] {
            let lines = pane.len(picture).min(most) as u16;
            if lines > 0 && rest.height > lines + 7 {
                let strip;
                (rest, strip) = split_bottom(rest, lines + 1);
                strips.push((pane, strip));
            }
        }
        // Heading and backends.
        let wanted = screen.lines(picture).len().saturating_add(1);
        let free = usize::from(rest.height).saturating_sub(wanted) as u16;
        rest.height -= raise_strips(&mut strips, picture, free);
        backends::draw_backends(canvas, picture, screen, rest);
    } else {
        panes::draw_pane(canvas, picture, screen, screen.pane, rest);
    }
    for (pane, strip) in strips {
        let (head, body) = split_top(strip, 1);
        canvas.heading(head, pane.title(), false);
        panes::draw_pane(canvas, picture, screen, pane, body);
    }
}

/// Gives the strips the lines that their texts need, as far as lines are free, the upper strips first. They stay at the
/// bottom of the screen. Returns the number of lines given.
fn raise_strips(strips: &mut [(TopPane, Rect)], picture: &TopPicture, free: u16) -> u16 {
    // The first strip is the lowest.
    let mut end = strips.first().map_or(0, |(_, strip)| strip.bottom());
    let mut left = free;
    for (pane, strip) in strips.iter_mut().rev() {
        let rows = usize::from(strip.height - 1);
        let whole = panes::height(*pane, picture, rows, strip.width) + 1;
        let more = whole.saturating_sub(strip.height).min(left);
        left -= more;
        strip.height += more;
    }
    for (_, strip) in strips {
        strip.y = end - strip.height;
        end = strip.y;
    }
    free - left
}

/// Draws the backends on the left, and the other panes below each other on the right.
fn draw_beside(canvas: &mut TopCanvas<'_>, picture: &TopPicture, screen: &TopScreen, area: Rect) {
    let left = Rect {
        width: area.width * 31 / 50,
        ..area
    };
    backends::draw_backends(canvas, picture, screen, left);
    let right = Rect {
        x: left.x + left.width + 1,
        width: area.width - left.width - 1,
        ..area
    };
    let others = TopPane::ALL
        .into_iter()
        .filter(|pane| *pane != TopPane::Backends);
    let shown: Vec<_> = others
        .filter(|pane| pane.len(picture) > 0 || *pane == screen.pane)
        .collect();
    let mut rest = right;
    for (n, pane) in shown.iter().enumerate() {
        // Each pane gets a heading, its lines and an empty line; a pane with few lines leaves the rest to the others.
        let wanted = panes::height(*pane, picture, usize::MAX, right.width) + 2;
        let others = (shown.len() - n - 1) as u16 * 5;
        let most = rest.height.saturating_sub(others).max(3);
        let part;
        (part, rest) = split_top(rest, wanted.min(most));
        let (head, body) = split_top(part, 1);
        canvas.heading(head, pane.title(), *pane == screen.pane);
        let body = Rect {
            height: body.height.saturating_sub(1),
            ..body
        };
        panes::draw_pane(canvas, picture, screen, *pane, body);
    }
}

#[cfg(test)]
#[path = "view_test.rs"]
mod tests;
