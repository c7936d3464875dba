use super::*;
use crate::config;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::h1::request::{HeadLimits, HeadProgress, RequestHead};
use crate::proxy::transaction::changes::{KeptValues, MessageChanges};
use crate::registry::routes::RouteTable;
use proptest::prelude::*;
use std::sync::Arc;

/// Returns a route with these keys, ready to be used.
fn rule(keys: &str) -> (config::Config, Arc<RouteRule>) {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[[route]]\nname = \"r\"\npool = \"app\"\n{keys}"
    );
    let config = config::parse("x.toml", &text).unwrap().config;
    let table = RouteTable::new(&config.routes, &["app"]);
    let rule = table.first_rule().unwrap().clone();
    (config, rule)
}

struct Sent {
    text: Vec<u8>,
    head: RequestHead,
    client: ClientInfo,
}

/// Returns a request with this target and these header field lines, if lameduck accepts it.
fn sent(target: &[u8], lines: &[u8], config: &config::Config) -> Option<Sent> {
    let text = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: a.test:81\r\n",
        lines,
        b"\r\n",
    ]
    .concat();
    let mut head = RequestHead::new();
    let limits = HeadLimits {
        max_header: 1 << 16,
        max_uri: 1 << 14,
    };
    (head.parse(&text, &limits) == Ok(HeadProgress::Complete) && head.len == text.len()).then(
        || Sent {
            text,
            head,
            client: ClientInfo::new(Some("192.0.2.7:99".parse().unwrap()), &config.headers),
        },
    )
}

/// Calls `look` with the values of this request on a route with these keys.
fn with_values<T>(
    keys: &str,
    (target, lines): (&[u8], &[u8]),
    look: impl FnOnce(&Arc<RouteRule>, &RequestValues<'_>) -> T,
) -> Option<T> {
    let (config, rule) = rule(keys);
    let sent = sent(target, lines, &config)?;
    let values = RequestValues {
        request: ReceivedRequest {
            policy: &config.headers,
            buffer: &sent.text,
            head: &sent.head,
            client: &sent.client,
        },
        id: &RequestId::given(b"id-1"),
        rule: &rule,
    };
    Some(look(&rule, &values))
}

fn expanded(keys: &str, request: (&str, &str), encoding: ValueEncoding) -> String {
    let request = (request.0.as_bytes(), request.1.as_bytes());
    let made = with_values(keys, request, |rule, values| {
        let template = &rule.route.request_headers.as_ref().unwrap().set[0].value;
        let mut out = Vec::new();
        values.expand(&mut out, template, encoding).unwrap();
        String::from_utf8(out).unwrap()
    });
    made.unwrap()
}

fn field(template: &str, target: &str, lines: &str) -> String {
    let keys =
        format!("path_prefix = \"/api\"\nrequest_headers = {{ set = {{ X = {template:?} }} }}");
    expanded(&keys, (target, lines), ValueEncoding::Field)
}

#[test]
fn each_placeholder_expands_to_its_part_of_the_request() {
    let lines = "Cookie: a=1; b=2\r\nX-A: one\r\nx-a: two\r\ncookie: b=3;\te = \"4 5\" ; f\r\n";
    for (template, value) in [
        ("{host}", "a.test"),
        ("{port}", "81"),
        ("{scheme}", "http"),
        ("{path}", "//%61pi/x"),
        ("{rest}", "/x"),
        ("{query}", "q=1?2"),
        ("{client}", "192.0.2.7"),
        ("{method}", "GET"),
        ("{request_id}", "id-1"),
        ("{header.X-A}", "one, two"),
        ("{header.None}", ""),
        ("{cookie.b}", "2"),
        ("{cookie.c}", ""),
        ("{cookie.e}", "\"4 5\""),
        ("{cookie.f}", ""),
        ("[{host}]{{}}$$", "[a.test]{}$"),
    ] {
        assert_eq!(
            field(template, "//%61pi/x?q=1?2", lines),
            value,
            "{template}"
        );
    }
    let keys =
        "path_regex = \"^/u/([a-z]+)(/.*)?\"\nrequest_headers = { set = { X = \"$1|$2|$0\" } }";
    let value = expanded(keys, ("/u/%61nn", ""), ValueEncoding::Field);
    assert_eq!(value, "ann||/u/ann");
}

#[test]
fn claims_of_untrusted_clients_are_not_repeated() {
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Real-IP",
        "X_Real_IP",
        "X-Client-Cert-Subject",
        "Client-Cert",
        "X-Taken-Back",
    ] {
        let template = format!("{{header.{name}}}");
        let lines = format!("{name}: evil\r\nConnection: X-Taken-Back\r\n");
        assert_eq!(field(&template, "/api", &lines), "", "{name}");
    }
    let claims =
        "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
    assert_eq!(
        field("{client} {scheme} {port} {host}", "/api", claims),
        "192.0.2.7 http 81 a.test"
    );
}

