//! Finds the processes that accept connections on a listening socket: those that have the socket and no child that has
//! it. A master process or a supervisor that only keeps the socket (gunicorn's arbiter, systemd's socket activation)
//! survives a restart of the app; its workers do not.
//!
//! The source is `/proc`. Visible are the processes of this PID namespace whose descriptors this process may read:
//! those of its own user, or all as root or with CAP_SYS_PTRACE.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::listening::{Listening, on_port};

/// A process that has the socket, and its descriptors for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SocketHolder {
    pid: u32,
    parent: u32,
    /// Start time, in the kernel's clock ticks. It tells the process from a later one with the same id.
    started: u64,
    descriptors: Vec<String>,
}

/// File that identifies this boot of the machine: process ids and start times are only valid within one boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Processes that accepted connections on some sockets at one time. It can be stored, and checked by another lameduck
/// process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingProcesses {
    #[serde(default)]
    boot: String,
    links: BTreeSet<String>,
    processes: Vec<SocketHolder>,
}

impl ServingProcesses {
    /// Finds the processes for these inodes. It reads about every process of the host, which takes some milliseconds.
    pub fn of(inodes: &[u64]) -> Self {
        let links: BTreeSet<_> = inodes.iter().map(|inode| socket_link(*inode)).collect();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holders: Vec<_> = pids.filter_map(|pid| find_holder(pid, &links)).collect();
        let parents: BTreeSet<_> = holders.iter().map(|holder| holder.parent).collect();
        let processes = holders.into_iter();
        let processes = processes.filter(|holder| !parents.contains(&holder.pid));
        Self {
            boot: fs::read_to_string(BOOT).unwrap_or_default(),
            processes: processes.collect(),
            links,
        }
    }

    /// Whether no process was found.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Process ids, for messages.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|holder| holder.pid).collect()
    }

    /// Whether each process has exited, or has closed the socket.
    pub fn have_ended(&self) -> bool {
        if fs::read_to_string(BOOT).is_ok_and(|boot| boot != self.boot) {
            return true;
        }
        let holds = |holder: &SocketHolder| {
            let same = read_stat(holder.pid).is_some_and(|stat| stat.started == holder.started);
            let mut descriptors = holder.descriptors.iter();
            same && descriptors.any(|name| {
                match fs::read_link(format!("/proc/{}/fd/{name}", holder.pid)) {
                    Ok(target) => target.to_str().is_some_and(|to| self.links.contains(to)),
                    // The process exists, and this one may no longer read its descriptors.
                    Err(error) => error.kind() == ErrorKind::PermissionDenied,
                }
            })
        };
        !self.processes.iter().any(holds)
    }
}

/// Link target of descriptors for the socket with this inode.
fn socket_link(inode: u64) -> String {
    format!("socket:[{inode}]")
}

/// Descriptors of the process for any of these sockets; `None` if it has none, or may not be read.
fn find_holder(pid: u32, links: &BTreeSet<String>) -> Option<SocketHolder> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let descriptors = descriptors.filter(|entry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_str().is_some_and(|to| links.contains(to)))
    });
    let descriptors = descriptors.filter_map(|entry| entry.file_name().into_string().ok());
    let descriptors: Vec<_> = descriptors.collect();
    let stat = read_stat(pid).filter(|_| !descriptors.is_empty())?;
    Some(SocketHolder {
        pid,
        parent: stat.parent,
        started: stat.started,
        descriptors,
    })
}

struct Stat {
    parent: u32,
    started: u64,
}

/// Reads `/proc/PID/stat` of a process that has not ended.
fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The process's name stands in parentheses, and may contain parentheses itself.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(") ")?;
    let mut fields = after.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    alive.then_some(Stat { parent, started })
}

/// Inodes of the sockets of this host that accept connections to this address; `None` if the address is not this
/// host's.
pub fn accepting_at(address: SocketAddr) -> Option<Vec<u64>> {
    // Only an address of this host can be bound, and port 0 always works.
    UdpSocket::bind((address.ip(), 0)).ok()?;
    Some(accepting(on_port(address.port()), address))
}

/// Inodes of the listening sockets that the kernel would choose for this address: the most specific one, or several of
/// the same rank (SO_REUSEPORT).
pub fn accepting(listening: impl IntoIterator<Item = Listening>, peer: SocketAddr) -> Vec<u64> {
    let mut best = 0;
    let mut inodes = Vec::new();
    for Listening { address, inode } in listening {
        let same_port = address.port() == peer.port();
        let Some(rank) = rank(address.ip(), peer.ip()).filter(|_| same_port) else {
            continue;
        };
        if rank > best {
            best = rank;
            inodes.clear();
        }
        if rank == best {
            inodes.push(inode);
        }
    }
    inodes
}

