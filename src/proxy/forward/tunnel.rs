//! After a 101: bytes both ways, until either side ends it, the drain's deadline does, or the shutdown's.
//!
//! WebSocket frames are followed (not unpacked), so that an orderly end can be put between two of them:
//! close code 1001 ("going away"), or 1012 ("service restart") where the backend is about to be restarted.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::protocols::Stream;

use crate::core::Time;
use crate::net::socket::reset_on_close;
use crate::proxy::buffer::{Buffer, LARGE};
use crate::proxy::client::ClientConnection;
use crate::proxy::messages::websocket::{FrameTracker, close_frame};
use crate::registry::endpoint::IdleConnection;
use crate::rt::clock;
use crate::rt::shutdown_signal::Level;

/// How long the peers may take to answer a close frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// One of the peers ended it.
    Peers,
    /// The connection of one of them broke: the other must not take that for an end.
    Broken,
    /// We ended it in the protocol's orderly way.
    Orderly,
    /// Nothing has passed for `tunnel_timeout`; we ended it, in the protocol's orderly way if it has one.
    Idle,
    /// It was cut.
    Cut,
}

impl TunnelEnd {
    /// For the log; empty where it ended well.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peers => "",
            Self::Broken => "broken",
            Self::Orderly => "closed_orderly",
            Self::Idle => "tunnel_timeout",
            Self::Cut => "cut",
        }
    }
}

/// One direction.
struct Direction {
    buffer: Buffer,
    /// Frames seen in it; `None` where the protocol isn't WebSocket.
    frames: Option<FrameTracker>,
    /// Bytes of `buffer` that may go out.
    passable: usize,
    /// Our close frame, once it is to be sent.
    farewell: Vec<u8>,
    farewell_sent: usize,
    /// Nothing of the source is passed on any more.
    closing: bool,
    /// The source has ended.
    ended: bool,
    /// The sink was told.
    shut: bool,
    /// The sink takes no more.
    dead: bool,
    /// Bytes read from the source.
    read: u64,
    /// Bytes written to the sink.
    written: u64,
}

impl Direction {
    fn new(buffer: Buffer, websocket: bool) -> Self {
        Self {
            read: buffer.len() as u64,
            written: 0,
            buffer,
            frames: websocket.then(FrameTracker::new),
            passable: 0,
            farewell: Vec::new(),
            farewell_sent: 0,
            closing: false,
            ended: false,
            shut: false,
            dead: false,
        }
    }

    /// Bytes that were read or written here: it grows with everything that happens.
    fn moved(&self) -> u64 {
        self.read + self.written
    }

    /// The source has said its last: by a close frame, or by its end.
    fn is_silent(&self) -> bool {
        self.ended || self.frames.as_ref().is_some_and(FrameTracker::saw_close)
    }

    /// What passes here can't be WebSocket frames: there is no place for one of ours.
    fn is_broken(&self) -> bool {
        self.frames.as_ref().is_some_and(FrameTracker::is_broken)
    }

    /// Lets go what was read; while an end is wanted, only up to the next frame boundary.
    fn admit(&mut self, farewell: Option<&[u8]>) {
        let fresh = &self.buffer.bytes()[self.passable..];
        let Some(frames) = &mut self.frames else {
            self.passable = self.buffer.len();
            return;
        };
        if self.closing {
            // Only the answer to our close frame is of interest now.
            frames.feed(fresh);
            self.buffer
                .cut(self.passable, self.buffer.len() - self.passable);
            return;
        }
        if let Some(farewell) = farewell
            && let Some(boundary) = frames.next_boundary(fresh)
        {
            frames.feed(&fresh[..boundary]);
            if !frames.saw_close() {
                self.farewell = farewell.to_vec();
            }
            frames.feed(&fresh[boundary..]);
            self.passable += boundary;
            self.buffer
                .cut(self.passable, self.buffer.len() - self.passable);
            self.closing = true;
            return;
        }
        frames.feed(fresh);
        self.passable = self.buffer.len();
    }

