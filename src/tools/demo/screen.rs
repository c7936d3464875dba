//! Output of `lameduck demo`: finished steps as lines, and below them, on a terminal, a live view.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use super::load::LoadProgress;
use super::roll::DemoStep;
use crate::registry::view::PoolView;
use crate::rt::output::{self, ErrorWriter, PrintWriter};

/// Width of the in-flight bar in columns.
const BAR: usize = 20;

/// Data of the live view.
#[derive(Debug, Default, Clone)]
pub struct Picture {
    /// The load's figures.
    pub progress: LoadProgress,
    /// State of the pool, once the proxy was asked.
    pub pool: Option<PoolView>,
}

/// Data of a restart's line, filled in step by step.
#[derive(Debug, Default, Clone)]
struct Story {
    doing: &'static str,
    drained: Duration,
    stopped: Duration,
}

struct ScreenState {
    out: Box<dyn Write>,
    /// Number of lines that the live view has on the terminal now.
    live: usize,
    picture: Picture,
    stories: HashMap<String, Story>,
    round: u32,
}

/// The screen. Single-threaded: the demo runs on one thread.
pub struct Screen {
    tty: bool,
    colour: bool,
    begun: Instant,
    state: RefCell<ScreenState>,
}

impl Screen {
    /// Output on standard output, or on standard error if the former has to stay free for data.
    pub fn new(to_stderr: bool) -> Self {
        let (out, tty): (Box<dyn Write>, bool) = match to_stderr {
            true => (Box::new(ErrorWriter), output::stderr_is_terminal()),
            false => (Box::new(PrintWriter), output::stdout_is_terminal()),
        };
        let tty = tty && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = tty && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::on(out, tty, colour)
    }

    fn on(out: Box<dyn Write>, tty: bool, colour: bool) -> Self {
        let state = ScreenState {
            out,
            live: 0,
            picture: Picture::default(),
            stories: HashMap::new(),
            round: 0,
        };
        let screen = Self {
            tty,
            colour,
            begun: Instant::now(),
            state: RefCell::new(state),
        };
        screen.write(if tty { "\x1b[?25l" } else { "" });
        screen
    }

    /// Prints a line that stays.
    pub fn line(&self, text: &str) {
        self.erase();
        self.write(&format!("{text}\n"));
        self.draw();
    }

    /// Begins a new round of restarts.
    pub fn round(&self, round: u32) {
        self.state.borrow_mut().round = round;
    }

    /// Handles a step: it is shown in the live view, and a finished restart becomes one line.
    pub fn step(&self, name: &str, step: DemoStep) {
        let finished = {
            let mut state = self.state.borrow_mut();
            let round = state.round;
            let story = state.stories.entry(name.to_owned()).or_default();
            match step {
                DemoStep::Draining => story.doing = "finishing what is in flight",
                DemoStep::Drained(took) => story.drained = took,
                DemoStep::Stopping => story.doing = "SIGTERM sent",
                DemoStep::Stopped(took) => {
                    (story.stopped, story.doing) = (took, "starting the next process")
                }
                DemoStep::Started => story.doing = "waiting for its health check",
                DemoStep::Ready(_) => story.doing = "",
            }
            let DemoStep::Ready(ready) = step else {
                return drop(state);
            };
            format!(
                "  {:>5.1} s  roll {round}  {name}: drained in {}, stopped in {}, ready again in {}",
                self.begun.elapsed().as_secs_f64(),
                short(story.drained),
                short(story.stopped),
                short(ready)
            )
        };
        self.line(&finished);
    }

    /// Updates the live view.
    pub fn picture(&self, picture: Picture) {
        self.erase();
        self.state.borrow_mut().picture = picture;
        self.draw();
    }

    /// Ends the live view; plain lines follow.
    pub fn end(&self) {
        self.erase();
        self.state.borrow_mut().picture = Picture::default();
    }

    fn erase(&self) {
        let live = std::mem::take(&mut self.state.borrow_mut().live);
        if live > 0 {
            self.write(&format!("\x1b[{live}A\x1b[J"));
        }
    }

    fn draw(&self) {
        let lines = {
            let state = self.state.borrow();
            if !self.tty || state.picture.pool.is_none() {
                return;
            }
            self.frame(&state)
        };
        self.write(
            &lines
                .iter()
                .fold(String::new(), |all, line| format!("{all}{line}\n")),
        );
        self.state.borrow_mut().live = lines.len();
    }

