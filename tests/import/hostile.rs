//! Random and broken files: no panic, no endless work, and what is accepted is a configuration.

use super::import_text;
use proptest::prelude::*;

const WORDS: [&str; 40] = [
    "http",
    "server",
    "location",
    "upstream",
    "listen",
    "server_name",
    "proxy_pass",
    "return",
    "if",
    "map",
    "{",
    "}",
    ";",
    "\"",
    "'",
    "\\",
    "#",
    "\n",
    "$host",
    "${x}",
    "80",
    "443 ssl",
    "http://u",
    "http://127.0.0.1:1/",
    "/",
    "= /a",
    "~ \\.php$",
    "^~ /b/",
    "@n",
    "a.example.org",
    "*.example.org",
    "u",
    "include",
    "127.0.0.1:3000",
    "301",
    "https://$host$request_uri",
    "weight=2",
    "unix:/x",
    "é",
    "\0",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_of_words_is_read_or_refused(words in proptest::collection::vec(0..WORDS.len(), 0..80)) {
        let text = words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ");
        let (code, out, err) = import_text(&text);
        prop_assert!(!err.contains("please report this"), "{text}\n{out}\n{err}");
        prop_assert!(code == 1 || !out.is_empty());
    }

    #[test]
    fn any_server_is_read_and_accepted(parts in proptest::collection::vec((0..8_usize, "[ -~é]{0,12}"), 0..12)) {
        // Quoted, so that the words may be anything.
        let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let body: String = parts.iter().map(|(kind, text)| {
            let word = quote(text);
            match kind {
                0 => format!("listen {word};"),
                1 => format!("server_name {word};"),
                2 => format!("location {word} {{ proxy_pass http://127.0.0.1:1; }}"),
                3 => format!("location {} {{ proxy_pass {word}; }}", quote(&format!("/{text}"))),
                4 => format!("return 301 {word};"),
                5 => format!("client_max_body_size {word}; keepalive_timeout {word};"),
                6 => format!("ssl_certificate {word}; ssl_certificate_key {word}; listen 443 ssl;"),
                _ => format!("add_header Strict-Transport-Security {word}; set_real_ip_from {word}; access_log {word};"),
            }
        }).collect();
        let (code, out, err) = import_text(&format!("server {{ {body} }}"));
        prop_assert!(code == 0 || code == 3, "{body}\n{out}\n{err}");
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "\\PC{0,200}") {
        let (code, _, _) = import_text(&text);
        prop_assert!([0, 1, 3].contains(&code));
    }
}

#[test]
fn location_of_an_empty_path_is_left_out() {
    for location in ["=", "= \"\"", "\"=\""] {
        let text = format!("server {{ location {location} {{ proxy_pass http://127.0.0.1:1; }} }}");
        let (code, out, err) = import_text(&text);
        assert_eq!(code, 3, "{location}: {err}");
        assert!(out.contains("no request has an empty one"), "{out}");
    }
}

#[test]
fn hostile_sizes_end_soon() {
    let started = std::time::Instant::now();
    for text in [
        "{".repeat(1 << 20),
        "a {".repeat(1 << 18),
        format!("a {};", "x ".repeat(1 << 19)),
        format!(
            "server {{ {} }}",
            "location /a { proxy_pass http://127.0.0.1:1; } ".repeat(1_000)
        ),
        format!("a \"{}", "\\".repeat(1 << 20)),
        "server { listen 80; } ".repeat(1_000),
    ] {
        let (code, _, _) = import_text(&text);
        assert!([0, 1, 3].contains(&code));
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
