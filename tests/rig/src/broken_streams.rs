//! Standard streams as a process may find them: closed, broken, full, or never read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use lameduck::tools::demo::scratch::ScratchDir;

/// What a standard stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not open at all.
    Closed,
    /// A pipe whose reader has gone.
    PipeGone,
    /// A pipe that is full and never read.
    PipeUnread,
    /// A terminal that has been hung up.
    TerminalGone,
    /// A terminal that shows nothing any more (Ctrl-S).
    TerminalUnread,
    /// A socket whose other end has gone.
    SocketGone,
    /// A socket that is full and never read.
    SocketUnread,
    /// The device that is always full.
    DeviceFull,
    /// A file on a full disk.
    DiskFull,
}

/// All of them.
pub const KINDS: [Kind; 9] = [
    Kind::Closed,
    Kind::PipeGone,
    Kind::PipeUnread,
    Kind::TerminalGone,
    Kind::TerminalUnread,
    Kind::SocketGone,
    Kind::SocketUnread,
    Kind::DeviceFull,
    Kind::DiskFull,
];

impl Kind {
    /// Whether writing waits for ever.
    pub fn is_unread(self) -> bool {
        matches!(
            self,
            Self::PipeUnread | Self::TerminalUnread | Self::SocketUnread
        )
    }

    /// Whether writing fails, and not because a reader has seen enough.
    pub fn fails(self) -> bool {
        matches!(self, Self::TerminalGone | Self::DeviceFull | Self::DiskFull)
    }
}

/// A stream to give to a process. Its other end is kept open until this is dropped.
pub struct Stream {
    kind: Kind,
    file: Option<File>,
    /// The reader that does not read.
    pub other: Option<OwnedFd>,
    disk: Option<Disk>,
}

impl Stream {
    /// A stream of this kind; `None` where this machine can't have one.
    pub fn new(kind: Kind) -> Option<Self> {
        let mut disk = None;
        let (file, other) = match kind {
            Kind::Closed => (None, None),
            Kind::PipeGone | Kind::PipeUnread => {
                let (reader, writer) = io::pipe().unwrap();
                (Some(File::from(OwnedFd::from(writer))), Some(reader.into()))
            }
            Kind::TerminalGone | Kind::TerminalUnread => {
                let (master, slave) = terminal();
                (Some(File::from(slave)), Some(master))
            }
            Kind::SocketGone | Kind::SocketUnread => {
                let (reader, writer) = UnixStream::pair().unwrap();
                (Some(File::from(OwnedFd::from(writer))), Some(reader.into()))
            }
            Kind::DeviceFull => (OpenOptions::new().write(true).open("/dev/full").ok(), None),
            Kind::DiskFull => {
                let mounted = Disk::mount()?;
                let file = mounted.full_file();
                disk = Some(mounted);
                (Some(file), None)
            }
        };
        let other = match kind.is_unread() {
            true => other,
            false => None,
        };
        if let (Some(file), true) = (&file, kind.is_unread()) {
            fill(file);
        }
        Some(Self {
            kind,
            file,
            other,
            disk,
        })
    }

    /// For a command's `stdout` or `stderr`.
    pub fn stdio(&self) -> Stdio {
        match &self.file {
            Some(file) => Stdio::from(file.try_clone().unwrap()),
            // Closed by `close_streams`.
            None => Stdio::null(),
        }
    }
}

/// Gives a command both streams; where they are closed ones, it starts without.
#[allow(unsafe_code, reason = "std can't start a process without a stream")]
pub fn fit(command: &mut std::process::Command, stdout: &Stream, stderr: &Stream) {
    use std::os::unix::process::CommandExt;
    command.stdout(stdout.stdio()).stderr(stderr.stdio());
    let streams = [(1, stdout), (2, stderr)];
    let closed = streams.map(|(number, stream)| (number, stream.kind == Kind::Closed));
    // SAFETY: close(2) is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (number, _) in closed.iter().filter(|(_, closed)| *closed) {
                libc::close(*number);
            }
            Ok(())
        });
    }
}

/// Writes until it takes no more.
fn fill(mut file: &File) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(file).unwrap();
    fcntl_setfl(file, flags | OFlags::NONBLOCK).unwrap();
    while file.write(&[b'x'; 4096]).is_ok() {}
    while file.write(b"x").is_ok() {}
    fcntl_setfl(file, flags).unwrap();
}

#[allow(unsafe_code, reason = "std knows no terminals")]
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: two integers to write to; the rest may be null.
    let opened = unsafe {
        libc::openpty(
            &mut master,
            &mut slave,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(opened, 0, "{}", io::Error::last_os_error());
    // SAFETY: both are open and nobody else's.
    unsafe {
        for descriptor in [master, slave] {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

/// A disk of one page.
struct Disk(ScratchDir);

impl Disk {
    fn mount() -> Option<Self> {
        let disk = Self(ScratchDir::new("lameduck-disk").unwrap());
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4k", "lameduck-test"]);
        let mounted = mount.arg(disk.0.path()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(disk)
    }

    fn full_file(&self) -> File {
        let path: &Path = self.0.path();
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(path.join("log"))
            .unwrap();
        while file.write(&[b'x'; 4096]).is_ok() {}
        file
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have the file.
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("-l").arg(self.0.path()).status();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Before its disk.
        self.file = None;
        self.disk = None;
    }
}
