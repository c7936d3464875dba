//! Listening sockets that outlive this process, because its supervisor keeps copies of their descriptors: systemd's
//! store (`FDSTORE=1`, sd_notify(3)), or `lameduck run --keeper`, which speaks the same. After a `kill -9` the next
//! process gets them back by sd_listen_fds(3). In between no client is refused: connections wait in their queues.
//!
//! A name says what a socket is for, so that the next process knows its own again, and can tell it from one that the
//! supervisor has bound by itself ([`super::activation`]).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use tracing::{debug, warn};

use super::sd_notify::{NOTIFY_SOCKET, notify_at, tell_with};
use crate::core::uri;
use crate::rt::files::FileIdentity;
use crate::rt::syscall::poll_for;

/// How many descriptors the store takes; set by systemd from 254 on, by our unit for older ones, and by our keeper.
pub const FDSTORE: &str = "FDSTORE";
/// Set by our keeper, to its process id: it ends with this process, and keeps nothing beyond an end in order.
pub const KEPT: &str = "LAMEDUCK_KEPT";

/// What names of ours begin with.
const PREFIX: &str = "lameduck/";
/// systemd takes no longer names (`FDNAME_MAX`).
const MOST_NAME: usize = 255;
/// A supervisor that doesn't answer must not hold us up for longer.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a kept socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptSocketUse {
    /// A `[[listener]]`.
    Listener,
    /// `[admin] socket`.
    Admin,
    /// `[admin] apps_socket`.
    Apps,
    /// `[admin] http`.
    Http,
    /// `[admin] probes`.
    Probes,
}

impl KeptSocketUse {
    const ALL: [Self; 5] = [
        Self::Listener,
        Self::Admin,
        Self::Apps,
        Self::Http,
        Self::Probes,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Admin => "admin",
            Self::Apps => "apps",
            Self::Http => "http",
            Self::Probes => "probes",
        }
    }
}

/// Of which kind a kept socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptKind {
    /// TCP; `[::]` takes IPv4, too.
    Tcp,
    /// TCP on `[::]` without IPv4.
    TcpIpv6Alone,
    /// A unix socket, by the file that leads to it: once that is gone or replaced, no client can connect any more.
    Unix(FileIdentity),
}

/// A socket that is kept, as its name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptSocket {
    /// What it is for.
    pub usage: KeptSocketUse,
    /// Of which kind it is.
    pub kind: KeptKind,
    /// The address or path as the configuration has it: with port 0 where any port will do.
    pub address: String,
}

impl KeptSocket {
    /// One of TCP.
    pub fn tcp(usage: KeptSocketUse, address: std::net::SocketAddr, ipv6_alone: bool) -> Self {
        Self {
            usage,
            kind: match ipv6_alone {
                true => KeptKind::TcpIpv6Alone,
                false => KeptKind::Tcp,
            },
            address: address.to_string(),
        }
    }

    /// A unix socket.
    pub fn unix(usage: KeptSocketUse, path: &std::path::Path, file: FileIdentity) -> Self {
        Self {
            usage,
            kind: KeptKind::Unix(file),
            address: path.display().to_string(),
        }
    }

    /// The name in the store: printable ASCII without colons, as systemd wants it. A path that is too long is cut at its
    /// end; the file's identity still tells it from others.
    pub fn to_name(&self) -> String {
        let kind = match self.kind {
            KeptKind::Tcp => "tcp".to_owned(),
            KeptKind::TcpIpv6Alone => "tcp6".to_owned(),
            KeptKind::Unix((device, inode)) => format!("unix-{device:x}-{inode:x}"),
        };
        let mut name = format!("{PREFIX}{}/{kind}/", self.usage.as_str());
        let address = uri::encoded(&self.address, |byte| {
            byte.is_ascii_graphic() && !b":%".contains(&byte)
        });
        name.push_str(&address[..address.len().min(MOST_NAME - name.len())]);
        // A byte is there as a whole, or not at all.
        if let Some(cut) = name.rfind('%').filter(|cut| cut + 3 > name.len()) {
            name.truncate(cut);
        }
        name
    }

