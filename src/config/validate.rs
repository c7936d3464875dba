//! Checks of values in combination. They run over the finished configuration, whatever its source; findings point to
//! a position in the file if there is one.

use super::ListenAddress;
use super::address::Address;
use super::duration::format as time;
use super::own_address;
use super::ports::{BoundPorts, clash};
use super::reader::ConfigFindings;
use super::sections::*;
use std::collections::HashMap;
use std::path::Path;

/// Formats a duration, marked if it is a default: a user who has written one of two values should see where the other
/// comes from.
fn time_with_origin(f: &ConfigFindings, path: &str, value: std::time::Duration) -> String {
    let by_default = if f.written(path) { "" } else { " by default" };
    format!("{}{by_default}", time(value))
}

/// Checks everything that depends on more than one value.
pub(super) fn config(config: &Config, f: &mut ConfigFindings) {
    server(&config.server, f);
    limits(&config.server, f);
    super::admin::check(config, f);
    listeners(config, f);
    validate_acme(config, f);
    pools(config, f);
    super::routes::validate(config, f);
    if let Some(compression) = &config.compression {
        validate_compression(compression, f);
    }
    validate_access_log(&config.access_log, f);
    if let Some(tracing) = &config.tracing {
        validate_tracing(tracing, f);
    }
    super::files::validate(config, f);
    super::error_pages::validate(config, f);
}

fn server(server: &ServerConfig, f: &mut ConfigFindings) {
    let (lame_duck, name) = match server.lame_duck {
        Some(_) => ("server.lame_duck", "lame_duck"),
        None => ("server.lame_duck_max", "lame_duck_max"),
    };
    let deadline = "server.deadline";
    let longest = server.longest_lame_duck();
    if longest >= server.deadline && f.sound(&["server.lame_duck", lame_duck, deadline]) {
        let at = if f.written(deadline) {
            deadline
        } else {
            lame_duck
        };
        let also = if f.written(lame_duck) {
            lame_duck
        } else {
            deadline
        };
        let remedy = format!(
            "make `deadline` longer than `{name}`: what is left of it is the time for requests to finish"
        );
        let message = format!(
            "`deadline` ({}) is not longer than `{name}` ({}): every shutdown would cut requests",
            time_with_origin(f, deadline, server.deadline),
            time_with_origin(f, lame_duck, longest)
        );
        let (at, also) = (
            f.place(at),
            Some(f.place(also)).filter(|_| at != also).flatten(),
        );
        f.error(at, message, remedy)
            .also(also, "and this is how long it goes on accepting");
    }
}

/// Reports limits of `[server]` that can never be reached because of other limits.
fn limits(server: &ServerConfig, f: &mut ConfigFindings) {
    let d = ServerConfig::default();
    let (total, each) = (
        "server.max_connections",
        "server.max_connections_per_client",
    );
    if let Some(connections) = server.max_connections
        && connections > 0
        && server.max_connections_per_client > connections
        && f.sound(&[total, each])
    {
        f.warning(
            f.place(each),
            format!(
                "`max_connections_per_client` ({}) is more than `max_connections` ({}): one client can take them all",
                server.max_connections_per_client, connections
            ),
            "write a small part of `max_connections`",
        );
    }
    let (uri, header) = ("server.max_uri", "server.max_header");
    if server.max_uri > server.max_header && server.max_uri != d.max_uri && f.sound(&[uri, header])
    {
        f.warning(
            f.place(uri),
            format!(
                "`max_uri` ({}) is more than `max_header` ({}), which counts the target, too: it is never reached",
                super::size::format(server.max_uri as u64),
                super::size::format(server.max_header as u64)
            ),
            "write a smaller `max_uri`, or a larger `max_header`",
        );
    }
    // Does not check whether they are written, because `check --print` writes the defaults, too.
    let grace = "server.rate_grace";
    if server.rate_grace != d.rate_grace
        && server.min_body_rate.is_none_or(|rate| rate == 0)
        && server.min_response_rate.is_none_or(|rate| rate == 0)
    {
        f.warning(
            f.place(grace),
            "`rate_grace` is for a configured `min_body_rate` or `min_response_rate`, and there is neither",
            "add `min_body_rate = \"1KiB\"`, or remove it",
        );
    }
}

