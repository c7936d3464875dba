//! The PROXY protocol, on its way in: the proxy in front of us says for whom it has opened a connection.
//!
//! Only `[headers] trusted` may say so. On a listener with `proxy_protocol = true` nobody else is served: whoever could
//! go round the proxy in front would choose its own address.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use pingora::protocols::Stream;
use tokio::io::ReadBuf;

use crate::config::Config;
use crate::metrics::Limit;
use crate::net::proxy_protocol::read::{Header, Malformed, ProxiedSource};
use crate::net::rewound::rewound;
use crate::proxy::client::timer::Timer;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::connection::serve::FIRST_REQUEST;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::refusal::ClientRefusal;
use crate::proxy::transaction::record;
use crate::rt::clock;
use crate::rt::shutdown_signal::{Interrupt, Level};

/// Why nobody else is served, for the log and the metrics.
const UNTRUSTED: &str = "PROXY protocol from an address that is not in [headers] trusted";

/// Read at once. What a client sends behind the header comes along and is kept for the next step.
const PIECE: usize = 1024;

/// Reads the header: the stream begins behind it, and the origin is the client's. `None`: nobody is to be served; it
/// has been counted and logged, and the connection is closed.
pub async fn introduced(
    plane: &DataPlane,
    stream: Stream,
    peer: SocketAddr,
    interrupt: &Interrupt,
    config: &Config,
) -> Option<(Stream, ClientInfo)> {
    let origin = ClientInfo::new(peer, &config.headers);
    let refused = |refusal: ClientRefusal, seen: &[u8]| {
        record::turned_away(plane, &origin.ip, seen, &refusal);
        None
    };
    if !origin.trusted {
        return refused(ClientRefusal::silent(UNTRUSTED), &[]);
    }
    let mut stream = stream;
    let mut seen = Vec::new();
    let found = match read(&mut stream, &mut seen, interrupt, config).await {
        Ok(found) => found,
        Err(MissingHeader::Gone) => return None,
        Err(MissingHeader::Late) => {
            let detail = "the PROXY protocol header took too long";
            return refused(ClientRefusal::limited(Limit::HeaderTimeout, 0, detail), &[]);
        }
        Err(MissingHeader::Malformed(why)) => {
            // A request without a header is a mistake in somebody's configuration: its line helps to find whose.
            let request = match why {
                Malformed::Missing => &seen[..],
                _ => &[],
            };
            return refused(ClientRefusal::silent(why.reason()), request);
        }
    };
    let stream = rewound(stream, &seen[found.len..]);
    let origin = match found.source {
        ProxiedSource::Client(address) => ClientInfo::new(address, &config.headers),
        ProxiedSource::Local => origin,
        // It comes for somebody whom nobody knows, so nothing that it says of itself is believed.
        ProxiedSource::Unknown => ClientInfo {
            trusted: false,
            known: false,
            ..origin
        },
    };
    Some((stream, origin))
}

/// Why there is no header.
enum MissingHeader {
    /// The peer has gone, or is to go.
    Gone,
    /// `header_timeout`.
    Late,
    Malformed(Malformed),
}

async fn read(
    stream: &mut Stream,
    seen: &mut Vec<u8>,
    interrupt: &Interrupt,
    config: &Config,
) -> Result<Header, MissingHeader> {
    let since = clock::now();
    let mut timer = Timer::default();
    poll_fn(|cx| {
        loop {
            let mut piece = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut **stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Err(MissingHeader::Gone)),
                Poll::Pending => break,
            }
            seen.extend_from_slice(piece.filled());
            match crate::net::proxy_protocol::read::parse(seen) {
                Ok(Some(header)) => return Poll::Ready(Ok(header)),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Err(MissingHeader::Malformed(why))),
            }
        }
        interrupt.register(cx.waker());
        let level = interrupt.level();
        if level == Level::Cut {
            return Poll::Ready(Err(MissingHeader::Gone));
        }
        // In a shutdown, a connection that has brought nothing yet is waited for as long as any other.
        if level >= Level::Finish && seen.is_empty() {
            let until = since + FIRST_REQUEST;
            return timer.poll(cx, until).map(|()| Err(MissingHeader::Gone));
        }
        let until = since + config.server.header_timeout;
        timer.poll(cx, until).map(|()| Err(MissingHeader::Late))
    })
    .await
}
