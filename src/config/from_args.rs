//! Configuration without a file, and the combination of flags and a file.

use super::address::{self, AddressError};
use super::diagnostics::{ConfigError, ConfigReport, Severity};
use super::load::{DEFAULT_PATHS, FileChecks, LoadedConfig, load_with};
use super::reader::ConfigFindings;
use super::sections::*;
use super::{HiddenTexts, ListenAddress};
use super::{dependent_defaults, health, validate, values};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Name of the pool of `run --backend`.
pub const POOL: &str = "app";

/// Flags of `lameduck run` that configure it without a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandLineFlags<'a> {
    /// `--listen ADDR`. Default: 127.0.0.1:8080 without a file, and the file's listeners with one.
    pub listen: Option<&'a str>,
    /// All `--backend [NAME=]ADDR`.
    pub backends: &'a [String],
    /// `--health-path PATH`: the health check is then explicit, without the fallback to TCP.
    pub health_path: Option<&'a str>,
}

/// Determines the configuration from file and flags, by these rules:
/// - `--backend` (and `--health-path`) make a configuration of their own and don't mix with `-c`; the files in
///   default places are then not looked for.
/// - `--listen` replaces the listeners of a file.
/// - With neither `-c` nor `--backend`, the first file of [`DEFAULT_PATHS`] that exists.
///
/// `checks` examines the files that a configuration file names.
///
/// # Errors
/// Flags that are not valid, or not valid together; no file; a file that is unreadable or not valid.
pub fn resolve(
    file: Option<&Path>,
    flags: CommandLineFlags<'_>,
    checks: FileChecks,
) -> Result<LoadedConfig, ConfigError> {
    let listeners = || {
        flags
            .listen
            .map(listener)
            .transpose()
            .map(|l| l.map(|l| vec![l]))
    };
    match file {
        Some(path) if !flags.backends.is_empty() => Err(refused(
            format!(
                "`--backend` (or LAMEDUCK_BACKEND) and a file ({}) don't go together: two lists of backends would disagree after a reload",
                path.display()
            ),
            "write the backend into the file as [[pool.backend]], or add it at run time with `lameduck register`",
        )),
        Some(path) if flags.health_path.is_some() => Err(refused(
            format!(
                "`--health-path` (or LAMEDUCK_HEALTH_PATH) and a file ({}) don't go together: a file has a path for each pool",
                path.display()
            ),
            "write `path` below [pool.health] in the file",
        )),
        Some(path) => load_with(path, listeners()?, checks),
        None if !flags.backends.is_empty() => from_flags(flags),
        None if flags.health_path.is_some() => Err(refused(
            "`--health-path` is for the backends of `--backend`, and there is none".into(),
            "add `--backend 127.0.0.1:3000`, or write `path` below [pool.health] in a file",
        )),
        None => match DEFAULT_PATHS
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
        {
            Some(path) => load_with(
                path.strip_prefix("./").unwrap_or(path),
                listeners()?,
                checks,
            ),
            None => Err(ConfigError::NotFound {
                searched: DEFAULT_PATHS.iter().map(Into::into).collect(),
            }),
        },
    }
}

fn refused(message: String, remedy: impl Into<String>) -> ConfigError {
    ConfigError::Flags {
        message,
        remedy: remedy.into(),
    }
}

fn from_flags(flags: CommandLineFlags<'_>) -> Result<LoadedConfig, ConfigError> {
    let (config, warnings) = build(flags)?;
    Ok(LoadedConfig {
        config,
        warnings,
        path: None,
        unused_listeners: Vec::new(),
        is_http_default: true,
        notes: Vec::new(),
    })
}

impl Config {
    /// Returns the configuration of `lameduck run --listen ADDR --backend [NAME=]ADDR… --health-path PATH`: one pool,
    /// `app`, with backends `app-1`, `app-2`… if no name is given, and all defaults.
    ///
    /// # Errors
    /// A flag is not valid, or there is no backend; the message names the flag.
    pub fn from_args(
        listen: Option<&str>,
        backends: &[String],
        health_path: Option<&str>,
    ) -> Result<Config, ConfigError> {
        let flags = CommandLineFlags {
            listen,
            backends,
            health_path,
        };
        build(flags).map(|(config, _)| config)
    }
}

fn build(flags: CommandLineFlags<'_>) -> Result<(Config, ConfigReport), ConfigError> {
    if flags.backends.is_empty() {
        return Err(refused(
            "no backend is given: requests would have nowhere to go".into(),
            "add `--backend 127.0.0.1:3000`",
        ));
    }
    let mut pool = PoolConfig::named(POOL);
    for (i, written) in flags.backends.iter().enumerate() {
        pool.backends.push(backend(written, i)?);
    }
    if let Some(path) = flags.health_path {
        health::check_path(path).map_err(|(why, remedy)| {
            refused(format!("`--health-path {}`: {why}", shown(path)), remedy)
        })?;
        pool.health.explicit = true;
        pool.health.check = match HealthCheck::default() {
            HealthCheck::Http {
                host,
                method,
                headers,
                expect,
                ..
            } => HealthCheck::Http {
                path: path.into(),
                host,
                method,
                headers,
                expect,
            },
            other => other,
        };
    }
    let listener = match flags.listen {
        Some(listen) => listener(listen)?,
        None => ListenerConfig::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
    };
    let mut config = Config {
        server: ServerConfig::default(),
        admin: AdminConfig::default(),
        access_log: AccessLogConfig::default(),
        headers: HeadersConfig::default(),
        tracing: None,
        compression: None,
        listeners: vec![listener],
        pools: vec![pool],
        routes: Vec::new(),
        hidden: HiddenTexts::default(),
    };
    let mut found = ConfigFindings::default();
    dependent_defaults::settle_defaults(&mut config, &found);
    validate::config(&config, &mut found);
    match found
        .diagnostics
        .iter()
        .find(|d| d.severity == Severity::Error)
    {
        Some(error) => Err(refused(error.message.clone(), error.remedy.clone())),
        None => {
            let warnings = ConfigReport {
                diagnostics: found.diagnostics,
                ..ConfigReport::default()
            };
            Ok((config, warnings))
        }
    }
}

