//! A configuration as TOML: every effective value, and it parses back to the same configuration.

use super::declare::ConfigSection;
pub(super) use super::declare::Entries;
use super::duration::format as time;
use super::file::{BALANCE, PROXY_PROTOCOL};
use super::listener::{CLIENT_AUTH, MIN_VERSION};
use super::runtime::*;
use super::size::format as size;
use super::values::AUTO;

/// The whole configuration as TOML. A pool whose file has no `[pool.health]` shows the values of it as
/// comments: written out, the section would be taken at its word and lose its fall-back to TCP.
pub fn print(config: &Config) -> String {
    let mut out = String::new();
    section(&mut out, "[server]", &server(&config.server));
    section(&mut out, "[admin]", &admin(&config.admin));
    section(&mut out, "[access_log]", &access_log(&config.access_log));
    section(&mut out, "[headers]", &headers(&config.headers));
    for listener in &config.listeners {
        section(&mut out, "[[listener]]", &self::listener(listener));
        for (header, entries) in listener_tls(listener) {
            section(&mut out, header, &entries);
        }
    }
    for pool in &config.pools {
        let own = vec![
            ("name", text(&pool.name)),
            ("balance", word(&BALANCE, pool.balance)),
        ];
        section(&mut out, "[[pool]]", &own);
        for backend in &pool.backends {
            section(&mut out, "[[pool.backend]]", &self::backend(backend));
        }
        let health = health(&pool.health);
        if pool.health.explicit {
            section(&mut out, "[pool.health]", &health);
        } else {
            out.push_str("# [pool.health] is not written; 404, 405 and 501 turn this check into a TCP connect.\n");
            for (key, value) in &health {
                out.push_str(&format!("# {key} = {value}\n"));
            }
            out.push('\n');
        }
        for (header, entries) in policies(pool) {
            section(&mut out, header, &entries);
        }
        if pool.tls.is_some() {
            section(&mut out, "[pool.tls]", &upstream_tls(&pool.tls));
        }
    }
    for route in &config.routes {
        section(&mut out, "[[route]]", &self::route(route));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn section(out: &mut String, header: &str, entries: &Entries) {
    out.push_str(&format!("{header}\n"));
    for (key, value) in entries {
        out.push_str(&format!("{key} = {value}\n"));
    }
    out.push('\n');
}

/// A TOML basic string (TOML 1.0, "String").
pub(super) fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn word<T: PartialEq>(words: &[(&str, T)], value: T) -> String {
    let found = words.iter().find(|(_, other)| *other == value);
    text(found.map_or("", |(word, _)| word))
}

/// A list of texts.
fn texts(values: &[String]) -> String {
    texts_of(values.iter().map(|value| text(value)))
}

/// A list of values that are TOML.
pub(super) fn texts_of(values: impl Iterator<Item = String>) -> String {
    let values: Vec<_> = values.collect();
    format!("[{}]", values.join(", "))
}

/// `None` is written as an empty text.
fn maybe(value: Option<impl ToString>) -> String {
    text(&value.map(|value| value.to_string()).unwrap_or_default())
}

pub(super) fn path(value: &Option<std::path::PathBuf>) -> String {
    maybe(value.as_ref().map(|path| path.display()))
}

fn quoted_time(value: std::time::Duration) -> String {
    text(&time(value))
}

fn auto() -> String {
    text(AUTO)
}

fn size_or_auto(value: Option<u64>) -> String {
    value.map_or_else(auto, |bytes| text(&size(bytes)))
}

pub(super) fn server(server: &Server) -> Entries {
    vec![
        ("threads", server.threads.to_string()),
        ("lame_duck", quoted_time(server.lame_duck)),
        ("deadline", quoted_time(server.deadline)),
        ("state_dir", path(&server.state_dir)),
        (
            "max_connections",
            server
                .max_connections
                .map_or_else(auto, |count| count.to_string()),
        ),
        (
            "max_connections_per_client",
            server.max_connections_per_client.to_string(),
        ),
        (
            "max_requests_per_connection",
            server.max_requests_per_connection.to_string(),
        ),
        (
            "max_concurrent_streams",
            server.max_concurrent_streams.to_string(),
        ),
        ("max_stream_resets", server.max_stream_resets.to_string()),
        ("header_timeout", quoted_time(server.header_timeout)),
        ("idle_timeout", quoted_time(server.idle_timeout)),
        ("body_timeout", quoted_time(server.body_timeout)),
        ("min_body_rate", size_or_auto(server.min_body_rate)),
        ("min_response_rate", size_or_auto(server.min_response_rate)),
        ("rate_grace", quoted_time(server.rate_grace)),
        (
            "total_timeout",
            quoted_time(server.total_timeout.unwrap_or_default()),
        ),
        (
            "tcp_keepalive",
            quoted_time(server.tcp_keepalive.unwrap_or_default()),
        ),
        ("max_header", text(&size(server.max_header as u64))),
        ("max_uri", text(&size(server.max_uri as u64))),
        ("max_body", text(&size(server.max_body))),
        ("max_memory", size_or_auto(server.max_memory)),
        (
            "max_memory_per_connection",
            text(&size(server.max_memory_per_connection)),
        ),
    ]
}

pub(super) fn admin(admin: &Admin) -> Entries {
    vec![
        ("socket", path(&admin.socket)),
        ("mode", text(&format!("{:04o}", admin.mode))),
        ("group", maybe(admin.group.as_ref())),
        ("http", maybe(admin.http)),
        ("token_file", path(&admin.token_file)),
        ("probes", maybe(admin.probes)),
        ("hosts", texts(&admin.hosts)),
        ("apps_socket", path(&admin.apps_socket)),
        ("apps_mode", text(&format!("{:04o}", admin.apps_mode))),
        ("apps_group", maybe(admin.apps_group.as_ref())),
        ("apps_pools", texts(&admin.apps_pools)),
    ]
}

pub(super) fn access_log(log: &AccessLog) -> Entries {
    let sink = match &log.sink {
        LogSink::Off => "off".into(),
        LogSink::Stdout => "stdout".into(),
        LogSink::File(path) => path.display().to_string(),
    };
    let format = match log.format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    vec![("path", text(&sink)), ("format", text(format))]
}

pub(super) fn headers(headers: &Headers) -> Entries {
    let trusted: Vec<_> = headers
        .trusted
        .iter()
        .map(|net| text(&net.to_string()))
        .collect();
    vec![
        ("trusted", format!("[{}]", trusted.join(", "))),
        ("x_forwarded", headers.x_forwarded.to_string()),
        ("forwarded", headers.forwarded.to_string()),
        ("via", headers.via.to_string()),
        ("request_id", headers.request_id.to_string()),
    ]
}

pub(super) fn listener(listener: &Listener) -> Entries {
    let redirect = match listener.redirect_https {
        None => "false".into(),
        Some(443) => "true".into(),
        Some(port) => port.to_string(),
    };
    vec![
        ("address", text(&listener.address.to_string())),
        ("reuse_port", listener.reuse_port.to_string()),
        ("http2", listener.http2.to_string()),
        ("redirect_https", redirect),
        ("hsts", quoted_time(listener.hsts)),
        ("proxy_protocol", listener.proxy_protocol.to_string()),
    ]
}

/// `[listener.tls]` and what is below it; nothing without TLS.
pub(super) fn listener_tls(listener: &Listener) -> Vec<(&'static str, Entries)> {
    let Some(tls) = &listener.tls else {
        return Vec::new();
    };
    let files = |files: &CertificateFiles| {
        let shown = |path: &std::path::Path| text(&path.display().to_string());
        vec![("cert", shown(&files.cert)), ("key", shown(&files.key))]
    };
    let (first, more) = match tls.certificates.split_first() {
        Some((first, more)) => (files(first), more),
        None => (Vec::new(), &[][..]),
    };
    let mut own = first;
    own.extend([
        ("client_auth", word(&CLIENT_AUTH, tls.client_auth)),
        ("client_ca", path(&tls.client_ca)),
        ("client_crl", path(&tls.client_crl)),
        ("min_version", word(&MIN_VERSION, tls.min_version)),
    ]);
    let mut sections = vec![("[listener.tls]", own)];
    for certificate in more {
        sections.push(("[[listener.tls.certificates]]", files(certificate)));
    }
    sections
}

fn backend(backend: &Backend) -> Entries {
    vec![
        ("name", text(&backend.name)),
        ("address", text(&backend.address.to_string())),
        ("weight", backend.weight.to_string()),
    ]
}

pub(super) fn health(health: &Health) -> Entries {
    let mut entries = match &health.check {
        Check::Tcp => vec![("type", text("tcp"))],
        Check::Grpc { service, host } => vec![
            ("type", text("grpc")),
            ("service", text(service)),
            ("host", maybe(host.as_ref())),
        ],
        Check::Http {
            path,
            host,
            method,
            headers,
            expect,
        } => {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| format!("{} = {}", text(name), text(value)))
                .collect();
            let headers = if headers.is_empty() {
                "{}".into()
            } else {
                format!("{{ {} }}", headers.join(", "))
            };
            let expect: Vec<_> = expect.iter().map(|range| statuses(*range)).collect();
            vec![
                ("type", text("http")),
                ("path", text(path)),
                ("host", maybe(host.as_ref())),
                ("method", text(method)),
                ("headers", headers),
                ("expect", format!("[{}]", expect.join(", "))),
                ("service", text("")),
            ]
        }
    };
    entries.extend([
        ("port", health.port.unwrap_or(0).to_string()),
        ("tls", health.tls.to_string()),
        ("interval", quoted_time(health.interval)),
        ("timeout", quoted_time(health.timeout)),
        ("fast_interval", quoted_time(health.fast_interval)),
        ("rise", health.rise.to_string()),
        ("fall", health.fall.to_string()),
        ("fall_timeout", health.fall_timeout.to_string()),
        ("absent_after", quoted_time(health.absent_after)),
    ]);
    entries
}

fn statuses((low, high): (u16, u16)) -> String {
    if low == high {
        low.to_string()
    } else if low % 100 == 0 && high == low + 99 {
        text(&format!("{}xx", low / 100))
    } else {
        text(&format!("{low}-{high}"))
    }
}

/// Everything of a pool but its name, backends and health check.
pub(super) fn policies(pool: &Pool) -> Vec<(&'static str, Entries)> {
    let (drain, upstream, retry, hold) = (&pool.drain, &pool.upstream, &pool.retry, &pool.hold);
    vec![
        (
            "[pool.drain]",
            vec![
                ("deadline", quoted_time(drain.deadline)),
                ("close_spread", quoted_time(drain.close_spread)),
                ("cut_on_503", drain.cut_on_503.to_string()),
            ],
        ),
        (
            "[pool.upstream]",
            vec![
                ("connect_timeout", quoted_time(upstream.connect_timeout)),
                ("read_timeout", quoted_time(upstream.read_timeout)),
                (
                    "tunnel_timeout",
                    quoted_time(upstream.tunnel_timeout.unwrap_or_default()),
                ),
                ("idle_timeout", quoted_time(upstream.idle_timeout)),
                ("max_in_flight", upstream.max_in_flight.to_string()),
                ("request_buffering", upstream.request_buffering.to_string()),
                ("preserve_host", upstream.preserve_host.to_string()),
                (
                    "proxy_protocol",
                    word(&PROXY_PROTOCOL, upstream.proxy_protocol),
                ),
                ("http2", upstream.http2.to_string()),
            ],
        ),
        ("[pool.retry]", retry.entries()),
        ("[pool.hold]", hold.entries()),
        (
            "[pool.slow_start]",
            vec![("window", quoted_time(pool.slow_start))],
        ),
    ]
}

/// `[pool.tls]`; nothing where it is not written.
pub(super) fn upstream_tls(tls: &Option<UpstreamTls>) -> Entries {
    let Some(tls) = tls else {
        return Vec::new();
    };
    vec![
        ("ca", path(&tls.ca)),
        ("server_name", maybe(tls.server_name.as_ref())),
        ("cert", path(&tls.cert)),
        ("key", path(&tls.key)),
        ("verify", tls.verify.to_string()),
    ]
}

fn route(route: &Route) -> Entries {
    vec![
        ("host", text(route.host.as_deref().unwrap_or("*"))),
        ("path_prefix", text(&route.path_prefix)),
        ("pool", text(&route.pool)),
    ]
}

impl std::fmt::Display for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = BALANCE.iter().find(|(_, balance)| balance == self);
        f.write_str(found.map_or("", |(word, _)| word))
    }
}
