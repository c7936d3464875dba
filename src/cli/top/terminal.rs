//! The terminal: switched to full-screen mode, and restored in every case.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::disable_raw_mode;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most input events that wait to be read.
const MAX_QUEUED_EVENTS: usize = 64;

/// A terminal with a drawing thread of its own, because a terminal that blocks must delay neither signals nor the exit.
pub(super) struct TopTerminal {
    /// `None` while a thread draws.
    idle: Option<DefaultTerminal>,
    drawing: Option<JoinHandle<(DefaultTerminal, io::Result<()>)>>,
}

impl TopTerminal {
    /// Switches the terminal to full-screen mode. A panic restores it, too.
    ///
    /// # Errors
    /// Standard output is no terminal that can be drawn on.
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self {
            idle: Some(ratatui::try_init()?),
            drawing: None,
        })
    }

    /// Whether the last drawing is finished.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Starts to draw, unless a drawing is in progress.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>) + Send + 'static) {
        let Some(mut terminal) = self.idle.take() else {
            return;
        };
        self.drawing = Some(tokio::task::spawn_blocking(move || {
            let drawn = terminal.draw(render).map(drop);
            (terminal, drawn)
        }));
    }

    /// Waits until the drawing is finished; for ever if there is none. Cancel-safe.
    ///
    /// # Errors
    /// The terminal can't be written, for example because it is gone.
    pub(super) async fn drawn(&mut self) -> io::Result<()> {
        let Some(drawing) = &mut self.drawing else {
            return std::future::pending().await;
        };
        let ended = drawing.await;
        self.drawing = None;
        // A panic of the thread has restored the terminal already.
        let (terminal, drawn) = ended.map_err(io::Error::other)?;
        self.idle = Some(terminal);
        drawn
    }

    /// Restores the terminal; it can be taken over again later.
    ///
    /// # Errors
    /// The terminal can't be written.
    pub(super) fn give_back(&mut self) -> io::Result<()> {
        match &mut self.idle {
            Some(_) => ratatui::try_restore(),
            // The drawing thread may be blocked for ever, so only settings are restored that need no writing.
            None => disable_raw_mode(),
        }
    }

    /// Switches to full-screen mode again, and redraws everything. Nothing is asked of the terminal, because the thread
    /// that reads keys would receive the answer.
    ///
    /// # Errors
    /// As for [`TopTerminal::take`].
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        self.idle = Some(ratatui::try_init()?);
        Ok(())
    }
}

impl Drop for TopTerminal {
    fn drop(&mut self) {
        // An error does not matter any more.
        let _ = self.give_back();
    }
}

/// Reads keys and size changes in a thread of its own, because reading blocks. The channel ends if they can't be read.
pub(super) fn read_keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(MAX_QUEUED_EVENTS);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    keys
}