/// Returns a flag's value, escaped for a terminal.
fn shown(value: &str) -> String {
    value.escape_debug().to_string()
}

fn listener(listen: &str) -> Result<ListenerConfig, ConfigError> {
    let address: ListenAddress = listen.parse().map_err(|error: AddressError| {
        refused(
            format!("`--listen {}`: {}", shown(listen), error.message),
            error.remedy,
        )
    })?;
    Ok(ListenerConfig::on(address))
}

fn backend(written: &str, index: usize) -> Result<BackendConfig, ConfigError> {
    // A path may contain an equals sign; a name contains neither colon nor slash.
    let named = written
        .split_once('=')
        .filter(|(name, _)| !name.contains([':', '/']));
    let is_named = named.is_some();
    let (name, address) = match named {
        Some((name, address)) => (name.to_string(), address),
        None => (format!("{POOL}-{}", index + 1), written),
    };
    values::check_name(&name).map_err(|why| {
        refused(
            format!("`--backend {}`: {why}", shown(written)),
            "write `--backend NAME=ADDRESS`, or only the address",
        )
    })?;
    let address = address.parse().map_err(|error: address::AddressError| {
        refused(
            format!("`--backend {}`: {}", shown(written), error.message),
            error.remedy,
        )
    })?;
    Ok(BackendConfig {
        name,
        named: is_named,
        address,
        weight: 1,
        backup: false,
        zone: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        file: Option<&Path>,
        flags: CommandLineFlags<'_>,
    ) -> Result<LoadedConfig, ConfigError> {
        super::resolve(file, flags, |_, _| {})
    }

    fn backends(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_string()).collect()
    }

    #[test]
    fn flags_make_a_whole_configuration() {
        let list = backends(&[
            "127.0.0.1:3000",
            "blue=unix:/run/a=b.sock",
            "unix:/run/a=c.sock",
        ]);
        let config = Config::from_args(None, &list, None).unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
        let pool = &config.pools[0];
        assert_eq!(pool.name, "app");
        let shown: Vec<_> = pool
            .backends
            .iter()
            .map(|b| format!("{}={}", b.name, b.address))
            .collect();
        assert_eq!(
            shown,
            [
                "app-1=127.0.0.1:3000",
                "blue=unix:/run/a=b.sock",
                "app-3=unix:/run/a=c.sock"
            ]
        );
        assert!(!pool.health.explicit);
        let config = Config::from_args(Some("[::]:80"), &list, Some("/up")).unwrap();
        assert!(config.pools[0].health.explicit);
        assert_eq!(config.listeners[0].address.tcp().unwrap().port(), 80);
    }

    #[test]
    fn wrong_flags_are_usage_errors_that_name_the_flag() {
        for (listen, list, path, says) in [
            (
                None,
                &["localhost"][..],
                None,
                "`--backend localhost`: it has no port",
            ),
            (
                None,
                &["a b=127.0.0.1:1"],
                None,
                "`--backend a b=127.0.0.1:1`: a name has no spaces",
            ),
            (
                None,
                &["x=127.0.0.1:1", "x=127.0.0.1:2"],
                None,
                "the name \"x\"",
            ),
            (
                Some("80"),
                &["127.0.0.1:1"],
                None,
                "`--listen 80`: it is a port",
            ),
            (
                None,
                &["127.0.0.1:1"],
                Some("up"),
                "`--health-path up`: it must begin",
            ),
            (None, &["127.0.0.1:8080"], None, "lameduck's own listener"),
            (None, &[], None, "no backend is given"),
        ] {
            let error = Config::from_args(listen, &backends(list), path).unwrap_err();
            assert!(error.is_usage());
            let text = error.to_string();
            assert!(text.contains(says), "{text}");
            assert!(text.contains("help: "), "{text}");
        }
    }

    #[test]
    fn a_file_and_backends_dont_mix() {
        let list = backends(&["127.0.0.1:1"]);
        let file = Some(Path::new("x.toml"));
        let flags = CommandLineFlags {
            backends: &list,
            ..CommandLineFlags::default()
        };
        assert!(
            resolve(file, flags)
                .unwrap_err()
                .to_string()
                .contains("don't go together")
        );
        let flags = CommandLineFlags {
            health_path: Some("/up"),
            ..CommandLineFlags::default()
        };
        assert!(resolve(file, flags).unwrap_err().is_usage());
        assert!(resolve(None, flags).unwrap_err().is_usage());
        let flags = CommandLineFlags {
            backends: &list,
            ..CommandLineFlags::default()
        };
        assert_eq!(resolve(None, flags).unwrap().path, None);
    }

    #[test]
    fn listen_replaces_the_listeners_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let pool = "[[pool]]\nname = \"a\"\n[[pool.backend]]\naddress = \"127.0.0.1:8080\"\n";
        std::fs::write(&path, pool).unwrap();
        let flags = CommandLineFlags {
            listen: Some("127.0.0.1:81"),
            ..CommandLineFlags::default()
        };
        let loaded = resolve(Some(&path), flags).unwrap();
        assert_eq!(loaded.config.listeners.len(), 1);
        assert_eq!(loaded.path.unwrap(), path);
        assert!(resolve(Some(&path), CommandLineFlags::default()).is_err());
    }
}
