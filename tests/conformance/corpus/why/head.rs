//! What stands in a request's head.

use super::Why;

pub const WHY: &[Why] = &[
    // Request line
    (
        "nginx takes capitals, `-` and `_` alone; RFC 9110 §9.1 has any token, and \
         the app decides what it serves",
        &[
            "a method of all signs of a token",
            "a method in small letters",
            "a method of one's own",
            "a long method",
            "bytes behind a body that read as a method",
        ],
    ),
    (
        "nginx refuses TRACE by itself. Apps refuse it as well, or mean it",
        &["a TRACE"],
    ),
    (
        "Peers take further blanks, which RFC 9112 §3 allows; where the target ends is then the reader's guess, as \
         with a target that has a blank in it",
        &[
            "two spaces behind a method",
            "two spaces before a version",
            "a tab behind a method",
            "a tab before a version",
            "a space behind a version",
            "a space before a method",
            "a space in a target",
        ],
    ),
    (
        "nginx answers HTTP/0.9 without a head. It has no length, no status and no close that tells an end from a \
         break; nobody speaks it but scanners",
        &["HTTP/0.9", "HTTP/0.9 behind a good request"],
    ),
    (
        "Versions that don't exist. RFC 9110 §2.5 would have 1.2 served as 1.1; nothing sends it, and a client that \
         claims 2.0 in text is confused. The others take some of them",
        &[
            "HTTP/0.9, spelt out",
            "HTTP/1.2",
            "HTTP/1.10",
            "HTTP/2.0",
            "HTTP/9.9",
            "HTTP/01.1",
            "a response in HTTP/1.2",
        ],
    ),
    (
        "HAProxy serves HTTP/2 without TLS on the same port. lameduck does so with `http2 = true`, which this listener \
         has not, and says 505",
        &["the preface of HTTP/2"],
    ),
    // Fields
    (
        "nginx drops fields whose names have more than letters, digits and `-` (and says nothing). A token is \
         any of these signs; apps of one's own use them",
        &["a name of all signs of a token", "an underscore in a name"],
    ),
    (
        "nginx drops or takes what isn't a field at all. lameduck and HAProxy refuse it, as RFC 9112 §5 has no such \
         line",
        &[
            "a line without a colon",
            "a name with a parenthesis",
            "a name with a slash",
            "a name with a bracket",
            "a name with an equals sign",
            "a name in quotes",
            "a name beyond ASCII",
            "a name with a space in it",
            "a NUL in a name",
            "an empty name",
            "a name that is a space",
            "a space before a colon",
            "a tab before a colon",
            "a space before the coding's colon",
            "a tab before the coding's colon",
            "a space before Host's colon",
            "a response's line without a colon",
            "a response's name beyond ASCII",
            "a response's name with a space in it",
            "a response's empty name",
            "a space before a response's colon",
        ],
    ),
    (
        "RFC 9110 §5.5 calls controls in values invalid; Node and most apps refuse the whole request for one. The \
         others pass them on",
        &[
            "SOH in a value",
            "a backspace in a value",
            "a vertical tab in a value",
            "an escape in a value",
            "DEL in a value",
            "a NUL in a value",
            "a vertical tab before chunked",
            "a form feed behind chunked",
            "a backspace in a response's value",
            "a NUL in a response's value",
            "a CR in a response's value",
            "a NUL in a reason",
            "a CR in a reason",
        ],
    ),
    (
        "A bound is needed; a hundred is that of Apache and near HAProxy's, and far above what browsers and apps send",
        &[
            "a hundred fields",
            "a hundred and one fields",
            "a field of 70 KB",
            "a target of 20 KB",
            "a response with a hundred and one fields",
            "a response's field of 70 KB",
        ],
    ),
    // Target
    (
        "nginx reads the path to match its locations, and refuses what it can't. lameduck passes the target on as \
         it came: what a path means is the app's to say, and a rewritten one is another request",
        &[
            "dots in a path",
            "encoded dots in a path",
            "an encoded NUL",
            "broken percent-encoding",
        ],
    ),
    (
        "HAProxy refuses bytes beyond ASCII in a target. Links with raw UTF-8 are all over the web and apps serve \
         them; which encoding they are in is the app's to know",
        &[
            "a letter beyond ASCII in a path",
            "bytes in a path that are no UTF-8",
        ],
    ),
    (
        "A fragment is never sent (RFC 9110 §7.1); nginx passes it on, and readers differ on whether the path ends there",
        &["a fragment", "a fragment behind a query"],
    ),
    (
        "lameduck and nginx give the app origin form and make the target's authority the Host (RFC 9112 §3.2.2), \
         so that both can't differ. HAProxy passes absolute form on, and refuses it where Host differs",
        &[
            "absolute form",
            "absolute form with a port",
            "absolute form without a path",
            "absolute form with a query alone",
            "absolute form in capitals",
            "absolute form with https",
            "absolute form and another Host",
            "absolute form with its Host behind other fields",
            "absolute form in HTTP/1.0 without a Host",
            "absolute form with an at sign in its path",
            "OPTIONS in absolute form",
            "OPTIONS in absolute form with a path",
        ],
    ),
    (
        "None of the forms that RFC 9112 §3.2 has for a server. The others pass on what they don't understand",
        &[
            "a path without a slash",
            "a query without a path",
            "absolute form without a Host",
            "absolute form with two Hosts",
            "absolute form with a bad Host",
            "absolute form with user information",
            "absolute form without a host",
            "absolute form with a bad port",
            "absolute form with a backslash",
            "absolute form with one slash",
            "another scheme",
            "a scheme that runs a script",
            "authority form of a GET",
            "a CONNECT",
            "a CONNECT with a path",
            "GET *",
            "OPTIONS **",
        ],
    ),
    (
        "nginx refuses the asterisk; RFC 9112 §3.2.4 has it for OPTIONS",
        &["OPTIONS *"],
    ),
    // Host
    (
        "An empty Host is right where the target has no authority (RFC 9112 §3.2); nginx refuses it",
        &["an empty Host"],
    ),
    (
        "RFC 9112 §3.2: without exactly one proper Host a server must answer 400. HAProxy serves some of these",
        &[
            "no Host",
            "no Host but X-Forwarded-Host",
            "a malformed request behind a good one",
            "a request behind a malformed one",
            "two equal Hosts",
            "two Hosts that differ",
            "a Host and an empty one",
            "two Hosts in HTTP/1.0",
            "a bad Host in HTTP/1.0",
        ],
    ),
    (
        "nginx's `$host` is in small letters, without port and final dot. lameduck and HAProxy pass Host on as it \
         came: apps make links from it",
        &[
            "a host with a port",
            "a host with an empty port",
            "a host in capitals",
            "a host with a dot at its end",
            "an IPv4 address",
            "an IPv6 address",
        ],
    ),
    (
        "RFC 9110 §7.2: Host is a name or an address and perhaps a port. Apps make links, routes and cache keys from \
         it, and each reads what isn't one in its own way; the others look less closely",
        &[
            "a port that is no number",
            "a port above 65535",
            "two ports",
            "a port alone",
            "user information",
            "a path in Host",
            "a query in Host",
            "a fragment in Host",
            "a backslash in Host",
            "a list of hosts",
            "two hosts in one",
            "a tab in Host",
            "a quote in Host",
            "an angle bracket in Host",
            "a scheme in Host",
            "a host beyond ASCII",
            "broken percent-encoding in Host",
            "an IPv6 address without brackets",
            "an IPv6 address that isn't closed",
            "an IPv6 address that is none",
            "something behind an IPv6 address",
            "a zone in an IPv6 address",
            "a NUL in Host",
        ],
    ),
    // Connection
    (
        "RFC 9110 §7.6.1: a proxy must drop what Connection names. The others drop Connection and pass on the rest",
        &[
            "a field that Connection names",
            "a field that Connection names in another case",
            "a field named before it comes",
            "a field that is there twice",
            "two Connections",
            "a Connection with empty elements",
            "a response's field that Connection names",
            "Keep-Alive",
            "Proxy-Connection",
            "a response's Keep-Alive",
            "a response's Proxy-Connection",
            "a response's Upgrade",
        ],
    ),
    (
        "gRPC needs to know that the client takes trailers, which lameduck and HAProxy pass on; nginx drops that field and the trailers",
        &["TE: trailers", "TE: gzip"],
    ),
    (
        "Each option is looked for among the fields, so their number is bounded",
        &["forty options"],
    ),
    (
        "nginx looks for `close` anywhere in the value, lameduck and HAProxy for the option",
        &["Connection: closed is no close"],
    ),
    // Forged claims
    (
        "Only a trusted proxy may say who the client is. lameduck drops all that a client says of that kind unless \
         `headers.trusted` names it; the others drop what their configuration replaces",
        &[
            "Connection names X-Forwarded-For",
            "Connection names X-Real-IP",
            "X-Forwarded-For",
            "X-Forwarded-For twice",
            "X_Forwarded_For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Real-IP",
            "Forwarded",
        ],
    ),
    (
        "Ids go into logs. lameduck takes one that is fit for that, and makes a new one otherwise; the others have \
         no such field",
        &["an X-Request-Id with a space in it", "two X-Request-Ids"],
    ),
];