fn listeners(config: &Config, f: &mut ConfigFindings) {
    if config.listeners.is_empty() && f.sound(&["listener"]) {
        f.error(
            None,
            "there is no [[listener]]: nobody could connect",
            "add a line `[[listener]]` and below it `address = \"0.0.0.0:8080\"`",
        );
    }
    let mut taken = BoundPorts::default();
    let mut sockets: HashMap<&Path, usize> = HashMap::new();
    for (i, listener) in config.listeners.iter().enumerate() {
        super::listener::check(&format!("listener[{i}]"), listener, f);
        let at = f.place(&format!("listener[{i}].address"));
        let clash_with = match &listener.address {
            ListenAddress::Tcp(address) => taken.add(*address, i),
            ListenAddress::Unix(path) => sockets.insert(path, i),
        };
        if let Some(j) = clash_with {
            let (address, other) = (&listener.address, &config.listeners[j].address);
            let first = f.place(&format!("listener[{j}].address"));
            let (message, remedy) = match address.tcp() {
                None => (
                    format!("two listeners have the address {address}"),
                    "remove one of them, or give it another path",
                ),
                Some(_) if other == address => (
                    format!("two listeners have the address {address}"),
                    "remove one of them, or give it another port",
                ),
                Some(address) => (
                    format!(
                        "{address} and {other} can't both listen on port {}",
                        address.port()
                    ),
                    "remove one of them, or give it another port",
                ),
            };
            f.error(at.clone(), message, remedy)
                .also(first, "the other one");
        }
        if let Some(path) = listener.address.unix() {
            for (key, admin) in [
                ("socket", &config.admin.socket),
                ("apps_socket", &config.admin.apps_socket),
            ] {
                if admin.as_deref() == Some(path) {
                    let other = f.place(&format!("admin.{key}"));
                    f.error(
                        at.clone(),
                        format!(
                            "the listener and `{key}` of [admin] have the same path {}",
                            path.display()
                        ),
                        "give one of them another path",
                    )
                    .also(other, "the admin API");
                }
            }
        }
        let proxied = format!("listener[{i}].proxy_protocol");
        let (is_trusted, example) = match listener.address {
            ListenAddress::Tcp(_) => (
                config
                    .headers
                    .trusted
                    .iter()
                    .any(|one| *one != TrustedClient::Unix),
                "10.0.0.0/8",
            ),
            ListenAddress::Unix(_) => (config.headers.trusts_unix(), "unix:"),
        };
        if listener.proxy_protocol && !is_trusted && f.sound(&[&proxied, "headers.trusted"]) {
            f.error(
                f.place(&proxied),
                "`proxy_protocol = true`, and no address is trusted to say who the client is: nobody could connect",
                format!("list the proxy in front under [headers], such as `trusted = [\"{example}\"]`"),
            );
        }
        for (key, admin) in [("http", config.admin.http), ("probes", config.admin.probes)] {
            let path = format!("admin.{key}");
            if let (Some(admin), Some(address)) = (admin, listener.address.tcp())
                && clash(admin, address)
            {
                let other = f.place(&path).filter(|_| f.written(&path));
                f.error(
                    at.clone(),
                    format!("the listener {address} and `{key} = \"{admin}\"` of [admin] can't both listen on port {}", address.port()),
                    format!("give one of them another port (`{key} = \"\"` turns that one off)"),
                )
                .also(other, "the admin API");
            }
        }
    }
}

fn pools(config: &Config, f: &mut ConfigFindings) {
    let has_answer = config.routes.iter().any(Route::answers_itself);
    if config.pools.is_empty() && !has_answer && f.sound(&["pool"]) {
        f.error(
            None,
            "there is no [[pool]]: requests would have nowhere to go",
            "add a line `[[pool]]`, below it `name = \"app\"`, and a [[pool.backend]] with the app's address",
        );
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (i, pool) in config.pools.iter().enumerate() {
        let path = format!("pool[{i}]");
        let name = format!("{path}.name");
        let j = *names.entry(&pool.name).or_insert(i);
        if j != i && !pool.name.is_empty() {
            let first = f.place(&format!("pool[{j}].name"));
            f.error(
                f.place(&name),
                format!("two pools have the name \"{}\"", pool.name),
                "give one of them another name",
            )
            .also(first, "the other one");
        }
        backends(&path, pool, config, f);
        super::discovery::validate(&path, pool, f);
        super::hash_key::validate_hash(&path, pool, f);
        zones(&path, pool, config, f);
        health(&path, &pool.health, f);
        drain(&path, &pool.drain, f);
        super::upstream_tls::validate(&path, pool, f);
        if let Some(sticky) = &pool.sticky {
            validate_sticky(&path, sticky, f);
        }
        if let Some(outlier) = &pool.outlier {
            validate_outlier(&format!("{path}.outlier"), outlier, f);
        }
        if let Some(supervisor) = &pool.supervisor {
            let names = pool.backends.iter().map(|backend| backend.name.clone());
            validate_supervisor(&path, supervisor, &names.collect::<Vec<_>>(), f);
        }
    }
}

fn backends(path: &str, pool: &PoolConfig, config: &Config, f: &mut ConfigFindings) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<&Address, usize> = HashMap::new();
    for (i, backend) in pool.backends.iter().enumerate() {
        let (name, address) = (
            format!("{path}.backend[{i}].name"),
            format!("{path}.backend[{i}].address"),
        );
        if let Some(j) = names.insert(&backend.name, i)
            && f.sound(&[&name])
        {
            let first = f.place(&format!("{path}.backend[{j}].name"));
            f.error(
                f.place(&name),
                format!(
                    "two backends of pool \"{}\" have the name \"{}\"",
                    pool.name, backend.name
                ),
                "give one of them another name, or leave both out",
            )
            .also(first, "the other one");
        }
        if !f.sound(&[&address]) {
            continue;
        }
        if let Some(j) = addresses.insert(&backend.address, i) {
            let first = f.place(&format!("{path}.backend[{j}].address"));
            f.warning(
                f.place(&address),
                format!(
                    "two backends of pool \"{}\" have the address {}: one process, counted twice",
                    pool.name, backend.address
                ),
                "remove one of them; a larger share is written `weight = 2`",
            )
            .also(first, "the other one");
        }
        if let Err(own) = own_address::check_in(config, &backend.address) {
            f.error(
                f.place(&address),
                format!("`address = \"{}\"`: {own}", backend.address),
                "write the address that the app listens on",
            );
        }
        if let Address::Socket(socket) = backend.address
            && socket.ip().is_unspecified()
        {
            f.warning(
                f.place(&address),
                format!(
                    "`address = \"{socket}\"`: {} is for listening, not for connecting",
                    socket.ip()
                ),
                format!(
                    "write where the app is, such as \"127.0.0.1:{}\"",
                    socket.port()
                ),
            );
        }
    }
    if !pool.backends.is_empty()
        && pool
            .backends
            .iter()
            .enumerate()
            .all(|(i, b)| b.weight == 0 && f.sound(&[&format!("{path}.backend[{i}].weight")]))
    {
        f.warning(
            f.place(&format!("{path}.backend[0].weight")),
            format!(
                "every backend of pool \"{}\" has weight 0: none gets a request",
                pool.name
            ),
            "give at least one a weight of 1 or more",
        );
    }
    if !pool.backends.is_empty() && pool.backends.iter().all(|backend| backend.backup) {
        f.warning(
            f.place(&format!("{path}.backend[0].backup")),
            format!(
                "every backend of pool \"{}\" is a backup: unless others register, they get all requests",
                pool.name
            ),
            "remove `backup = true` from those that get requests first",
        );
    }
}

