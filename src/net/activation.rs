//! Socket activation, sd_listen_fds(3): listening sockets that the supervisor has bound for lameduck. They outlive the
//! process, so a restart of the proxy refuses no client: connections that arrive meanwhile wait in the accept queue.
//!
//! Some of the descriptors may be sockets that an earlier lameduck process had the supervisor keep
//! ([`super::kept_socket`]). They are used as if this process had bound them.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use socket2::{SockRef, Type};

use super::kept_socket::{KeptKind, KeptSocket, KeptSocketUse, is_kept_name};
use crate::rt::files::{FileIdentity, FilePlace};
use crate::rt::syscall::adopt_descriptor;

/// First descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST_DESCRIPTOR: RawFd = 3;
/// Most descriptors that are taken. A larger number in `LISTEN_FDS` is a mistake.
const MAX_DESCRIPTORS: RawFd = 1024;
/// Name of the descriptor for the admin API's unix socket, whatever its path is.
pub const ADMIN: &str = "admin";
/// Name of the descriptor for the second unix socket of the admin API, which apps use.
pub const APPS: &str = "apps";

/// Listening sockets that this process got from its supervisor or from the process before it.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
    kept: Mutex<Vec<(KeptSocket, OwnedFd)>>,
    /// Sockets of the process before this one, with their purpose there.
    handed: Mutex<Vec<HandedListener>>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct InheritedSocket {
    /// Stays open while unused: a configuration may drop the address, and use it again later.
    fd: OwnedFd,
    name: String,
    local: Local,
    used: AtomicBool,
}

/// A listening socket that the process before this one had bound, and hands to this one.
#[derive(Debug)]
pub struct HandedListener {
    /// Descriptor of the socket.
    pub descriptor: OwnedFd,
    /// Purpose of the socket, such as `listener`, and its address in the configuration of the process before.
    pub purpose: (&'static str, String),
    /// Index of the socket among all that were handed over.
    pub place: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Local {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Local::Tcp(address) => address.fmt(f),
            Local::Unix(path) => path.display().fmt(f),
        }
    }
}

impl InheritedSockets {
    /// Takes the descriptors that `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` describe, if they are meant for this
    /// process. Only the first call gets them, because a descriptor has one owner.
    pub fn take() -> Self {
        let (passed, warnings) = take_passed();
        let mut inherited = Self::new(passed);
        inherited.warnings.extend(warnings);
        inherited
    }

    /// Adds the sockets that the supervisor had bound for the process before this one.
    pub fn and_supervised(mut self, passed: Vec<(OwnedFd, String)>) -> Self {
        let more = Self::new(passed);
        self.sockets.extend(more.sockets);
        self.warnings.extend(more.warnings);
        self
    }

    /// Adds the sockets that the process before this one had bound itself.
    pub fn and_handed(self, handed: Vec<HandedListener>) -> Self {
        self.handed.lock().extend(handed);
        self
    }

    /// Takes out the socket that had this role and configured address in the process before. The caller owns it from
    /// now on.
    pub fn handed(&self, role: &str, configured: &str) -> Option<OwnedFd> {
        let mut handed = self.handed.lock();
        let is_it = |one: &HandedListener| one.purpose.0 == role && one.purpose.1 == configured;
        let place = handed.iter().position(is_it)?;
        let found = handed.remove(place).descriptor;
        SockRef::from(&found).set_nonblocking(true).ok()?;
        Some(found)
    }

    /// Closes the handed sockets that nobody took, and returns their indexes.
    pub fn close_unused(&self) -> Vec<usize> {
        let unused = std::mem::take(&mut *self.handed.lock());
        unused.into_iter().map(|one| one.place).collect()
    }

    /// Number of sockets from the supervisor that are in use.
    pub fn count_used(&self) -> usize {
        let used = self.sockets.iter();
        used.filter(|one| one.used.load(Ordering::Relaxed)).count()
    }

