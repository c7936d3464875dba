//! The process that gives connections away: each connection is offered when it can be paused, and *the word* (see
//! [`super`]) decides about it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::MovedConnection;
use crate::core::moving::GivenConnection;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, InterruptSet};

/// Why a connection does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StayReason {
    /// A request is in progress. The connection moves after the response, if the hand-over lasts long enough.
    Request = 1,
    /// Its TLS session can't be exported from the process.
    Tls = 2,
    /// It speaks HTTP/2, whose streams share one state.
    Http2 = 3,
    /// It has a stream whose state can't be exported: a body that is compressed, or received from the backend over
    /// TLS or HTTP/2, or in a framing that isn't tracked.
    Stream = 4,
    /// More bytes are buffered than can be carried; it moves after they have been sent.
    Buffers = 5,
    /// It is about to end.
    Ending = 6,
    /// The next process can't take it: its backend or pool is unknown there.
    Refused = 7,
    /// No descriptor was left for moving it.
    Descriptors = 8,
}

impl StayReason {
    /// All reasons.
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

    /// Returns the name for `status`, the log and the metrics.
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

    /// Returns the number under which a [`ConnectionInterrupt`] stores it.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the reason for a code, the reverse of [`StayReason::code`]. A connection that hasn't answered has a
    /// request, or is about to have one.
    fn of_code(code: u8) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| reason.code() == code)
            .unwrap_or(Self::Request)
    }

    /// Returns whether the reason applies for the connection's whole life.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::Tls | Self::Http2)
    }
}

/// A paused connection that waits for the word.
#[derive(Debug)]
pub struct OfferedConnection {
    /// The data for the next process. It may be dropped as soon as it was sent.
    pub moved: MovedConnection,
    /// Decides which process has the connection. Must be kept until the word was written or has failed.
    pub claim: MoveClaim,
}

/// The right to give one connection away. If dropped without the word, the connection continues here.
pub struct MoveClaim {
    state: GivenConnection,
    word: Option<oneshot::Sender<()>>,
    /// Counts the connection, if it is a client's.
    given: Option<Arc<AtomicU64>>,
}

impl MoveClaim {
    /// Confirms that the word was written: the connection now belongs to the next process. Must only be called after
    /// that.
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

/// Where connections are offered during a hand-over.
#[derive(Debug, Default)]
pub struct MoveOut {
    offers: ArcSwapOption<UnboundedSender<OfferedConnection>>,
    given: Arc<AtomicU64>,
}

impl MoveOut {
    /// Begins a hand-over: asks all of `connections` to move through `offers` as soon as they can be paused.
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

    /// Returns the number of client connections that were given away so far.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Offers a paused connection, and waits for the word. True: it belongs to another process, and nothing more may
    /// be read or written; false: it continues here. The caller's task does nothing else meanwhile, not even in a
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

    /// Like [`Self::offer`] without waiting, for an idle connection to a backend, which belongs to no client: the
    /// receiver gets the word, or an error if there will be none. `None`: no hand-over is in progress.
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

/// A hand-over in progress. When it is dropped, connections that were not given away continue here, and are no longer
/// asked.
pub struct MoveUnderWay<'a> {
    out: &'a MoveOut,
    connections: &'a InterruptSet,
    before: u64,
}

/// Interval of the checks for answers.
const LOOK: Duration = Duration::from_millis(1);

/// A connection that has not answered for this long after another one did is busy with work that doesn't check for
/// the question.
const SILENCE: Duration = Duration::from_millis(20);

impl MoveUnderWay<'_> {
    /// Waits until each connection has offered itself, has ended, or has given its reason to stay, but at most for
    /// `patience`, and not for connections that don't check for the question (see `SILENCE`).
    pub async fn settled(&self, patience: Duration) -> MoveCount {
        let until = clock::now().saturating_add(patience);
        let mut quiet = (0, clock::now());
        loop {
            // A connection may have been opened meanwhile.
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

    /// Returns the current state of the hand-over.
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

/// The code that a [`ConnectionInterrupt`] stores for a connection that was offered.
const OFFERED: u8 = 63;

/// The state of a hand-over of open connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoveCount {
    /// Number of connections that the next process has.
    pub given: u64,
    /// Number of connections that wait for the word.
    pub offered: u32,
    /// Number of connections that stay here, by reason.
    pub stay: BTreeMap<StayReason, u32>,
}

/// Notes that a connection stays, and why. If it stays for good, or was refused, it is not asked again in this
/// hand-over.
pub(crate) fn note_stay(interrupt: &ConnectionInterrupt, reason: StayReason) {
    match reason {
        StayReason::Request | StayReason::Buffers | StayReason::Stream | StayReason::Ending => {
            interrupt.answer(reason.code());
        }
        _ => interrupt.decline(reason.code(), reason.is_lasting()),
    }
}
