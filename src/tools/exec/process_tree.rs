//! Processes of the app, and the sockets that they listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::listening;

/// Owner of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortHolder {
    /// The app listens there.
    Ours(SocketAddr),
    /// A process listens there, and the app's descriptors can't be read (it runs as another user).
    Unknown(SocketAddr),
    /// Another process listens there.
    Foreign,
    /// No process listens there.
    Nobody,
}

/// Finds out which process listens on `port`.
pub(super) fn find_port_holder(port: u16) -> PortHolder {
    let there = listening::on_port(port);
    if there.is_empty() {
        return PortHolder::Nobody;
    }
    let sockets = Sockets::of_app();
    let mut ours = there
        .iter()
        .filter(|found| sockets.inodes.contains(&found.inode));
    let preferred = |address: &SocketAddr| (address.ip().is_loopback(), address.is_ipv4());
    match ours
        .by_ref()
        .map(|found| found.address)
        .max_by_key(preferred)
    {
        Some(address) => PortHolder::Ours(address),
        None if sockets.hidden => PortHolder::Unknown(there[0].address),
        None => PortHolder::Foreign,
    }
}

/// Ports that the app listens on.
pub(super) fn app_ports() -> BTreeSet<u16> {
    let sockets = Sockets::of_app();
    let there = listening::all().into_iter();
    let ours = there.filter(|found| sockets.inodes.contains(&found.inode));
    ours.map(|found| found.address.port()).collect()
}

/// Address at which a proxy on this host reaches this listener.
pub(super) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Most such listeners also accept IPv4; the others can only be reached by IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => match only_v6(listening.port()) {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        },
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Whether `[::]:port` is IPv6 only: then the IPv4 port is free for another listener.
fn only_v6(port: u16) -> bool {
    let probe = std::net::TcpStream::connect_timeout(
        &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        std::time::Duration::from_millis(100),
    );
    probe.is_err()
}

struct Sockets {
    inodes: BTreeSet<u64>,
    /// Whether some descriptors could not be read.
    hidden: bool,
}

impl Sockets {
    /// Sockets of all descendants of this process.
    fn of_app() -> Self {
        let mut found = Self {
            inodes: BTreeSet::new(),
            hidden: false,
        };
        for process in descendants() {
            let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
                found.hidden |= fs::metadata(format!("/proc/{process}")).is_ok();
                continue;
            };
            for descriptor in descriptors.flatten() {
                let target = fs::read_link(descriptor.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                let inode = target
                    .strip_prefix("socket:[")
                    .and_then(|rest| rest.strip_suffix(']'));
                found
                    .inodes
                    .extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
            }
        }
        found
    }
}

/// Process ids of all descendants of this process.
pub(super) fn descendants() -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![std::process::id()];
    while let Some(process) = next.pop() {
        // Each process is removed, because a table that changes while it is read must not lead to an endless loop.
        let below = children.remove(&process).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// Parent's process id, from `/proc/PID/stat`.
fn parent(stat: &str) -> Option<u32> {
    stat_column(stat, 1)
}

/// Process group of a running process.
pub(super) fn group(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat_column(&stat, 2)
}

/// A column after the name, which may contain spaces and parentheses.
fn stat_column(stat: &str, at: usize) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_does_not_hide_the_parent() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parent("nonsense"), None);
    }

    #[test]
    fn any_address_is_reached_through_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(at("192.0.2.7:80"), "192.0.2.7:80");
        assert_eq!(at("[::1]:80"), "[::1]:80");
    }

    #[test]
    fn launchers_own_listener_is_not_the_apps() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(matches!(
            find_port_holder(port),
            PortHolder::Foreign | PortHolder::Unknown(_)
        ));
        drop(listener);
        assert_eq!(find_port_holder(port), PortHolder::Nobody);
    }
}
