//! Signals, and the watch over the control thread. Both have a thread of their own: a signal to stop must work
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

/// How long an orderly exit may take beyond its deadline: clients that are cut get their answers, backends GOAWAY,
/// the admin API its last answers, the logs their last lines.
const FAREWELL: Duration = Duration::from_secs(4);

/// A proxy that is stuck so badly that this thread doesn't answer becomes no other program either.
const LAST_SIGNAL: Duration = Duration::from_secs(1);

/// The only thread that receives signals. TERM, INT and QUIT stop, HUP reloads, USR1 reopens the logs, USR2 has
/// another process take over.
pub struct SignalThread {
    proxies: Sender<WatchedProxy>,
    rests: mpsc::UnboundedSender<Sender<()>>,
}

/// What signals are about, once it is there.
struct WatchedProxy {
    lifecycle: Arc<ProcessLifecycle>,
    vitals: Arc<ProcessVitals>,
    /// Gets the result of starting to receive signals.
    is_heard: Sender<io::Result<()>>,
}

impl SignalThread {
    /// Starts it, before any other thread: those that are started later must not receive signals. Until there is a
    /// proxy, a signal does what it does by default.
    ///
    /// # Errors
    /// When there can't be another thread.
    pub fn start() -> io::Result<Self> {
        process_signals::block()?;
        let (proxies, proxy) = channel();
        let (rests, asked_to_rest) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || hear_signals(&proxy, asked_to_rest))?;
        Ok(Self { proxies, rests })
    }

    /// From now on, signals are about this proxy.
    ///
    /// # Errors
    /// When they can't be read.
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

    /// Reads no more of them: what comes from now on waits for the program that this process becomes. Each that was read
    /// before has been taken up.
    pub fn stop_reading(&self) {
        let (resting, rests) = channel();
        if self.rests.send(resting).is_ok() {
            // An error: the thread has ended, and reads nothing.
            let _ = rests.recv_timeout(LAST_SIGNAL);
        }
    }
}

fn hear_signals(proxies: &Receiver<WatchedProxy>, rests: mpsc::UnboundedReceiver<Sender<()>>) {
    // A supervisor may have started us with some blocked.
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

/// Signals that wait to be read.
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

    /// The next one. Safe to drop and call again.
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
                // It may have become later: the main loop has begun to end the process.
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

/// What a signal asks for is asked of the process that serves.
fn take_signal(lifecycle: &ProcessLifecycle, signal: i32) {
    let upgrades = lifecycle.upgrades();
    match (upgrades.successor(), signal) {
        (0, libc::SIGHUP) => lifecycle.order(MainOrder::Reload(oneshot::channel().0)),
        (0, libc::SIGUSR1) => lifecycle.order(MainOrder::ReopenLogs),
        (0, libc::SIGUSR2) => {
            lifecycle.order_upgrade(UpgradeRequest::default(), oneshot::channel().0);
        }
        (0, _) => lifecycle.stop_signal(),
        // systemd tells each process of a unit by itself.
        (_, _) if upgrades.parent() == HandedParent::Systemd => {}
        (successor, _) => drop(syscall::kill(successor, signal)),
    }
}

/// When the process ends by force, once it has been told to stop.
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
