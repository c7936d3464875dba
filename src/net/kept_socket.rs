//! Listening sockets that outlive this process, because its supervisor keeps copies of their descriptors: systemd in
//! its file descriptor store (`FDSTORE=1`, sd_notify(3)), or `lameduck run --keeper`, which speaks the same protocol.
//! After a `kill -9` the next process gets them back by sd_listen_fds(3). Meanwhile no client is refused: connections
//! wait in the accept queues.
//!
//! The name of a descriptor says what its socket is for. By it the next process recognises its own sockets, and tells
//! them from those that the supervisor bound itself ([`super::activation`]).

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

/// Variable with the number of descriptors that the store takes: set by systemd since version 254, by lameduck's unit
/// file for older versions, and by lameduck's keeper.
pub const FDSTORE: &str = "FDSTORE";
/// Variable that lameduck's keeper sets to its process id. The keeper ends with this process, and keeps no socket after
/// a regular exit.
pub const KEPT: &str = "LAMEDUCK_KEPT";

/// Prefix of all names that lameduck gives.
const PREFIX: &str = "lameduck/";
/// Longest name that systemd accepts (`FDNAME_MAX`).
const MAX_NAME_LENGTH: usize = 255;
/// Longest wait for a supervisor that does not answer.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// Use of a kept socket.
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

/// Kind of a kept socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptKind {
    /// TCP; one on `[::]` also accepts IPv4.
    Tcp,
    /// TCP on `[::]` without IPv4.
    TcpIpv6Alone,
    /// A unix socket, with the identity of its file: once the file is gone or replaced, no client can connect any more.
    Unix(FileIdentity),
}

/// A kept socket, as its name describes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptSocket {
    /// Its use.
    pub usage: KeptSocketUse,
    /// Its kind.
    pub kind: KeptKind,
    /// Address or path as written in the configuration, with port 0 if any port will do.
    pub address: String,
}

impl KeptSocket {
    /// A TCP socket.
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

    /// Name in the store: printable ASCII without colons, as systemd demands. A long path is cut at its end; the
    /// identity of the file still tells the sockets apart.
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
        name.push_str(&address[..address.len().min(MAX_NAME_LENGTH - name.len())]);
        // The cut must not leave a part of an encoded byte.
        if let Some(cut) = name.rfind('%').filter(|cut| cut + 3 > name.len()) {
            name.truncate(cut);
        }
        name
    }

    /// Parses a name; `None` if lameduck did not give it.
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
            // A name that was cut may end in the middle of a character.
            address: uri::decoded_lossy(address),
        })
    }
}

/// Process id of the keeper that started this process, if there is one.
pub fn keeper_pid() -> Option<u32> {
    std::env::var(KEPT).ok()?.trim().parse().ok()
}

/// Whether lameduck gave this name.
pub fn is_kept_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The store that keeps sockets after this process has ended. By default there is none.
#[derive(Debug, Default)]
pub struct SocketStore {
    /// Address of the supervisor's notification socket.
    address: Option<OsString>,
    /// Number of descriptors that the store takes.
    most: usize,
    outlives_stop: bool,
    names: Mutex<BTreeSet<String>>,
    /// Sockets to be sent once the supervisor accepts messages from this process; `None` if it already does.
    waiting: Mutex<Option<Vec<(KeptSocket, OwnedFd)>>>,
}

impl SocketStore {
    /// The store that the environment variables describe.
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

    /// The same store for a process that takes over. With `NotifyAccess=main` the supervisor only accepts messages from
    /// the process before, until that has announced this one. Until then, sockets wait for
    /// [`Self::send_waiting_sockets`].
    pub fn in_waiting(self, waits: bool) -> Self {
        *self.waiting.lock() = (waits && self.is_there()).then(Vec::new);
        self
    }

    /// Sends the waiting sockets. Called once the supervisor accepts messages from this process.
    pub fn send_waiting_sockets(&self) {
        let waiting = self.waiting.lock().take();
        for (socket, descriptor) in waiting.into_iter().flatten() {
            self.keep(&socket, descriptor);
        }
    }

    /// Whether there is a store.
    pub fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Whether the store also keeps sockets after a regular exit, for a process that is started later.
    pub fn outlives_stop(&self) -> bool {
        self.is_there() && self.outlives_stop
    }

    /// Sends a copy to the store. A socket that is in there already does no harm: the supervisor recognises it.
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
        // Without FDPOLL=0, systemd drops a descriptor that looks closed by its peer.
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

    /// Has the store drop its copy. That happens a moment later: [`Self::wait`] waits for it.
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

    /// Waits until the supervisor has handled all messages, for a second at most. Blocks the thread.
    pub fn wait(&self) {
        let Some(address) = &self.address else {
            return;
        };
        let waited = || -> io::Result<bool> {
            let (reader, writer) = io::pipe()?;
            // The supervisor closes the descriptor sent with this message when it reaches it. One that does not know
            // barriers does that, too.
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
    fn names_are_valid_for_systemd_and_parse_to_the_same_socket() {
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
        assert!(name.len() <= MAX_NAME_LENGTH, "{}", name.len());
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
        // The store is full.
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
