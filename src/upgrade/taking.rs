//! The new process's part: greets, receives the state, and reports when it accepts.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use thiserror::Error;
use tracing::{info, warn};

use super::channel::{ChannelError, ChannelReceiver, ChannelSender, open_channel};
use super::protocol::{HandedState, UpgradeFrame, UpgradeGreeting};
use crate::core::upgrade::{TakingEffect, TakingEvent, UpgradeTaker};
use crate::net::sd_notify::NOTIFY_SOCKET;
use crate::rt::empty_file::EmptyFile;

/// Reason why this process can't take over.
#[derive(Debug, Error)]
pub enum TakeOverError {
    /// Standard input is not the channel.
    #[error(
        "--take-over is for `lameduck upgrade`, which starts this process with a socket as its standard input ({0}); to \
         start a proxy, leave it out"
    )]
    NoChannel(std::io::Error),
    /// The two processes can't agree, or the old one has withdrawn.
    #[error("{0}")]
    Refused(String),
}

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    taking: UpgradeTaker,
    greeting: UpgradeGreeting,
    outgoing: ChannelSender,
    incoming: ChannelReceiver,
}

/// Takes standard input as a socket; from then on, standard input is empty.
fn take_channel() -> std::io::Result<UnixStream> {
    let input = std::io::stdin();
    let socket = UnixStream::from(input.as_fd().try_clone_to_owned()?);
    // This fails if standard input is no unix socket.
    socket.local_addr()?;
    rustix::stdio::dup2_stdin(EmptyFile::open()?.file())?;
    Ok(socket)
}

/// Tells the old process that this one can't start, before anything else was sent; for example because its
/// configuration is invalid.
pub fn refuse_start(why: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(runtime), Ok(socket)) = (runtime, take_channel()) else {
        return;
    };
    runtime.block_on(async {
        if let Ok((outgoing, _)) = open_channel(socket) {
            let why = why.to_owned();
            let _ = outgoing.send(&UpgradeFrame::Refused { why }).await;
        }
    });
}

impl Predecessor {
    /// Sends a greeting to the process at the other end of standard input.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn greet() -> Result<Self, TakeOverError> {
        let socket = take_channel().map_err(TakeOverError::NoChannel)?;
        let (outgoing, incoming) = open_channel(socket).map_err(TakeOverError::NoChannel)?;
        // If that process has ended, the next read shows it.
        let _ = outgoing
            .send(&UpgradeFrame::Hello(UpgradeGreeting::of_this_process(
                false,
            )))
            .await;
        let mut taking = UpgradeTaker::default();
        // Assumed until the old process reports it.
        taking.set_supervised(std::env::var_os(NOTIFY_SOCKET).is_some_and(|at| !at.is_empty()));
        Ok(Self {
            taking,
            greeting: UpgradeGreeting::default(),
            outgoing,
            incoming,
        })
    }

    /// The greeting of the old process.
    pub fn greeting(&self) -> &UpgradeGreeting {
        &self.greeting
    }

    /// Whether the old process died before it had handed over, so that this one serves alone.
    pub fn is_alone(&self) -> bool {
        self.taking.is_alone()
    }

    /// Sender of the channel to the old process.
    pub fn outgoing(&self) -> ChannelSender {
        self.outgoing.clone()
    }

    /// Waits for the state and the sockets. `None`: the old process died before it sent them, so this process starts as
    /// any other.
    ///
    /// # Errors
    /// The two processes can't agree.
    pub async fn receive_state(
        &mut self,
    ) -> Result<Option<(HandedState, Vec<OwnedFd>)>, TakeOverError> {
        let mut given = None;
        loop {
            let event = match self.incoming.receive().await {
                Ok(received) => match received.frame {
                    UpgradeFrame::Hello(greeting) => {
                        self.greeting = greeting;
                        self.taking.set_supervised(self.greeting.is_supervised);
                        TakingEvent::Greeted(self.greeting.range())
                    }
                    UpgradeFrame::State(state) => {
                        given = Some((*state, received.descriptors));
                        TakingEvent::Given
                    }
                    UpgradeFrame::Refused { why } => TakingEvent::Failed(why),
                    _ => continue,
                },
                Err(error) => event_of_error(error),
            };
            for effect in self.taking.step(event) {
                match effect {
                    TakingEffect::SayChecked => {
                        let _ = self.outgoing.send(&UpgradeFrame::Checked {}).await;
                    }
                    TakingEffect::Build { given: false } => {
                        warn!("the running lameduck died before it gave anything: starting anew");
                        return Ok(None);
                    }
                    TakingEffect::Build { given: true } => return Ok(given),
                    TakingEffect::Refuse(why) => return Err(TakeOverError::Refused(why)),
                    _ => {}
                }
            }
        }
    }

    /// Reports that everything is prepared, and waits until this process may accept.
    ///
    /// # Errors
    /// The old process has withdrawn.
    pub async fn may_accept(&mut self) -> Result<(), TakeOverError> {
        let mut event = TakingEvent::Built;
        loop {
            for effect in self.taking.step(event) {
                match effect {
                    TakingEffect::SayReady => {
                        let _ = self.outgoing.send(&UpgradeFrame::Ready {}).await;
                    }
                    TakingEffect::Accept => return Ok(()),
                    TakingEffect::Refuse(why) => return Err(TakeOverError::Refused(why)),
                    _ => {}
                }
            }
            event = self.next_event().await;
        }
    }

    /// Reports that this process accepts, and waits until the old one has stopped accepting. Clients that this process
    /// serves from then on are not affected by the end of the old one.
    pub async fn accepts(&mut self, unused: Vec<usize>) {
        let mut event = TakingEvent::Accepts;
        loop {
            for effect in self.taking.step(event) {
                match effect {
                    TakingEffect::SayAccepting => {
                        let unused = unused.clone();
                        let _ = self
                            .outgoing
                            .send(&UpgradeFrame::Accepting { unused })
                            .await;
                    }
                    TakingEffect::Serve => {
                        if self.taking.is_alone() {
                            warn!("the old process died before it had let go: serving alone");
                        } else {
                            let (pid, version) = (self.greeting.pid, &self.greeting.version);
                            info!(pid, version, "took over");
                        }
                        return;
                    }
                    // Both processes accept, so it is too late to go back.
                    TakingEffect::Refuse(why) => {
                        warn!("the old process goes on, too: {why}");
                        return;
                    }
                    _ => {}
                }
            }
            event = self.next_event().await;
        }
    }

    /// Both directions of the channel, once this process serves; `None` if the old process has ended.
    pub fn into_channel(self) -> Option<(ChannelSender, ChannelReceiver)> {
        (!self.taking.is_alone()).then_some((self.outgoing, self.incoming))
    }

    async fn next_event(&mut self) -> TakingEvent {
        loop {
            return match self.incoming.receive().await {
                Ok(received) => match received.frame {
                    UpgradeFrame::Accept {} => TakingEvent::MayAccept,
                    UpgradeFrame::HandedOver {} => TakingEvent::HandedOver,
                    UpgradeFrame::Refused { why } => TakingEvent::Failed(why),
                    _ => continue,
                },
                Err(error) => event_of_error(error),
            };
        }
    }
}

fn event_of_error(error: ChannelError) -> TakingEvent {
    match error {
        ChannelError::Closed => TakingEvent::Gone,
        other => TakingEvent::Failed(other.to_string()),
    }
}
