//! What the codec costs: both heads of a small proxied request, parsed and written again.
//!
//! `cargo bench --bench codec` prints nanoseconds. For instructions, which don't depend on the machine's load, run the
//! built binary twice under `valgrind --tool=callgrind` with two numbers of rounds and divide the difference:
//! `…/codec-HASH --rounds 1000 --only small`.

use std::hint::black_box;
use std::time::Instant;

use lameduck::config;
use lameduck::proxy::forward::headers::{
    ClientFraming, RequestEdit, ResponseEdit, write_request, write_response,
};
use lameduck::proxy::h1::method::{HttpVersion, Method};
use lameduck::proxy::h1::request::{HeadLimits, RequestHead};
use lameduck::proxy::h1::response::ResponseHead;

const LIMITS: HeadLimits = HeadLimits {
    max_header: 65536,
    max_uri: 8192,
};

/// Name, request, response.
const CASES: [(&str, &[u8], &[u8]); 2] = [
    (
        "small",
        b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 12\r\n\r\n",
    ),
    (
        "browser",
        b"GET /index.html?page=2 HTTP/1.1\r\nHost: shop.example.org\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
          User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,*/*;q=0.8\r\n\
          Accept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.5\r\nSec-Fetch-Mode: navigate\r\nCookie: a=b; c=d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
          Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nETag: \"abc\"\r\n\r\n",
    ),
];

fn option(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}

fn main() {
    let rounds: u32 = option("--rounds")
        .and_then(|n| n.parse().ok())
        .unwrap_or(20_000);
    let only = option("--only");
    let policy = config::HeadersConfig {
        trusted: vec![],
        x_forwarded: true,
        forwarded: false,
        via: false,
        request_id: true,
    };
    let edit = RequestEdit {
        policy: &policy,
        client_ip: "192.0.2.1",
        trusted: false,
        scheme: "http",
        identity: "",
        request_id: b"0123456789abcdef01234567",
        host_override: None,
        fallback_host: "127.0.0.1:3000",
        changes: None,
    };
    let answer = ResponseEdit {
        close: false,
        client_version: HttpVersion::Http11,
        framing: ClientFraming::Same,
        via: false,
        hsts: 0,
        changes: None,
    };
    let (mut request, mut response, mut out) = (
        RequestHead::new(),
        ResponseHead::new(),
        Vec::with_capacity(4096),
    );
    for (name, asked, answered) in CASES
        .iter()
        .filter(|case| only.as_deref().is_none_or(|only| only == case.0))
    {
        let start = Instant::now();
        for _ in 0..rounds {
            let (asked, answered) = (black_box(*asked), black_box(*answered));
            out.clear();
            request.parse(asked, &LIMITS).expect("a good request");
            write_request(&mut out, asked, &request, &edit);
            response
                .parse(answered, Method::Get, false, 65536)
                .expect("a good response");
            write_response(&mut out, answered, &response, &answer);
            black_box(&out);
        }
        println!(
            "{name}: {} ns",
            start.elapsed().as_nanos() / u128::from(rounds.max(1))
        );
    }
}
