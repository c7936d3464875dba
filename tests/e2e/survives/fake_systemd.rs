//! What systemd does of the descriptor store, from its manual (sd_notify(3), sd_listen_fds(3), systemd.service(5)): it
//! reads a socket, keeps what comes with `FDSTORE=1`, and hands it to the next start.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::harness::exe;
use lameduck_rig::descriptors::hand_down;

/// Takes messages for as long as the test lives.
pub struct FakeSystemd {
    path: PathBuf,
    shared: Arc<(Mutex<Service>, Condvar)>,
}

#[derive(Default)]
struct Service {
    /// In the order of their coming.
    store: Vec<(String, OwnedFd)>,
    heard: Vec<String>,
    /// How many messages of ours have come back.
    settled: u32,
}

impl FakeSystemd {
    pub fn start(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let shared = Arc::<(Mutex<Service>, Condvar)>::default();
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            loop {
                let (text, descriptors) = receive(&socket);
                let mut service = of_thread.0.lock();
                take(&mut service, &text, descriptors);
                of_thread.1.notify_all();
            }
        });
        Self { path, shared }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until everything that was sent before has been read.
    pub fn settle(&mut self) {
        let mut service = self.shared.0.lock();
        let before = service.settled;
        let own = UnixDatagram::unbound().unwrap();
        own.send_to(b"SETTLE=1", &self.path).unwrap();
        while service.settled == before {
            self.shared.1.wait(&mut service);
        }
    }

    /// The names of what is kept.
    pub fn names(&self) -> Vec<String> {
        let service = self.shared.0.lock();
        service.store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The main process that was named last, if one was since the service was started.
    pub fn main(&self) -> Option<u32> {
        let service = self.shared.0.lock();
        let heard = service.heard.iter().rev();
        let mut lines = heard.flat_map(|text| text.lines());
        lines.find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok())
    }

    /// The service is about to be started anew.
    pub fn forget_main(&self) {
        let mut service = self.shared.0.lock();
        service.heard.retain(|text| !text.contains("MAINPID="));
    }

    pub fn has_heard(&self, line: &str) -> bool {
        let service = self.shared.0.lock();
        service
            .heard
            .iter()
            .any(|text| text.lines().any(|one| one == line))
    }

    /// The next start of the proxy, with all that is kept from descriptor 3 on.
    pub fn command(&self, config: &Path) -> Command {
        let service = self.shared.0.lock();
        let mut command = Command::new("sh");
        let script = "LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
        command.args(["-c", script]).arg(exe()).arg(config);
        let names: Vec<_> = service
            .store
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        command
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", &self.path)
            .env("FDSTORE", "64")
            .env_remove("LAMEDUCK_ADMIN");
        hand_down(&mut command, service.store.iter().map(|(_, fd)| fd));
        command
    }
}

fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut text = [0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    (
        String::from_utf8(text[..received.bytes].to_vec()).unwrap(),
        descriptors,
    )
}

fn take(service: &mut Service, text: &str, descriptors: Vec<OwnedFd>) {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let name = value("FDNAME").unwrap_or("stored").to_owned();
    if value("SETTLE").is_some() {
        service.settled += 1;
    } else if value("FDSTOREREMOVE") == Some("1") {
        service.store.retain(|(kept, _)| *kept != name);
    } else if value("FDSTORE") == Some("1") {
        for descriptor in descriptors {
            let same = |(_, kept): &(String, OwnedFd)| is_same(kept, &descriptor);
            // As systemd: one that is there already is closed, whatever its name.
            if !service.store.iter().any(same) && service.store.len() < 64 {
                service.store.push((name.clone(), descriptor));
            }
        }
    } else {
        service.heard.push(text.to_owned());
    }
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity = |fd: &OwnedFd| {
        let stat = rustix::fs::fstat(fd).unwrap();
        (stat.st_dev, stat.st_ino)
    };
    identity(one) == identity(other)
}
