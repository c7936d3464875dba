//! Channel with which the launcher's threads report events to its loop.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::core::launch::proxies::ProxyEvent;

/// Sender of a thread's events.
#[derive(Debug, Clone)]
pub(super) struct EventSender {
    events: Sender<(usize, ProxyEvent)>,
    bell: Arc<UnixStream>,
    /// Number of the proxy that the events are about.
    proxy: usize,
}

/// Receiver of the loop.
#[derive(Debug)]
pub(super) struct EventInbox {
    events: Receiver<(usize, ProxyEvent)>,
    bell: UnixStream,
}

/// Both ends of a channel for events, with a descriptor that becomes readable with each event.
///
/// # Errors
/// No descriptor is left.
pub(super) fn open_mailbox() -> std::io::Result<(EventSender, EventInbox)> {
    let (events, received) = channel();
    let (ring, bell) = UnixStream::pair()?;
    // Non-blocking, because a socket that is full wakes the loop anyway.
    ring.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    let post = EventSender {
        events,
        bell: Arc::new(ring),
        proxy: 0,
    };
    let letterbox = EventInbox {
        events: received,
        bell,
    };
    Ok((post, letterbox))
}

impl EventSender {
    /// A sender for the events of the proxy with this number.
    pub(super) fn of(&self, proxy: usize) -> Self {
        Self {
            proxy,
            ..self.clone()
        }
    }

    /// Sends an event to the loop.
    pub(super) fn send(&self, event: ProxyEvent) {
        let _ = self.events.send((self.proxy, event));
        let _ = (&*self.bell).write(&[1]);
    }
}

impl EventInbox {
    /// All events that have arrived, with the numbers of their proxies.
    pub(super) fn take(&mut self) -> Vec<(usize, ProxyEvent)> {
        let mut rung = [0; 64];
        while matches!(self.bell.read(&mut rung), Ok(1..)) {}
        self.events.try_iter().collect()
    }
}

impl AsFd for EventInbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