    /// Copies of the supervisor's sockets with their names, for the process that takes over.
    ///
    /// # Errors
    /// The process can't open any more descriptors.
    pub fn duplicate(&self) -> io::Result<Vec<(OwnedFd, String)>> {
        let sockets = self.sockets.iter();
        let copies = sockets.map(|one| Ok((one.fd.try_clone()?, one.name.clone())));
        copies.collect()
    }

    /// Keeps the descriptors that are listening sockets; the others become warnings.
    fn new(passed: Vec<(OwnedFd, String)>) -> Self {
        let mut inherited = Self::default();
        for (fd, name) in passed {
            if is_kept_name(&name) {
                match KeptSocket::from_name(&name) {
                    Some(kept) => inherited.kept.get_mut().push((kept, fd)),
                    None => inherited.warnings.push(format!(
                        "a kept socket has a name that this lameduck doesn't know: {name}"
                    )),
                }
                continue;
            }
            match inspect_socket(&fd) {
                Ok(local) => inherited.sockets.push(InheritedSocket {
                    fd,
                    name,
                    local,
                    used: AtomicBool::new(false),
                }),
                Err(error) => inherited.warnings.push(format!(
                    "a descriptor ({name}) was passed that is no listening stream socket: {error}"
                )),
            }
        }
        inherited
    }

    /// Socket for this TCP address: one that is bound to it, or one bound to `[::]` for both families if the address is
    /// `0.0.0.0`, or one that is named after its port.
    pub fn tcp(&self, address: SocketAddr) -> Option<TcpListener> {
        self.find_tcp(address)?.hand_out()
    }

    fn find_tcp(&self, address: SocketAddr) -> Option<&InheritedSocket> {
        let exact = |passed: &&InheritedSocket| passed.local == Local::Tcp(address);
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        let dual = |passed: &&InheritedSocket| {
            let any = address.ip().is_unspecified() && address.is_ipv4();
            any && passed.local == Local::Tcp(both)
                && SockRef::from(&passed.fd).only_v6().is_ok_and(|only| !only)
        };
        let named = |passed: &&InheritedSocket| {
            matches!(passed.local, Local::Tcp(_)) && passed.name == address.port().to_string()
        };
        let mut sockets = self.sockets.iter();
        let found = sockets.clone().find(exact);
        let found = found.or_else(|| sockets.clone().find(dual));
        found.or_else(|| sockets.find(named))
    }

    /// Whether the supervisor has bound a socket for this TCP address.
    pub fn has_tcp(&self, address: SocketAddr) -> bool {
        self.find_tcp(address).is_some()
    }

    /// Socket for this path: one that is bound to it, or one of this name ([`ADMIN`], [`APPS`]).
    pub fn unix(&self, path: &Path, name: &str) -> Option<UnixListener> {
        let here = |passed: &&InheritedSocket| passed.local == Local::Unix(path.to_owned());
        let named = |passed: &&InheritedSocket| {
            matches!(passed.local, Local::Unix(_)) && passed.name == name
        };
        let mut sockets = self.sockets.iter();
        let found = sockets.clone().find(here);
        found.or_else(|| sockets.find(named))?.hand_out()
    }

