//! Signals, and the watch over the control thread. Both run on one separate thread: a signal to stop must work
//! whatever else is stuck, and a stuck thread can't report itself.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::signalfd::SignalFd;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, warn};

use super::lifecycle::{MainOrder, ProcessLifecycle};
use crate::admin::upgrade::UpgradeRequest;
use crate::core::Time;
use crate::rt::clock;
use crate::rt::output;
use crate::rt::process_signals;
use crate::rt::syscall;
use crate::rt::vitals::{BEAT, ProcessVitals, StallWatch, VitalChange};
use crate::upgrade::protocol::HandedParent;

/// Longest time of a graceful exit beyond its deadline: clients that are cut get their responses, backends GOAWAY,
/// the admin API sends its last responses, the logs are written.
const FAREWELL: Duration = Duration::from_secs(4);

/// Longest wait for this thread to stop reading. If it doesn't answer, the process is too stuck to become another
/// program.
const LAST_SIGNAL: Duration = Duration::from_secs(1);

/// The only thread that receives signals. TERM, INT and QUIT stop, HUP reloads, USR1 reopens the logs, USR2 starts an
/// upgrade.
pub struct SignalThread {
    proxies: Sender<WatchedProxy>,
    rests: mpsc::UnboundedSender<Sender<()>>,
}

/// The proxy that signals are for, once it exists.
struct WatchedProxy {
    lifecycle: Arc<ProcessLifecycle>,
    vitals: Arc<ProcessVitals>,
    /// Gets the result of starting to receive signals.
    is_heard: Sender<io::Result<()>>,
}

impl SignalThread {
    /// Starts the thread, before any other thread: those that are started later must not receive signals. Until there
    /// is a proxy, a signal has its default effect.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start() -> io::Result<Self> {
        process_signals::block()?;
        let (proxies, proxy) = channel();
        let (rests, asked_to_rest) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || hear_signals(&proxy, asked_to_rest))?;
        Ok(Self { proxies, rests })
    }

    /// Delivers signals to this proxy from now on.
    ///
    /// # Errors
    /// If signals can't be read.
    pub(super) fn watch(
        &self,
        lifecycle: Arc<ProcessLifecycle>,
        vitals: Arc<ProcessVitals>,
    ) -> io::Result<()> {
        let (is_heard, answer) = channel();
        let proxy = WatchedProxy {
            lifecycle,
            vitals,
            is_heard,
        };
        self.proxies.send(proxy).map_err(io::Error::other)?;
        answer.recv().map_err(io::Error::other)?
    }

    /// Stops reading signals: later ones wait for the program that this process becomes. Every signal read before has
    /// been handled.
    pub fn stop_reading(&self) {
        let (resting, rests) = channel();
        if self.rests.send(resting).is_ok() {
            // On an error, the thread has ended, and reads nothing.
            let _ = rests.recv_timeout(LAST_SIGNAL);
        }
    }
}

fn hear_signals(proxies: &Receiver<WatchedProxy>, rests: mpsc::UnboundedReceiver<Sender<()>>) {
    // A supervisor may have started the process with blocked signals.
    let _ = process_signals::unblock();
    let Ok(proxy) = proxies.recv() else { return };
    let ready = process_signals::block().and_then(|()| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let queue = {
            let _context = runtime.enter();
            SignalQueue::open()?
        };
        Ok((runtime, queue))
    });
    match ready {
        Ok((runtime, queue)) => {
            let _ = proxy.is_heard.send(Ok(()));
            runtime.block_on(handle_signals(queue, rests, &proxy));
        }
        Err(error) => drop(proxy.is_heard.send(Err(error))),
    }
}

/// The signals that wait to be read.
struct SignalQueue(AsyncFd<SignalFd>);

impl SignalQueue {
    fn open() -> io::Result<Self> {
        #[allow(
            deprecated,
            reason = "sound here: a SignalFd is one open descriptor for as long as it lives; the other form is unsafe"
        )]
        let queue = AsyncFd::new(process_signals::open_queue()?)?;
        Ok(Self(queue))
    }

    /// Returns the next signal. Safe to drop and call again.
    async fn next(&mut self) -> i32 {
        loop {
            let Ok(mut ready) = self.0.readable_mut().await else {
                // The runtime is about to end.
                return std::future::pending().await;
            };
            match ready.get_inner_mut().read_signal() {
                Ok(Some(signal)) => return i32::try_from(signal.ssi_signo).unwrap_or_default(),
                Ok(None) | Err(_) => ready.clear_ready(),
            }
        }
    }
}

async fn handle_signals(
    mut signals: SignalQueue,
    mut rests: mpsc::UnboundedReceiver<Sender<()>>,
    proxy: &WatchedProxy,
) {
    let WatchedProxy {
        lifecycle, vitals, ..
    } = proxy;
    let mut round = interval(BEAT);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = StallWatch::default();
    let mut looked = Instant::now();
    loop {
        let limit = last_moment(lifecycle).map(clock::instant);
        tokio::select! {
            signal = signals.next() => take_signal(lifecycle, signal),
            Some(resting) = rests.recv() => {
                drop(signals);
                let _ = resting.send(());
                return;
            }
            () = sleep_until(limit.unwrap_or(looked)), if limit.is_some() => {
                // The deadline may have moved: the main loop has begun to end the process.
                if last_moment(lifecycle).is_some_and(|at| at <= clock::now()) {
                    exit_at_once(lifecycle);
                }
            }
            _ = round.tick() => {
                let passed = looked.elapsed();
                looked = Instant::now();
                if let Some(change) = watch.check_vitals(vitals, passed) {
                    log_vital_change(change);
                }
            }
        }
    }
}

/// Handles a signal, or passes it on to the process that serves.
fn take_signal(lifecycle: &ProcessLifecycle, signal: i32) {
    let upgrades = lifecycle.upgrades();
    match (upgrades.successor(), signal) {
        (0, libc::SIGHUP) => lifecycle.order(MainOrder::Reload(oneshot::channel().0)),
        (0, libc::SIGUSR1) => lifecycle.order(MainOrder::ReopenLogs),
        (0, libc::SIGUSR2) => {
            lifecycle.order_upgrade(UpgradeRequest::default(), oneshot::channel().0);
        }
        (0, _) => lifecycle.stop_signal(),
        // systemd signals each process of a unit itself.
        (_, _) if upgrades.parent() == HandedParent::Systemd => {}
        (successor, _) => drop(syscall::kill(successor, signal)),
    }
}

/// Returns when the process is ended by force, once it has been told to stop.
fn last_moment(lifecycle: &ProcessLifecycle) -> Option<Time> {
    let told = lifecycle.told_to_stop()?;
    let deadline = told.saturating_add(lifecycle.config().server.deadline);
    Some(match lifecycle.is_ending() {
        true => deadline.saturating_add(FAREWELL),
        false => deadline,
    })
}

fn log_vital_change(change: VitalChange) {
    match change {
        VitalChange::Stalled(time) => error!(
            seconds = time.as_secs(),
            "the control thread does not turn: drains, health checks, the admin API and reloads wait for it; requests go on"
        ),
        VitalChange::Recovered => warn!("the control thread turns again"),
    }
}

fn exit_at_once(lifecycle: &ProcessLifecycle) {
    error!(
        connections = lifecycle.open_connections(),
        "the deadline has passed and lameduck is stuck: exiting now, cutting what is left"
    );
    let code = output::finish(1);
    syscall::exit_now(code);
}
