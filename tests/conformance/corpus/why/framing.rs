//! How a message is framed: lengths, codings, chunks, trailers, the ends of lines.

use super::Why;

pub const WHY: &[Why] = &[
    // Content-Length
    (
        "nginx takes no tab for blank space; RFC 9110 §5.6.3 does, and so do apps",
        &[
            "a length with tabs around it",
            "chunked with tabs around it",
            "a Host with blanks around it",
        ],
    ),
    (
        "lameduck and HAProxy make one of equal lengths, which RFC 9112 §6.3 allows; nginx refuses them",
        &[
            "two equal lengths",
            "a list of equal lengths",
            "a length and a list of it",
            "a length and the same with a zero before it",
            "a response's two equal lengths",
        ],
    ),
    (
        "CGI and WSGI apps can't tell `_` from `-`, so they would take it for the framing. nginx drops such fields, \
         HAProxy passes it on",
        &["Content_Length", "Transfer_Encoding"],
    ),
    // Transfer-Encoding
    (
        "HAProxy makes one line of folded ones and nginx refuses them (older ones of either differ). What a folded \
         line means depends on the reader; RFC 9112 §5.2 lets a server refuse it",
        &[
            "chunked on a folded line",
            "a coding that is folded behind a comma",
            "a space before the coding's name",
            "a folded line",
            "a line folded by a tab",
            "a folded line of spaces",
            "a folded line behind LF",
            "a folded Host",
            "a folded length",
            "a folded first line",
            "a trailer on a folded line",
            "a folded line in a response",
            "a response's folded coding",
        ],
    ),
    (
        "Both frames in one request are how requests are smuggled; RFC 9112 §6.1 lets a server refuse them, and \
         nginx does. HAProxy drops the length and closes behind it",
        &[
            "length and chunks (CL.TE)",
            "chunks and length (TE.CL)",
            "length zero and chunks",
            "length and an unknown coding",
            "length and identity",
            "length and an empty coding",
            "a bad length and chunks",
            "Connection names length and chunks",
            "length and chunks behind a good one",
            "length and chunks in HTTP/1.0",
            "a response's length and chunks",
        ],
    ),
    (
        "RFC 9112 §6.1: an encoding in HTTP/1.0 is to be treated as faulty framing. HAProxy believes it, and \
         closes behind it; nginx refuses it in requests and believes it in responses",
        &["chunks in HTTP/1.0", "a response's chunks in HTTP/1.0"],
    ),
    (
        "Such a coding can't be undone here, and what the backend would make of it is its secret. Peers differ in \
         which of them they let pass",
        &[
            "chunked twice in a list",
            "chunked in two fields",
            "chunked, identity",
            "identity, chunked",
            "identity",
            "gzip, chunked",
            "gzip and chunked in two fields",
            "chunked, gzip",
            "chunked and another in two fields",
            "another and chunked in two fields",
            "an empty coding",
            "a comma before chunked",
            "a comma behind chunked",
            "a response's identity",
            "a response's gzip, chunked",
            "a response's xchunked",
            "a response's chunked twice",
        ],
    ),
    // Lines
    (
        "nginx and HAProxy take a bare LF for a line's end in most places, which RFC 9112 §2.2 allows. Apps differ on it \
         (Node refuses it), and lameduck passes lines on as they came: so it takes CR LF alone. No browser, client \
         library or app server that we know of sends anything else",
        &[
            "a coding behind a bare LF",
            "an LF before a request",
            "all lines ended by LF",
            "a request line ended by LF",
            "a field ended by LF",
            "the last field ended by LF",
            "a blank line that is an LF",
            "two LFs behind a field",
            "an LF in a name",
            "a last line ended by LF",
            "a last chunk ended by LF",
            "a size ended by LF",
            "content ended by LF",
            "content that is too short",
            "a trailer ended by LF",
            "a response's lines ended by LF",
            "a status line ended by LF",
            "a response's blank line that is an LF",
            "a response's field ended by LF",
        ],
    ),
    (
        "nginx skips a CR here; RFC 9112 §2.2 has a bare CR refused or replaced",
        &[
            "a CR before a request",
            "a line ended by CR CR LF",
            "a blank line with a CR before it",
            "a last line that is a bare CR",
        ],
    ),
    (
        "RFC 9112 §2.2 asks for one empty line to be skipped; lameduck skips two, the others any number",
        &["three empty lines before a request"],
    ),
    (
        "Both are closed. Whether with a word is a matter of taste: nobody is likely to be there to read it",
        &[
            "a request that ends within its head",
            "a request that stops within its head",
            "a client that stops within a body",
            "a client that ends its direction within a body",
            "a client that ends its direction within a chunk",
            "a client that ends its direction before the last chunk",
            "a client that leaves within a body",
            "a client that leaves before its answer",
        ],
    ),
    // Chunks
    (
        "Sixteen digits are all that 64 bits can hold; more zeros serve nothing. Both others count the value",
        &["a size of seventeen digits"],
    ),
    (
        "lameduck, as apps that count in signed numbers, knows no size of 2^63 or more",
        &["a size of 2^63", "a size of 2^64 - 1", "a size of 2^64 + 5"],
    ),
    (
        "Both take blanks behind a size. From a client nothing honest sends them, and strict apps (Node) refuse \
         them; in responses, where old servers pad sizes, lameduck takes them too",
        &[
            "a space behind a size",
            "a tab behind a size",
            "a response's size with spaces behind it",
        ],
    ),
    (
        "Nobody uses extensions. Unbounded, they make tiny chunks costly: lameduck takes 256 bytes in a chunk and \
         16 KiB in a body, the others more",
        &["an extension of 300 bytes", "extensions of 20 KB in all"],
    ),
    (
        "The others drop extensions unread. lameduck passes chunks on as they are, so it lets no control through",
        &[
            "a NUL in an extension",
            "an extension without a semicolon",
            "an LF in an extension",
            "a CR in an extension",
            "an LF in an extension's quotes",
        ],
    ),
    (
        "nginx is laxer or HAProxy stricter here; the grammar of RFC 9112 §7.1 has no such chunk",
        &[
            "a size ended by CR",
            "a size ended by CR CR LF",
            "a malformed chunk behind a good one",
            "a NUL in a size",
            "no size",
        ],
    ),
    // Trailers
    (
        "nginx drops all trailers. lameduck and HAProxy pass them on: gRPC and checksums are told in them",
        &[
            "a trailer",
            "two trailers",
            "a trailer that is announced",
            "a response's trailer",
            "a response's trailer X-Request-Id",
        ],
    ),
    (
        "More than 8 KiB of trailers is refused, as a header of that kind would be. nginx drops \
         trailers, HAProxy takes more",
        &["trailers of 10 KB"],
    ),
    (
        "RFC 9110 §6.5.1: a trailer must not frame, route or authorise; an app that merges trailers into the header \
         would believe it. nginx drops all trailers, HAProxy passes these on",
        &[
            "a trailer Content-Length",
            "a trailer Transfer-Encoding",
            "a trailer Host",
            "a trailer Connection",
            "a trailer Authorization",
            "a trailer X-Forwarded-For",
            "a trailer X_Forwarded_For",
            "a trailer X-Client-Cert-Verified",
            "a trailer X_Client_Cert_Verified",
            "a trailer Client-Cert",
            "a trailer Via",
            "a trailer Content_Type",
            "a trailer Proxy-Authorization",
            "a trailer If-Match",
            "a response's trailer Content-Length",
        ],
    ),
    (
        "nginx throws trailers away unread. HAProxy refuses them as lameduck does",
        &[
            "a trailer without a colon",
            "a trailer without a name",
            "a trailer with a space before its colon",
            "a NUL in a trailer",
            "a bare CR in a trailer",
            "a response's trailer without a colon",
        ],
    ),
    (
        "HAProxy sends chunks to HTTP/1.0 clients that asked for keep-alive, or the trailers bare; RFC 9112 §6.1 \
         forbids the one, and nobody understands the other",
        &["a response's trailer for HTTP/1.0", "chunks for HTTP/1.0"],
    ),
];
