//! Reactions to keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::picture::TopPicture;
use super::screen::{AskedChange, BackendChange, TopScreen};

/// What a key asks the main loop to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopWish {
    /// Only redraw.
    Draw,
    /// Quit.
    Quit,
    /// Quit, as by Ctrl-C.
    Interrupt,
    /// Go to the background, as by Ctrl-Z.
    Suspend,
    /// Make this change, which was confirmed.
    Change(AskedChange),
}

/// Longest filter, in characters.
const MAX_FILTER_LENGTH: usize = 60;
/// Lines that a page key moves by.
const PAGE_LINES: isize = 10;

/// Applies a key to this screen.
pub(super) fn press_key(screen: &mut TopScreen, key: KeyEvent, picture: &TopPicture) -> TopWish {
    if key.kind == KeyEventKind::Release {
        return TopWish::Draw;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => TopWish::Interrupt,
            KeyCode::Char('z') => TopWish::Suspend,
            _ => TopWish::Draw,
        };
    }
    if let Some(asked) = screen.asked.take() {
        // Anything but a clear yes is a no.
        return match key.code {
            KeyCode::Char('y' | 'Y') => TopWish::Change(asked),
            _ => TopWish::Draw,
        };
    }
    if screen.is_typing {
        type_filter(screen, key.code);
        return TopWish::Draw;
    }
    if std::mem::take(&mut screen.is_help_open) {
        return match key.code {
            KeyCode::Char('q') => TopWish::Quit,
            _ => TopWish::Draw,
        };
    }
    screen.message = None;
    match key.code {
        KeyCode::Char('q') => return TopWish::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => screen.is_help_open = true,
        KeyCode::Char('j') | KeyCode::Down => screen.move_by(1, picture),
        KeyCode::Char('k') | KeyCode::Up => screen.move_by(-1, picture),
        KeyCode::PageDown => screen.move_by(PAGE_LINES, picture),
        KeyCode::PageUp => screen.move_by(-PAGE_LINES, picture),
        KeyCode::Char('g') | KeyCode::Home => screen.move_by(isize::MIN, picture),
        KeyCode::Char('G') | KeyCode::End => screen.move_by(isize::MAX, picture),
        KeyCode::Tab => screen.turn_pane(false),
        KeyCode::BackTab => screen.turn_pane(true),
        KeyCode::Char('/') => screen.is_typing = true,
        KeyCode::Esc => screen.filter.clear(),
        KeyCode::Char('s') => screen.turn_order(),
        KeyCode::Char('p') => screen.is_frozen = !screen.is_frozen,
        KeyCode::Char('d') => screen.ask(BackendChange::Drain, picture),
        KeyCode::Char('r') => screen.ask(BackendChange::Resume, picture),
        _ => {}
    }
    TopWish::Draw
}

fn type_filter(screen: &mut TopScreen, code: KeyCode) {
    match code {
        KeyCode::Enter => screen.is_typing = false,
        KeyCode::Esc => {
            screen.is_typing = false;
            screen.filter.clear();
        }
        KeyCode::Backspace => drop(screen.filter.pop()),
        KeyCode::Char(letter)
            if !letter.is_control() && screen.filter.chars().count() < MAX_FILTER_LENGTH =>
        {
            screen.filter.push(letter);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::screen::{BackendLine, BackendOrder, TopPane};
    use super::*;

    fn press(screen: &mut TopScreen, keys: &str, picture: &TopPicture) -> TopWish {
        let codes = keys.chars().map(|key| match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        });
        let mut wish = TopWish::Draw;
        for code in codes {
            wish = press_key(screen, KeyEvent::new(code, KeyModifiers::NONE), picture);
        }
        wish
    }

    fn selected(screen: &TopScreen) -> &str {
        &screen.selected.as_ref().unwrap().0.1
    }

    #[test]
    fn selection_moves_over_backends_and_stays_with_its_backend_in_another_order() {
        let picture = sample::every_state();
        let mut screen = TopScreen::new(None);
        press(&mut screen, "j", &picture);
        assert_eq!(selected(&screen), "api-1");
        press(&mut screen, "s", &picture);
        assert_eq!(screen.order, BackendOrder::State);
        let lines = screen.lines(&picture);
        let at = screen.selected_line(&lines).unwrap();
        assert!(matches!(lines[at], BackendLine::Backend(row) if row.key.1 == "api-1"));
        // The backend with the most urgent state is at the top.
        assert!(matches!(lines[1], BackendLine::Backend(row) if row.state == "down"));
        press(&mut screen, "G", &picture);
        press(&mut screen, "jjj", &picture);
        let lines = screen.lines(&picture);
        assert_eq!(screen.selected_line(&lines), Some(lines.len() - 1));
        press(&mut screen, "gkk", &picture);
        assert_eq!(screen.selected_line(&screen.lines(&picture)), Some(1));
    }

    #[test]
    fn change_needs_a_yes_and_any_other_key_is_a_no() {
        let picture = sample::every_state();
        let mut screen = TopScreen::new(None);
        assert_eq!(press(&mut screen, "d", &picture), TopWish::Draw);
        assert!(screen.asked.is_some());
        assert_eq!(press(&mut screen, "n", &picture), TopWish::Draw);
        assert_eq!(screen.asked, None);
        // Keys typed ahead, such as `dq`, neither drain nor quit.
        assert_eq!(press(&mut screen, "dq", &picture), TopWish::Draw);
        let TopWish::Change(asked) = press(&mut screen, "ry", &picture) else {
            panic!("it was confirmed");
        };
        assert_eq!(asked.change, BackendChange::Resume);
        assert_eq!(asked.backend, ("api".to_owned(), "api-0".to_owned()));
        assert_eq!(asked.proxies, [0]);
        assert_eq!(press(&mut screen, "q", &picture), TopWish::Quit);
    }

    #[test]
    fn filter_takes_letters_until_enter_and_escape_clears_it() {
        let picture = sample::every_state();
        let mut screen = TopScreen::new(None);
        press(&mut screen, "/drainx\x08", &picture);
        assert_eq!(screen.filter, "drain");
        let states = |screen: &TopScreen| {
            let lines = screen.lines(&picture);
            let states = lines.iter().filter_map(|line| match line {
                BackendLine::Backend(row) => Some(row.state.clone()),
                BackendLine::Pool(_) => None,
            });
            states.collect::<Vec<_>>()
        };
        assert_eq!(states(&screen), ["draining", "drained"]);
        press(&mut screen, "\n", &picture);
        assert!(!screen.is_typing);
        press(&mut screen, "\x1b", &picture);
        assert!(states(&screen).len() > 2);
        press(&mut screen, "/nothing has this\n", &picture);
        assert!(screen.lines(&picture).is_empty());
        // There is nothing to select or drain.
        press(&mut screen, "jkd", &picture);
        assert_eq!(screen.asked, None);
    }

    #[test]
    fn panes_turn_in_a_circle_and_help_is_closed_by_any_key() {
        let picture = sample::every_state();
        let mut screen = TopScreen::new(None);
        press(&mut screen, "\t\t", &picture);
        assert_eq!(screen.pane, TopPane::Restarts);
        press(&mut screen, "\t\t\t", &picture);
        assert_eq!(screen.pane, TopPane::Backends);
        press(&mut screen, "?j", &picture);
        assert!(!screen.is_help_open);
        assert_eq!(screen.selected, None);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        screen.is_typing = true;
        let wish = press_key(&mut screen, control, &picture);
        assert_eq!(wish, TopWish::Interrupt);
    }
}
