//! Main loop of `lameduck top`: updates the proxies' data, reads keys, and draws.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ratatui::crossterm::event::{Event, KeyEventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::answers::ask_proxy;
use super::change::change_backend;
use super::input::{TopWish, press_key};
use super::model::{ProxyLook, TopModel};
use super::picture::TopPicture;
use super::screen::{AskedChange, TopScreen};
use super::terminal::{TopTerminal, read_keys};
use super::view::{self, TopPalette};
use crate::cli::exit::Exit;
use crate::client::http::{AdminClient, AdminEvents};
use crate::rt::output::colour;

/// Time between two updates without an event, and between two steps of the histories.
const SECOND: Duration = Duration::from_secs(1);
/// Least time between two updates.
const MIN_UPDATE_INTERVAL: Duration = Duration::from_millis(200);
/// Pause after an update, as a multiple of its duration: a proxy with very many backends is asked less often.
const UPDATE_SHARE: u32 = 4;
/// Longest wait for a subscription to a proxy's events.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Shows the proxies until the user or a signal ends it.
///
/// # Errors
/// The terminal can't be used; exit code 130 or 143 after a signal.
pub(super) async fn show_live(
    clients: Vec<AdminClient>,
    filter: Option<String>,
) -> Result<(), Exit> {
    let begun = Instant::now();
    let unusable = |error: std::io::Error| {
        Exit::failed(format!(
            "can't use the terminal: {error}; `lameduck top | cat` prints once, `lameduck status --watch` goes on"
        ))
    };
    let mut signals = TopSignals::take().map_err(unusable)?;
    let (sender, looks) = mpsc::channel(64);
    for (n, client) in clients.iter().enumerate() {
        tokio::spawn(follow_proxy(n, client.clone(), begun, sender.clone()));
    }
    drop(sender);
    let mut terminal = TopTerminal::take().map_err(unusable)?;
    let (told, messages) = mpsc::channel(8);
    let mut live = LiveTop {
        model: TopModel::new(clients.iter().map(AdminClient::name)),
        clients,
        begun,
        screen: TopScreen::new(filter),
        picture: None,
        told,
    };
    let ended = live
        .turn(&mut terminal, &mut signals, looks, messages)
        .await;
    drop(terminal);
    ended
}

/// Signals that end the loop, or send it to the background.
struct TopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    stop: Signal,
}

/// What a signal asks for.
enum SignalWish {
    /// Quit with this exit code.
    End(u8),
    /// Go to the background.
    Suspend,
}

impl TopSignals {
    fn take() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    async fn next(&mut self) -> SignalWish {
        tokio::select! {
            _ = self.interrupt.recv() => SignalWish::End(130),
            _ = self.terminate.recv() => SignalWish::End(143),
            _ = self.hang_up.recv() => SignalWish::End(129),
            _ = self.quit.recv() => SignalWish::End(131),
            _ = self.stop.recv() => SignalWish::Suspend,
        }
    }
}

/// State of the loop.
struct LiveTop {
    model: TopModel,
    clients: Vec<AdminClient>,
    begun: Instant,
    screen: TopScreen,
    /// What is drawn; it does not change while the display is frozen.
    picture: Option<Arc<TopPicture>>,
    told: mpsc::Sender<String>,
}

