use crate::proxy::h1::framing::FramingError;
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::proxy::h1::request::{HeadLimits, HeadProgress, RequestBody, RequestHead};

fn write(request: http::request::Builder, ended: bool) -> Result<(String, BodyForm), RequestError> {
    let mut out = Vec::new();
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let form = write_request(&mut out, &parts, ended)?;
    Ok((String::from_utf8(out).unwrap(), form))
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[test]
fn a_request_becomes_a_head_that_our_own_parser_takes() {
    let (text, form) = write(get("https://a.b:8443/c?d").header("x-y", "z"), true).unwrap();
    assert_eq!(
        text,
        "GET /c?d HTTP/1.1\r\nhost: a.b:8443\r\nx-y: z\r\n\r\n"
    );
    assert_eq!(form, BodyForm::None);
    let mut head = RequestHead::new();
    let limits = HeadLimits {
        max_header: 1024,
        max_uri: 1024,
    };
    assert_eq!(
        head.parse(text.as_bytes(), &limits),
        Ok(HeadProgress::Complete)
    );
    assert_eq!((head.body, head.keep_alive), (RequestBody::None, true));
}

#[test]
fn bodies_are_framed_by_their_length_or_in_chunks() {
    let post = || Request::post("http://a/");
    let ends = |text: &str, line: &str| text.ends_with(&format!("{line}\r\n\r\n"));
    let (text, form) = write(post().header("content-length", "5"), false).unwrap();
    assert!(ends(&text, "content-length: 5"), "{text}");
    assert_eq!(form, BodyForm::Length(5));
    let (text, form) = write(post(), false).unwrap();
    assert!(ends(&text, "transfer-encoding: chunked"), "{text}");
    assert_eq!(form, BodyForm::Chunked);
    let (text, form) = write(post(), true).unwrap();
    assert!(ends(&text, "content-length: 0"), "{text}");
    assert_eq!(form, BodyForm::None);
    // The end of the stream has not arrived, so the request isn't complete yet.
    let (text, form) = write(post().header("content-length", "0"), false).unwrap();
    assert!(ends(&text, "content-length: 0"), "{text}");
    assert_eq!(form, BodyForm::Length(0));
}

#[test]
fn lengths_are_read_as_strictly_as_in_http1() {
    for bad in ["+5", "5, 6", "0x5", "", "5,"] {
        let request = Request::post("http://a/").header("content-length", bad);
        assert!(write(request, false).is_err(), "{bad}");
    }
    let two = Request::post("http://a/")
        .header("content-length", "5")
        .header("content-length", "6");
    assert_eq!(
        write(two, false),
        Err(RequestError::Framing(FramingError::LengthsDiffer))
    );
}

/// RFC 9113 §8.2.3.
#[test]
fn cookie_crumbs_become_one_field() {
    let request = get("http://a/")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let (text, _) = write(request, true).unwrap();
    assert!(text.contains("cookie: a=1; b=2\r\n"), "{text}");
    assert_eq!(text.matches("cookie").count(), 1);
}

/// RFC 9113 §8.3.1.
#[test]
fn authority_and_host_agree_or_are_refused() {
    let host = |uri: &str, host: &str| write(get(uri).header("host", host), true);
    assert_eq!(
        host("http://a.b/", "A.B").unwrap().0,
        "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n"
    );
    assert_eq!(
        host("/", "a.b").unwrap().0,
        "GET / HTTP/1.1\r\nhost: a.b\r\n\r\n"
    );
    assert_eq!(host("http://a.b/", "c"), Err(RequestError::ManyHosts));
    let two = get("/").header("host", "a").header("host", "a");
    assert_eq!(write(two, true), Err(RequestError::ManyHosts));
}

#[test]
fn other_forms_of_target_are_refused() {
    assert_eq!(write(get("ftp://a/b"), true), Err(RequestError::BadTarget));
    let connect = Request::connect("a:443");
    assert_eq!(write(connect, false), Err(RequestError::ConnectMethod));
    let (text, _) = write(Request::options("*").header("host", "a"), true).unwrap();
    assert!(text.starts_with("OPTIONS * HTTP/1.1\r\n"), "{text}");
}

/// RFC 9113 §8.2.1.
#[test]
fn blanks_around_a_value_are_refused() {
    for value in [" a", "a ", "\ta"] {
        let request = get("http://a/").header("x", value);
        assert_eq!(write(request, true), Err(RequestError::BadFieldValue));
    }
}

/// RFC 8441 §5, RFC 6455 §4.1.
#[test]
fn an_extended_connect_becomes_a_websocket_handshake() {
    let connect = |protocol| {
        Request::connect("https://a/chat")
            .extension(h2::ext::Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
    };
    let (text, form) = write(connect("websocket"), false).unwrap();
    assert!(
        text.starts_with("GET /chat HTTP/1.1\r\nhost: a\r\n"),
        "{text}"
    );
    assert!(text.contains("connection: upgrade\r\nupgrade: websocket\r\n"));
    let key = text.split("sec-websocket-key: ").nth(1).unwrap();
    assert_eq!(&key[22..24], "==");
    assert!("AQgw".contains(&key[21..22]));
    assert_eq!(form, BodyForm::Tunnel);
    assert_eq!(
        write(connect("connect-udp"), false),
        Err(RequestError::ConnectMethod)
    );
}

fn read(text: &str) -> ResponseRead {
    read_response(text.as_bytes()).unwrap().unwrap()
}

#[test]
fn a_response_loses_what_belongs_to_a_connection() {
    let response = read(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nX-Y: z\r\n\
         Transfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\nrest",
    );
    assert_eq!(response.status, 200);
    assert_eq!(response.form, BodyForm::Chunked);
    assert_eq!(response.fields.len(), 1);
    assert_eq!(response.fields["x-y"], "z");
}

#[test]
fn a_response_says_where_its_body_ends() {
    assert_eq!(
        read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").form,
        BodyForm::Length(3)
    );
    assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").form, BodyForm::None);
    assert_eq!(read("HTTP/1.1 103 \r\n\r\n").form, BodyForm::None);
    assert_eq!(read("HTTP/1.1 101 \r\n\r\n").form, BodyForm::Tunnel);
    assert!(
        read_response(b"HTTP/1.1 200 OK\r\nA: b\r\n")
            .unwrap()
            .is_none()
    );
    assert!(read_response(b"nonsense\r\n\r\n").is_err());
}

#[test]
fn trailers_survive_the_way_there_and_back() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut out = Vec::new();
    write_trailers(&mut out, &trailers).unwrap();
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
    assert_eq!(read_trailers(out[3..].to_vec()), Some(trailers));
    assert_eq!(read_trailers(b"\r\n".to_vec()), None);
}

/// Any name and value that HTTP/2 allows, the dangerous ones more often than by chance.
fn any_field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        "[a-z0-9!#$%&'*+.^_`|~-]{1,12}",
        prop::sample::select(vec![
            "host",
            "content-length",
            "content_length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "trailer",
            "cookie",
            "expect",
            "x-forwarded-for",
            "http2-settings",
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        prop::sample::select(vec![
            "0", "5", "chunked", "close", "a", "b", "h2c", "trailers", "", " 5", "5,5",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
    ];
    (name, value)
}

proptest! {
    /// Whatever arrives, the proxy's own parser reads the output as one complete request, with the announced body,
    /// one host, and no more fields than there were.
    #[test]
    fn any_request_is_written_as_exactly_one_request(
        fields in prop::collection::vec(any_field(), 0..8),
        path in "/[a-z0-9?%&=/.;~!*'()@:+,$_-]{0,12}",
        ended in any::<bool>(),
        post in any::<bool>(),
    ) {
        let mut request = Request::builder()
            .method(if post { "POST" } else { "GET" })
            .uri(format!("http://a{path}"));
        let mut count = 0;
        for (name, value) in &fields {
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            request = request.header(name, value);
            count += 1;
        }
        let Ok(request) = request.body(()) else { return Ok(()) };
        let (parts, ()) = request.into_parts();
        let mut out = Vec::new();
        let Ok(form) = write_request(&mut out, &parts, ended) else { return Ok(()) };
        let mut head = RequestHead::new();
        let limits = HeadLimits { max_header: 1 << 16, max_uri: 1 << 12 };
        let length = out.len();
        out.extend_from_slice(b"5\r\nhello\r\n0\r\n\r\n");
        // The input may contain what the crate treats as malformed; the parser refuses that.
        if head.parse(&out, &limits) == Ok(HeadProgress::Complete) {
            prop_assert_eq!(head.len, length);
            let body = match form {
                BodyForm::None => head.body.is_empty(),
                BodyForm::Length(length) => head.body == RequestBody::Length(length),
                BodyForm::Chunked => head.body == RequestBody::Chunked,
                BodyForm::Tunnel => false,
            };
            prop_assert!(body, "{:?} {:?}", form, head.body);
            prop_assert_eq!(head.host.of(&out), b"a");
            // The host, and the framing of the body.
            prop_assert!(head.fields.len() <= count + 2);
        }
    }
}
