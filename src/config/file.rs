//! From the TOML tree to run-time types, one function for each section. Every value is judged by itself here;
//! how values fit together is `validate`'s business.

use super::declare::Subsection;
use super::reader::{Findings, Problem, Table};
use super::runtime::*;
use super::schema;
use super::values::{self, Read, backend_address, choice, name, quoted, text, wrong};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const COUNT: std::ops::RangeInclusive<i64> = 0..=1_000_000_000;

/// The whole file. Relative paths in it are taken from `base`.
pub(super) fn config(root: &DeTable<'_>, base: &Path, found: &mut Findings) -> Config {
    let top = Table::new(schema::section(""), String::new(), Some(root), base, found);
    Config {
        server: server(
            &top.child("server", schema::section("server"), found),
            base,
            found,
        ),
        admin: admin(
            &top.child("admin", schema::section("admin"), found),
            base,
            found,
        ),
        access_log: access_log(
            &top.child("access_log", schema::section("access_log"), found),
            base,
            found,
        ),
        headers: headers(
            &top.child("headers", schema::section("headers"), found),
            found,
        ),
        listeners: each(&top, "listener", "listener", found, |table, found| {
            super::listener::listener(table, base, found)
        }),
        pools: each(&top, "pool", "pool", found, |t, f| pool(t, base, f)),
        routes: each(&top, "route", "route", found, super::routes::route),
    }
}

fn each<T>(
    parent: &Table<'_>,
    key: &str,
    section: &'static str,
    found: &mut Findings,
    read: impl Fn(&Table<'_>, &mut Findings) -> T,
) -> Vec<T> {
    let tables = parent.children(key, schema::section(section), found);
    tables.iter().map(|table| read(table, found)).collect()
}

fn server(t: &Table<'_>, base: &Path, f: &mut Findings) -> Server {
    let d = Server::default();
    Server {
        threads: t.number("threads", d.threads, 0..=1024, f),
        lame_duck: t.duration("lame_duck", d.lame_duck, f),
        deadline: t.duration("deadline", d.deadline, f),
        state_dir: t.path("state_dir", base, f),
        max_connections: t.number_or_auto("max_connections", COUNT, f),
        max_connections_per_client: t.number(
            "max_connections_per_client",
            d.max_connections_per_client,
            COUNT,
            f,
        ),
        max_requests_per_connection: t.number(
            "max_requests_per_connection",
            d.max_requests_per_connection,
            COUNT,
            f,
        ),
        max_concurrent_streams: t.number(
            "max_concurrent_streams",
            d.max_concurrent_streams,
            1..=10_000,
            f,
        ),
        max_stream_resets: t.number("max_stream_resets", d.max_stream_resets, COUNT, f),
        header_timeout: t.some_time("header_timeout", d.header_timeout, f),
        idle_timeout: t.some_time("idle_timeout", d.idle_timeout, f),
        body_timeout: t.some_time("body_timeout", d.body_timeout, f),
        min_body_rate: t.size_or_auto("min_body_rate", f),
        min_response_rate: t.size_or_auto("min_response_rate", f),
        rate_grace: t.some_time("rate_grace", d.rate_grace, f),
        total_timeout: Some(t.duration("total_timeout", Duration::ZERO, f))
            .filter(|time| !time.is_zero()),
        tcp_keepalive: Some(t.duration("tcp_keepalive", d.tcp_keepalive.unwrap_or_default(), f))
            .filter(|time| !time.is_zero()),
        max_header: head_size(t, "max_header", d.max_header, f),
        max_uri: head_size(t, "max_uri", d.max_uri, f),
        max_body: t.size("max_body", d.max_body, f),
        max_memory: t.size_or_auto("max_memory", f),
        max_memory_per_connection: t.size(
            "max_memory_per_connection",
            d.max_memory_per_connection,
            f,
        ),
    }
}

/// The size of a head or of a part of it: small enough to be buffered, large enough to be of use.
fn head_size(t: &Table<'_>, key: &str, default: usize, f: &mut Findings) -> usize {
    let bytes = t.size(key, default as u64, f);
    match usize::try_from(bytes) {
        Ok(bytes) if (1 << 10..=1 << 20).contains(&bytes) => bytes,
        _ => {
            f.error(
                f.place(&t.at(key)),
                format!("`{key}` is {bytes} bytes, and must be from 1KiB to 1MiB"),
                format!(
                    "write a size such as \"{}\"; browsers send up to about 16KiB of headers",
                    super::size::format(default as u64)
                ),
            );
            default
        }
    }
}

fn admin(t: &Table<'_>, base: &Path, f: &mut Findings) -> Admin {
    let d = Admin::default();
    Admin {
        socket: t.read("socket", d.socket, f, |key, value| {
            socket_path(key, value, base, "/run/lameduck/lameduck.sock")
        }),
        mode: t.read("mode", d.mode, f, mode),
        group: t.read("group", d.group, f, group),
        http: t.listen("http", d.http, f),
        token_file: t.path("token_file", base, f),
        probes: t.listen("probes", d.probes, f),
        hosts: t.list("hosts", d.hosts, "[\"lameduck.internal\"]", f, host_name),
        apps_socket: t.read("apps_socket", d.apps_socket, f, |key, value| {
            socket_path(key, value, base, "/run/lameduck/apps.sock")
        }),
        apps_mode: t.read("apps_mode", d.apps_mode, f, mode),
        apps_group: t.read("apps_group", d.apps_group, f, group),
        apps_pools: t.list("apps_pools", d.apps_pools, "[\"app\"]", f, |key, value| {
            text(key, value, "app").map(str::to_owned)
        }),
    }
}

fn socket_path(
    key: &str,
    value: &DeValue<'_>,
    base: &Path,
    example: &str,
) -> Read<Option<PathBuf>> {
    let text = text(key, value, example)?;
    let path = values::file_path(key, text.strip_prefix("unix:").unwrap_or(text), base)?;
    let length = path.as_os_str().len();
    if length > super::address::MAX_UNIX_PATH {
        let why = format!(
            "the path has {length} bytes, and a unix socket's can have {}",
            super::address::MAX_UNIX_PATH
        );
        return Err(wrong(
            key,
            quoted(text),
            why,
            "use a shorter directory, such as /run/lameduck",
        ));
    }
    Ok((!text.is_empty()).then_some(path))
}

fn group(key: &str, value: &DeValue<'_>) -> Read<Option<String>> {
    let group = text(key, value, "deploy")?;
    if group.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
        return Err(wrong(
            key,
            quoted(group),
            "it is not the name of a group",
            "write the name as `getent group` shows it",
        ));
    }
    Ok((!group.is_empty()).then(|| group.to_string()))
}

