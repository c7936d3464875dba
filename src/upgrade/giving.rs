//! The old process's part: starts the new process, hands everything over, and stops serving only when the new one
//! accepts.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{ChannelError, ChannelReceiver, ChannelSender, open_channel};
use super::protocol::{HandedState, UpgradeFrame, UpgradeGreeting};
use crate::core::Time;
use crate::core::upgrade::{GivingEffect, GivingEvent, UpgradeGiver};
use crate::rt::children::{StartedChild, start_child};
use crate::rt::clock;
use crate::rt::process_signals;

/// Option that tells a new process that its standard input is the channel.
pub const TAKE_OVER: &str = "--take-over";

/// Variable with the start of this process's clock, for the process that takes over: events before its own start have a
/// time, too.
pub const CLOCK_ORIGIN: &str = "LAMEDUCK_CLOCK_ORIGIN";

/// Variables that are only valid for the process that was started with them.
const PROCESS_VARIABLES: [&str; 5] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "LAMEDUCK_KEEPER",
];

/// Time for a process to end after it was told to, or has closed the channel.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The process that hands over.
#[async_trait]
pub trait OldProcess: Send {
    /// Holds back all changes from now on, and returns its state, with a descriptor for each of its sockets.
    ///
    /// # Errors
    /// Why the state can't be handed over now.
    async fn give_state(&mut self) -> Result<(HandedState, Vec<OwnedFd>), String>;

    /// Whether a supervisor starts another process when this one ends.
    fn is_supervised(&self) -> bool;

    /// Allows changes again: the hand-over has failed.
    async fn take_back(&mut self);
}

/// The process that has taken over.
#[derive(Debug)]
pub struct Successor {
    /// Its greeting.
    pub greeting: UpgradeGreeting,
    /// Indexes of the sockets that it does not use.
    pub unused: Vec<usize>,
    /// Sends to it.
    pub outgoing: ChannelSender,
    /// Receives from it.
    pub incoming: ChannelReceiver,
    /// Handle for its exit status, which this process has to read as long as it lives.
    pub child: StartedChild,
}

/// Starts a program as the successor: its standard input is one end of a socket, and the other end is returned.
fn spawn_successor(mut command: Command) -> io::Result<(StartedChild, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    for name in PROCESS_VARIABLES {
        command.env_remove(name);
    }
    command.env(CLOCK_ORIGIN, clock::to_machine(Time::ZERO).to_string());
    process_signals::unblock_in(&mut command);
    Ok((start_child(&mut command)?, ours))
}

/// Starts `command` and hands over to it. `patience` is the longest time for each step. `stopped` ends when this
/// process is told to stop, which takes precedence.
///
/// # Errors
/// Why it failed, as a message for users. The new process has been stopped, and this one goes on as before.
pub async fn hand_over(
    command: Command,
    old: &mut dyn OldProcess,
    patience: Option<Duration>,
    stopped: impl Future<Output = ()>,
) -> Result<Successor, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = spawn_successor(command);
    let (child, socket) = spawned.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "name a file that exists (--binary)",
            io::ErrorKind::PermissionDenied => "make it executable (`chmod +x`)",
            _ => "is it a program for this machine?",
        };
        format!("{program} can't be started: {error}; {remedy}")
    })?;
    let (outgoing, incoming) = open_channel(socket).map_err(|error| error.to_string())?;
    let attempt = Attempt {
        program,
        child,
        outgoing,
        incoming,
        greeting: UpgradeGreeting::default(),
        unused: Vec::new(),
        given: false,
    };
    let giving = UpgradeGiver::default().with_patience(patience);
    attempt.run_handover(giving, old, stopped).await
}

struct Attempt {
    program: String,
    child: StartedChild,
    outgoing: ChannelSender,
    incoming: ChannelReceiver,
    greeting: UpgradeGreeting,
    unused: Vec<usize>,
    given: bool,
}