/// Reports zones that are not compared with anything.
fn zones(path: &str, pool: &PoolConfig, config: &Config, f: &mut ConfigFindings) {
    let placed = pool.backends.iter().position(|one| one.zone.is_some());
    if let (Some(i), None) = (placed, &config.server.zone)
        && f.sound(&["server.zone"])
    {
        f.warning(
            f.place(&format!("{path}.backend[{i}].zone")),
            format!(
                "backends of pool \"{}\" have a zone, and the proxy has none: no zone comes first",
                pool.name
            ),
            "say where the proxy is: `zone = \"${ZONE}\"` in [server], with ZONE in its environment",
        );
    }
}

fn health(path: &str, health: &HealthConfig, f: &mut ConfigFindings) {
    let at = |key: &str| format!("{path}.health.{key}");
    let (interval, timeout, fast) = (at("interval"), at("timeout"), at("fast_interval"));
    // If one of them is a default, that says nothing about what the user wants of the other.
    let both_written = f.written(&timeout) && f.written(&interval);
    if health.timeout > health.interval && both_written && f.sound(&[&timeout, &interval]) {
        let place = &timeout;
        f.warning(
            f.place(place),
            format!(
                "`timeout` ({}) is longer than `interval` ({}): a backend that hangs is probed less often than `interval` says",
                time_with_origin(f, &timeout, health.timeout),
                time_with_origin(f, &interval, health.interval)
            ),
            format!("write `timeout = \"{}\"` or less", time(health.interval)),
        );
    }
    if health.fast_interval > health.interval && f.sound(&[&fast, &interval]) {
        let place = if f.written(&fast) { &fast } else { &interval };
        f.warning(
            f.place(place),
            format!(
                "`fast_interval` ({}) is longer than `interval` ({}): probes would slow down when they should hurry",
                time_with_origin(f, &fast, health.fast_interval),
                time_with_origin(f, &interval, health.interval)
            ),
            format!("write `fast_interval = \"{}\"` or less", time(health.interval)),
        );
    }
}

fn drain(path: &str, drain: &DrainConfig, f: &mut ConfigFindings) {
    let (deadline, spread) = (
        format!("{path}.drain.deadline"),
        format!("{path}.drain.close_spread"),
    );
    if drain.close_spread > drain.deadline && f.sound(&[&deadline, &spread]) {
        let place = if f.written(&spread) {
            &spread
        } else {
            &deadline
        };
        f.error(
            f.place(place),
            format!(
                "`close_spread` ({}) is longer than `deadline` ({}): closing would have to begin before the drain does",
                time_with_origin(f, &spread, drain.close_spread),
                time_with_origin(f, &deadline, drain.deadline)
            ),
            format!("write `close_spread = \"{}\"` or less, or a longer `deadline`", time(drain.deadline)),
        );
    }
}
