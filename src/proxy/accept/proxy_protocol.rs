//! The PROXY protocol for incoming connections: the proxy in front reports for which client it has opened a
//! connection.
//!
//! Only addresses in `[headers] trusted` may report that. A listener with `proxy_protocol = true` serves no other
//! peer: a client that could bypass the proxy in front could choose its own address.

use std::net::SocketAddr;

use pingora::protocols::Stream;

use crate::config::Config;
use crate::metrics::ServerLimit;
use crate::net::proxy_protocol::read::{ProxiedSource, ProxyHeader, ProxyHeaderError, parse};
use crate::net::rewound::rewound;
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::connection::serve::FIRST_REQUEST;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::refusal::ClientRefusal;
use crate::proxy::transaction::record;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// Why an untrusted peer is not served, for the log and the metrics.
const UNTRUSTED: &str = "PROXY protocol from an address that is not in [headers] trusted";

/// Reads the PROXY header. Returns the stream after it, and what is known about the client. `None`: the client is not
/// served, and the connection is closed; a refusal has been counted and logged.
pub async fn introduced(
    plane: &DataPlane,
    stream: Stream,
    peer: Option<SocketAddr>,
    interrupt: &ConnectionInterrupt,
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
            return refused(
                ClientRefusal::limited(ServerLimit::HeaderTimeout, 0, detail),
                &[],
            );
        }
        Err(MissingHeader::Malformed(why)) => {
            // A request without a PROXY header is a configuration error somewhere; its request line in the log helps
            // to find it.
            let request = match why {
                ProxyHeaderError::Missing => &seen[..],
                _ => &[],
            };
            return refused(ClientRefusal::silent(why.reason()), request);
        }
    };
    let stream = rewound(stream, &seen[found.len..]);
    let origin = match found.source {
        ProxiedSource::Client(address) => ClientInfo::new(Some(address), &config.headers),
        ProxiedSource::Local => origin,
        // The proxy in front does not name the client, so header fields that name the client are not trusted.
        ProxiedSource::Unknown => ClientInfo {
            trusted: false,
            known: false,
            ..origin
        },
    };
    Some((stream, origin))
}

/// Why there is no PROXY header.
enum MissingHeader {
    /// The peer has closed the connection, or the proxy is about to close it.
    Gone,
    /// `header_timeout` has passed.
    Late,
    Malformed(ProxyHeaderError),
}

async fn read(
    stream: &mut Stream,
    seen: &mut Vec<u8>,
    interrupt: &ConnectionInterrupt,
    config: &Config,
) -> Result<ProxyHeader, MissingHeader> {
    let since = clock::now();
    let recognise = |seen: &[u8]| match parse(seen) {
        Ok(header) => header.map(Ok),
        Err(why) => Some(Err(MissingHeader::Malformed(why))),
    };
    let limit = |level: ShutdownLevel, seen: &[u8]| match seen.is_empty() {
        // During a shutdown, a connection without any byte yet gets as long as other new connections.
        true if level >= ShutdownLevel::Finish => (since + FIRST_REQUEST, MissingHeader::Gone),
        _ => (since + config.server.header_timeout, MissingHeader::Late),
    };
    BoundedWait::new(interrupt)
        .read_until(stream, seen, recognise, || MissingHeader::Gone, limit)
        .await?
}