#[test]
fn trusted_proxies_report_client_and_scheme() {
    let keys = "request_headers = { set = { X = \"{client} {scheme} {header.X-Forwarded-Proto}\" } }\n[headers]\ntrusted = [\"192.0.2.0/24\"]";
    let value = expanded(
        keys,
        (
            "/",
            "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Proto: https\r\n",
        ),
        ValueEncoding::Field,
    );
    assert_eq!(value, "198.51.100.9 https https");
}

#[test]
fn values_are_escaped_for_their_place() {
    let keys = "request_headers = { set = { X = \"<{header.A}{path}>\" } }";
    let request = ("/a/b", "A: \"<b>'&`\\ /%2e%\t?#\u{fc}\r\n");
    for (encoding, value) in [
        (
            ValueEncoding::Markup,
            "<&quot;&lt;b&gt;&#39;&amp;&#96;\\ /%2e% ?#\u{fc}/a/b>",
        ),
        (
            ValueEncoding::Json,
            "<\\u0022\\u003cb\\u003e\\u0027\\u0026`\\u005c /%2e%\\u0009?#\\u00fc/a/b>",
        ),
        (ValueEncoding::Plain, "<\"<b>'&`\\ /%2e% ?#\u{fc}/a/b>"),
        (
            ValueEncoding::Path,
            "<%22%3Cb%3E%27%26%60%5C%20%2F%252e%25%09%3F%23%C3%BC/a/b>",
        ),
    ] {
        assert_eq!(expanded(keys, request, encoding), value, "{encoding:?}");
    }
}

#[test]
fn text_that_would_become_too_long_is_refused() {
    let keys = format!(
        "request_headers = {{ set = {{ X = {:?} }} }}",
        "{header.A}".repeat(16)
    );
    let line = format!("A: {}\r\n", "x".repeat(8000));
    let made = with_values(&keys, (b"/", line.as_bytes()), |rule, values| {
        let changes = rule.changes.as_ref().unwrap();
        let (_, made) = KeptValues::make(changes, values);
        made.map_err(|answer| answer.status)
    });
    assert_eq!(made, Some(Err(431)));
}

#[test]
fn answer_to_a_text_that_became_too_long_has_whole_lines() {
    let keys = format!(
        "response_headers = {{ set = {{ X-A = \"{{method}}\", X-B = {:?} }} }}",
        "{header.A}".repeat(16)
    );
    let line = format!("A: {}\r\n", "x".repeat(8000));
    let lines = with_values(&keys, (b"/", line.as_bytes()), |rule, values| {
        let changes = rule.changes.as_ref().unwrap();
        let (kept, made) = KeptValues::make(changes, values);
        assert_eq!(made.map_err(|answer| answer.status), Err(431));
        let response = MessageChanges::new(changes, kept.get()).response();
        String::from_utf8(response.unwrap().lines.to_vec()).unwrap()
    });
    assert_eq!(lines.as_deref(), Some("X-A: GET\r\n"));
}

#[test]
fn memory_of_one_request_brings_nothing_into_the_next() {
    let keys = "strip_prefix = \"/api\"\nrequest_headers = { set = { host = \"{header.A}\", X-A = \"{header.A}\" } }\nresponse_headers = { set = { X-B = \"{header.A}\" } }";
    let made = |target: &[u8], lines: &[u8]| {
        with_values(keys, (target, lines), |rule, values| {
            let changes = rule.changes.as_ref().unwrap();
            let (kept, made) = KeptValues::make(changes, values);
            assert!(made.is_ok());
            let changes = MessageChanges::new(changes, kept.get());
            let (request, response) = (changes.request(), changes.response());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            [
                text(changes.target().unwrap_or_default()),
                changes.host().unwrap_or_default().to_owned(),
                text(request.fields.unwrap().lines),
                text(response.unwrap().lines),
            ]
        })
    };
    let first = made(b"/api/long/path", b"A: first.example.org\r\n").unwrap();
    assert_eq!(first[0], "/long/path");
    assert_eq!(first[1], "first.example.org");
    let next = made(b"/x", b"A: b\r\n").unwrap();
    assert_eq!(next, ["", "b", "X-A: b\r\n", "X-B: b\r\n"]);
}