    /// What a name says; `None`: it is none of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '/');
        let (usage, kind, address) = (parts.next()?, parts.next()?, parts.next()?);
        let usage = KeptSocketUse::ALL
            .into_iter()
            .find(|known| known.as_str() == usage)?;
        let kind = match kind {
            "tcp" => KeptKind::Tcp,
            "tcp6" => KeptKind::TcpIpv6Alone,
            file => {
                let (device, inode) = file.strip_prefix("unix-")?.split_once('-')?;
                let number = |text| u64::from_str_radix(text, 16).ok();
                KeptKind::Unix((number(device)?, number(inode)?))
            }
        };
        uri::is_well_encoded(address.as_bytes()).then(|| Self {
            usage,
            kind,
            // A name that was cut may end within a character.
            address: uri::decoded_lossy(address),
        })
    }
}

/// The process id of the keeper above this process, if there is one.
pub fn keeper_pid() -> Option<u32> {
    std::env::var(KEPT).ok()?.trim().parse().ok()
}

/// Whether a name in a store is one of ours.
pub fn is_kept_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Where sockets are kept beyond this process's end; by default nowhere.
#[derive(Debug, Default)]
pub struct SocketStore {
    /// Whom to tell.
    address: Option<OsString>,
    /// So many it takes.
    most: usize,
    outlives_stop: bool,
    names: Mutex<BTreeSet<String>>,
    /// What is to be kept once the supervisor listens to this process; `None`: it does.
    waiting: Mutex<Option<Vec<(KeptSocket, OwnedFd)>>>,
}

