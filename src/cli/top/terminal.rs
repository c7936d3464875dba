//! The terminal: taken over for as long as it is drawn on, and given back however that ends.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::disable_raw_mode;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events that wait to be read.
const QUEUE: usize = 64;

/// A terminal with a thread of its own that draws: a terminal that blocks must delay neither signals nor the exit.
pub(super) struct TopTerminal {
    /// `None` while a thread draws.
    idle: Option<DefaultTerminal>,
    drawing: Option<JoinHandle<(DefaultTerminal, io::Result<()>)>>,
}

impl TopTerminal {
    /// Takes it over. A panic gives it back, too.
    ///
    /// # Errors
    /// When standard output is no terminal that can be drawn on.
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self {
            idle: Some(ratatui::try_init()?),
            drawing: None,
        })
    }

    /// Whether the last drawing is done.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Begins to draw, if nothing is being drawn.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>) + Send + 'static) {
        let Some(mut terminal) = self.idle.take() else {
            return;
        };
        self.drawing = Some(tokio::task::spawn_blocking(move || {
            let drawn = terminal.draw(render).map(drop);
            (terminal, drawn)
        }));
    }

    /// Waits until it is drawn; for ever where nothing is. Safe to drop and call again.
    ///
    /// # Errors
    /// When it can't be written, such as because the terminal is gone.
    pub(super) async fn drawn(&mut self) -> io::Result<()> {
        let Some(drawing) = &mut self.drawing else {
            return std::future::pending().await;
        };
        let ended = drawing.await;
        self.drawing = None;
        // A panic in the thread has given the terminal back already.
        let (terminal, drawn) = ended.map_err(io::Error::other)?;
        self.idle = Some(terminal);
        drawn
    }

    /// Gives it back, to take it over again later.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn give_back(&mut self) -> io::Result<()> {
        match &mut self.idle {
            Some(_) => ratatui::try_restore(),
            // The drawing thread may be blocked for ever: only restore what needs no writing.
            None => disable_raw_mode(),
        }
    }

    /// Takes it over again. Everything is drawn anew: it is a new screen, and nothing is asked of it, whose answer the
    /// thread that reads keys would take.
    ///
    /// # Errors
    /// As [`TopTerminal::take`].
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        self.idle = Some(ratatui::try_init()?);
        Ok(())
    }
}

impl Drop for TopTerminal {
    fn drop(&mut self) {
        // An error here doesn't matter any more.
        let _ = self.give_back();
    }
}

/// Keys and changes of size, from a thread of its own: reading them blocks. The channel ends where they can't be read.
pub(super) fn read_keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    keys
}