/// Rank of a listening address for a peer, if it matches: the same address, then any address of its family, then `::`.
fn rank(listening: IpAddr, peer: IpAddr) -> Option<u8> {
    let (plain, wanted) = (listening.to_canonical(), peer.to_canonical());
    match listening {
        _ if plain == wanted => Some(3),
        IpAddr::V4(address) if address.is_unspecified() && wanted.is_ipv4() => Some(2),
        IpAddr::V6(address) if address.is_unspecified() => {
            Some(if wanted.is_ipv6() { 2 } else { 1 })
        }
        _ => None,
    }
}

/// Inodes of the sockets that listen at this path.
pub fn accepting_at_path(path: &Path) -> Vec<u64> {
    let table = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let lines = table.lines().skip(1);
    lines.filter_map(|line| unix_listener(line, path)).collect()
}

/// Parses a line of `/proc/net/unix`: `Num RefCount Protocol Flags Type St Inode Path`.
fn unix_listener(line: &str, path: &Path) -> Option<u64> {
    // The kernel's flag `__SO_ACCEPTCON`.
    const LISTENS: u32 = 1 << 16;
    let mut columns = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(columns.nth(3)?, 16).ok()?;
    let inode = columns.nth(2)?.parse().ok()?;
    let (_, bound) = line.split_once(&format!(" {inode} "))?;
    (flags & LISTENS != 0 && Path::new(bound) == path).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a child that has the socket as its standard input.
    fn worker(listener: &TcpListener) -> Child {
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::from(socket));
        command.spawn().unwrap()
    }

    /// Waits until only this process has the socket: children of other tests may have it for a moment, between fork and
    /// exec.
    fn until_served_by(inodes: &[u64], pid: u32) -> ServingProcesses {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let serving = ServingProcesses::of(inodes);
            if serving.pids() == [pid] {
                return serving;
            }
            assert!(Instant::now() < end, "{serving:?}, and not {pid}");
        }
    }

    #[test]
    fn process_that_only_keeps_the_socket_is_not_awaited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inodes = accepting_at(listener.local_addr().unwrap()).unwrap();
        assert_eq!(inodes.len(), 1);
        let own = until_served_by(&inodes, std::process::id());
        assert!(!own.have_ended());
        let mut old = worker(&listener);
        let serving = until_served_by(&inodes, old.id());
        assert!(!serving.have_ended());
        old.kill().unwrap();
        // A zombie serves nobody either.
        let end = Instant::now() + Duration::from_secs(20);
        while !serving.have_ended() {
            assert!(Instant::now() < end);
        }
        old.wait().unwrap();
        assert!(serving.have_ended());
        drop(listener);
        assert!(own.have_ended(), "it let go of it");
    }

    #[test]
    fn unix_sockets_are_found_by_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _connected = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let inodes = accepting_at_path(&path);
        assert_eq!(inodes.len(), 1, "{inodes:?}");
        until_served_by(&inodes, std::process::id());
        drop(listener);
        assert!(accepting_at_path(&path).is_empty());
    }

    #[test]
    fn the_most_specific_listeners_win() {
        let at = |address: &str, inode| Listening {
            address: address.parse().unwrap(),
            inode,
        };
        let table = [
            at("0.0.0.0:80", 1),
            at("127.0.0.1:80", 2),
            at("127.0.0.1:80", 3),
            at("127.0.0.1:81", 4),
        ];
        let find = |address: &str| accepting(table, address.parse().unwrap());
        assert_eq!(find("127.0.0.1:80"), [2, 3]);
        assert_eq!(find("127.0.0.2:80"), [1]);
        assert!(find("127.0.0.1:82").is_empty());
        assert_eq!(accepting_at("192.0.2.1:80".parse().unwrap()), None);
    }

    #[test]
    fn stat_is_read_behind_any_name() {
        let rest = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        let stat = parse_stat(&format!("12 (a) b) {rest}")).unwrap();
        assert_eq!((stat.parent, stat.started), (7, 4242));
        assert!(parse_stat(&format!("12 (a) {}", rest.replace('S', "Z"))).is_none());
        assert!(parse_stat("").is_none());
    }
}
