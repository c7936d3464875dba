//! Checks of the values of `[admin]` in combination.

use super::ports::clash;
use super::reader::ConfigFindings;
use super::{AdminConfig, Config};

/// Checks that need more than one value.
pub(super) fn check(config: &Config, f: &mut ConfigFindings) {
    doors(&config.admin, f);
    apps_socket(config, f);
}

fn doors(admin: &AdminConfig, f: &mut ConfigFindings) {
    if admin.mode & 0o002 != 0 {
        f.warning(
            f.place("admin.mode"),
            format!(
                "`mode = \"0{:o}\"`: everybody on this machine may drain backends",
                admin.mode
            ),
            "write \"0660\" and let those who may in through `group`",
        );
    }
    if admin.mode & 0o600 != 0o600 {
        f.warning(
            f.place("admin.mode"),
            format!(
                "`mode = \"0{:03o}\"`: its owner can't use the admin socket",
                admin.mode
            ),
            "write \"0660\" or \"0600\"",
        );
    }
    let takes_certificates = admin
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if admin.tls.is_some() && admin.http.is_none() && f.sound(&["admin.http", "admin.tls"]) {
        f.warning(
            f.place("admin.tls"),
            "`tls` is for `http`, and there is none",
            "add `http = \"0.0.0.0:9901\"`, or remove it",
        );
    }
    if let Some(http) = admin.http
        && !http.ip().is_loopback()
        && admin.token_file.is_none()
        && !takes_certificates
        && f.sound(&["admin.http", "admin.token_file"])
    {
        f.warning(
            f.place("admin.http"),
            format!("`http = \"{http}\"` is off loopback and there is no `token_file`: only /-/* is served there"),
            "add `token_file = \"/etc/lameduck/token\"`, or use `probes` for /-/* and /metrics, or listen on 127.0.0.1",
        );
    }
    if let (Some(http), Some(probes)) = (admin.http, admin.probes)
        && clash(http, probes)
    {
        f.error(
            f.place("admin.probes"),
            format!(
                "`probes = \"{probes}\"` and `http = \"{http}\"` can't both listen on port {}",
                probes.port()
            ),
            "give them different ports, or write `http = \"\"`",
        );
    }
}

/// Checks the second socket, for apps.
fn apps_socket(config: &Config, f: &mut ConfigFindings) {
    let admin = &config.admin;
    if admin.apps_socket.is_some() && admin.apps_socket == admin.socket {
        f.error(
            f.place("admin.apps_socket"),
            "`apps_socket` and `socket` are the same path: apps would have every right, or nobody",
            "give `apps_socket` a path of its own, such as \"/run/lameduck/apps.sock\"",
        );
    }
    if admin.apps_socket.is_none()
        && !admin.apps_pools.is_empty()
        && f.sound(&["admin.apps_socket"])
    {
        f.warning(
            f.place("admin.apps_pools"),
            "`apps_pools` says who may be entered through `apps_socket`, and there is none",
            "add `apps_socket = \"/run/lameduck/apps.sock\"`, or remove it",
        );
    }
    for wanted in &admin.apps_pools {
        let known = config.pools.iter().any(|pool| pool.name == *wanted);
        if !known && f.sound(&["admin.apps_pools", "pool"]) {
            f.error(
                f.place("admin.apps_pools"),
                format!("`apps_pools` names the pool `{wanted}`, and there is no such [[pool]]"),
                "correct the name, or take it out of the list",
            );
        }
    }
}
