//! Checks what a configuration needs on the machine: files that must exist. They are read once, and their content is
//! stored where it will be used.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::auth::UserFile;
use crate::config::plain_file::{LONGEST_TOKEN, read_lasting_file};
use crate::config::{
    self, BuiltClient, CommandLineFlags, Config, ConfigError, ConfigFindings, ListenerTls,
    LoadedConfig, LogSink, MOST_KEYS, PoolConfig, Route, SHORTEST_KEY, plain,
};
use crate::rt::files::{OpenDirectory, directory_of};
use crate::tls::server_files::{ServerFiles, TlsConfigPart};
use crate::tls::upstream::BackendTls;

/// Reads and checks a configuration file, and the files that it names.
///
/// # Errors
/// The same as for [`config::load()`], and the problems of those files.
pub fn load(path: &Path) -> Result<LoadedConfig, ConfigError> {
    config::load(path, check)
}

/// Like [`config::resolve`], with the files that the configuration names.
///
/// # Errors
/// The same as for [`config::resolve`], and the problems of those files.
pub fn resolve(
    file: Option<&Path>,
    flags: CommandLineFlags<'_>,
) -> Result<LoadedConfig, ConfigError> {
    config::resolve(file, flags, check)
}

/// Checks the files that the configuration names; their content is stored where it will be used.
fn check(config: &mut Config, f: &mut ConfigFindings) {
    directories(config, f);
    if let Some(path) = &config.admin.token_file {
        token(path, f);
    }
    let files = ["admin.tls.cert", "admin.tls.key", "admin.tls.client_ca"];
    if let Some(tls) = config.admin.tls.as_ref().filter(|_| f.sound(&files)) {
        certificates("admin.tls", &tls.of_listener(), f);
    }
    for (i, listener) in config.listeners.iter().enumerate() {
        if let Some(tls) = &listener.tls {
            certificates(&format!("listener[{i}].tls"), tls, f);
        }
        if let Some(acme) = &listener.acme {
            super::check_acme::check(&format!("listener[{i}].acme"), acme, f);
        }
    }
    upstream_tls(&mut config.pools, f);
    users(&mut config.routes, f);
    sticky_keys(&mut config.pools, f);
    if let Some(tracing) = &config.tracing {
        super::check_tracing::check(tracing, f);
    }
    super::check_files::check(config, f);
}

/// Maximum size of a key file, in bytes.
const LARGEST_KEYS: u64 = 64 << 10;

/// Reads the key files with which session tokens are signed.
fn sticky_keys(pools: &mut [PoolConfig], f: &mut ConfigFindings) {
    for (index, pool) in pools.iter_mut().enumerate() {
        let at = format!("pool[{index}].sticky.keys_file");
        let Some(sticky) = &mut pool.sticky else {
            continue;
        };
        let Some(path) = sticky.keys_file.clone().filter(|_| f.sound(&[&at])) else {
            continue;
        };
        let name = path.display();
        let mut fail = |why: String, remedy: &str| {
            f.error(f.place(&at), format!("`keys_file`: {name}: {why}"), remedy);
        };
        let read = match read_lasting_file(&path, LARGEST_KEYS) {
            Ok(read) => read,
            Err(error) => {
                fail(
                    plain(&error),
                    "name a file with one key a line, which lameduck's user may read",
                );
                continue;
            }
        };
        let text = String::from_utf8_lossy(&read);
        let lines = text.lines().map(str::trim);
        let keys: Vec<_> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let longer = "write 16 bytes or more that nobody can guess, such as what `openssl rand -hex 32` prints";
        match keys.len() {
            0 => fail("it has no key".into(), longer),
            many if many > MOST_KEYS => fail(
                format!("it has {many} keys, and {MOST_KEYS} are the most"),
                "keep the one that signs, and those that signed within `max_age`",
            ),
            _ if keys.iter().any(|key| key.len() < SHORTEST_KEY) => {
                fail(format!("a key has less than {SHORTEST_KEY} bytes"), longer);
            }
            _ => sticky.file_keys = keys.into_iter().map(str::to_owned).collect(),
        }
        let mode = std::fs::metadata(&path).map_or(0, |data| data.permissions().mode());
        if mode & 0o006 != 0 {
            let message = format!(
                "`keys_file`: everybody on this machine may read or change {name} (mode 0{:o})",
                mode & 0o777
            );
            f.warning(
                f.place(&at),
                message,
                format!("close it: `chmod 640 {name}`"),
            );
        }
    }
}

