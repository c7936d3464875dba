//! The table of all sections and keys, as data. [`schema`](super::schema) says what can be asked of it.

use super::schema::{Key, Section};

const fn key(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        form,
        default: Some(default),
        example: default,
        doc,
        is_needed: false,
        restart: false,
    }
}

const fn needed(
    name: &'static str,
    form: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        form,
        default: None,
        example,
        doc,
        is_needed: true,
        restart: false,
    }
}

/// All of them, in the order in which people should write them.
#[rustfmt::skip] // One key a line: it is a table.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "",
        header: "",
        doc: "",
        keys: &[],
    },
    Section {
        name: "server",
        header: "[server]",
        doc: "Threads, shutdown, and the limits of client connections.",
        keys: &[
            key("threads", "integer", "0", "Threads that carry traffic. `0`: one for each core. A change needs a restart."),
            key("lame_duck", "duration", "\"5s\"", "How long to go on accepting connections after TERM, while `/-/ready` already says 503, so that whoever routes to this proxy can notice."),
            key("deadline", "duration", "\"30s\"", "Hard end of a shutdown, counted from TERM: what is still in flight then is cut. Must be longer than `lame_duck`; keep it below the supervisor's kill time."),
            key("state_dir", "directory", "\"\"", "Where drains survive a restart of the proxy. `\"\"`: they don't. A change needs a restart."),
            key("max_connections", "integer, or `auto`", "\"auto\"", "Client connections at once; further ones get a 503 and are closed. `\"auto\"`: half of the descriptors that the process may open, and no more than one for each 64KiB of its memory. `0`: no limit."),
            key("max_connections_per_client", "integer", "0", "Of those, from one address (IPv6: from one /64); further ones get a 429 and are closed. The address is the peer's: everybody behind one proxy or NAT counts as one client. `0`: no limit."),
            key("max_requests_per_connection", "integer", "0", "Requests on one client connection; the response to the last one says `Connection: close`. `0`: no limit."),
            key("max_concurrent_streams", "integer, 1 to 10000", "128", "Requests of HTTP/2 on one client connection at once; further ones are refused, and can be sent again."),
            key("max_stream_resets", "integer", "500", "Requests of HTTP/2 that a client may cancel within 10 s on one connection, where these are more than half of all; then the connection is closed (rapid reset). What it makes the proxy cancel counts, too, and so does what a backend ends early on one of its sessions. `0`: no limit."),
            key("header_timeout", "duration", "\"10s\"", "Time for a request's header block to arrive, from its first byte; then 408."),
            key("idle_timeout", "duration", "\"60s\"", "How long a client connection may stay open between two requests."),
            key("body_timeout", "duration", "\"30s\"", "Longest time without progress while a request's or response's body is on its way to or from the client; then 408, or the connection is cut."),
            key("min_body_rate", "size a second, or `auto`", "\"auto\"", "Slowest request body: the client may make the proxy wait for `rate_grace`, and one second more for each so many bytes sent; then 408. `\"auto\"`: 128 bytes, after `body_timeout`, for bodies with a `Content-Length`. `\"0\"`: no limit."),
            key("min_response_rate", "size a second, or `auto`", "\"auto\"", "Slowest taking of a response, counted the same way; then the connection is cut. `\"auto\"`: 128 bytes, after `body_timeout`. `\"0\"`: no limit."),
            key("rate_grace", "duration", "\"5s\"", "What a configured `min_body_rate` or `min_response_rate` leaves to a client that sends or takes nothing."),
            key("total_timeout", "duration", "\"0s\"", "For a whole request with its response, from its complete header block on: 408 where the client is late, 504 where the backend is, cut where the response had begun. Not for upgrades and event streams. `\"0s\"`: no limit."),
            key("tcp_keepalive", "duration", "\"60s\"", "After so much silence the kernel asks a client or backend whether it is still there, six times at most, a sixth of it apart; one that doesn't answer is gone (2 minutes by default). Whole seconds, up to 9 hours. `\"0s\"`: never, and a peer that vanishes holds its WebSocket for ever."),
            key("max_header", "size", "\"64KiB\"", "Largest request header block; beyond: 431. At least 1KiB, at most 1MiB."),
            key("max_uri", "size", "\"16KiB\"", "Longest request target; beyond: 414. At least 1KiB, at most 1MiB."),
            key("max_body", "size", "\"0\"", "Largest request body; beyond: 413. `\"0\"`: no limit."),
            key("max_memory", "size, or `auto`", "\"auto\"", "What all clients together may make the proxy keep: long header blocks, bodies on their way, responses not taken yet. Where it is used up, the requests that have been incomplete for longest are answered with 408; small requests are always served. `\"auto\"`: a sixteenth of the memory that the process may use, at least 32MiB and at most 512MiB. `\"0\"`: no limit."),
            key("max_memory_per_connection", "size", "\"512KiB\"", "Of that, the requests of one HTTP/2 connection, as far as they need more than 4KiB each; further ones are refused, and can be sent again. `\"0\"`: no limit."),
        ],
    },
    Section {
        name: "admin",
        header: "[admin]",
        doc: "The admin API. A change here needs a restart.",
        keys: &[
            key("socket", "path", "\"\"", "Unix socket of the API. `\"\"`: `/run/lameduck/lameduck.sock`, or `$XDG_RUNTIME_DIR/lameduck.sock` where that can't be bound."),
            key("mode", "text, octal", "\"0660\"", "Permissions of the socket: who may write to it may drain backends."),
            key("group", "text", "\"\"", "Group of the socket. `\"\"`: the process's own."),
            key("http", "IP address and port", "\"127.0.0.1:9901\"", "TCP address of the whole API. Without `token_file` it is read-only, and off loopback it serves `/-/*` only. `\"\"`: none."),
            key("token_file", "path", "\"\"", "File with the bearer token that changes over TCP need (and, off loopback, everything but `/-/*`). `\"\"`: none."),
            key("probes", "IP address and port", "\"\"", "TCP address for `/-/*` and `/metrics` only: for a kubelet, a load balancer, Prometheus. `\"\"`: none."),
            key("hosts", "list of host names", "[]", "Names by which clients may ask `http` (the `Host` of their requests), beside its own addresses and `localhost`: against web pages that make their own name point here (DNS rebinding)."),
            key("apps_socket", "path", "\"\"", "Unix socket for apps and their launchers: each may register, lease, drain and resume its own instance, and do nothing else. `\"\"`: none."),
            key("apps_mode", "text, octal", "\"0660\"", "Permissions of `apps_socket`: `\"0666\"` lets every user's apps in."),
            key("apps_group", "text", "\"\"", "Group of `apps_socket`. `\"\"`: the process's own."),
            key("apps_pools", "list of pools", "[]", "Pools that may be entered through `apps_socket`. `[]`: all."),
        ],
    },
    Section {
        name: "access_log",
        header: "[access_log]",
        doc: "One line for each request.",
        keys: &[
            key("path", "\"stdout\", \"off\" or path", "\"stdout\"", "Where the lines go. A file is opened again on HUP and USR1."),
            key("format", "\"json\" or \"combined\"", "\"json\"", "One JSON object a line, or the format of Apache and nginx with lameduck's fields at the end."),
        ],
    },
    Section {
        name: "headers",
        header: "[headers]",
        doc: "Header fields that are added to requests on their way to the app.",
        keys: &[
            key("trusted", "list of networks", "[]", "Clients whose own `X-Forwarded-*` and `Forwarded` are kept and added to, such as `[\"10.0.0.0/8\"]`. Everybody else's are replaced."),
            key("x_forwarded", "true or false", "true", "`X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`."),
            key("forwarded", "true or false", "false", "`Forwarded` (RFC 7239)."),
            key("via", "true or false", "false", "`Via` (RFC 9110, section 7.6.3)."),
            key("request_id", "true or false", "true", "`X-Request-Id`: the client's where it is sane, else a new one."),
        ],
    },
    Section {
        name: "listener",
        header: "[[listener]]",
        doc: "Where clients connect. At least one; `lameduck run --listen` replaces all of them.",
        keys: &[
            needed("address", "IP address and port", "\"0.0.0.0:8080\"", "Where to listen. Port 0: any free one."),
            key("reuse_port", "true or false", "false", "`SO_REUSEPORT`: a second lameduck may listen on the same address and take over. A change needs a restart."),
            key("http2", "true or false", "false", "HTTP/2. With TLS it is offered to clients that can (ALPN), and `true` by default; without TLS it is for clients that know already (prior knowledge)."),
            key("proxy_protocol", "true or false", "false", "Each connection begins with a PROXY protocol header, version 1 or 2, that names the client. Only `trusted` of `[headers]` may send one, and nobody else is served here."),
            key("redirect_https", "true, false or port", "false", "Answer every request with a redirect to HTTPS, on port 443 (`true`) or another: 301 for GET and HEAD, 308 for other methods. Not with `tls`."),
            key("hsts", "duration", "\"0s\"", "`Strict-Transport-Security` on every response, with this `max-age`, unless the app sends its own. Needs `tls`. `\"0s\"`: none."),
        ],
    },
    Section {
        name: "listener.tls",
        header: "[listener.tls]",
        doc: "TLS on a listener; in one line: `tls = { cert = \"FILE\", key = \"FILE\" }`. The files are read again on a reload and when they change.",
        keys: &[
            Key {
                name: "cert",
                form: "path",
                default: None,
                example: "\"/etc/lameduck/tls/fullchain.pem\"",
                doc: "PEM file with the certificate, then the intermediate ones. Left out: the first of `certificates` is the default one.",
                is_needed: false,
                restart: false,
            },
            Key {
                name: "key",
                form: "path",
                default: None,
                example: "\"/etc/lameduck/tls/privkey.pem\"",
                doc: "PEM file with its private key, not encrypted. Left out together with `cert`.",
                is_needed: false,
                restart: false,
            },
            key("client_auth", "\"off\", \"optional\" or \"required\"", "\"off\"", "Whether clients show a certificate. The app learns of it in `X-Client-Cert-…`."),
            key("client_ca", "path", "\"\"", "PEM file with the certificates of those who may sign clients'. Needed unless `client_auth = \"off\"`."),
            key("client_crl", "path", "\"\"", "PEM file with revocation lists: one of each authority in the chains of clients' certificates. Revoked ones are refused."),
            key("min_version", "\"1.2\" or \"1.3\"", "\"1.2\"", "The oldest version of TLS that is spoken."),
        ],
    },
    Section {
        name: "listener.tls.certificates",
        header: "[[listener.tls.certificates]]",
        doc: "Further certificates; a client gets the one that has the name it asks for (SNI), else the first.",
        keys: &[
            needed("cert", "path", "\"/etc/lameduck/tls/fullchain.pem\"", "As in `[listener.tls]`."),
            needed("key", "path", "\"/etc/lameduck/tls/privkey.pem\"", "As in `[listener.tls]`."),
        ],
    },
    Section {
        name: "pool",
        header: "[[pool]]",
        doc: "The instances of one app. At least one.",
        keys: &[
            needed("name", "text", "\"app\"", "Unique. Letters, digits, `.`, `_` and `-`."),
            key("balance", "\"least_requests\", \"round_robin\" or \"random\"", "\"least_requests\"", "How to choose among backends that are ready: fewest requests in flight, in turn, or by chance; all by weight."),
        ],
    },
    Section {
        name: "pool.backend",
        header: "[[pool.backend]]",
        doc: "One instance. A pool may start without any and be filled by `lameduck register` or the API.",
        keys: &[
            Key {
                name: "name",
                form: "text",
                default: None,
                example: "\"app-1\"",
                doc: "Unique in its pool. Letters, digits, `.`, `_` and `-`. Left out: the pool's name, a dash and its place, from 1.",
                is_needed: false,
                restart: false,
            },
            needed("address", "address", "\"127.0.0.1:3000\"", "`host:port` (a name is resolved again and again), `[v6]:port`, or `unix:/path`."),
            key("weight", "integer, 0 to 1000", "1", "Its share of the traffic against its neighbours'. `0`: probed, and sent nothing."),
        ],
    },
    Section {
        name: "pool.health",
        header: "[pool.health]",
        doc: "How the pool's backends are probed. Leave the whole section out and it is `GET /health`, where an app that answers 404, 405 or 501 is checked by a TCP connect instead, with a warning. A section that is written is taken at its word.",
        keys: &[
            key("type", "\"http\", \"tcp\" or \"grpc\"", "\"http\"", "Send a request; only connect (with the handshake, where there is TLS); or call `grpc.health.v1.Health/Check`, over HTTP/2: `SERVING` passes, `NOT_SERVING` is draining."),
            key("path", "text", "\"/health\"", "What to ask for (http)."),
            key("host", "text", "\"\"", "The `Host` field (http), or `:authority` (grpc). `\"\"`: the backend's address."),
            key("method", "text", "\"GET\"", "The method (http)."),
            key("headers", "table of texts", "{}", "Further fields (http), such as `{ \"X-Probe\" = \"lameduck\" }`."),
            key("expect", "list", "[\"2xx\"]", "Statuses that pass (http): `204`, `\"2xx\"`, `\"200-299\"`. A 503 always means draining, unless listed."),
            key("service", "text", "\"\"", "Which service to ask about (grpc). `\"\"`: the server as a whole."),
            key("port", "integer", "0", "Probe another port than the backend's. `0`: the same."),
            key("tls", "true or false", "true", "Whether `[pool.tls]` holds for probes, too. `false`: probes go without TLS, to a `port` of their own."),
            key("interval", "duration", "\"1s\"", "From one probe to the next."),
            key("timeout", "duration", "\"1s\"", "For one probe."),
            key("fast_interval", "duration", "\"100ms\"", "From one probe to the next while starting, and after a first failure."),
            key("rise", "integer", "2", "Passes in a row before a backend takes traffic."),
            key("fall", "integer", "3", "Failures in a row that make it down."),
            key("fall_timeout", "integer", "5", "Timed-out probes in a row that make it down. They take out nobody while no other ready backend answers in time."),
            key("absent_after", "duration", "\"30s\"", "A backend that stopped by itself becomes down, with an alert, when it stays away longer."),
        ],
    },
    Section {
        name: "pool.drain",
        header: "[pool.drain]",
        doc: "How backends leave.",
        keys: &[
            key("deadline", "duration", "\"30s\"", "How long a drain may take; what is still in flight then is cut. `lameduck drain --timeout` overrides it."),
            key("close_spread", "duration", "\"5s\"", "WebSockets and event streams are closed in order, spread over this long before the deadline. At most `deadline`."),
            key("cut_on_503", "true or false", "false", "Whether an app that says 503 of itself gets a deadline. `false`: its work is never cut, so that a database outage costs no request."),
        ],
    },
    Section {
        name: "pool.upstream",
        header: "[pool.upstream]",
        doc: "Connections to the backends.",
        keys: &[
            key("connect_timeout", "duration", "\"1s\"", "For a connect. Nothing was sent then, so another backend is tried."),
            key("read_timeout", "duration", "\"60s\"", "Longest time without a byte from the backend. Not for upgrades and event streams."),
            key("tunnel_timeout", "duration", "\"0s\"", "Longest time without a byte in either direction of an upgraded connection (a WebSocket, say); it is then closed in order. `\"0s\"`: no limit."),
            key("idle_timeout", "duration", "\"4s\"", "How long an unused connection is kept. Shorter where the app's `Keep-Alive` says so; stay below the app's own (5 s in Node.js)."),
            key("max_in_flight", "integer", "0", "Requests in flight on one backend; further ones wait. `0`: no limit."),
            key("request_buffering", "true or false", "true", "Receive a body of up to 64 KiB, less the head, whole before a backend is chosen: a client that sends slowly then occupies no backend, and no drain waits for it. Not for chunked bodies, gRPC, and clients that ask first (`Expect: 100-continue`)."),
            key("preserve_host", "true or false", "true", "Send the client's `Host`; else the backend's address."),
            key("proxy_protocol", "\"off\", \"v1\" or \"v2\"", "\"off\"", "Begin each connection with a PROXY header that says who the client is. Such a connection carries one request and is not kept. Probes say that they are nobody's (`LOCAL`, `UNKNOWN`)."),
            key("http2", "true or false", "false", "Speak HTTP/2 with the backends (by ALPN where there is `[pool.tls]`, else by prior knowledge): what gRPC apps want. Requests share connections then; upgrades (WebSockets) still go over HTTP/1.1, each on its own."),
        ],
    },
    Section {
        name: "pool.tls",
        header: "[pool.tls]",
        doc: "TLS towards the backends; leave the section out and there is none. The files are read again at each reload.",
        keys: &[
            key("ca", "path", "\"\"", "PEM file with the certificates of the authorities that sign the backends'. `\"\"`: those of the system."),
            key("server_name", "text", "\"\"", "The name that the backends' certificates must have, and that they are asked for (SNI). `\"\"`: each backend's own host name or IP address. It never switches the verification off."),
            key("cert", "path", "\"\"", "PEM file with lameduck's own certificate and its chain, for backends that want one (mutual TLS). `\"\"`: none."),
            key("key", "path", "\"\"", "PEM file with its private key."),
            key("verify", "true or false", "true", "Whether the backends' certificates are verified. `false`: whoever answers is believed."),
        ],
    },
    Section {
        name: "pool.slow_start",
        header: "[pool.slow_start]",
        doc: "A gentle start.",
        keys: &[
            key("window", "duration", "\"0s\"", "How long a backend that became ready takes to reach its full share. `\"0s\"`: at once."),
        ],
    },
    Section {
        name: "route",
        header: "[[route]]",
        doc: "Which requests go to which pool. With one pool and no route, everything goes there.",
        keys: &[
            key("host", "text", "\"*\"", "The request's host, without port: `www.example.org`, `*.example.org` (one or more labels), or `*` for any."),
            key("path_prefix", "text", "\"/\"", "Whole leading segments of the path: `/api` matches `/api` and `/api/x`, not `/apis`."),
            needed("pool", "text", "\"app\"", "The pool's name."),
        ],
    },
];