    /// Lines of the live view, shorter than 80 columns each, because a wrapped line could not be erased.
    fn frame(&self, state: &ScreenState) -> Vec<String> {
        let mut lines = vec![String::new()];
        for backend in state.picture.pool.iter().flat_map(|pool| &pool.backends) {
            let (mark, colour) = match backend.state.as_str() {
                "ready" => ('●', 32),
                "draining" => ('◐', 33),
                "drained" => ('○', 36),
                "starting" => ('◌', 36),
                _ => ('✕', 31),
            };
            let mark = self.paint(colour, &format!("{mark} {:<9}", backend.state));
            let bar = "▪".repeat((backend.in_flight as usize).min(BAR));
            let doing = state
                .stories
                .get(&backend.name)
                .map_or("", |story| story.doing);
            let name = backend.name.chars().take(8).collect::<String>();
            let note = if doing.is_empty() {
                format!("{} served", backend.requests)
            } else {
                doing.to_owned()
            };
            lines.push(format!(
                "  {name:<8} {mark} {:>4} {bar:<BAR$}  {note}",
                backend.in_flight
            ));
        }
        let LoadProgress {
            sent,
            answered,
            lost,
        } = state.picture.progress;
        let lost = self.paint(if lost == 0 { 32 } else { 31 }, &format!("lost {lost}"));
        let held = state.picture.pool.as_ref().map_or(0, |pool| pool.held);
        let mut total = format!(
            "  {sent} sent, {answered} answered, {} in flight",
            state.picture.progress.in_flight()
        );
        if held > 0 {
            let _ = write!(total, ", {held} held");
        }
        lines.extend([String::new(), format!("{total}, {lost}")]);
        lines
    }

    /// Colours text on terminals that have colour.
    pub fn paint(&self, colour: u8, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, text: &str) {
        let out = &mut self.state.borrow_mut().out;
        // A closed pipe must not stop the clean-up.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.erase();
        self.write(if self.tty { "\x1b[?25h" } else { "" });
    }
}

fn short(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::view::{BackendView, InFlight};
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct ScreenSink(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl Write for ScreenSink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl ScreenSink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn picture() -> Picture {
        let backend = BackendView {
            id: 1,
            name: "app-1".into(),
            address: "127.0.0.1:1".into(),
            weight: 1,
            backup: false,
            zone: None,
            incarnation: 1,
            state: "draining".into(),
            since: String::new(),
            health: "up".into(),
            source: "config".into(),
            last_probe: None,
            drains: vec![],
            ejected: None,
            ended_ejection: None,
            in_flight: 500,
            in_flight_by_kind: InFlight::default(),
            h2_streams: 0,
            oldest: None,
            sessions: None,
            connections: 3,
            requests: 1_000_000,
            warning: None,
        };
        let pool = PoolView {
            name: "app".into(),
            balance: String::new(),
            eligible: 0,
            held: 12,
            backends: vec![backend],
            pause: None,
            discovery: Vec::new(),
            splits: Vec::new(),
            unsaved: None,
            supervisor: None,
        };
        Picture {
            progress: LoadProgress {
                sent: 1_234_567,
                answered: 1_234_000,
                lost: 2,
            },
            pool: Some(pool),
        }
    }

    fn restart(screen: &Screen) {
        screen.round(2);
        screen.picture(picture());
        for step in [
            DemoStep::Draining,
            DemoStep::Drained(Duration::from_millis(1940)),
            DemoStep::Stopping,
            DemoStep::Stopped(Duration::from_millis(4)),
            DemoStep::Started,
            DemoStep::Ready(Duration::from_millis(210)),
        ] {
            screen.step("app-1", step);
        }
    }

    #[test]
    fn without_a_terminal_a_restart_is_one_plain_line() {
        let sink = ScreenSink::default();
        restart(&Screen::on(Box::new(sink.clone()), false, false));
        let text = sink.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.ends_with(
                "roll 2  app-1: drained in 1.9 s, stopped in 4 ms, ready again in 210 ms\n"
            ),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn on_a_terminal_the_picture_is_erased_and_the_cursor_comes_back() {
        let sink = ScreenSink::default();
        restart(&Screen::on(Box::new(sink.clone()), true, false));
        let text = sink.text();
        assert!(
            text.starts_with("\x1b[?25l") && text.ends_with("\x1b[4A\x1b[J\x1b[?25h"),
            "{text:?}"
        );
        assert!(text.contains("12 held, lost 2"));
    }

    #[test]
    fn no_live_line_can_wrap_on_80_columns() {
        let screen = Screen::on(Box::new(ScreenSink::default()), true, false);
        screen.step("app-1", DemoStep::Started);
        screen.picture(picture());
        for line in screen.frame(&screen.state.borrow()) {
            assert!(line.chars().count() < 80, "{line}");
        }
    }
}
