//! Defaults that depend on the values in the file: a default must never make a value invalid that the user has
//! written. Each pair of keys that limit each other has a line here; `validate` checks the written values.

use super::ports::{clash, takes_all, takes_ipv4_of};
use super::reader::ConfigFindings;
use super::{Config, DrainConfig, HealthConfig, OutlierConfig, PoolConfig, ServerConfig};

/// Largest `max_header`.
const MAX_HEADER: usize = 1 << 20;

/// Adapts the defaults in `config` to the written values, as recorded in `found`.
pub(super) fn settle_defaults(config: &mut Config, found: &ConfigFindings) {
    settle_server(&mut config.server, found);
    settle_admin_address(config, found);
    let state_dir = config.server.state_dir.clone();
    for (i, listener) in config.listeners.iter_mut().enumerate() {
        if let Some(acme) = &listener.acme {
            let tls = listener.tls.get_or_insert_default();
            tls.managed = acme.managed(state_dir.as_deref());
        }
        if !found.written(&format!("listener[{i}].http2")) {
            listener.http2 = listener.tls.is_some();
        }
    }
    for (i, pool) in config.pools.iter_mut().enumerate() {
        name_backends(pool);
        settle_health(&mut pool.health, &format!("pool[{i}].health"), found);
        settle_drain(&mut pool.drain, &format!("pool[{i}].drain"), found);
        if let Some(outlier) = &mut pool.outlier {
            settle_outlier(outlier, &format!("pool[{i}].outlier"), found);
        }
    }
}

fn settle_server(server: &mut ServerConfig, found: &ConfigFindings) {
    let written = |key: &str| found.written(&format!("server.{key}"));
    let default = ServerConfig::default();
    let longest = server.longest_lame_duck();
    if server.deadline <= longest {
        let key = match server.lame_duck {
            Some(_) => "lame_duck",
            None => "lame_duck_max",
        };
        if !written(key) {
            let half = server.deadline / 2;
            match &mut server.lame_duck {
                Some(lame_duck) => *lame_duck = half,
                None => server.lame_duck_max = half,
            }
        } else if !written("deadline") {
            let left = default.deadline.saturating_sub(default.longest_lame_duck());
            server.deadline = longest.saturating_add(left);
        }
    }
    if !written("max_header") {
        // The other header fields keep their default room.
        let longer = server.max_uri.saturating_sub(default.max_uri);
        server.max_header = default.max_header.saturating_add(longer).min(MAX_HEADER);
    }
    if !written("max_uri") {
        server.max_uri = server.max_uri.min(server.max_header);
    }
}

/// Drops the default TCP address of the admin API if it clashes with a listener or with the address for probes.
fn settle_admin_address(config: &mut Config, found: &ConfigFindings) {
    let Some(http) = config.admin.http.filter(|_| !found.written("admin.http")) else {
        return;
    };
    let others = config.tcp_listeners().chain(config.admin.probes);
    // `[::]` without IPv4 would be a surprise, too.
    let takes_port = |other| takes_all(other) && takes_ipv4_of(other.port(), http);
    let gives_way = { others }.any(|other| clash(http, other) || takes_port(other));
    if gives_way {
        config.admin.http = None;
    }
}

fn settle_health(health: &mut HealthConfig, path: &str, found: &ConfigFindings) {
    let written = |key: &str| found.written(&format!("{path}.{key}"));
    if health.fast_interval > health.interval {
        if !written("fast_interval") {
            health.fast_interval = health.interval;
        } else if !written("interval") {
            health.interval = health.fast_interval;
        }
    }
}

fn settle_outlier(outlier: &mut OutlierConfig, path: &str, found: &ConfigFindings) {
    let written = |key: &str| found.written(&format!("{path}.{key}"));
    if !written("max_ejection") {
        outlier.max_ejection = outlier.max_ejection.max(outlier.ejection);
    } else if !written("ejection") {
        outlier.ejection = outlier.ejection.min(outlier.max_ejection);
    }
}

fn settle_drain(drain: &mut DrainConfig, path: &str, found: &ConfigFindings) {
    let written = |key: &str| found.written(&format!("{path}.{key}"));
    let default = DrainConfig::default();
    if !written("close_spread") {
        drain.close_spread = default.close_spread.min(drain.deadline);
    } else if !written("deadline") {
        drain.deadline = default.deadline.max(drain.close_spread);
    }
}

