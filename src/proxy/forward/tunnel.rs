//! Tunnels after a 101: bytes in both directions, until either side, the drain's deadline or the shutdown ends it.
//!
//! WebSocket frames are tracked (not decoded), so that an orderly close can be inserted between two of them: close
//! code 1001 ("going away"), or 1012 ("service restart") if the backend is about to be restarted.

mod direction;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use direction::TunnelDirection;

use crate::core::Time;
use crate::net::plain::bare_socket;
use crate::net::socket::reset_on_close;
use crate::proxy::buffer::Buffer;
use crate::proxy::client::ClientConnection;
use crate::proxy::messages::websocket::close_frame;
use crate::proxy::moving::state::{MOST_CARRIED, MovedDirection};
use crate::proxy::moving::{StayReason, note_stay};
use crate::registry::endpoint::{CarriedRequest, IdleConnection};
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Longest wait for the peers' answers to a close frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// One of the peers ended it.
    Peers,
    /// One peer's connection broke: the other peer must not mistake that for an orderly end.
    Broken,
    /// The proxy ended it in the way that its protocol prescribes.
    Orderly,
    /// Nothing was transferred for `tunnel_timeout`; the proxy ended it, in the protocol's orderly way if it has one.
    Idle,
    /// It was cut.
    Cut,
}

impl TunnelEnd {
    /// Returns the cause for the log; empty if the tunnel ended well.
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

/// Bytes transferred, including the proxy's own close frames.
#[derive(Debug, Clone, Copy)]
pub struct TunnelBytes {
    /// Bytes read from the client.
    pub from_client: u64,
    /// Bytes written to the client.
    pub to_client: u64,
}

/// The state of a tunnel, without its two connections.
pub struct Tunnel {
    up: TunnelDirection,
    down: TunnelDirection,
    silence: Option<Silence>,
}

impl Tunnel {
    /// Creates a tunnel whose peers have already sent these bytes after the 101. `timeout`: longest time without any
    /// transfer.
    pub fn new(
        outgoing: Buffer,
        incoming: Buffer,
        websocket: bool,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            up: TunnelDirection::new(outgoing, websocket),
            down: TunnelDirection::new(incoming, websocket),
            silence: timeout.map(Silence::new),
        }
    }

    /// Exports the state for another process: both directions, and the time of the last transfer.
    pub fn export(&self) -> (MovedDirection, MovedDirection, Option<u64>) {
        let since = self.silence.as_ref().map(|silence| silence.since);
        (
            self.up.export(),
            self.down.export(),
            since.map(clock::to_machine),
        )
    }

    /// Imports a tunnel that another process has begun.
    pub fn import(
        up: MovedDirection,
        down: MovedDirection,
        since: Option<u64>,
        timeout: Option<Duration>,
    ) -> Self {
        let (up, down) = (TunnelDirection::import(up), TunnelDirection::import(down));
        let silence = timeout.map(|longest| Silence {
            longest,
            since: since.map_or_else(clock::now, clock::from_machine),
            moved: up.moved() + down.moved(),
        });
        Self { up, down, silence }
    }

    /// Ends the tunnel, and returns the bytes transferred.
    pub fn finish(self) -> TunnelBytes {
        let passed = TunnelBytes {
            from_client: self.up.read,
            to_client: self.down.written,
        };
        self.up.buffer.give_back();
        self.down.buffer.give_back();
        passed
    }

    /// Returns why the tunnel can't move now; `None`: it can.
    fn stay_reason(
        &self,
        client: &ClientConnection,
        connection: &IdleConnection,
        is_ending: bool,
    ) -> Option<StayReason> {
        let (up, down) = (&self.up, &self.down);
        let is_websocket = up.frames.is_some();
        if is_ending || (is_websocket && (up.ended || down.ended)) {
            Some(StayReason::Ending)
        } else if up.buffer.len().max(down.buffer.len()) > MOST_CARRIED {
            Some(StayReason::Buffers)
        } else {
            client
                .stays()
                .or_else(|| match bare_socket(&connection.stream) {
                    Some(_) => None,
                    None => Some(StayReason::Stream),
                })
        }
    }
}

