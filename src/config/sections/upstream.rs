//! `[pool.upstream]`.

use crate::config::declare::{section, words};
use crate::config::forms::{COUNT, ZeroIsNone, integer, some_time};
use std::time::Duration;

section! {
    /// Connections to the backends.
    [pool.upstream]
    #[derive(Debug, Clone, PartialEq)]
    pub struct UpstreamConfig {
        /// For a connect. Nothing was sent then, so another backend is tried.
        connect_timeout: Duration = "1s", some_time();
        /// Longest time without a byte from the backend. Not for upgrades and event streams.
        read_timeout: Duration = "60s", some_time();
        /// Longest time without a byte in either direction of an upgraded connection (a WebSocket, say); it is then
        /// closed in order. `"0s"`: no limit.
        tunnel_timeout: Option<Duration> = "0s", ZeroIsNone(Duration::form());
        /// How long an unused connection is kept. Shorter where the app's `Keep-Alive` says so; stay below the app's
        /// own (5 s in Node.js).
        idle_timeout: Duration = "4s";
        /// Requests in flight on one backend; further ones wait. `0`: no limit.
        max_in_flight: u32 = 0, integer(COUNT);
        /// Receive a body of up to 64 KiB, less the head, whole before a backend is chosen: a client that sends slowly
        /// then occupies no backend, and no drain waits for it. Not for chunked bodies, gRPC, and clients that ask
        /// first (`Expect: 100-continue`).
        request_buffering: bool = true;
        /// Send the client's `Host`; else the backend's address.
        preserve_host: bool = true;
        /// Begin each connection with a PROXY header that says who the client is. Such a connection carries one request
        /// and is not kept. Probes say that they are nobody's (`LOCAL`, `UNKNOWN`).
        proxy_protocol: ProxyProtocol = "off";
        /// Speak HTTP/2 with the backends (by ALPN where there is `[pool.tls]`, else by prior knowledge): what gRPC
        /// apps want. Requests share connections then; upgrades (WebSockets) still go over HTTP/1.1, each on its own.
        http2: bool = false;
    }
}

words! {
    /// The PROXY protocol towards backends, by version.
    #[derive(Default)]
    pub enum ProxyProtocol {
        /// Not used.
        #[default]
        Off = "off",
        /// Text header.
        V1 = "v1",
        /// Binary header.
        V2 = "v2",
    }
}