/// A name as the `Host` field has it, without port: in lower case and without the root's dot.
fn host_name(key: &str, value: &DeValue<'_>) -> Read<String> {
    let text = text(key, value, "lameduck.internal")?;
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_address = text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if is_address {
        return Ok(text.trim_matches(['[', ']']).to_ascii_lowercase());
    }
    if name.is_empty() || name.len() > 253 || !name.chars().all(fits) {
        return Err(wrong(
            key,
            quoted(text),
            "it is not a host name",
            "write the name alone, without scheme, port and `*`, such as \"lameduck.internal\"",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn mode(key: &str, value: &DeValue<'_>) -> Read<u32> {
    let text = text(key, value, "0660")?;
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let octal_digits = !octal.is_empty() && octal.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(octal, 8) {
        Ok(mode) if octal_digits && mode <= 0o777 => Ok(mode),
        _ => Err(wrong(
            key,
            quoted(text),
            "it is not a file mode",
            "write three octal digits after a 0, such as \"0660\" (owner and group) or \"0600\" (owner only)",
        )),
    }
}

fn access_log(t: &Table<'_>, base: &Path, f: &mut Findings) -> AccessLog {
    AccessLog {
        sink: t.read("path", LogSink::Stdout, f, |key, value| {
            match text(key, value, "stdout")? {
                "off" => Ok(LogSink::Off),
                "stdout" => Ok(LogSink::Stdout),
                "stderr" => Err(wrong(
                    key,
                    "\"stderr\"",
                    "that is where lameduck's own messages go",
                    "write \"stdout\", \"off\" or a path",
                )),
                "" => Err(wrong(
                    key,
                    "\"\"",
                    "it is empty",
                    "write \"off\" for none, \"stdout\" or a path",
                )),
                path => values::file_path(key, path, base).map(LogSink::File),
            }
        }),
        format: t.read("format", LogFormat::Json, f, |key, value| {
            choice(
                key,
                value,
                &[("json", LogFormat::Json), ("combined", LogFormat::Combined)],
            )
        }),
    }
}

fn headers(t: &Table<'_>, f: &mut Findings) -> Headers {
    let d = Headers::default();
    Headers {
        trusted: t.list("trusted", d.trusted, "[\"10.0.0.0/8\"]", f, network),
        x_forwarded: t.boolean("x_forwarded", d.x_forwarded, f),
        forwarded: t.boolean("forwarded", d.forwarded, f),
        via: t.boolean("via", d.via, f),
        request_id: t.boolean("request_id", d.request_id, f),
    }
}

fn network(key: &str, value: &DeValue<'_>) -> Read<ipnet::IpNet> {
    let text = text(key, value, "10.0.0.0/8")?;
    let problem = |why: &str, remedy: String| {
        Problem::new(format!("`{key}` has {}: {why}", quoted(text)), remedy)
    };
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    let network: ipnet::IpNet = text.parse().map_err(|_| {
        let remedy = "write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"";
        problem("it is not a network", remedy.into())
    })?;
    if network.trunc() != network {
        let remedy = format!(
            "write \"{}\", or \"{}\" for that one address",
            network.trunc(),
            network.addr()
        );
        return Err(problem(
            "the address has bits set beyond its prefix length",
            remedy,
        ));
    }
    Ok(network)
}

fn pool(t: &Table<'_>, base: &Path, f: &mut Findings) -> Pool {
    let pool_name = t.require("name", String::new(), f, name);
    let backends = t.children("backend", schema::section("pool.backend"), f);
    let backends = backends.iter().enumerate().map(|(i, table)| {
        let default = if pool_name.is_empty() {
            "backend"
        } else {
            &pool_name
        };
        let name = table.read("name", format!("{default}-{}", i + 1), f, name);
        Backend {
            name,
            named: f.written(&table.at("name")),
            address: table.require(
                "address",
                Address::Name(String::new(), 0),
                f,
                backend_address,
            ),
            weight: table.number("weight", 1, 0..=1000, f),
        }
    });
    let backends = backends.collect();
    let health_table = t.child("health", schema::section("pool.health"), f);
    let explicit = health_table.is_written();
    Pool {
        balance: t.read("balance", Balance::LeastRequests, f, |key, value| {
            choice(key, value, &BALANCE)
        }),
        backends,
        health: super::health::health(&health_table, explicit, f),
        drain: drain(&t.child("drain", schema::section("pool.drain"), f), f),
        upstream: upstream(&t.child("upstream", schema::section("pool.upstream"), f), f),
        tls: super::upstream_tls::section(t, base, f),
        retry: Retry::read_below(t, "retry", f),
        hold: Hold::read_below(t, "hold", f),
        slow_start: t
            .child("slow_start", schema::section("pool.slow_start"), f)
            .duration("window", Duration::ZERO, f),
        name: pool_name,
    }
}

/// The words for balancing algorithms.
pub(super) const BALANCE: [(&str, Balance); 3] = [
    ("least_requests", Balance::LeastRequests),
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
];

/// The words for the PROXY protocol's versions.
pub(super) const PROXY_PROTOCOL: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("v1", ProxyProtocol::V1),
    ("v2", ProxyProtocol::V2),
];

fn drain(t: &Table<'_>, f: &mut Findings) -> Drain {
    let d = Drain::default();
    Drain {
        deadline: t.duration("deadline", d.deadline, f),
        close_spread: t.duration("close_spread", d.close_spread, f),
        cut_on_503: t.boolean("cut_on_503", d.cut_on_503, f),
    }
}

fn upstream(t: &Table<'_>, f: &mut Findings) -> Upstream {
    let d = Upstream::default();
    Upstream {
        connect_timeout: t.some_time("connect_timeout", d.connect_timeout, f),
        read_timeout: t.some_time("read_timeout", d.read_timeout, f),
        tunnel_timeout: Some(t.duration("tunnel_timeout", Duration::ZERO, f))
            .filter(|time| !time.is_zero()),
        idle_timeout: t.duration("idle_timeout", d.idle_timeout, f),
        max_in_flight: t.number("max_in_flight", d.max_in_flight, COUNT, f),
        request_buffering: t.boolean("request_buffering", d.request_buffering, f),
        preserve_host: t.boolean("preserve_host", d.preserve_host, f),
        proxy_protocol: t.read("proxy_protocol", d.proxy_protocol, f, |key, value| {
            choice(key, value, &PROXY_PROTOCOL)
        }),
        http2: t.boolean("http2", d.http2, f),
    }
}