/// Names backends without a name after their position.
fn name_backends(pool: &mut PoolConfig) {
    let name = match pool.name.as_str() {
        "" => "backend",
        name => name,
    };
    for (i, backend) in pool.backends.iter_mut().enumerate() {
        if backend.name.is_empty() {
            backend.name = format!("{name}-{}", i + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LoadedConfig, parse};

    /// Loads a small configuration with `before` at its head and `after` in its pool.
    fn load(before: &str, after: &str) -> Result<LoadedConfig, String> {
        let text = format!(
            "{before}\n[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"app\"\n\
             [[pool.backend]]\naddress = \"127.0.0.1:3000\"\n{after}\n"
        );
        parse("x.toml", &text).map_err(|error| error.render(false))
    }

    #[test]
    fn one_value_alone_is_never_wrong_because_of_a_default() {
        for (before, after) in [
            ("", "[pool.drain]\ndeadline = \"3s\""),
            ("", "[pool.drain]\ndeadline = \"0s\""),
            ("", "[pool.drain]\nclose_spread = \"1m\""),
            ("", "[pool.health]\ninterval = \"50ms\""),
            ("", "[pool.health]\ninterval = \"500ms\""),
            ("", "[pool.health]\ntimeout = \"3s\""),
            ("", "[pool.health]\nfast_interval = \"2s\""),
            ("[server]\ndeadline = \"1s\"", ""),
            ("[server]\ndeadline = \"5s\"", ""),
            ("[server]\nlame_duck = \"45s\"", ""),
            ("[server]\nmax_header = \"8KiB\"", ""),
            ("[server]\nmax_uri = \"128KiB\"", ""),
            ("[server]\nmax_uri = \"1MiB\"", ""),
            ("[server]\nmax_connections_per_client = 100000", ""),
            ("[server]\nmax_connections = 1", ""),
            ("[admin]\nprobes = \"127.0.0.1:9901\"", ""),
            ("[[listener]]\naddress = \"127.0.0.1:9901\"", ""),
            ("[[listener]]\naddress = \"0.0.0.0:9901\"", ""),
            ("[[listener]]\naddress = \"[::]:9901\"", ""),
        ] {
            let loaded = load(before, after).unwrap_or_else(|error| panic!("{error}"));
            let warnings: Vec<_> = loaded.warnings.diagnostics.iter().collect();
            assert!(warnings.is_empty(), "{before} {after}: {warnings:?}");
        }
    }

    #[test]
    fn a_default_is_fitted_to_the_written_value_beside_it() {
        let drain = |after: &str| load("", after).unwrap().config.pools[0].drain.clone();
        let millis = |drain: super::DrainConfig| {
            let times = [drain.deadline, drain.close_spread];
            times.map(|time| time.as_millis())
        };
        assert_eq!(
            millis(drain("[pool.drain]\ndeadline = \"3s\"")),
            [3000, 3000]
        );
        assert_eq!(
            millis(drain("[pool.drain]\ndeadline = \"9s\"")),
            [9000, 5000]
        );
        assert_eq!(
            millis(drain("[pool.drain]\nclose_spread = \"1m\"")),
            [60_000, 60_000]
        );
        let server = |before: &str| load(before, "").unwrap().config.server;
        assert_eq!(
            server("[server]\ndeadline = \"4s\"")
                .longest_lame_duck()
                .as_secs(),
            2
        );
        let auto = server("[server]\nlame_duck = \"auto\"\ndeadline = \"10s\"");
        assert_eq!(auto.longest_lame_duck().as_secs(), 5);
        let auto = server("[server]\nlame_duck = \"auto\"\nlame_duck_max = \"1m\"");
        assert_eq!(auto.deadline.as_secs(), 85);
        assert_eq!(
            server("[server]\nlame_duck = \"45s\"").deadline.as_secs(),
            70
        );
        let admin = |before: &str| load(before, "").unwrap().config.admin.http;
        assert_eq!(admin("[admin]\nprobes = \"127.0.0.1:9901\""), None);
        assert!(admin("[admin]\nprobes = \"127.0.0.1:9902\"").is_some());
        assert_eq!(admin("[[listener]]\naddress = \"[::]:9901\""), None);
    }

    /// A written value is the user's intention, even if it equals the default.
    #[test]
    fn default_that_was_written_is_known_from_one_that_was_not() {
        let is_default = |before: &str| load(before, "").unwrap().is_http_default;
        assert!(is_default("[admin]\nmode = \"0660\""));
        assert!(!is_default("[admin]\nhttp = \"127.0.0.1:9901\""));
    }

    #[test]
    fn two_written_values_that_contradict_each_other_are_still_told() {
        for (before, after) in [
            ("", "[pool.drain]\ndeadline = \"3s\"\nclose_spread = \"5s\""),
            ("[server]\ndeadline = \"5s\"\nlame_duck = \"5s\"", ""),
        ] {
            assert!(load(before, after).is_err(), "{before} {after}");
        }
        let both = load("", "[pool.health]\ninterval = \"1s\"\ntimeout = \"2s\"").unwrap();
        assert_eq!(both.warnings.diagnostics.len(), 1);
    }
}
