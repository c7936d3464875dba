//! Signals, and the watch over the control thread. Both have a thread of their own: a signal to stop must work whatever
//! else is stuck, and whoever is stuck can't say so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, warn};

use super::lifecycle::{Lifecycle, MainOrder};
use crate::admin::upgrade::UpgradeRequest;
use crate::core::Time;
use crate::rt::clock;
use crate::rt::output;
use crate::rt::syscall;
use crate::rt::vitals::{BEAT, StallWatch, VitalChange, Vitals};
use crate::upgrade::protocol::HandedParent;

/// What an end in order may take over its deadline: what is cut is told so, backends get their GOAWAY, the admin API its
/// last answers, the logs their last lines.
const FAREWELL: Duration = Duration::from_secs(4);

/// Starts the thread. TERM, INT and QUIT stop, HUP reloads, USR1 reopens the logs, USR2 has another process take over.
///
/// # Errors
/// When there can't be another thread, or a signal can't be caught.
pub fn watch(lifecycle: Arc<Lifecycle>, vitals: Arc<Vitals>) -> io::Result<()> {
    let (started, has_started) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let ready = Builder::new_current_thread()
                .enable_all()
                .build()
                .and_then(|runtime| {
                    let caught = {
                        let _context = runtime.enter();
                        ProcessSignals::catch()?
                    };
                    Ok((runtime, caught))
                });
            match ready {
                Ok((runtime, signals)) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(handle_signals(signals, &lifecycle, &vitals));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
    has_started.recv().map_err(io::Error::other)?
}

struct ProcessSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl ProcessSignals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

async fn handle_signals(mut signals: ProcessSignals, lifecycle: &Lifecycle, vitals: &Vitals) {
    let mut round = interval(BEAT);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = StallWatch::default();
    let mut looked = Instant::now();
    loop {
        let limit = last_moment(lifecycle).map(clock::instant);
        tokio::select! {
            Some(()) = signals.terminate.recv() => take_signal(lifecycle, libc::SIGTERM),
            Some(()) = signals.interrupt.recv() => take_signal(lifecycle, libc::SIGINT),
            Some(()) = signals.quit.recv() => take_signal(lifecycle, libc::SIGQUIT),
            Some(()) = signals.hangup.recv() => take_signal(lifecycle, libc::SIGHUP),
            Some(()) = signals.reopen.recv() => take_signal(lifecycle, libc::SIGUSR1),
            Some(()) = signals.upgrade.recv() => take_signal(lifecycle, libc::SIGUSR2),
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
                    tell(change);
                }
            }
        }
    }
}

/// What a signal asks for is asked of the process that serves.
fn take_signal(lifecycle: &Lifecycle, signal: i32) {
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
fn last_moment(lifecycle: &Lifecycle) -> Option<Time> {
    let told = lifecycle.told_to_stop()?;
    let deadline = told.saturating_add(lifecycle.config().server.deadline);
    Some(match lifecycle.is_ending() {
        true => deadline.saturating_add(FAREWELL),
        false => deadline,
    })
}

fn tell(change: VitalChange) {
    match change {
        VitalChange::Stalled(time) => error!(
            seconds = time.as_secs(),
            "the control thread does not turn: drains, health checks, the admin API and reloads wait for it; requests go on"
        ),
        VitalChange::Recovered => warn!("the control thread turns again"),
    }
}

fn exit_at_once(lifecycle: &Lifecycle) {
    error!(
        connections = lifecycle.open_connections(),
        "the deadline has passed and lameduck is stuck: exiting now, cutting what is left"
    );
    let code = output::finish(1);
    syscall::exit_now(code);
}