/// Returns the header field lines that a strict parser finds in a head, in lower case.
fn lines_of(head: &[u8]) -> Vec<String> {
    let mut storage = [httparse::EMPTY_HEADER; 200];
    let (_, fields) = httparse::parse_headers(head, &mut storage)
        .unwrap()
        .unwrap();
    fields
        .iter()
        .map(|field| field.name.to_ascii_lowercase())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever a client sends, a rule adds the lines that it names and no other, and no control character gets into
    /// them.
    #[test]
    fn no_value_adds_a_line_or_a_control(
        target in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..60),
        cookie in "[ -~]{0,20}",
    ) {
        let keys = "request_headers = { set = { X-A = \"{header.A}\", X-B = \"{path}{query}\", X-C = \"a{cookie.c}b\" }, add = { X-D = [\"{header.A}{header.A}\", \"$$\"] } }";
        let target = [b"/", &target[..]].concat();
        let lines = [b"A: ", &value[..], b"\r\nCookie: c=", cookie.as_bytes(), b"\r\n"].concat();
        let made = with_values(keys, (&target, &lines), |rule, values| {
            let changes = rule.changes.as_ref().unwrap();
            let (kept, made) = KeptValues::make(changes, values);
            assert!(made.is_ok());
            let fields = MessageChanges::new(changes, kept.get()).request().fields.unwrap();
            [fields.lines, b"\r\n"].concat()
        });
        if let Some(head) = made {
            let names = lines_of(&head);
            let known = ["x-a", "x-b", "x-c", "x-d"];
            prop_assert!(names.iter().all(|name| known.contains(&&**name)) && names.len() <= 5, "{:?}", names);
            let lines: Vec<_> = head.split(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), names.len() + 2);
            for line in lines {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                prop_assert!(!line.iter().any(|byte| *byte < b' ' || *byte == 0x7f), "{:?}", line);
                prop_assert!(!line.ends_with(b" "));
            }
        }
    }

    /// Whatever a client sends, the result is one path with at most one query, without dot segments.
    #[test]
    fn expanded_path_stays_within_its_place(
        target in "(/|\\.|%2[eEfF]|%5[cC]|\\\\|;|a|api|\\?|%|\\|){0,14}",
        value in prop::collection::vec(any::<u8>(), 0..20),
        which in 0usize..5,
    ) {
        let keys = [
            "strip_prefix = \"/api\"",
            "rewrite = \"/v2{rest}\"",
            "rewrite = \"{path}/x/{header.A}\"",
            "rewrite = { regex = \"^/a(.*)$\", to = \"/$1\" }",
            "rewrite = { regex = \"(a.)\", to = \"/{header.A}/$1\" }",
        ][which];
        let target = format!("/{target}");
        let lines = [b"A: ", &value[..], b"\r\n"].concat();
        let made = with_values(keys, (target.as_bytes(), &lines), |rule, values| {
            let changes = rule.changes.as_ref().unwrap();
            let (kept, made) = KeptValues::make(changes, values);
            let target = MessageChanges::new(changes, kept.get()).target();
            made.map(|()| target.map(<[u8]>::to_vec)).map_err(|answer| answer.status)
        });
        match made {
            None => {}
            Some(Err(status)) => prop_assert_eq!(status, 400),
            Some(Ok(None)) => {}
            Some(Ok(Some(made))) => {
                prop_assert!(made.starts_with(b"/") && !made.starts_with(b"//"));
                prop_assert!(made.iter().all(|byte| *byte > b' ' && *byte != 0x7f && *byte != b'#'));
                prop_assert!(!crate::registry::routes::has_dot_segment(&made), "{}", made.escape_ascii());
                let query = target.split_once('?').map(|(_, query)| query);
                let kept = made.split(|byte| *byte == b'?').count() - 1;
                prop_assert_eq!(kept, query.map_or(0, |query| 1 + query.matches('?').count()));
            }
        }
    }
}
