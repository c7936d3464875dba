//! `[admin]`.

use super::AdminTlsConfig;
use crate::config::address::MAX_UNIX_PATH;
use crate::config::declare::section;
use crate::config::forms::{
    CustomForm, EmptyIsNone, FilePath, KeyContext, TcpAddressForm, custom, list,
};
use crate::config::print;
use crate::config::values::{ValueResult, file_path, quoted, text, wrong};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use toml::de::DeValue;

section! {
    /// The admin API. A change here needs a restart.
    #[needs(restart)]
    [admin]
    #[derive(Debug, Clone, PartialEq)]
    pub struct AdminConfig {
        /// Unix socket of the API. `""`: `/run/lameduck/lameduck.sock`, or `$XDG_RUNTIME_DIR/lameduck.sock` where that
        /// can't be bound.
        socket: Option<PathBuf> = "", socket_path();
        /// Permissions of the socket: who may write to it may drain backends.
        mode: u32 = "0660", file_mode();
        /// Group of the socket. `""`: the process's own.
        group: Option<String> = "", group_name();
        /// TCP address of the whole API. Without `token_file` it is read-only, and off loopback it serves `/-/*` only;
        /// with `[admin.tls]` it is https. `""`: none.
        http: Option<SocketAddr> = "127.0.0.1:9901", EmptyIsNone("127.0.0.1:9901", TcpAddressForm);
        /// File with the bearer token that changes over TCP need (and, off loopback, everything but `/-/*`). `""`:
        /// none.
        token_file: Option<PathBuf> = "", FilePath;
        /// TCP address for `/-/*` and `/metrics` only: for a kubelet, a load balancer, Prometheus. `""`: none.
        probes: Option<SocketAddr> = "", EmptyIsNone("127.0.0.1:9901", TcpAddressForm);
        /// Names by which clients may ask `http` (the `Host` of their requests), beside its own addresses and
        /// `localhost`: against web pages that make their own name point here (DNS rebinding).
        ///
        /// In lower case, without a dot at the end.
        hosts: Vec<String> = [], list("list of host names", "[\"lameduck.internal\"]", custom("host name", read_host, |host| print::text(host)).public());
        /// Unix socket for apps and their launchers: each may register, lease, drain and resume its own instance, and
        /// do nothing else. `""`: none.
        apps_socket: Option<PathBuf> = "", socket_path();
        /// Permissions of `apps_socket`: `"0666"` lets every user's apps in.
        apps_mode: u32 = "0660", file_mode();
        /// Group of `apps_socket`. `""`: the process's own.
        apps_group: Option<String> = "", group_name();
        /// Pools that may be entered through `apps_socket`. `[]`: all.
        apps_pools: Vec<String> = [], list("list of pools", "[\"app\"]", custom("text", read_pool, |pool| print::text(pool)).public());
    }
    sections {
        /// `[admin.tls]`; `None`: without TLS.
        tls: Option<AdminTlsConfig>;
    }
}

/// Returns the form of a unix socket's path; `""` means none.
fn socket_path() -> CustomForm<Option<PathBuf>> {
    custom("path", read_socket, print::path).public()
}

fn read_socket(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<PathBuf>> {
    let example = match key.name {
        "apps_socket" => "/run/lameduck/apps.sock",
        _ => "/run/lameduck/lameduck.sock",
    };
    let text = text(key.name, value, example)?;
    let path = file_path(
        key.name,
        text.strip_prefix("unix:").unwrap_or(text),
        key.base,
    )?;
    let length = path.as_os_str().len();
    if length > MAX_UNIX_PATH {
        return Err(wrong(
            key.name,
            quoted(text),
            format!("the path has {length} bytes, and a unix socket's can have {MAX_UNIX_PATH}"),
            "use a shorter directory, such as /run/lameduck",
        ));
    }
    Ok((!text.is_empty()).then_some(path))
}

/// Returns the form of a file's permissions.
pub(super) fn file_mode() -> CustomForm<u32> {
    custom("text, octal", read_mode, |mode| {
        print::text(&format!("{mode:04o}"))
    })
    .public()
}

fn read_mode(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<u32> {
    let text = text(key.name, value, "0660")?;
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let octal_digits = !octal.is_empty() && octal.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(octal, 8) {
        Ok(mode) if octal_digits && mode <= 0o777 => Ok(mode),
        _ => Err(wrong(
            key.name,
            quoted(text),
            "it is not a file mode",
            "write three octal digits after a 0, such as \"0660\" (owner and group) or \"0600\" (owner only)",
        )),
    }
}

/// Returns the form of a user group's name; `""` means none.
pub(super) fn group_name() -> CustomForm<Option<String>> {
    custom("text", read_group, |group| print::maybe(group.as_ref())).public()
}

fn read_group(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
    let group = text(key.name, value, "deploy")?;
    if group.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
        return Err(wrong(
            key.name,
            quoted(group),
            "it is not the name of a group",
            "write the name as `getent group` shows it",
        ));
    }
    Ok((!group.is_empty()).then(|| group.to_string()))
}

/// Reads a host name as in a `Host` field, without port: in lower case and without a trailing dot.
fn read_host(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let text = text(key.name, value, "lameduck.internal")?;
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_address = text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if is_address {
        return Ok(text.trim_matches(['[', ']']).to_ascii_lowercase());
    }
    if name.is_empty() || name.len() > 253 || !name.chars().all(fits) {
        return Err(wrong(
            key.name,
            quoted(text),
            "it is not a host name",
            "write the name alone, without scheme, port and `*`, such as \"lameduck.internal\"",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn read_pool(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    text(key.name, value, "app").map(str::to_owned)
}
