//! Watches the arrival of requests, for a lame duck that lasts until no new ones come: [`crate::core::quiet`]
//! decides.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::ServerConfig;
use crate::core::Time;
use crate::core::quiet::{QuietVerdict, QuietWatch};
use crate::proxy::data_plane::DataPlane;
use crate::rt::clock;

/// How often arrivals are checked while new ones are still expected…
const LOOK: Duration = Duration::from_millis(10);
/// …and after that.
const LOOK_LATER: Duration = Duration::from_millis(100);
/// What the memory of earlier traffic counts by.
const SECOND: Duration = Duration::from_secs(1);

/// What is heard now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardTraffic {
    /// Nothing new is expected any more.
    pub is_quiet: bool,
    /// Requests since the lame duck began, health checks aside.
    pub arrivals: u64,
    /// The silence that counts now.
    pub silence: Duration,
    /// When nothing new is expected any more, if nothing comes until then.
    pub until: Time,
}

/// Watches the arrivals of a data plane.
pub struct QuietPeriod {
    plane: Arc<DataPlane>,
    state: Mutex<QuietListeners>,
    changed: Notify,
}

struct QuietListeners {
    watch: QuietWatch,
    /// Arrivals that the watch knows of.
    seen: u64,
    /// `[server] lame_duck = "auto"`: earlier traffic has to be recorded.
    is_auto: bool,
    /// `lame_duck_max`.
    most: Duration,
}

impl QuietPeriod {
    /// A watch of this data plane, by this configuration.
    pub fn new(plane: Arc<DataPlane>, server: &ServerConfig) -> Arc<Self> {
        let quiet = Self {
            plane,
            state: Mutex::new(QuietListeners {
                watch: QuietWatch::new(),
                seen: 0,
                is_auto: false,
                most: server.lame_duck_max,
            }),
            changed: Notify::new(),
        };
        quiet.configure(server);
        Arc::new(quiet)
    }

    /// Takes another configuration.
    pub fn configure(&self, server: &ServerConfig) {
        let mut state = self.state.lock();
        state.is_auto = server.lame_duck.is_none();
        state.most = server.lame_duck_max;
        self.watch_arrivals(&state);
    }

    /// The lame duck begins, unless it has.
    pub fn begin(&self, now: Time) {
        let mut state = self.state.lock();
        if !state.watch.is_lame() {
            state.watch.begin(now);
            state.seen = self.plane.arrivals.read().0;
        }
        self.watch_arrivals(&state);
    }

    /// It was lifted.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.watch.end();
        state.seen = self.plane.arrivals.read().0;
        self.watch_arrivals(&state);
    }

    fn watch_arrivals(&self, state: &QuietListeners) {
        let watched = state.is_auto || state.watch.is_lame();
        self.plane.arrivals.watch(watched);
        self.changed.notify_one();
    }

    /// What is heard now.
    pub fn listen(&self, now: Time) -> HeardTraffic {
        let mut state = self.state.lock();
        let (count, last) = self.plane.arrivals.read();
        let new = count - std::mem::replace(&mut state.seen, count).min(count);
        state.watch.note_arrivals(new, last.min(now));
        let verdict = state.watch.judge(now, state.most);
        HeardTraffic {
            is_quiet: verdict == QuietVerdict::Quiet,
            arrivals: state.watch.arrivals(),
            silence: state.watch.silence(state.most),
            until: match verdict {
                QuietVerdict::Quiet => now,
                QuietVerdict::Until(until) => until,
            },
        }
    }

    /// Waits until nothing new is expected any more, or until then. By the clock's own timers: the control thread may be
    /// stuck.
    pub async fn wait(&self, until: Time) -> HeardTraffic {
        loop {
            let now = clock::now();
            let heard = self.listen(now);
            if heard.is_quiet || now >= until {
                return heard;
            }
            clock::sleep_until(heard.until.min(until).min(now + LOOK)).await;
        }
    }

    fn note_second(&self) {
        let mut state = self.state.lock();
        if state.watch.is_lame() {
            return;
        }
        let count = self.plane.arrivals.read().0;
        let new = count - std::mem::replace(&mut state.seen, count).min(count);
        state
            .watch
            .note_second(u32::try_from(new).unwrap_or(u32::MAX));
    }

    /// How long until the next check; `None`: until something changes.
    fn look_interval(&self) -> Option<Duration> {
        let (is_lame, is_auto) = {
            let state = self.state.lock();
            (state.watch.is_lame(), state.is_auto)
        };
        match (is_lame, is_auto) {
            (true, _) if self.listen(clock::now()).is_quiet => Some(LOOK_LATER),
            (true, _) => Some(LOOK),
            (false, true) => Some(SECOND),
            (false, false) => None,
        }
    }
}

/// Checks again and again, for as long as the process runs. It sleeps while the answer isn't needed.
pub async fn keep_listening(quiet: Arc<QuietPeriod>) {
    let mut next = clock::now();
    loop {
        let Some(pace) = quiet.look_interval() else {
            quiet.changed.notified().await;
            next = clock::now();
            continue;
        };
        // Exactly one second later, however long a check took.
        next = (next + pace).max(clock::now());
        tokio::select! {
            () = clock::sleep_until(next) => {
                if pace == SECOND {
                    quiet.note_second();
                }
            }
            () = quiet.changed.notified() => next = clock::now(),
        }
    }
}