impl Attempt {
    async fn run_handover(
        mut self,
        mut giving: UpgradeGiver,
        old: &mut dyn OldProcess,
        stopped: impl Future<Output = ()>,
    ) -> Result<Successor, String> {
        let mut stopped = std::pin::pin!(stopped);
        let mut since = (giving.phase(), Instant::now());
        loop {
            if since.0 != giving.phase() {
                since = (giving.phase(), Instant::now());
            }
            let limit = since.1 + giving.limit().unwrap_or_default();
            let event = tokio::select! {
                biased;
                () = &mut stopped => GivingEvent::Stopped,
                heard = self.next_event() => heard,
                () = sleep_until(limit) => GivingEvent::TimeOver,
            };
            let mut events = vec![event];
            while let Some(event) = events.pop() {
                for effect in giving.step(event) {
                    let done = match effect {
                        GivingEffect::Greet => {
                            let greeting = UpgradeGreeting::of_this_process(old.is_supervised());
                            self.say(&UpgradeFrame::Hello(greeting)).await
                        }
                        GivingEffect::Give => self.send_state(old).await,
                        GivingEffect::LetAccept => self.say(&UpgradeFrame::Accept {}).await,
                        GivingEffect::HandOver => {
                            return Ok(Successor {
                                greeting: self.greeting,
                                unused: self.unused,
                                outgoing: self.outgoing,
                                incoming: self.incoming,
                                child: self.child,
                            });
                        }
                        GivingEffect::Kill => {
                            self.child.kill();
                            Ok(())
                        }
                        GivingEffect::GoOn(why) => {
                            let _ = timeout(END_TIMEOUT, self.child.wait()).await;
                            if self.given {
                                old.take_back().await;
                            }
                            return Err(format!("{}: {why}", self.program));
                        }
                    };
                    if let Err(failed) = done {
                        events.push(failed);
                        break;
                    }
                }
            }
        }
    }

    async fn say(&mut self, frame: &UpgradeFrame) -> Result<(), GivingEvent> {
        match self.outgoing.send(frame).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.gone(error).await),
        }
    }

    async fn send_state(&mut self, old: &mut dyn OldProcess) -> Result<(), GivingEvent> {
        self.given = true;
        let (state, sockets) = old.give_state().await.map_err(GivingEvent::Failed)?;
        let frame = UpgradeFrame::State(Box::new(state));
        let borrowed: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        match self.outgoing.send_with(&frame, &borrowed).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.gone(error).await),
        }
    }

    /// The next message of the new process that belongs to this exchange.
    async fn next_event(&mut self) -> GivingEvent {
        loop {
            let frame = match self.incoming.receive().await {
                Ok(received) => received.frame,
                Err(error) => return self.gone(error).await,
            };
            return match frame {
                UpgradeFrame::Hello(greeting) => {
                    self.greeting = greeting;
                    GivingEvent::Greeted(self.greeting.range())
                }
                UpgradeFrame::Checked {} => GivingEvent::Checked,
                UpgradeFrame::Ready {} => GivingEvent::Ready,
                UpgradeFrame::Accepting { unused } => {
                    self.unused = unused;
                    GivingEvent::Accepting
                }
                UpgradeFrame::Refused { why } => GivingEvent::Refused(why),
                _ => continue,
            };
        }
    }

    async fn gone(&mut self, error: ChannelError) -> GivingEvent {
        let ChannelError::Closed = error else {
            return GivingEvent::Failed(error.to_string());
        };
        let status = timeout(END_TIMEOUT, self.child.wait()).await;
        let how = match status {
            Ok(status) => format!("it ended ({status})"),
            Err(_) => "it closed its end".to_owned(),
        };
        let hint = match self.greeting.pid {
            0 => {
                " before it said a word: is it a lameduck that knows `upgrade`? What it wrote is in the log of the \
                  running one"
            }
            _ => "; what it wrote is in the log of the running one",
        };
        GivingEvent::Gone(format!("{how}{hint}"))
    }
}
