//! Sockets left by an earlier process: decides which of them the configuration still needs. The others are closed
//! before anything is bound, as they may occupy an address.

use tracing::info;

use crate::admin::listen::default_sockets;
use crate::config::{Config, ListenAddress};
use crate::net::activation::InheritedSockets;
use crate::net::kept_socket::{KeptKind, KeptSocket, KeptSocketUse, SocketStore};

/// Closes the sockets that the configuration no longer needs, here and in the store.
pub(super) fn close_unwanted(config: &Config, inherited: &InheritedSockets, store: &SocketStore) {
    let gone = inherited.close_unwanted(|kept| is_wanted(config, kept));
    for kept in &gone {
        info!(
            address = kept.address,
            "a socket of an earlier process is closed: nothing in the configuration listens on it, or its file is gone"
        );
        store.forget(kept);
    }
    if !gone.is_empty() {
        store.wait();
    }
}

fn is_wanted(config: &Config, kept: &KeptSocket) -> bool {
    let usage = kept.usage;
    let at = |address: Option<std::net::SocketAddr>| {
        address.is_some_and(|at| *kept == KeptSocket::tcp(usage, at, config.takes_ipv6_alone(at)))
    };
    // Compared by the socket file, which has been checked: the name may be truncated.
    let on = |path: &std::path::Path| matches!(kept.kind, KeptKind::Unix(file) if kept.to_name() == KeptSocket::unix(usage, path, file).to_name());
    let admin = &config.admin;
    match usage {
        KeptSocketUse::Listener => {
            config
                .listeners
                .iter()
                .any(|listener| match &listener.address {
                    ListenAddress::Tcp(address) => at(Some(*address)),
                    ListenAddress::Unix(path) => on(path),
                })
        }
        KeptSocketUse::Admin => match &admin.socket {
            Some(path) => on(path),
            None => default_sockets().iter().any(|path| on(path)),
        },
        KeptSocketUse::Apps => admin.apps_socket.as_deref().is_some_and(on),
        KeptSocketUse::Http => at(admin.http),
        KeptSocketUse::Probes => at(admin.probes),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn kept_socket_is_wanted_where_the_same_key_has_its_address() {
        let text = "[admin]\nsocket = \"/run/a\"\nhttp = \"127.0.0.1:9901\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n\
                    [[listener]]\naddress = \"unix:/run/web\"\n[[pool]]\nname = \"app\"";
        let config = config::parse("test", text).unwrap().config;
        let tcp = |usage, address: &str| {
            is_wanted(
                &config,
                &KeptSocket::tcp(usage, address.parse().unwrap(), false),
            )
        };
        let unix =
            |usage, path| is_wanted(&config, &KeptSocket::unix(usage, Path::new(path), (1, 2)));
        assert!(tcp(KeptSocketUse::Listener, "127.0.0.1:8080"));
        assert!(tcp(KeptSocketUse::Http, "127.0.0.1:9901"));
        assert!(unix(KeptSocketUse::Admin, "/run/a"));
        assert!(unix(KeptSocketUse::Listener, "/run/web"));
        assert!(!tcp(KeptSocketUse::Listener, "127.0.0.1:9901"));
        assert!(!tcp(KeptSocketUse::Probes, "127.0.0.1:9901"));
        assert!(!tcp(KeptSocketUse::Listener, "127.0.0.1:8081"));
        assert!(!unix(KeptSocketUse::Apps, "/run/a"));
        assert!(!unix(KeptSocketUse::Listener, "/run/a"));
    }
}
