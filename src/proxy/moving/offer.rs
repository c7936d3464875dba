//! The side of a hand-over that gives connections away: at a still point each is offered, and *the word* (see
//! [`super`]) decides about it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::MovedConnection;
use crate::core::moving::GivenConnection;
use crate::registry::endpoint::{ConnectionTicket, Permit};
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, InterruptSet};

/// Why a connection does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StayReason {
    /// A request is under way. It moves when that has been answered, if the hand-over lasts so long.
    Request = 1,
    /// Its TLS session can't be taken out of the process.
    Tls = 2,
    /// It speaks HTTP/2, whose streams share one state.
    Http2 = 3,
    /// It has a stream whose state can't be taken out: a body that is compressed, or comes over TLS or HTTP/2 from the
    /// backend, or in a framing that isn't followed.
    Stream = 4,
    /// More is buffered than is carried; it moves when that has gone out.
    Buffers = 5,
    /// It is about to end.
    Ending = 6,
    /// The next process can't take it: its backend or pool is unknown there.
    Refused = 7,
    /// There was no descriptor left to move it with.
    Descriptors = 8,
}

impl StayReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::Tls,
        Self::Http2,
        Self::Stream,
        Self::Buffers,
        Self::Ending,
        Self::Refused,
        Self::Descriptors,
    ];

    /// For `status`, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Stream => "stream",
            Self::Buffers => "buffers",
            Self::Ending => "ending",
            Self::Refused => "refused",
            Self::Descriptors => "descriptors",
        }
    }

    /// The number by which an [`ConnectionInterrupt`] notes it.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reverse of [`StayReason::code`]. A connection that hasn't answered has a request, or is about to have one.
    fn of_code(code: u8) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| reason.code() == code)
            .unwrap_or(Self::Request)
    }

    /// Whether it holds for as long as the connection does.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::Tls | Self::Http2)
    }
}

/// A connection that stands still and waits for the word.
#[derive(Debug)]
pub struct OfferedConnection {
    /// What the next process gets. It may be dropped as soon as it was sent.
    pub moved: MovedConnection,
    /// Decides which process has the connection. Keep it until the word was written or has failed.
    pub claim: MoveClaim,
}

/// The right to give one connection away. Dropped without a word, its connection goes on here.
pub struct MoveClaim {
    state: GivenConnection,
    word: Option<oneshot::Sender<()>>,
    /// Counts it, if it is a client's.
    given: Option<Arc<AtomicU64>>,
}

impl MoveClaim {
    /// The word was written: the connection now belongs to the next process. Call this only after that.
    pub fn confirm_given(mut self) {
        if self.state.give()
            && let Some(word) = self.word.take()
            && word.send(()).is_ok()
            && let Some(given) = &self.given
        {
            given.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for MoveClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MoveClaim").field(&self.state).finish()
    }
}

/// Where connections are offered while a hand-over is under way.
#[derive(Debug, Default)]
pub struct MoveOut {
    offers: ArcSwapOption<UnboundedSender<OfferedConnection>>,
    given: Arc<AtomicU64>,
    /// What is counted of connections that were given away.
    counted: Mutex<Vec<CountedElsewhere>>,
}

/// A connection to a backend that another process has by now: it is open, and a request may be in flight on it. As
/// long as this process reports whether the backend is quiet, it must not report that it is.
#[derive(Debug)]
pub struct CountedElsewhere {
    /// Counts the connection. Dropped before the permit.
    pub ticket: ConnectionTicket,
    /// Counts the request, where there is one.
    pub permit: Option<Permit>,
}

impl MoveOut {
    /// Begins a hand-over: all of `connections` are asked to move to where `offers` leads, at their next still point.
    pub fn begin<'a>(
        &'a self,
        connections: &'a InterruptSet,
        offers: UnboundedSender<OfferedConnection>,
    ) -> MoveUnderWay<'a> {
        self.offers.store(Some(Arc::new(offers)));
        connections.begin_move();
        MoveUnderWay {
            out: self,
            connections,
            before: self.given.load(Ordering::Relaxed),
        }
    }

    /// Clients' connections that were given away so far.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// A connection was given away. Where somebody hears from this process that its backend is quiet, it counts here
    /// until [`MoveOut::forget_given`]; elsewhere, it counts in the other process alone.
    pub fn count_given(&self, counted: CountedElsewhere) {
        if counted.ticket.endpoint().counts_what_moves() {
            self.counted.lock().push(counted);
        }
    }

    /// The process that had them has died, and its connections with it: nothing counts of them any more.
    pub fn forget_given(&self) {
        let counted = std::mem::take(&mut *self.counted.lock());
        drop(counted);
    }

    /// Offers a connection that stands still, and waits for the word. True: it is another process's, and nothing more
    /// may be read or written; false: it goes on here. The caller's task does nothing else meanwhile, not even in a
    /// shutdown: if it gave up by itself, it would not know which process has the connection.
    pub async fn offer(&self, interrupt: &ConnectionInterrupt, moved: MovedConnection) -> bool {
        interrupt.answer(OFFERED);
        let is_given = match self.announce(moved, Some(self.given.clone())) {
            Some(word) => word.await.is_ok(),
            None => false,
        };
        if !is_given {
            note_stay(interrupt, StayReason::Refused);
        }
        is_given
    }

    /// As [`Self::offer`] without waiting, for an idle connection to a backend, which no client counts for: the
    /// receiver gets the word, or an error if there will be none. `None`: no hand-over is under way.
    pub fn announce_kept(&self, moved: MovedConnection) -> Option<oneshot::Receiver<()>> {
        self.announce(moved, None)
    }

    fn announce(
        &self,
        moved: MovedConnection,
        given: Option<Arc<AtomicU64>>,
    ) -> Option<oneshot::Receiver<()>> {
        let offers = self.offers.load_full()?;
        let (word, answer) = oneshot::channel();
        let mut state = GivenConnection::default();
        state.offer();
        let claim = MoveClaim {
            state,
            word: Some(word),
            given,
        };
        offers
            .send(OfferedConnection { moved, claim })
            .is_ok()
            .then_some(answer)
    }
}

