//! Watches for new requests during a lame duck that lasts until none arrive any more: [`crate::core::quiet`] decides.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::ServerConfig;
use crate::core::Time;
use crate::core::quiet::{QuietVerdict, QuietWatch};
use crate::proxy::data_plane::DataPlane;
use crate::rt::clock;

/// Time between two checks while new requests are still expected…
const FAST_CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// …and after that.
const SLOW_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Unit in which earlier traffic is recorded.
const SECOND: Duration = Duration::from_secs(1);

/// State of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardTraffic {
    /// Whether no new requests are expected any more.
    pub is_quiet: bool,
    /// Requests since the lame duck began, without health checks.
    pub arrivals: u64,
    /// Silence that is needed at present.
    pub silence: Duration,
    /// Time from which no new requests are expected, if none arrive until then.
    pub until: Time,
}

/// Watches the requests of a data plane.
pub struct QuietPeriod {
    plane: Arc<DataPlane>,
    state: Mutex<QuietListeners>,
    changed: Notify,
}

struct QuietListeners {
    watch: QuietWatch,
    /// Number of requests that the watch knows of.
    seen: u64,
    /// Whether `[server] lame_duck = "auto"` is set, for which earlier traffic has to be recorded.
    is_auto: bool,
    /// Value of `lame_duck_max`.
    most: Duration,
}

impl QuietPeriod {
    /// A watch of this data plane, with this configuration.
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

    /// Applies another configuration.
    pub fn configure(&self, server: &ServerConfig) {
        let mut state = self.state.lock();
        state.is_auto = server.lame_duck.is_none();
        state.most = server.lame_duck_max;
        self.watch_arrivals(&state);
    }

    /// Begins the lame duck, unless it has begun already.
    pub fn begin(&self, now: Time) {
        let mut state = self.state.lock();
        if !state.watch.is_lame() {
            state.watch.begin(now);
            state.seen = self.plane.arrivals.read().0;
        }
        self.watch_arrivals(&state);
    }

    /// Ends the lame duck.
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

    /// State of the traffic now.
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

    /// Waits until no new requests are expected, or until this time. Uses the clock's own timers, because the control
    /// thread may be stuck.
    pub async fn wait(&self, until: Time) -> HeardTraffic {
        loop {
            let now = clock::now();
            let heard = self.listen(now);
            if heard.is_quiet || now >= until {
                return heard;
            }
            clock::sleep_until(heard.until.min(until).min(now + FAST_CHECK_INTERVAL)).await;
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

    /// Time until the next check; `None`: until something changes.
    fn look_interval(&self) -> Option<Duration> {
        let (is_lame, is_auto) = {
            let state = self.state.lock();
            (state.watch.is_lame(), state.is_auto)
        };
        match (is_lame, is_auto) {
            (true, _) if self.listen(clock::now()).is_quiet => Some(SLOW_CHECK_INTERVAL),
            (true, _) => Some(FAST_CHECK_INTERVAL),
            (false, true) => Some(SECOND),
            (false, false) => None,
        }
    }
}

/// Checks again and again, for as long as the process runs. It sleeps while nobody needs the result.
pub async fn keep_listening(quiet: Arc<QuietPeriod>) {
    let mut next = clock::now();
    loop {
        let Some(pace) = quiet.look_interval() else {
            quiet.changed.notified().await;
            next = clock::now();
            continue;
        };
        // Exactly one interval later, however long the check took.
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