/// Runs a tunnel to its end. `carried`: the original request, for lists of what is in flight. `None`: the tunnel waits
/// for bytes; it is paused, and may move to another process.
pub async fn run_tunnel(
    client: &mut ClientConnection,
    connection: &mut IdleConnection,
    tunnel: &mut Tunnel,
    carried: CarriedRequest<'_>,
) -> Option<TunnelEnd> {
    let websocket = tunnel.up.frames.is_some();
    let mut ending: Option<TunnelEnding> = None;
    let mut abandoned = None;
    let end = poll_fn(|cx| {
        client.interrupt.register(cx.waker());
        let ticket = &connection.ticket;
        ticket.interrupt().register(cx.waker());
        if ticket.interrupt().has_inquiry() {
            (ticket.endpoint()).answer_inquiry(ticket.interrupt(), carried);
        }
        let wish = close_intent(client, connection);
        if wish == CloseIntent::Cut {
            return Poll::Ready(Some(TunnelEnd::Cut));
        }
        if let CloseIntent::EndAt(at, code) = wish
            && ending.is_none()
            && client.timer.poll(cx, at).is_ready()
        {
            if !websocket {
                return Poll::Ready(Some(TunnelEnd::Cut));
            }
            ending = Some(TunnelEnding::new(code));
        }
        let frames = ending
            .as_ref()
            .map(|ending| (&ending.to_client[..], &ending.to_backend[..]));
        let (to_client, to_backend) = frames.unzip();
        let upstream = &mut connection.stream;
        let Tunnel { up, down, .. } = &mut *tunnel;
        let moved_up = up.poll_move(cx, &mut client.stream, upstream, to_backend);
        let moved_down = down.poll_move(cx, upstream, &mut client.stream, to_client);
        if moved_up.is_err() || moved_down.is_err() {
            // A reset towards the other peer would destroy data that is still on its way there. WebSocket peers
            // recognize a complete message; with other protocols, a broken connection must not look like an orderly
            // end.
            return Poll::Ready(Some(match (&ending, websocket) {
                (Some(ending), true) if ending.by_silence => TunnelEnd::Idle,
                (_, true) => TunnelEnd::Peers,
                (_, false) => TunnelEnd::Broken,
            }));
        }
        if up.shut && down.shut && ending.as_ref().is_none_or(|ending| !ending.by_silence) {
            return Poll::Ready(Some(TunnelEnd::Peers));
        }
        if wish == CloseIntent::Move {
            match tunnel.stay_reason(client, connection, ending.is_some()) {
                None => return Poll::Ready(None),
                Some(reason) => note_stay(&client.interrupt, reason),
            }
        }
        let Tunnel { up, down, silence } = &mut *tunnel;
        if ending.is_none()
            && let Some(silence) = silence
        {
            let until = silence.until(up.moved() + down.moved());
            if client.timer.poll(cx, until).is_ready() {
                if !websocket {
                    return Poll::Ready(Some(TunnelEnd::Idle));
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
            // RFC 6455 §7.1.1: when one side has closed the connection, the other has nothing more to send.
            let until = *abandoned.get_or_insert_with(|| clock::now() + FAREWELL);
            return client
                .timer
                .poll(cx, until)
                .map(|()| Some(TunnelEnd::Peers));
        };
        let orderly = match ending.by_silence {
            true => TunnelEnd::Idle,
            false => TunnelEnd::Orderly,
        };
        if up.is_silent() && down.is_silent() {
            return Poll::Ready(Some(orderly));
        }
        if up.is_broken() || down.is_broken() {
            return Poll::Ready(Some(TunnelEnd::Cut));
        }
        // A peer that has read nothing for so long won't answer a close frame.
        let is_said = up.has_said_farewell() && down.has_said_farewell();
        if !is_said && !ending.by_silence {
            // A frame is being sent. It may take as long as the drain's deadline allows.
            return Poll::Pending;
        }
        let until = *ending.until.get_or_insert_with(|| clock::now() + FAREWELL);
        client.timer.poll(cx, until).map(|()| Some(orderly))
    })
    .await;
    if matches!(end, Some(TunnelEnd::Broken | TunnelEnd::Cut)) {
        reset_on_close(&connection.stream);
    }
    end
}

/// An orderly close in progress.
struct TunnelEnding {
    to_client: Vec<u8>,
    to_backend: Vec<u8>,
    /// Deadline for the answers, set once both peers have got a close frame; after a silence, set at once.
    until: Option<Time>,
    /// Whether the reason is that nothing was transferred for too long.
    by_silence: bool,
}

impl TunnelEnding {
    fn new(code: u16) -> Self {
        let reason = if code == 1012 {
            "service restart"
        } else {
            "going away"
        };
        // RFC 6455 §5.3: frames to the server are masked, with an unpredictable key.
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

/// Measures the time without any transfer.
struct Silence {
    longest: Duration,
    since: Time,
    /// Bytes transferred up to that time.
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

    /// Returns when the silence has lasted for too long, given the bytes transferred up to now.
    fn until(&mut self, moved: u64) -> Time {
        if moved != self.moved {
            (self.since, self.moved) = (clock::now(), moved);
        }
        self.since.saturating_add(self.longest)
    }
}

/// What a shutdown or drain demands of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseIntent {
    GoOn,
    /// The tunnel is to continue in another process.
    Move,
    EndAt(Time, u16),
    Cut,
}

fn close_intent(client: &ClientConnection, connection: &IdleConnection) -> CloseIntent {
    let upstream = connection.ticket.interrupt();
    match client.interrupt.level().max(upstream.level()) {
        ShutdownLevel::Cut => CloseIntent::Cut,
        ShutdownLevel::EndRestart | ShutdownLevel::End => {
            let code = if upstream.level() == ShutdownLevel::EndRestart {
                1012
            } else {
                1001
            };
            let by_backend = upstream.level() >= ShutdownLevel::End;
            CloseIntent::EndAt(
                if by_backend {
                    upstream.at()
                } else {
                    client.interrupt.at()
                },
                code,
            )
        }
        ShutdownLevel::Move => CloseIntent::Move,
        ShutdownLevel::Run | ShutdownLevel::Finish => CloseIntent::GoOn,
    }
}