/// Reads the user files.
fn users(routes: &mut [Route], f: &mut ConfigFindings) {
    for (index, route) in routes.iter_mut().enumerate() {
        let at = format!("route[{index}].auth.basic");
        let Some(auth) = &mut route.auth else {
            continue;
        };
        let Some(path) = auth.basic.clone() else {
            continue;
        };
        let name = path.display();
        match UserFile::load(&path) {
            Ok(file) => auth.users = Some(BuiltClient::new(Arc::new(file))),
            Err(problems) => {
                for problem in problems.iter().take(MOST_PROBLEMS) {
                    let message = match problem.line {
                        Some(line) => format!("`basic`: {name}:{line}: {}", problem.why),
                        None => format!("`basic`: {name} {}", problem.why),
                    };
                    f.error(f.place(&at), message, &problem.remedy);
                }
                continue;
            }
        }
        let mode = std::fs::metadata(&path).map_or(0, |data| data.permissions().mode());
        let (shown, close) = (mode & 0o777, format!("close it: `chmod 640 {name}`"));
        if mode & 0o002 != 0 {
            let message =
                format!("`basic`: everybody on this machine may change {name} (mode 0{shown:o})");
            f.error(f.place(&at), message, close);
        } else if mode & 0o004 != 0 {
            let message =
                format!("`basic`: everybody on this machine may read {name} (mode 0{shown:o})");
            f.warning(f.place(&at), message, close);
        }
    }
}

/// Maximum number of reported problems per file.
const MOST_PROBLEMS: usize = 20;

/// Checks directories in which lameduck creates files or trusts one: no other user should be able to put a different
/// file there.
fn directories(config: &Config, f: &mut ConfigFindings) {
    let log = match &config.access_log.sink {
        LogSink::File(path) => Some(path.as_path()),
        LogSink::Off | LogSink::Stdout | LogSink::Syslog(_) | LogSink::Journald(_) => None,
    };
    let admin = &config.admin;
    let of_file = |path: Option<&Path>| path.map(|path| directory_of(path).to_owned());
    let mut places = vec![
        ("admin.socket".to_owned(), of_file(admin.socket.as_deref())),
        (
            "admin.token_file".to_owned(),
            of_file(admin.token_file.as_deref()),
        ),
        (
            "server.state_dir".to_owned(),
            config.server.state_dir.clone(),
        ),
        ("access_log.path".to_owned(), of_file(log)),
    ];
    for (i, listener) in config.listeners.iter().enumerate() {
        let own = listener
            .acme
            .as_ref()
            .and_then(|acme| acme.state_dir.clone());
        places.push((format!("listener[{i}].acme.state_dir"), own));
    }
    for (key, directory) in places {
        let Some(directory) = directory else {
            continue;
        };
        let name = directory.display();
        let choose = "choose a directory that only lameduck's user and root may write";
        let (may, remedy) = match OpenDirectory::at(&directory) {
            None => continue,
            Some(OpenDirectory::Replace) => (
                "replace what is in",
                format!("{choose}, or close this one: `chmod o-w {name}`"),
            ),
            // `/tmp` is meant to be open.
            Some(OpenDirectory::Make) => {
                ("make files, before lameduck does, in", choose.to_owned())
            }
        };
        f.warning(
            f.place(&key),
            format!(
                "`{}`: everybody on this machine may {may} {name}",
                last(&key)
            ),
            remedy,
        );
    }
}

/// Returns the last part of a key, without its section.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Number of days before its end at which a certificate should have been renewed.
const RENEWED: u64 = 7;