    /// TCP socket for this address and use that an earlier process had the supervisor keep.
    pub fn kept_tcp(
        &self,
        usage: KeptSocketUse,
        address: SocketAddr,
        ipv6_alone: bool,
    ) -> Option<TcpListener> {
        let wanted = KeptSocket::tcp(usage, address, ipv6_alone);
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|(socket, _)| *socket == wanted)?;
        let (_, fd) = kept.swap_remove(place);
        SockRef::from(&fd).set_nonblocking(true).ok()?;
        Some(fd.into())
    }

    /// Unix socket for this path and use that an earlier process had the supervisor keep, with the identity of its
    /// file.
    pub fn kept_unix(
        &self,
        usage: KeptSocketUse,
        path: &Path,
    ) -> Option<(UnixListener, FileIdentity)> {
        let mut kept = self.kept.lock();
        let place = kept
            .iter()
            .position(|(socket, fd)| leads_to(path, usage, socket, fd))?;
        let (socket, fd) = kept.swap_remove(place);
        let KeptKind::Unix(file) = socket.kind else {
            return None;
        };
        SockRef::from(&fd).set_nonblocking(true).ok()?;
        Some((fd.into(), file))
    }

    /// Closes kept sockets that are no longer configured, or that no client can reach; returns them.
    pub fn close_unwanted(&self, is_wanted: impl Fn(&KeptSocket) -> bool) -> Vec<KeptSocket> {
        let mut gone = Vec::new();
        self.kept.lock().retain(|(socket, fd)| {
            let reachable = match (socket.kind, inspect_socket(fd)) {
                (KeptKind::Unix(_), Ok(Local::Unix(path))) => {
                    leads_to(&path, socket.usage, socket, fd)
                }
                (KeptKind::Unix(_), _) | (_, Ok(Local::Unix(_)) | Err(_)) => false,
                (_, Ok(Local::Tcp(_))) => true,
            };
            let stays = reachable && is_wanted(socket);
            if !stays {
                gone.push(socket.clone());
            }
            stays
        });
        gone
    }

    /// Warnings about descriptors that can't be used, for the log. To be called once every listener has its socket:
    /// a socket that is still unused counts as one of them.
    pub fn warnings(&self) -> Vec<String> {
        let unused = self.sockets.iter();
        let unused = unused.filter(|passed| !passed.used.load(Ordering::Relaxed));
        let unused = unused.map(|passed| {
            format!(
                "the supervisor has passed a socket ({}, {}) that nothing in the configuration listens on; make the \
                 addresses agree, or name it after the port of its [[listener]] or `admin` (FileDescriptorName=)",
                passed.local, passed.name
            )
        });
        self.warnings.iter().cloned().chain(unused).collect()
    }
}

/// Descriptors that were passed to this process, with their names. Only the first call gets them.
pub fn passed_descriptors() -> Vec<(String, OwnedFd)> {
    let (passed, _) = take_passed();
    passed.into_iter().map(|(fd, name)| (name, fd)).collect()
}