impl LiveTop {
    async fn turn(
        &mut self,
        terminal: &mut TopTerminal,
        signals: &mut TopSignals,
        mut looks: mpsc::Receiver<ProxyLook>,
        mut messages: mpsc::Receiver<String>,
    ) -> Result<(), Exit> {
        let palette = TopPalette {
            has_colour: colour(),
        };
        let gone = |error: std::io::Error| Exit::failed(format!("the terminal is gone: {error}"));
        let mut keys = read_keys();
        let mut ticks = interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut is_stale = true;
        loop {
            if is_stale && terminal.is_idle() {
                is_stale = false;
                let (picture, screen) = (self.look_now(), self.screen.clone());
                terminal.draw(move |frame| {
                    let area = frame.area();
                    view::draw(&picture, &screen, palette, area, frame.buffer_mut());
                });
            }
            tokio::select! {
                drawn = terminal.drawn() => drawn.map_err(gone)?,
                look = looks.recv() => match look {
                    Some(look) => {
                        self.model.take_look(look);
                        is_stale = true;
                    }
                    None => return Err(Exit::failed("nobody asks the proxies any more; this is a mistake in lameduck")),
                },
                message = messages.recv() => {
                    self.screen.message = message;
                    is_stale = true;
                }
                _ = ticks.tick() => {
                    self.model.tick();
                    is_stale = true;
                }
                event = keys.recv() => {
                    is_stale = true;
                    let wish = match event {
                        Some(Event::Key(key)) if key.kind != KeyEventKind::Release => self.press(key),
                        Some(_) => TopWish::Draw,
                        None => return Err(Exit::failed("the terminal is gone")),
                    };
                    match wish {
                        TopWish::Draw => {}
                        TopWish::Quit => return Ok(()),
                        TopWish::Interrupt => return Err(Exit::interrupted("")),
                        TopWish::Suspend => suspend(terminal).map_err(gone)?,
                        TopWish::Change(asked) => self.change(asked),
                    }
                }
                wish = signals.next() => match wish {
                    SignalWish::End(code) => return Err(Exit { code, message: String::new() }),
                    SignalWish::Suspend => {
                        suspend(terminal).map_err(gone)?;
                        is_stale = true;
                    }
                },
            }
        }
    }

    /// The current picture, or the last one while the display is frozen.
    fn look_now(&mut self) -> Arc<TopPicture> {
        if let Some(picture) = self.picture.as_ref().filter(|_| self.screen.is_frozen) {
            return Arc::clone(picture);
        }
        let picture = TopPicture::of(&self.model, self.begun.elapsed(), SystemTime::now());
        let picture = Arc::new(picture);
        self.picture = Some(Arc::clone(&picture));
        picture
    }

    fn press(&mut self, key: ratatui::crossterm::event::KeyEvent) -> TopWish {
        let picture = match &self.picture {
            Some(picture) => Arc::clone(picture),
            None => self.look_now(),
        };
        press_key(&mut self.screen, key, &picture)
    }

    /// Makes a change in a task of its own, because a proxy that does not answer must not block the loop.
    fn change(&mut self, asked: AskedChange) {
        let clients = asked.proxies.iter().filter_map(|n| self.clients.get(*n));
        let clients: Vec<_> = clients.cloned().collect();
        self.screen.message = Some("asking the proxy".to_owned());
        let told = self.told.clone();
        tokio::spawn(async move {
            let message = change_backend(clients, asked).await;
            // The loop may have ended.
            let _ = told.send(message).await;
        });
    }
}

/// Restores the terminal, stops until the process is continued (SIGCONT), and takes the terminal over again.
fn suspend(terminal: &mut TopTerminal) -> std::io::Result<()> {
    terminal.give_back()?;
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::STOP)?;
    if terminal.is_idle() {
        terminal.take_again()?;
    }
    Ok(())
}

/// Updates the data of a proxy for ever: once a second, and soon after an event.
async fn follow_proxy(
    n: usize,
    client: AdminClient,
    begun: Instant,
    looks: mpsc::Sender<ProxyLook>,
) {
    let mut events: Option<AdminEvents> = None;
    loop {
        let asked = Instant::now();
        // The subscription comes before the update, so that no change is missed.
        if events.is_none() {
            let subscribed = timeout(SUBSCRIBE_TIMEOUT, client.events(None)).await;
            events = subscribed.ok().and_then(Result::ok);
        }
        let answers = ask_proxy(&client).await.map_err(|error| error.message);
        let look = ProxyLook {
            proxy: n,
            at: begun.elapsed(),
            wall: SystemTime::now(),
            answers,
        };
        if looks.send(look).await.is_err() {
            return;
        }
        let rest = asked.elapsed() * UPDATE_SHARE;
        tokio::select! {
            () = sleep(rest.max(SECOND)) => {}
            ended = changed(&mut events) => {
                if ended.is_err() {
                    events = None;
                }
                sleep(rest.max(MIN_UPDATE_INTERVAL)).await;
            }
        }
    }
}

async fn changed(events: &mut Option<AdminEvents>) -> Result<(), Exit> {
    match events {
        Some(events) => Ok(events.changed().await?),
        None => std::future::pending().await,
    }
}