/// Checks that certificates, keys and certificate authorities exist and are valid.
fn certificates(path: &str, tls: &ListenerTls, f: &mut ConfigFindings) {
    // `cert` and `key`, if configured, are the first pair.
    let first = usize::from(f.written(&format!("{path}.cert")));
    let pair = |place: usize| match place.checked_sub(first) {
        Some(place) => format!("{path}.certificates[{place}]"),
        None => path.to_owned(),
    };
    match ServerFiles::load(tls, false, None) {
        Err(problems) => {
            for (part, problem) in problems {
                let (place, key) = match part {
                    TlsConfigPart::Certificate(place) => {
                        let is_key = tls.certificates.get(place).is_some_and(|files| {
                            files.key == problem.file && files.cert != problem.file
                        });
                        (pair(place), if is_key { "key" } else { "cert" })
                    }
                    TlsConfigPart::ClientCa => (path.to_owned(), "client_ca"),
                    TlsConfigPart::ClientCrl => (path.to_owned(), "client_crl"),
                    TlsConfigPart::Whole => (path.to_owned(), "cert"),
                };
                let at = f.place(&format!("{place}.{key}"));
                let message = format!("`{key}`: {}: {}", problem.file.display(), problem.why);
                f.error(at, message, problem.remedy);
            }
        }
        Ok(material) => {
            if let Some(old) = &material.outdated {
                let message = format!("`client_crl`: {}: {}", old.file.display(), old.why);
                f.warning(f.place(&format!("{path}.client_crl")), message, &old.remedy);
            }
            let now = std::time::SystemTime::now();
            // Certificates from ACME come after those from files, and are renewed automatically.
            let from_files = material.certificates.iter().take(tls.certificates.len());
            for (place, certificate) in from_files.enumerate() {
                if certificate.left(now).as_secs() < RENEWED * 86_400 {
                    let message = format!(
                        "`cert`: {} expires at {}",
                        certificate.file.display(),
                        certificate.expires()
                    );
                    let at = f.place(&format!("{}.cert", pair(place)));
                    f.warning(
                        at,
                        message,
                        "renew it, and see why that has not happened by itself",
                    );
                }
            }
        }
    }
    for (place, files) in tls.certificates.iter().enumerate() {
        let mode = std::fs::metadata(&files.key).map_or(0, |data| data.permissions().mode());
        if mode & 0o004 != 0 {
            let (name, mode) = (files.key.display(), mode & 0o777);
            let at = f.place(&format!("{}.key", pair(place)));
            f.warning(
                at,
                format!("`key`: everybody on this machine may read {name} (mode 0{mode:o})"),
                format!("close it: `chmod 640 {name}` (in Kubernetes: `defaultMode: 0440` on the volume)"),
            );
        }
    }
}

/// Checks that the token exists and is not empty; otherwise the admin API would be locked, or open, unnoticed.
fn token(path: &Path, f: &mut ConfigFindings) {
    let at = f.place("admin.token_file");
    let name = path.display();
    let open = read_lasting_file(path, LONGEST_TOKEN).and_then(|start| {
        let mode = std::fs::metadata(path)?.permissions().mode();
        let not_text = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
        Ok((mode, String::from_utf8(start).map_err(not_text)?))
    });
    let (mode, start) = match open {
        Ok(read) => read,
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("make one: `openssl rand -hex 32 > {name} && chmod 640 {name}`")
                }
                std::io::ErrorKind::PermissionDenied => {
                    format!("let lameduck's user read it: `ls -l {name}` shows who may")
                }
                _ => "name a text file that holds the token".into(),
            };
            f.error(
                at,
                format!("`token_file`: can't read {name}: {}", plain(&error)),
                remedy,
            );
            return;
        }
    };
    if start.trim().is_empty() {
        f.error(
            at.clone(),
            format!("`token_file`: {name} is empty: nobody could give the right token"),
            format!("make one: `openssl rand -hex 32 > {name}`"),
        );
    }
    if mode & 0o002 != 0 {
        f.error(
            at,
            format!(
                "`token_file`: everybody on this machine may change {name} (mode 0{:o})",
                mode & 0o777
            ),
            format!("close it: `chmod 640 {name}`"),
        );
    } else if mode & 0o004 != 0 {
        f.warning(
            at,
            format!(
                "`token_file`: everybody on this machine may read {name} (mode 0{:o})",
                mode & 0o777
            ),
            format!(
                "close it: `chmod 640 {name}` (in Kubernetes: `defaultMode: 0440` on the volume)"
            ),
        );
    }
}

/// Reads the files of all pools.
fn upstream_tls(pools: &mut [PoolConfig], f: &mut ConfigFindings) {
    for (index, pool) in pools.iter_mut().enumerate() {
        let at = format!("pool[{index}].tls");
        let paths = ["ca", "server_name", "cert", "key", "verify"].map(|key| format!("{at}.{key}"));
        let Some(tls) = &mut pool.tls else {
            continue;
        };
        // Only one of the two is configured: that has been reported already.
        if tls.cert.is_some() != tls.key.is_some() || !paths.iter().all(|path| f.sound(&[path])) {
            continue;
        }
        match BackendTls::load(tls) {
            Ok(client) => {
                if let Some(own) = client.identity()
                    && own.left(SystemTime::now()).as_secs() < RENEWED * 86_400
                {
                    f.warning(
                        f.place(&format!("{at}.cert")),
                        format!(
                            "`cert`: {} expires at {}",
                            own.file.display(),
                            own.expires()
                        ),
                        "renew it, and see why that has not happened by itself",
                    );
                }
                tls.client = Some(BuiltClient::new(Arc::new(client)));
            }
            Err(problem) => {
                let place = match problem.key {
                    "" => f.place(&at),
                    key => f.place(&format!("{at}.{key}")),
                };
                let key = match problem.key {
                    "" => String::new(),
                    key => format!("`{key}`: "),
                };
                f.error(place, format!("{key}{}", problem.message), problem.remedy);
            }
        }
    }
}