/// The same descriptors, and warnings about what is wrong with them.
fn take_passed() -> (Vec<(OwnedFd, String)>, Vec<String>) {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
    let mine = number("LISTEN_PID").is_some_and(|pid| pid as u32 == std::process::id());
    let count = number("LISTEN_FDS")
        .unwrap_or_default()
        .clamp(0, MAX_DESCRIPTORS);
    if !mine || TAKEN.swap(true, Ordering::Relaxed) {
        return (Vec::new(), Vec::new());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = Vec::new();
    let mut warnings = Vec::new();
    for fd in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count {
        let name = names.next().unwrap_or_default();
        match adopt_descriptor(fd) {
            Ok(owned) => passed.push((owned, name.to_owned())),
            Err(error) => warnings.push(format!("descriptor {fd} was not passed: {error}")),
        }
    }
    (passed, warnings)
}

impl InheritedSocket {
    fn hand_out<T: From<OwnedFd>>(&self) -> Option<T> {
        let copy = self.fd.try_clone().ok()?;
        SockRef::from(&copy).set_nonblocking(true).ok()?;
        self.used.store(true, Ordering::Relaxed);
        Some(T::from(copy))
    }
}

/// Whether the file at this path still leads to this kept socket, and the socket has this use.
fn leads_to(path: &Path, usage: KeptSocketUse, socket: &KeptSocket, fd: &OwnedFd) -> bool {
    let is_bound = inspect_socket(fd).is_ok_and(|local| local == Local::Unix(path.to_owned()));
    let found = FilePlace::of(path).and_then(|place| place.socket());
    let file = found.ok().flatten().map(KeptKind::Unix);
    socket.usage == usage && is_bound && file == Some(socket.kind)
}

/// Address at which a socket listens; an error if it does not listen.
fn inspect_socket(fd: &OwnedFd) -> io::Result<Local> {
    let socket = SockRef::from(fd);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other("it does not listen for streams"));
    }
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(Local::Tcp(address));
    }
    let path = address.as_pathname().map(Path::to_owned);
    path.map(Local::Unix)
        .ok_or_else(|| io::Error::other("it is neither TCP nor a unix socket with a path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(sockets: Vec<(OwnedFd, &str)>) -> InheritedSockets {
        let sockets = sockets.into_iter();
        InheritedSockets::new(sockets.map(|(fd, name)| (fd, name.to_owned())).collect())
    }

    #[test]
    fn sockets_are_found_by_address_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let inherited = passed(vec![(tcp.into(), "8080"), (unix.into(), ADMIN)]);
        assert_eq!(inherited.warnings().len(), 2);
        assert_eq!(
            inherited.tcp(address).unwrap().local_addr().unwrap(),
            address
        );
        assert!(inherited.tcp("0.0.0.0:8080".parse().unwrap()).is_some());
        assert!(inherited.tcp("127.0.0.1:8081".parse().unwrap()).is_none());
        assert!(inherited.unix(&path, ADMIN).is_some());
        assert!(inherited.unix(Path::new("/elsewhere"), ADMIN).is_some());
        assert!(inherited.warnings().is_empty());
    }

    #[test]
    fn one_for_both_families_is_also_for_ipv4() {
        let Ok(both) = TcpListener::bind("[::]:0") else {
            use std::io::Write as _;
            // `eprintln!` would not do: the test runner hides its text when a test passes.
            let _ = writeln!(
                std::io::stderr(),
                "one_for_both_families: skipped: needs IPv6"
            );
            return;
        };
        let port = both.local_addr().unwrap().port();
        let inherited = passed(vec![(both.into(), "")]);
        assert!(inherited.tcp(([0, 0, 0, 0], port).into()).is_some());
        assert!(inherited.tcp(([127, 0, 0, 1], port).into()).is_none());
    }

    #[test]
    fn kept_sockets_are_found_by_use_and_address_and_taken_once() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let port = tcp.local_addr().unwrap().port();
        let name = KeptSocket::tcp(KeptSocketUse::Listener, any, false).to_name();
        let inherited = passed(vec![(tcp.into(), &name)]);
        // A kept socket causes no warning, even if it is unused.
        assert!(inherited.warnings().is_empty());
        assert!(inherited.tcp(any).is_none());
        assert!(
            inherited
                .kept_tcp(KeptSocketUse::Http, any, false)
                .is_none()
        );
        let found = inherited
            .kept_tcp(KeptSocketUse::Listener, any, false)
            .unwrap();
        assert_eq!(found.local_addr().unwrap().port(), port);
        assert!(
            inherited
                .kept_tcp(KeptSocketUse::Listener, any, false)
                .is_none()
        );
    }

    #[test]
    fn kept_unix_socket_is_of_use_only_while_its_file_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let keep = |listener: UnixListener| {
            let file = FilePlace::of(&path).unwrap().socket().unwrap().unwrap();
            let name = KeptSocket::unix(KeptSocketUse::Admin, &path, file).to_name();
            passed(vec![(listener.into(), &name)])
        };
        let inherited = keep(UnixListener::bind(&path).unwrap());
        assert!(inherited.close_unwanted(|_| true).is_empty());
        let (listener, _) = inherited.kept_unix(KeptSocketUse::Admin, &path).unwrap();
        // Another process has put its own socket in the place of the file.
        let inherited = keep(listener);
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        assert!(inherited.kept_unix(KeptSocketUse::Admin, &path).is_none());
        assert_eq!(inherited.close_unwanted(|_| true).len(), 1);
        assert!(inherited.close_unwanted(|_| true).is_empty());
    }

    #[test]
    fn unwanted_kept_sockets_are_closed() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let kept = KeptSocket::tcp(KeptSocketUse::Listener, address, false);
        let inherited = passed(vec![(tcp.into(), &kept.to_name())]);
        assert_eq!(inherited.close_unwanted(|_| false), [kept]);
        assert!(TcpListener::bind(address).is_ok());
    }

    #[test]
    fn inherited_socket_that_does_not_listen_is_reported() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inherited = passed(vec![(socket.into(), "dns")]);
        assert!(inherited.warnings()[0].contains("(dns)"));
    }
}
