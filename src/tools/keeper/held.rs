//! Store of descriptors that the proxy sends by sd_notify(3), and its other messages.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::net::activation::passed_descriptors;

/// Most sockets that are kept; no proxy has more.
pub(super) const MAX_SOCKETS: usize = 512;
/// Longest message in bytes; the proxy sends none that is longer.
const MAX_MESSAGE: usize = 8192;
/// Most descriptors in one message; the proxy sends one.
const MAX_DESCRIPTORS: usize = 8;

/// Kept sockets, by their names in `LISTEN_FDNAMES`.
pub(super) struct HeldSockets {
    notify: UnixDatagram,
    address: String,
    /// Sockets from the supervisor of the keeper, which are passed on unchanged.
    passed: Vec<(String, OwnedFd)>,
    kept: BTreeMap<String, OwnedFd>,
}

/// Parts of the proxy's message that concern others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SupervisorMessage {
    /// Whether the proxy serves.
    pub ready: bool,
    /// Process id of another process that is the proxy from now on.
    pub main: Option<u32>,
    /// Lines for the supervisor of the keeper.
    pub others: String,
}

impl HeldSockets {
    /// A store with the sockets from the keeper's own supervisor.
    pub(super) fn open() -> io::Result<Self> {
        let name = format!(
            "lameduck-keeper-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let notify = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        notify.set_nonblocking(true)?;
        // Every process can send to such a name, so the kernel is asked who the sender is.
        set_socket_passcred(&notify, true)?;
        Ok(Self {
            notify,
            address: format!("@{name}"),
            passed: passed_descriptors(),
            kept: BTreeMap::new(),
        })
    }

    /// Address for the proxy's messages: `NOTIFY_SOCKET`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// All sockets for the next process, with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let passed = self.passed.iter().map(|(name, fd)| (&**name, fd.as_fd()));
        passed.chain(self.kept.iter().map(|(name, fd)| (&**name, fd.as_fd())))
    }

    /// Number of sockets.
    pub(super) fn count(&self) -> usize {
        self.passed.len() + self.kept.len()
    }

    /// Next message, if there is one. Descriptors in it are kept or removed, as it says.
    pub(super) fn receive(&mut self) -> Option<SupervisorMessage> {
        loop {
            let mut text = [0; MAX_MESSAGE];
            let mut space = [MaybeUninit::uninit();
                rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received = match recvmsg(&self.notify, &mut parts, &mut control, flags) {
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
            };
            let (mut descriptors, mut sender) = (Vec::new(), None);
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                    RecvAncillaryMessage::ScmCredentials(who) => sender = Some(who.uid),
                    _ => {}
                }
            }
            let own = rustix::process::geteuid();
            if sender.is_none_or(|uid| uid != own && !uid.is_root()) {
                continue;
            }
            let Ok(text) = std::str::from_utf8(&text[..received.bytes]) else {
                continue;
            };
            return Some(self.take(text, descriptors));
        }
    }

    fn take(&mut self, text: &str, descriptors: Vec<OwnedFd>) -> SupervisorMessage {
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let name = value("FDNAME").unwrap_or("stored");
        if value("FDSTOREREMOVE") == Some("1") {
            self.kept.remove(name);
        } else if value("FDSTORE") == Some("1")
            && let Some(descriptor) = descriptors.into_iter().next()
            && !name.contains(':')
            && (self.kept.len() < MAX_SOCKETS || self.kept.contains_key(name))
        {
            self.kept.insert(name.to_owned(), descriptor);
        }
        const OURS: [&str; 6] = [
            "FDSTORE=",
            "FDSTOREREMOVE=",
            "FDNAME=",
            "FDPOLL=",
            "BARRIER=",
            "MAINPID=",
        ];
        let others = text
            .lines()
            .filter(|line| !OURS.iter().any(|own| line.starts_with(own)));
        SupervisorMessage {
            ready: value("READY") == Some("1"),
            main: value("MAINPID").and_then(|pid| pid.parse().ok()),
            others: others.collect::<Vec<_>>().join("\n"),
        }
    }
}

impl AsFd for HeldSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sd_notify::{notify_at, tell_with};
    use std::ffi::OsStr;
    use std::net::{TcpListener, TcpStream};

    fn names(held: &HeldSockets) -> Vec<&str> {
        held.all().map(|(name, _)| name).collect()
    }

    #[test]
    fn stored_descriptor_outlives_its_sender_and_goes_when_it_is_removed() {
        let mut held = HeldSockets::open().unwrap();
        let address = held.address().to_owned();
        let address = OsStr::new(&address);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        tell_with(address, "FDSTORE=1\nFDNAME=web", listener.as_fd()).unwrap();
        drop(listener);
        assert_eq!(held.receive(), Some(SupervisorMessage::default()));
        assert_eq!(names(&held), ["web"]);
        assert!(TcpStream::connect(at).is_ok());
        notify_at(address, "FDSTOREREMOVE=1\nFDNAME=web").unwrap();
        held.receive().unwrap();
        assert_eq!(held.count(), 0);
        assert!(TcpStream::connect(at).is_err());
        assert_eq!(held.receive(), None);
    }

    #[test]
    fn lines_for_the_keepers_supervisor_are_separated() {
        let mut held = HeldSockets::open().unwrap();
        let address = held.address().to_owned();
        notify_at(
            OsStr::new(&address),
            "READY=1\nMAINPID=7\nSTATUS=two\nFDPOLL=0",
        )
        .unwrap();
        let message = held.receive().unwrap();
        assert!(message.ready);
        assert_eq!(message.main, Some(7));
        assert_eq!(message.others, "READY=1\nSTATUS=two");
    }

    #[test]
    fn barrier_is_over_when_the_message_was_read() {
        let mut held = HeldSockets::open().unwrap();
        let address = held.address().to_owned();
        let (mut reader, writer) = io::pipe().unwrap();
        tell_with(OsStr::new(&address), "BARRIER=1", writer.as_fd()).unwrap();
        drop(writer);
        held.receive().unwrap();
        let mut nothing = [0];
        assert_eq!(io::Read::read(&mut reader, &mut nothing).unwrap(), 0);
    }
}
