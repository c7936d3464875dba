//! What comes back, and when: upgrades, interim and malformed responses, early ends.

use super::Why;

pub const WHY: &[Why] = &[
    // Upgrade
    (
        "A 101 that doesn't agree with what was asked leaves two protocols on one connection, and with it a way past \
         the proxy. nginx tunnels whatever says 101, HAProxy most of it",
        &[
            "a 101 without Upgrade",
            "a 101 without Connection",
            "a 101 to another protocol",
            "a 101 to two protocols",
            "a 101 that nobody asked for",
            "a 101 to a POST",
        ],
    ),
    (
        "Behind h2c, TLS or another HTTP, requests would go past the proxy unseen; a server may ignore any offer \
         (RFC 9110 §7.8). nginx offers what its configuration says, HAProxy all but h2c",
        &[
            "h2c",
            "h2c without its settings",
            "h2c in capitals",
            "an upgrade to TLS",
            "an upgrade to HTTP/2.0",
            "h2c or a WebSocket",
            "a list of protocols",
        ],
    ),
    (
        "What comes behind an offer that was refused is a request like any other: a client's claims are taken out of it. \
         nginx and HAProxy, as configured here, pass them on; and HAProxy checks the WebSocket's key",
        &[
            "bytes behind an upgrade refused with 200",
            "bytes behind an upgrade refused with 204",
            "bytes behind an upgrade refused with 304",
            "bytes behind an upgrade refused with 400",
            "bytes behind an upgrade refused with 401",
            "bytes behind an upgrade refused with 403",
            "bytes behind an upgrade refused with 404",
            "bytes behind an upgrade refused with 500",
            "bytes behind an upgrade refused with 502",
            "rubbish behind an upgrade that is refused",
        ],
    ),
    (
        "RFC 9110 §7.8: an Upgrade counts in HTTP/1.1 and where Connection names it; with a body, it would be unclear \
         when the protocol changes. lameduck passes on the request without the offer",
        &[
            "an Upgrade that Connection doesn't name",
            "an upgrade in HTTP/1.0",
            "an upgrade of a GET with a body",
            "an upgrade to an empty protocol",
            "an upgrade to nothing",
        ],
    ),
    (
        "HAProxy checks the WebSocket's key; lameduck leaves that to the app, whose protocol it is",
        &[
            "a WebSocket",
            "a protocol of one's own",
            "an upgrade that is refused, and a request behind it",
            "an upgrade that is refused with 426, and a request behind it",
        ],
    ),
    // Interim responses
    (
        "RFC 9110 §15.2: a proxy must pass on 1xx. nginx passes a 103 on only where `early_hints` says so, others not",
        &["a 103", "two 103s", "sixteen 1xx", "a 1xx with a length"],
    ),
    (
        "nginx takes a 1xx other than 103 for the answer, and the answer for rubbish",
        &["a 100 that nobody waits for", "a 102", "an unknown 1xx"],
    ),
    (
        "More than sixteen are a broken backend, and a client's time",
        &["a hundred 1xx"],
    ),
    (
        "RFC 9110 §15.2: HTTP/1.0 knows no 1xx, so none may be sent to it; both others send it",
        &["a 1xx for HTTP/1.0"],
    ),
    (
        "lameduck passes the 103 on before the answer is known, and then says 502; nginx drops the one, HAProxy the \
         other",
        &["a 1xx and then nothing"],
    ),
    (
        "nginx says 100 itself, before the app was asked, and takes the app's own 100 for the answer. lameduck and \
         HAProxy leave it to the app, which may refuse the body unseen",
        &[
            "100-continue, waited for",
            "100-continue, not waited for",
            "100-continue, answered with a refusal",
            "100-continue with chunks",
            "100-continue in capitals",
            "100-continue without a body",
        ],
    ),
    (
        "RFC 9110 §10.1.1: of no meaning in HTTP/1.0, so it is dropped; HAProxy passes it on",
        &["100-continue in HTTP/1.0"],
    ),
    (
        "RFC 9110 §10.1.1 lets a server refuse what it doesn't know, before the body is sent; the others take no notice",
        &[
            "another expectation",
            "100-continue and another expectation",
        ],
    ),
    // Early ends
    (
        "A client that has said all may still be listening. nginx takes it for gone",
        &[
            "a client that ends its direction behind its request",
            "a client that ends its direction behind a body",
        ],
    ),
    (
        "lameduck says 502 and keeps the client's connection; HAProxy, on a connection that it had used before, \
         closes without a word, so that the client tries again",
        &["a backend that closes without an answer to a POST"],
    ),
    (
        "HAProxy still follows a request of the case before, whose client has left",
        &["a backend that never answers"],
    ),
    (
        "HAProxy passes the answer on before the request is complete as well; where it keeps the connection it \
         reads the rest of the body",
        &[
            "an answer before the body is there",
            "an answer before the body is there, and a close",
        ],
    ),
    // Truncated and overlong
    (
        "lameduck and nginx make chunks of a body that ends with the connection, so that the client can tell its \
         end from a break, and goes on; HAProxy closes",
        &["a body to the end", "a body to the end, of HTTP/1.0"],
    ),
    (
        "A cut answer is seen to be cut by all; how much of it is on the way by then differs",
        &[
            "a short body in HTTP/1.0",
            "a body shorter than its length",
            "a body of nothing instead of its length",
            "chunks without a last one",
            "chunks that end within one",
            "chunks that end within the last line",
            "a body that a reset breaks off",
        ],
    ),
    (
        "nginx drops head and all without a word where a chunk behind it is malformed; lameduck and HAProxy say 502 \
         as long as the head has not gone to the client",
        &[
            "a response's size that is no number",
            "a response's size with 0x",
            "a response's size of 2^64 + 5",
            "a response's size ended by LF",
            "a response's content that is too long",
        ],
    ),
    // Malformed responses
    (
        "A length that is none frames nothing: 502. Older nginx takes such a body to the end, or the first length",
        &[
            "a response's two lengths that differ",
            "a response's list of lengths that differ",
            "a response's length that is negative",
            "a response's length with a plus sign",
            "a response's length that is no number",
            "a response's empty length",
            "a response's length of 2^64 + 5",
        ],
    ),
    (
        "What doesn't start as a response of HTTP/1 does is none, and may be left over from something else: 502. \
         nginx takes it for HTTP/0.9 and passes it on bare, head and all",
        &[
            "a status of two digits",
            "a status of four digits",
            "a status that is no number",
            "a status without a space before it",
            "a reason without a space before it",
            "a response in HTTP/2",
            "a response in http/1.1",
            "a response in ICY",
            "a response in HTTP/0.9",
            "an empty line before a response",
            "rubbish before a response",
            "the preface of HTTP/2 as a response",
            "a request as a response",
        ],
    ),
    (
        "RFC 9112 §4 has three digits, from 100 on, behind one space. Both others pass on a status that no client \
         knows, or that has another number by then",
        &["a status below 100", "two spaces before a status"],
    ),
    (
        "Before the head was complete, nothing reached the client; nginx asks once more",
        &["a response that ends within its head"],
    ),
];
