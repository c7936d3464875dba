//! `Host`: exactly one, and a proper one.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §3.2";
const FORM: &str = "RFC 9110 §7.2";

fn host(name: &'static str, value: &str) -> Case {
    case(name, FORM).sends(format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"))
}

pub fn cases() -> Vec<Case> {
    let good = [
        ("a host with a port", "a:8080"),
        ("a host with an empty port", "a:"),
        ("a host in capitals", "A.Example"),
        ("a host with a dot at its end", "a.example."),
        ("a host with an underscore", "a_b.example"),
        ("an IPv4 address", "127.0.0.1:80"),
        ("an IPv6 address", "[::1]:8080"),
        ("a host with percent-encoding", "a%20b"),
    ];
    let bad = [
        ("a port that is no number", "a:http"),
        ("a port above 65535", "a:65536"),
        ("two ports", "a:80:80"),
        ("a port alone", ":80"),
        ("user information", "user@a"),
        ("a path in Host", "a/b"),
        ("a query in Host", "a?b"),
        ("a fragment in Host", "a#b"),
        ("a backslash in Host", "a\\b"),
        ("a list of hosts", "a, b"),
        ("two hosts in one", "a b"),
        ("a tab in Host", "a\tb"),
        ("a quote in Host", "a\"b"),
        ("an angle bracket in Host", "a<b>"),
        ("a scheme in Host", "http://a"),
        ("a host beyond ASCII", "é"),
        ("broken percent-encoding in Host", "a%zz"),
        ("an IPv6 address without brackets", "::1"),
        ("an IPv6 address that isn't closed", "[::1"),
        ("an IPv6 address that is none", "[::g]"),
        ("something behind an IPv6 address", "[::1]a"),
        ("a zone in an IPv6 address", "[::1%25eth0]"),
        ("a NUL in Host", "a\0b"),
    ];
    let mut cases = vec![
        host("an empty Host", "").verbatim(),
        case("a Host with blanks around it", FORM)
            .sends("GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n")
            .verbatim(),
        case("no Host", RULE)
            .sends("GET / HTTP/1.1\r\n\r\n")
            .refused(400),
        case("no Host but X-Forwarded-Host", RULE)
            .sends("GET / HTTP/1.1\r\nX-Forwarded-Host: a\r\n\r\n")
            .refused(400),
        case("two equal Hosts", RULE)
            .get("Host: a\r\n")
            .refused(400),
        case("two Hosts that differ", RULE)
            .get("Host: b\r\n")
            .refused(400),
        case("a Host and an empty one", RULE)
            .get("Host:\r\n")
            .refused(400),
        case("two Hosts in HTTP/1.0", RULE)
            .sends("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")
            .refused(400),
        case("a bad Host in HTTP/1.0", RULE)
            .sends("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n")
            .refused(400),
        case("a space before Host's colon", "RFC 9112 §5.1")
            .sends("GET / HTTP/1.1\r\nHost : a\r\n\r\n")
            .refused(400),
        case("a Host behind other fields", RULE)
            .sends("GET / HTTP/1.1\r\nX: y\r\nhOsT: a\r\n\r\n")
            .verbatim(),
    ];
    cases.extend(good.map(|(name, value)| host(name, value).verbatim()));
    cases.extend(bad.map(|(name, value)| host(name, value).refused(400)));
    cases
}
