//! Screens compared with files in `snapshots/`; `LAMEDUCK_BLESS=1` writes these again.

use std::path::PathBuf;

use super::super::counts::AnswerTotals;
use super::super::sample::{self, pool};
use super::super::screen::BackendChange;
use super::*;
use crate::cli::top::answers::ProxyAnswers;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

fn drawn(picture: &TopPicture, screen: &TopScreen, size: (u16, u16), has_colour: bool) -> Buffer {
    let area = Rect::new(0, 0, size.0, size.1);
    let mut buffer = Buffer::empty(area);
    draw(
        picture,
        screen,
        TopPalette { has_colour },
        area,
        &mut buffer,
    );
    buffer
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| {
        let mut line = String::new();
        let mut skipped = 0;
        for x in 0..area.width {
            let symbol = buffer[(x, y)].symbol();
            // A wide character takes its own cell and the next one.
            if skipped == 0 {
                line.push_str(symbol);
                skipped = canvas::width(symbol).saturating_sub(1);
            } else {
                skipped -= 1;
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    (0..area.height).map(line).collect()
}

fn compare(name: &str, picture: &TopPicture, screen: &TopScreen) {
    for size in SIZES {
        let shown = text(&drawn(picture, screen, size, true));
        let file = format!("src/cli/top/snapshots/{name}-{}x{}.txt", size.0, size.1);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("LAMEDUCK_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &shown).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, kept, "{name}: LAMEDUCK_BLESS=1 keeps this\n{shown}");
    }
}

#[test]
fn every_state_is_drawn_as_it_was() {
    compare("states", &sample::every_state(), &TopScreen::new(None));
}

#[test]
fn text_at_the_end_of_a_row_goes_on_below_it_while_lines_are_free() {
    let picture = sample::every_state();
    let mut screen = TopScreen::new(None);
    let area = |pane, screen: &mut TopScreen, size| {
        screen.pane = pane;
        text(&drawn(&picture, screen, size, true))
    };
    let whole = [
        (TopPane::Drains, "operator: deploy 42"),
        (TopPane::Restarts, "retried, deploy 41"),
    ];
    for (pane, end) in whole {
        let shown = area(pane, &mut screen, (80, 24));
        assert!(shown.contains(end) && !shown.contains('…'), "{shown}");
    }
    // Three restarts get one line each: their texts are cut, but no row is missing.
    let shown = area(TopPane::Restarts, &mut screen, (80, 9));
    assert_eq!(shown.matches('…').count(), 3, "{shown}");
}

#[test]
fn proxy_without_a_pool_is_drawn_as_it_was() {
    let empty = sample::picture(|_| ProxyAnswers::default());
    compare("empty", &empty, &TopScreen::new(None));
}

#[test]
fn two_hundred_backends_scroll_with_the_selected_one_in_sight() {
    let names: Vec<_> = (0..200).map(|n| format!("worker-{n}")).collect();
    let many = sample::picture(|second| {
        let backends: Vec<_> = names.iter().map(|name| (&**name, "ready")).collect();
        let mut answers = sample::answers(&backends, 0);
        let counts = answers.counts.as_mut().unwrap();
        for (n, name) in names.iter().enumerate() {
            let of = AnswerTotals {
                answers: f64::from(second) * n as f64,
                errors: 0.0,
            };
            counts.backends.insert(("api".into(), name.clone()), of);
        }
        answers
    });
    let mut screen = TopScreen::new(None);
    compare("many", &many, &screen);
    for _ in 0..150 {
        screen.move_by(1, &many);
    }
    for size in SIZES {
        let shown = text(&drawn(&many, &screen, size, true));
        assert!(shown.contains(" worker-150 "), "{shown}");
    }
}

#[test]
fn proxy_that_is_away_is_named_with_the_time_and_its_last_answers_stay() {
    let mut picture = sample::every_state();
    picture.proxies[0].1 = ProxyStanding::Away {
        why: "can't reach the proxy: no such socket".into(),
        silent: Some(std::time::Duration::from_secs(75)),
    };
    for size in SIZES {
        let shown = text(&drawn(&picture, &TopScreen::new(None), size, true));
        let said = "! no answer for 1m15s, trying on: can't reach the proxy: no such socket";
        assert!(shown.contains(said), "{shown}");
        assert!(shown.contains(" api-0 "), "{shown}");
    }
}

#[test]
fn every_pane_and_every_box_fits_every_size() {
    let picture = sample::every_state();
    let empty = sample::picture(|_| ProxyAnswers::default());
    for picture in [&picture, &empty] {
        for pane in TopPane::ALL {
            for n in 0..4 {
                let mut screen = TopScreen::new(None);
                screen.pane = pane;
                screen.is_help_open = n == 1;
                screen.is_typing = n == 2;
                if n == 3 {
                    screen.ask(BackendChange::Drain, picture);
                }
                for width in [1, 5, 19, 20, 21, 40, 79, 80, 81, 139, 140, 200, 300] {
                    for height in [1, 5, 6, 7, 10, 24, 34, 60] {
                        drawn(picture, &screen, (width, height), false);
                    }
                }
            }
        }
    }
}

#[test]
fn question_names_the_backend_and_what_a_yes_does() {
    let picture = sample::every_state();
    let mut screen = TopScreen::new(None);
    screen.ask(BackendChange::Drain, &picture);
    let shown = text(&drawn(&picture, &screen, (80, 24), true));
    assert!(shown.contains("Drain api/api-0?"), "{shown}");
    assert!(shown.contains("y: yes    any other key: no"), "{shown}");
}

#[test]
fn screen_without_colour_has_none_and_says_the_same() {
    let picture = sample::every_state();
    let screen = TopScreen::new(None);
    let (plain, colourful) = (
        drawn(&picture, &screen, (80, 24), false),
        drawn(&picture, &screen, (80, 24), true),
    );
    assert_eq!(text(&plain), text(&colourful));
    use ratatui::style::Color;
    let is_plain = |cell: &ratatui::buffer::Cell| {
        [cell.fg, cell.bg]
            .iter()
            .all(|colour| *colour == Color::Reset)
    };
    assert!(plain.content.iter().all(is_plain));
    assert!(!colourful.content.iter().all(is_plain));
}

#[test]
fn pool_whose_names_are_wide_or_long_stays_in_its_columns() {
    let long = "a-very-long-name-of-a-backend-that-goes-on-and-on-for-ever-0";
    let picture = sample::picture(|_| ProxyAnswers {
        pools: vec![pool("日本", &[(long, "ready"), ("日本語の名前", "down")])],
        ..ProxyAnswers::default()
    });
    let shown = text(&drawn(&picture, &TopScreen::new(None), (80, 24), true));
    let column = |has: &str| {
        let line = shown.lines().find(|line| line.contains(has)).unwrap();
        let state = line.find("ready").or(line.find("down")).unwrap();
        canvas::width(&line[..state])
    };
    assert_eq!(column("a-very"), column("日本語"), "{shown}");
}