impl SocketStore {
    /// The one that the environment tells of.
    pub fn of_environment() -> Self {
        let address = std::env::var_os(NOTIFY_SOCKET).filter(|address| !address.is_empty());
        let most = std::env::var(FDSTORE).ok();
        let most = most.and_then(|most| most.trim().parse().ok()).unwrap_or(0);
        Self {
            address: address.filter(|_| most > 0),
            most,
            outlives_stop: std::env::var_os(KEPT).is_none(),
            names: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// The same for a process that takes over: the supervisor accepts messages only from the process before it
    /// (`NotifyAccess=main`) until that has announced this one. Sockets to be kept wait for
    /// [`Self::send_waiting_sockets`].
    pub fn in_waiting(self, waits: bool) -> Self {
        *self.waiting.lock() = (waits && self.is_there()).then(Vec::new);
        self
    }

    /// Sends the sockets that have waited: from now on the supervisor accepts messages from this process.
    pub fn send_waiting_sockets(&self) {
        let waiting = self.waiting.lock().take();
        for (socket, descriptor) in waiting.into_iter().flatten() {
            self.keep(&socket, descriptor);
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Whether it keeps sockets over an end in order, too, for a process that is started next.
    pub fn outlives_stop(&self) -> bool {
        self.is_there() && self.outlives_stop
    }

    /// Has a copy kept. One that is in there already does no harm: the supervisor knows it again.
    pub fn keep(&self, socket: &KeptSocket, descriptor: impl AsFd) {
        let Some(address) = &self.address else {
            return;
        };
        if let Some(waiting) = &mut *self.waiting.lock() {
            let copy = descriptor.as_fd().try_clone_to_owned();
            waiting.extend(copy.ok().map(|copy| (socket.clone(), copy)));
            return;
        }
        let name = socket.to_name();
        let mut names = self.names.lock();
        if names.contains(&name) {
            return;
        }
        if names.len() >= self.most {
            warn!(
                address = socket.address,
                most = self.most,
                "the supervisor keeps no more sockets: clients of this one are refused from a crash of lameduck to its \
                 next start; raise FileDescriptorStoreMax= (and Environment=FDSTORE= before systemd 254)"
            );
            return;
        }
        // Without FDPOLL=0, systemd drops what it believes to be closed by its peer.
        let state = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
        match tell_with(address, &state, descriptor.as_fd()) {
            Ok(()) => {
                debug!(name, "the supervisor keeps this socket");
                names.insert(name);
            }
            Err(error) => warn!(
                %error, address = socket.address,
                "the supervisor can't be given this socket to keep: clients are refused from a crash of lameduck to its \
                 next start"
            ),
        }
    }

    /// Has it kept no longer. The supervisor's copy is closed a moment later: [`Self::wait`] waits for that.
    pub fn forget(&self, socket: &KeptSocket) {
        let Some(address) = &self.address else {
            return;
        };
        let name = socket.to_name();
        self.names.lock().remove(&name);
        if let Err(error) = notify_at(address, &format!("FDSTOREREMOVE=1\nFDNAME={name}")) {
            warn!(
                %error, address = socket.address,
                "the supervisor can't be told to close its copy of this socket: clients that connect there wait in vain"
            );
        }
    }

    /// Waits, for a second at most, until the supervisor has done what it was told. Blocks the thread.
    pub fn wait(&self) {
        let Some(address) = &self.address else {
            return;
        };
        let waited = || -> io::Result<bool> {
            let (reader, writer) = io::pipe()?;
            // It closes what it gets with this when it has come to it; one that knows no barriers does so, too.
            tell_with(address, "BARRIER=1", writer.as_fd())?;
            drop(writer);
            let mut polled = [PollFd::new(&reader, PollFlags::IN)];
            Ok(poll_for(&mut polled, Some(BARRIER_TIMEOUT))? > 0)
        };
        if !waited().unwrap_or(false) {
            debug!(
                "the supervisor has not said within a second that it has closed what it was to close"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    fn tcp(address: &str) -> KeptSocket {
        KeptSocket::tcp(KeptSocketUse::Listener, address.parse().unwrap(), false)
    }

    #[test]
    fn names_have_only_what_systemd_takes_and_say_the_same_again() {
        let path = Path::new("/run/a b/ü%3A:x.sock");
        let sockets = [
            tcp("127.0.0.1:0"),
            KeptSocket::tcp(KeptSocketUse::Http, "[::]:80".parse().unwrap(), true),
            tcp("[fe80::1%3]:80"),
            KeptSocket::unix(KeptSocketUse::Admin, path, (u64::MAX, 7)),
        ];
        for socket in sockets {
            let name = socket.to_name();
            assert!(
                name.bytes()
                    .all(|b| (b'!'..=b'~').contains(&b) && b != b':'),
                "{name}"
            );
            assert_eq!(KeptSocket::from_name(&name), Some(socket), "{name}");
            assert!(is_kept_name(&name));
        }
    }

    #[test]
    fn long_path_is_cut_and_the_files_identity_stays() {
        let path = format!("/{}", "ü".repeat(80));
        let socket = KeptSocket::unix(KeptSocketUse::Apps, Path::new(&path), (1, 2));
        let name = socket.to_name();
        assert!(name.len() <= MOST_NAME, "{}", name.len());
        let read = KeptSocket::from_name(&name).unwrap();
        assert_eq!((read.usage, read.kind), (socket.usage, socket.kind));
    }

    #[test]
    fn other_names_are_no_kept_sockets() {
        for name in [
            "",
            "admin",
            "8080",
            "lameduck/",
            "lameduck/listener/tcp",
            "lameduck/cellar/tcp/1",
            "lameduck/listener/unix-1/x",
            "lameduck/listener/unix-g-1/x",
            "lameduck/listener/tcp/%",
            "lameduck/listener/tcp/%zz",
        ] {
            assert_eq!(KeptSocket::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn socket_is_sent_once_and_forgotten_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        let store = SocketStore {
            address: Some(path.into()),
            most: 1,
            ..SocketStore::default()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (tcp("127.0.0.1:1"), tcp("127.0.0.1:2"));
        store.keep(&first, &listener);
        store.keep(&first, &listener);
        // There is no room for it.
        store.keep(&second, &listener);
        store.forget(&first);
        store.keep(&second, &listener);
        supervisor.set_nonblocking(true).unwrap();
        let heard: Vec<_> = std::iter::from_fn(|| {
            let mut buffer = [0; 512];
            let length = supervisor.recv(&mut buffer).ok()?;
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            Some(text.lines().next().unwrap().to_owned() + text.rsplit('/').next().unwrap())
        })
        .collect();
        assert_eq!(
            heard,
            [
                "FDSTORE=1127.0.0.1%3A1",
                "FDSTOREREMOVE=1127.0.0.1%3A1",
                "FDSTORE=1127.0.0.1%3A2"
            ]
        );
    }

    #[test]
    fn process_that_takes_over_has_its_sockets_kept_once_it_is_listened_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        supervisor.set_nonblocking(true).unwrap();
        let store = SocketStore {
            address: Some(path.into()),
            most: 4,
            ..SocketStore::default()
        };
        let store = store.in_waiting(true);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        store.keep(&tcp("127.0.0.1:1"), &listener);
        drop(listener);
        let mut buffer = [0; 512];
        assert!(supervisor.recv(&mut buffer).is_err(), "too early");
        store.send_waiting_sockets();
        let length = supervisor.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"FDSTORE=1"));
    }
}
