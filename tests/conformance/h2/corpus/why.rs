//! Why nginx or HAProxy does something else with a case than lameduck does.

/// A sentence, and the names of the cases that it explains.
pub type Why = (&'static str, &'static [&'static str]);

pub const WHY: &[Why] = &[
    (
        "HAProxy insists on the SETTINGS that RFC 9113 §3.4 asks for. lameduck and nginx go on without: nothing depends \
         on them",
        &[
            "no SETTINGS behind the preface, but a request",
            "no SETTINGS behind the preface, but a PING",
        ],
    ),
    (
        "Faults of the frame layer that one of the others passes over. RFC 9113 calls them connection errors, or \
         allows to; nothing reaches a backend in another way for it",
        &[
            "an acknowledgement as the first SETTINGS",
            "ENABLE_CONNECT_PROTOCOL of 2",
            "an acknowledgement that nobody waits for",
            "an unknown frame beyond the frame size",
            "a stream below the last one",
            "DATA on an idle stream",
            "DATA behind our RST_STREAM",
            "RST_STREAM on an idle stream",
            "RST_STREAM on an idle stream of the server's",
            "an increment on an idle stream",
            "more than the stream's window",
            "a table's size behind a field",
            "Huffman padding of eight bits",
            "a body behind a body",
            "DATA behind END_STREAM",
            "DATA behind trailers",
            "DATA behind the answer",
            "HEADERS behind END_STREAM",
            "HEADERS on a stream that has ended",
            "a CONTINUATION behind END_HEADERS",
            "an entry that was evicted",
            "a PRIORITY of four bytes",
            "a PRIORITY of a stream on itself",
            "HEADERS that depend on themselves",
            "padding that isn't zero",
            "a GOAWAY with an error",
        ],
    ),
    (
        "Proper HTTP/2 that the other refuses",
        &[
            "an unknown frame on an idle stream",
            "a block that begins behind an empty HEADERS",
            "trailers of nothing",
        ],
    ),
    (
        "A client that says GOAWAY opens no more streams: lameduck closes once the last one is answered, the others \
         wait for the client",
        &["a GOAWAY within a request"],
    ),
    (
        "A WebSocket whose backend hasn't understood the handshake is a 502 (RFC 6455 §4.1). nginx does no WebSockets \
         over HTTP/2; HAProxy takes the first of two answers",
        &[
            "a WebSocket with another's accept",
            "a WebSocket without an accept",
            "a WebSocket with two accepts",
        ],
    ),
    (
        "lameduck takes no name and no value that isn't one (RFC 9110 §5.1, §5.5). The others drop such fields or pass \
         the controls on",
        &[
            "a name in brackets",
            "a name beyond ASCII",
            "a value with a control",
            "a value with DEL",
        ],
    ),
    (
        "RFC 9113 §8.2.1 forbids blanks around a value. The others cut them off",
        &[
            "a value with a blank before it",
            "a value with a blank behind it",
            "a value with a tab before it",
            "a value that is a blank",
            "a length with a blank before it",
        ],
    ),
    (
        "RFC 9110 §9.1: methods are case-sensitive, and an app may have its own. The others refuse lower case",
        &["a method in lower case"],
    ),
    (
        "To clients lameduck is the origin of http and https, of nothing else; nginx ignores the scheme and HAProxy makes \
         an absolute target of it",
        &["a scheme that isn't HTTP"],
    ),
    (
        "RFC 9113 §8.3.1: a Host that isn't the :authority makes two of what must be one. HAProxy keeps :authority and \
         drops the rest, nginx refuses another case, too",
        &[
            "Host differs in case alone",
            "Host differs from :authority",
            "Host differs by its port",
            "an empty Host beside :authority",
            "two Host",
            "two differing Host",
            "two Host without :authority",
            "a list of Host",
        ],
    ),
    (
        "lameduck passes on no host that isn't one, and none that is missing: apps route and build links by it. HAProxy \
         leaves that to them",
        &[
            "neither :authority nor Host",
            "an empty :authority",
            "an empty :authority beside Host",
            ":authority with a port that is none",
            ":authority with a port beyond 65,535",
            ":authority with two ports",
        ],
    ),
    (
        "lameduck passes the host on as the client wrote it. nginx's `$host` has no port, and HAProxy takes the scheme's \
         default one away",
        &[":authority with a port", "an IPv6 :authority"],
    ),
    (
        "What a client claims about itself is replaced, as for HTTP/1",
        &["X-Forwarded-Host of the client's"],
    ),
    (
        "RFC 9110 §7.1: the asterisk belongs to OPTIONS. nginx refuses both, HAProxy takes both",
        &["an asterisk of a GET", "an asterisk of OPTIONS"],
    ),
    (
        "A fragment is never sent (RFC 9110 §7.1): lameduck and HAProxy refuse it, as over HTTP/1; nginx passes it on",
        &[
            "a path with a fragment",
            "a path in brackets with a fragment",
        ],
    ),
    (
        "lameduck and HAProxy leave escapes to the app; nginx decodes them to choose a location, and refuses a NUL",
        &["a path with percents"],
    ),
    (
        "CGI and WSGI apps can't tell `_` from `-`, so they would take it for the framing. nginx drops such fields, \
         HAProxy passes it on",
        &["Transfer_Encoding", "Content_Length"],
    ),
    (
        "An app that is told `te: trailers` may send some, and lameduck passes them on. nginx does neither",
        &[
            "te: trailers",
            "trailers",
            "two trailers",
            "trailers without a body",
            "the right length, then trailers",
            "chunks with trailers",
            "chunks with an upper-case trailer",
        ],
    ),
    (
        "Fields that mean something for one connection alone: lameduck takes them out, both ways",
        &["http2-settings", "fields of the connection"],
    ),
    (
        "As for HTTP/1: lameduck passes `100-continue` on to the app and refuses other expectations; nginx answers the \
         former itself and drops the latter",
        &["expect: 100-continue", "expect of what nobody knows"],
    ),
    (
        "A body that is longer than its length is refused before a backend has seen a whole request, if the excess is \
         here by then. The others pass on what fits, and refuse or drop the rest",
        &[
            "a body behind length zero (H2.CL)",
            "a body longer than its length (CL.H2)",
            "too much in a frame of its own",
            "too much that comes late",
        ],
    ),
    (
        "RFC 9110 §8.6 lets a proxy make one of equal lengths, or refuse them",
        &[
            "two equal lengths",
            "a list of equal lengths",
            "a length with zeros before it",
        ],
    ),
    (
        "Pseudo-header fields in trailers (RFC 9113 §8.1): the `h2` crate drops them before lameduck could refuse the \
         request. They reach no backend; the others refuse them",
        &[
            "a pseudo-header field in trailers",
            ":method in trailers",
            ":status in trailers",
        ],
    ),
    (
        "RFC 9110 §6.5.1: what frames, routes or authorises means nothing in trailers, and some apps merge them into the \
         head. lameduck refuses them, HAProxy passes some on; nginx takes no trailers",
        &[
            "authorization in trailers",
            "cookie in trailers",
            "x-forwarded-for in trailers",
            "transfer-encoding in trailers",
            "content-length in trailers",
            "host in trailers",
        ],
    ),
    (
        "lameduck is no forward proxy: CONNECT is refused. HAProxy passes it on and makes a tunnel of it if the app says \
         200",
        &[
            "CONNECT",
            "CONNECT that ends at once",
            "CONNECT without a port",
            "CONNECT with a path and a scheme",
            "CONNECT with what would be a request",
        ],
    ),
    (
        "Extended CONNECT (RFC 8441) is for WebSockets: other protocols are refused. HAProxy passes them on as upgrades, \
         and then insists on the answer to a key that RFC 8441 doesn't have; nginx has no extended CONNECT",
        &[
            "an unknown :protocol",
            "an empty :protocol",
            "a :protocol of h2c",
            "a :protocol that is a list",
            "a WebSocket whose backend doesn't upgrade",
            "a WebSocket whose backend says 200",
            "a WebSocket",
        ],
    ),
    (
        "Interim answers reach the client. nginx drops them",
        &["103, then 200", "100, then 200"],
    ),
    (
        "What a backend sends is read as strictly as for HTTP/1 clients, see there",
        &[
            "length and chunks",
            "a folded line",
            "a line without a colon",
            "an HTTP/2 answer",
            "a status of 999",
            "CR LF in a trailer that isn't one",
            "HEAD with a body",
        ],
    ),
    (
        "lameduck asks a second time only where the head can't have been heard (or the method is idempotent and no byte \
         of an answer came); nginx also when a head was cut",
        &["a head that is cut"],
    ),
    (
        "All are seen to be cut; how much came before depends on buffers. Where nothing of the body was passed on yet, \
         lameduck can still say 502",
        &[
            "a body shorter than its length from a backend",
            "chunks without their end",
            "chunks whose size is none",
            "a chunk longer than its size",
            "a reset in an answer",
        ],
    ),
    (
        "lameduck ends a connection that costs much and asks for nothing (ENHANCE_YOUR_CALM). The others go on, up to \
         limits of their own",
        &[
            "10,000 PINGs",
            "10,000 SETTINGS",
            "10,000 PRIORITYs",
            "10,000 WINDOW_UPDATEs",
            "10,000 unknown frames",
            "10,000 DATAs without a byte",
            "10,000 DATAs of padding",
            "1,000 requests that are reset at once",
            "500 requests that make the proxy reset them",
            "5,000 cookie crumbs",
            "a value of 100,000 bytes",
            "a hundred uses of one large entry",
            "90 fields",
        ],
    ),
];