/// A hand-over under way. When it is dropped, connections that were not given away go on here, and are asked no more.
pub struct MoveUnderWay<'a> {
    out: &'a MoveOut,
    connections: &'a InterruptSet,
    before: u64,
}

/// Between two looks at who has answered.
const LOOK: Duration = Duration::from_millis(1);

/// A connection that has not answered for so long after another has is in work that doesn't check for the question.
const SILENCE: Duration = Duration::from_millis(20);

impl MoveUnderWay<'_> {
    /// Waits until each connection has offered itself, has gone, or has given its reason to stay, but no longer than
    /// `patience`, and not for those that don't check for the question (see `SILENCE`).
    pub async fn settled(&self, patience: Duration) -> MoveCount {
        let until = clock::now().saturating_add(patience);
        let mut quiet = (0, clock::now());
        loop {
            // One may have come meanwhile.
            self.connections.ask_to_move();
            let mut unheard = 0;
            (self.connections).for_each_answer(|answer| unheard += u32::from(answer == 0));
            let now = clock::now();
            if unheard != quiet.0 {
                quiet = (unheard, now);
            }
            if unheard == 0 || now >= until || now >= quiet.1 + SILENCE {
                return self.count();
            }
            clock::sleep(LOOK).await;
        }
    }

    /// How it stands.
    pub fn count(&self) -> MoveCount {
        let mut count = MoveCount {
            given: self.out.given() - self.before,
            ..MoveCount::default()
        };
        self.connections.for_each_answer(|code| match code {
            OFFERED => count.offered += 1,
            code => *count.stay.entry(StayReason::of_code(code)).or_default() += 1,
        });
        count
    }
}

impl Drop for MoveUnderWay<'_> {
    fn drop(&mut self) {
        self.out.offers.store(None);
        self.connections.end_move();
    }
}

/// What an [`ConnectionInterrupt`] notes of a connection that was offered.
const OFFERED: u8 = 63;

/// How a hand-over of open connections stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoveCount {
    /// Connections that the next process has.
    pub given: u64,
    /// Connections that wait for the word.
    pub offered: u32,
    /// Connections that stay here, by reason.
    pub stay: BTreeMap<StayReason, u32>,
}

/// Notes that a connection stays, and why. One that stays for good, or that was refused, is asked no more in this
/// hand-over.
pub(crate) fn note_stay(interrupt: &ConnectionInterrupt, reason: StayReason) {
    match reason {
        StayReason::Request | StayReason::Buffers | StayReason::Stream | StayReason::Ending => {
            interrupt.answer(reason.code());
        }
        _ => interrupt.decline(reason.code(), reason.is_lasting()),
    }
}