    /// Whether our close frame, or nothing after the peers' own, is all that was left to be sent.
    fn has_said_farewell(&self) -> bool {
        self.dead
            || (self.closing && self.passable == 0 && self.farewell_sent == self.farewell.len())
    }

    /// Moves what can be moved, until it has to wait. A sink that takes no more ends this direction: what its peer
    /// said before still arrives in the other. An error of the source ends the tunnel.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        farewell: Option<&[u8]>,
    ) -> io::Result<()> {
        while !self.dead {
            self.admit(farewell);
            match self.poll_empty(cx, to) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.dead = true;
                    (self.ended, self.shut) = (true, true);
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
            if self.ended {
                // An error here is as good an end as any.
                self.shut = self.shut || Pin::new(&mut **to).poll_shutdown(cx).is_ready();
                return Ok(());
            }
            match self.buffer.poll_fill(cx, from, LARGE) {
                Poll::Ready(count) => {
                    let count = count?;
                    self.read += count as u64;
                    self.ended = count == 0;
                }
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Writes what may go out.
    fn poll_empty(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while self.passable > 0 {
            let passing = &self.buffer.bytes()[..self.passable];
            let count = ready!(poll_some(cx, to, passing))?;
            self.buffer.consume(count);
            self.passable -= count;
            self.written += count as u64;
        }
        while self.farewell_sent < self.farewell.len() {
            let left = &self.farewell[self.farewell_sent..];
            let count = ready!(poll_some(cx, to, left))?;
            self.farewell_sent += count;
            self.written += count as u64;
        }
        Pin::new(&mut **to).poll_flush(cx)
    }
}

/// Writes at least one byte.
fn poll_some(cx: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(&mut **to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        result => Poll::Ready(result),
    }
}

/// What has passed, our own close frames included.
#[derive(Debug, Clone, Copy)]
pub struct TunnelBytes {
    /// Bytes read from the client.
    pub from_client: u64,
    /// Bytes written to the client.
    pub to_client: u64,
}

/// Runs a tunnel to its end. `incoming` is what the backend sent behind its 101; `timeout`: how long nothing may pass.
pub async fn run_tunnel(
    client: &mut ClientConnection,
    connection: &mut IdleConnection,
    incoming: Buffer,
    websocket: bool,
    timeout: Option<Duration>,
) -> (TunnelEnd, TunnelBytes) {
    let mut up = Direction::new(std::mem::take(&mut client.buffer), websocket);
    let mut down = Direction::new(incoming, websocket);
    let mut ending: Option<TunnelEnding> = None;
    let mut abandoned = None;
    let mut silence = timeout.map(Silence::new);
    let end = poll_fn(|cx| {
        client.interrupt.register(cx.waker());
        connection.ticket.interrupt().register(cx.waker());
        let wish = wish(client, connection);
        if wish == CloseIntent::Cut {
            return Poll::Ready(TunnelEnd::Cut);
        }
        if let CloseIntent::EndAt(at, code) = wish
            && ending.is_none()
            && client.timer.poll(cx, at).is_ready()
        {
            if !websocket {
                return Poll::Ready(TunnelEnd::Cut);
            }
            ending = Some(TunnelEnding::new(code));
        }
        let frames = ending
            .as_ref()
            .map(|ending| (&ending.to_client[..], &ending.to_backend[..]));
        let (to_client, to_backend) = frames.unzip();
        let upstream = &mut connection.stream;
        let moved_up = up.poll_move(cx, &mut client.stream, upstream, to_backend);
        let moved_down = down.poll_move(cx, upstream, &mut client.stream, to_client);
        if moved_up.is_err() || moved_down.is_err() {
            // A reset towards the other peer would destroy what is still on its way there. WebSocket peers know a
            // whole message when they see one; others must not take a break for an end.
            return Poll::Ready(match (&ending, websocket) {
                (Some(ending), true) if ending.by_silence => TunnelEnd::Idle,
                (_, true) => TunnelEnd::Peers,
                (_, false) => TunnelEnd::Broken,
            });
        }
        if up.shut && down.shut && ending.as_ref().is_none_or(|ending| !ending.by_silence) {
            return Poll::Ready(TunnelEnd::Peers);
        }
        if ending.is_none()
            && let Some(silence) = &mut silence
        {
            let until = silence.until(up.moved() + down.moved());
            if client.timer.poll(cx, until).is_ready() {
                if !websocket {
                    return Poll::Ready(TunnelEnd::Idle);
                }
                // The close frames go out in the next turn.
                ending = Some(TunnelEnding::of_silence());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let Some(ending) = &mut ending else {
            if !websocket || !(up.ended || down.ended) {
                return Poll::Pending;
            }
            // RFC 6455 §7.1.1: when one side has closed the connection, the other has nothing more to say.
            let until = *abandoned.get_or_insert_with(|| clock::now() + FAREWELL);
            return client.timer.poll(cx, until).map(|()| TunnelEnd::Peers);
        };
        let orderly = match ending.by_silence {
            true => TunnelEnd::Idle,
            false => TunnelEnd::Orderly,
        };
        if up.is_silent() && down.is_silent() {
            return Poll::Ready(orderly);
        }
        if up.is_broken() || down.is_broken() {
            return Poll::Ready(TunnelEnd::Cut);
        }
        // Of a peer that has taken nothing for so long, nothing is hoped for.
        let is_said = up.has_said_farewell() && down.has_said_farewell();
        if !is_said && !ending.by_silence {
            // A frame is on its way. It may take as long as the drain's deadline lets it.
            return Poll::Pending;
        }
        let until = *ending.until.get_or_insert_with(|| clock::now() + FAREWELL);
        client.timer.poll(cx, until).map(|()| orderly)
    })
    .await;
    if matches!(end, TunnelEnd::Broken | TunnelEnd::Cut) {
        reset_on_close(&connection.stream);
    }
    let passed = TunnelBytes {
        from_client: up.read,
        to_client: down.written,
    };
    up.buffer.give_back();
    down.buffer.give_back();
    (end, passed)
}

/// An orderly end under way.
struct TunnelEnding {
    to_client: Vec<u8>,
    to_backend: Vec<u8>,
    /// How long the answers are waited for, from when both peers have been told.
    until: Option<Time>,
    /// Because nothing has passed for too long.
    by_silence: bool,
}

impl TunnelEnding {
    fn new(code: u16) -> Self {
        let reason = if code == 1012 {
            "service restart"
        } else {
            "going away"
        };
        // RFC 6455 §5.3: what goes to the server is masked, with a key nobody can foresee.
        let mask = fastrand::u32(..).to_be_bytes();
        Self {
            to_client: close_frame(code, reason, None).to_vec(),
            to_backend: close_frame(code, reason, Some(mask)).to_vec(),
            until: None,
            by_silence: false,
        }
    }

    fn of_silence() -> Self {
        Self {
            by_silence: true,
            ..Self::new(1001)
        }
    }
}

/// For how long nothing has passed.
struct Silence {
    longest: Duration,
    since: Time,
    /// What had passed by then, in bytes.
    moved: u64,
}

impl Silence {
    fn new(longest: Duration) -> Self {
        Self {
            longest,
            since: clock::now(),
            moved: 0,
        }
    }

    /// When it has lasted for too long, if so much has passed by now.
    fn until(&mut self, moved: u64) -> Time {
        if moved != self.moved {
            (self.since, self.moved) = (clock::now(), moved);
        }
        self.since.saturating_add(self.longest)
    }
}

/// What the outside wants of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseIntent {
    GoOn,
    EndAt(Time, u16),
    Cut,
}

fn wish(client: &ClientConnection, connection: &IdleConnection) -> CloseIntent {
    let upstream = connection.ticket.interrupt();
    match client.interrupt.level().max(upstream.level()) {
        Level::Cut => CloseIntent::Cut,
        Level::EndRestart | Level::End => {
            let code = if upstream.level() == Level::EndRestart {
                1012
            } else {
                1001
            };
            let by_backend = upstream.level() >= Level::End;
            CloseIntent::EndAt(
                if by_backend {
                    upstream.at()
                } else {
                    client.interrupt.at()
                },
                code,
            )
        }
        Level::Run | Level::Move | Level::Finish => CloseIntent::GoOn,
    }
}
