//! Directories whose files are served. Nothing outside of them is ever opened, and callers that must not block can use
//! them without waiting for a disk.
//!
//! The kernel keeps a path below its root (`openat2` with `RESOLVE_BENEATH`): it follows symbolic links that stay
//! below it, and refuses those that lead out, absolute ones too, at the very moment of opening, so that a directory
//! can't be swapped for a link in between. Where there is no `openat2` (kernels before 5.6, sandboxes that refuse
//! it), the path is walked name by name and no link is followed.
//!
//! [`DiskWait::Never`] means that the kernel answers from memory (`RESOLVE_CACHED`, `RWF_NOWAIT`), on local file
//! systems only, or returns an error.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, ReadWriteFlags};

use super::clock;
use super::known_files::KnownFiles;
use super::page_cache::HeldFile;
use crate::core::Time;

/// Time for which a root stays open. If its path leads to another directory by then, as after a release has replaced a
/// link, that one is served. A file that is not found makes it look earlier.
const ROOT_AGE: Duration = Duration::from_secs(1);

/// Whether a call may wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskWait {
    /// No: what can't be answered from memory is an error, [`io::ErrorKind::WouldBlock`].
    Never,
    /// Yes: the calling thread may block.
    Allowed,
}

/// A directory whose files are served.
#[derive(Debug)]
pub struct ServedRoot {
    path: PathBuf,
    opened: ArcSwapOption<OpenedRoot>,
}

/// A served directory, as it was opened at one moment.
#[derive(Debug)]
pub struct OpenedRoot {
    directory: OwnedFd,
    at: Time,
    /// Device and inode of the directory.
    place: (u64, u64),
    /// Whether its file system can answer from memory.
    is_local: bool,
    /// Files below it that were opened recently.
    known: KnownFiles,
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A pipe, a socket or a device; these are never opened.
    Other,
}

/// Attributes of a file or directory.
#[derive(Debug, Clone, Copy)]
pub struct EntryState {
    /// Its kind.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last modification, as Unix time in seconds…
    pub modified: i64,
    /// …and the nanoseconds to add to it.
    pub nanos: u32,
    /// Identity of the file, independent of its name.
    pub identity: HeldFile,
}

impl EntryState {
    fn new(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            _ => EntryKind::Other,
        };
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            identity: HeldFile {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
        }
    }
}

impl ServedRoot {
    /// A served directory with this path. It is opened at the first use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            opened: ArcSwapOption::empty(),
        }
    }

    /// The directory, opened at most a second ago.
    ///
    /// # Errors
    /// It can't be opened, or not without waiting.
    pub fn open(&self, wait: DiskWait) -> io::Result<Arc<OpenedRoot>> {
        match self.opened.load_full() {
            Some(opened) if clock::now().saturating_sub(opened.at) < ROOT_AGE => Ok(opened),
            _ => self.open_anew(wait),
        }
    }

    /// The directory that the path leads to now, if that is another one than before.
    ///
    /// # Errors
    /// As for [`ServedRoot::open`].
    pub fn reopen(
        &self,
        before: &OpenedRoot,
        wait: DiskWait,
    ) -> io::Result<Option<Arc<OpenedRoot>>> {
        let now = self.open_anew(wait)?;
        Ok((now.place != before.place).then_some(now))
    }

    fn open_anew(&self, wait: DiskWait) -> io::Result<Arc<OpenedRoot>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match wait {
            DiskWait::Never => open_cached(CWD, &self.path, flags, ResolveFlags::empty())?,
            DiskWait::Allowed => rustix::fs::openat(CWD, &self.path, flags, Mode::empty())?,
        };
        let stat = rustix::fs::fstat(&directory)?;
        let opened = Arc::new(OpenedRoot {
            at: clock::now(),
            place: (stat.st_dev, stat.st_ino),
            is_local: is_local(&directory),
            directory,
            known: KnownFiles::default(),
        });
        self.opened.store(Some(opened.clone()));
        Ok(opened)
    }
}

impl OpenedRoot {
    /// Attributes of a path below the root, without opening it for reading. The empty path is the root itself.
    ///
    /// # Errors
    /// Nothing exists there, it leads out of the root, or the answer would need waiting.
    pub fn look_at(&self, relative: &[u8], wait: DiskWait) -> io::Result<EntryState> {
        let entry = self.open_below(relative, OFlags::PATH, wait)?;
        Ok(EntryState::new(&rustix::fs::fstat(entry)?))
    }

    /// Opens a file below the root for reading, and returns its attributes. Call [`OpenedRoot::look_at`] first: an
    /// entry that is no regular file would be opened here, although without waiting for it.
    ///
    /// # Errors
    /// As for [`OpenedRoot::look_at`]; or it is no regular file any more.
    pub fn open_file(&self, relative: &[u8], wait: DiskWait) -> io::Result<(OwnedFd, EntryState)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open_below(relative, flags, wait)?;
        let state = EntryState::new(&rustix::fs::fstat(&file)?);
        match state.kind {
            EntryKind::File => {
                self.known.note(relative);
                Ok((file, state))
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Opens a file that was opened a moment ago, without a check before; `None`: it was not, or it can't be opened.
    pub fn open_known_file(
        &self,
        relative: &[u8],
        wait: DiskWait,
    ) -> Option<(OwnedFd, EntryState)> {
        match self.known.has(relative) {
            true => self.open_file(relative, wait).ok(),
            false => None,
        }
    }

    fn open_below(&self, relative: &[u8], flags: OFlags, wait: DiskWait) -> io::Result<OwnedFd> {
        let path: &[u8] = if relative.is_empty() { b"." } else { relative };
        let path = Path::new(OsStr::from_bytes(path));
        let flags = flags | OFlags::CLOEXEC;
        match wait {
            DiskWait::Never if !self.is_local => Err(io::ErrorKind::WouldBlock.into()),
            DiskWait::Never => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                open_cached(&self.directory, path, flags, resolve)
            }
            DiskWait::Allowed => open_beneath(&self.directory, path, flags),
        }
    }
}

/// Whether `openat2` is missing: the kernel lacks it, or a sandbox refuses it.
static LACKS_OPENAT2: AtomicBool = AtomicBool::new(false);

#[cfg(target_os = "linux")]
fn open_resolved(
    from: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(from, path, flags, Mode::empty(), resolve)
}

/// Opens a path if the kernel finds it in memory, on this file system.
fn open_cached(
    from: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    if LACKS_OPENAT2.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // Another file system may be mounted below.
    let resolve = resolve | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
    open_resolved(from, path, flags, resolve).map_err(|error| match error {
        // The path leads to another file system or out of the root, or the kernel is too old for the flag; here these
        // can't be told apart.
        Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::PERM => io::ErrorKind::WouldBlock.into(),
        error => error.into(),
    })
}

/// Opens a path below a directory. Links are followed, but none that leads out.
fn open_beneath(from: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    if !LACKS_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // A directory was moved during the lookup.
        for _ in 0..100 {
            match open_resolved(from, path, flags, resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => {
                    LACKS_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                opened => return Ok(opened?),
            }
        }
    }
    walk(from, path, flags)
}

/// Opens a path below a directory, name by name, without following any link.
fn walk(from: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut names = path.iter().peekable();
    let mut parent = from.try_clone()?;
    while let Some(name) = names.next() {
        if name == ".." || name == "/" {
            return Err(Errno::XDEV.into());
        }
        let is_last = names.peek().is_none();
        let flags = match is_last {
            true => flags | OFlags::NOFOLLOW,
            false => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        };
        parent = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    }
    // With O_PATH a link is opened itself; it is neither a file nor a directory.
    Ok(parent)
}

/// Local file systems, which can answer from memory without waiting.
const LOCAL: [u32; 12] = [
    0xef53,      // ext2 to ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // F2FS
    0x8584_58f6, // ramfs
    0x2fc1_2fc1, // ZFS
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0xca45_1a4e, // bcachefs
    0x5346_544e, // NTFS, the kernel's own
];

fn is_local(directory: &OwnedFd) -> bool {
    let found = rustix::fs::fstatfs(directory).ok();
    #[allow(clippy::unnecessary_cast, reason = "its type differs between machines")]
    found.is_some_and(|found| LOCAL.contains(&(found.f_type as u32)))
}

/// Reads from a file at this offset. 0: the end of the file.
///
/// # Errors
/// Those of the kernel; [`io::ErrorKind::WouldBlock`] if it would have to wait for a disk and `wait` forbids that.
pub fn read_at(file: &OwnedFd, space: &mut [u8], offset: u64, wait: DiskWait) -> io::Result<usize> {
    loop {
        let read = match wait {
            DiskWait::Never => rustix::io::preadv2(
                file,
                &mut [IoSliceMut::new(space)],
                offset,
                ReadWriteFlags::NOWAIT,
            ),
            DiskWait::Allowed => rustix::io::pread(file, &mut *space, offset),
        };
        match read {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if wait == DiskWait::Never => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            read => return Ok(read?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree(tempfile::TempDir);

    impl Tree {
        /// `root/` with files, links and a pipe, and `secret` beside it.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("root");
            std::fs::create_dir_all(root.join("sub/deep")).unwrap();
            std::fs::write(dir.path().join("secret"), "secret").unwrap();
            std::fs::write(root.join("a.txt"), "hello").unwrap();
            std::fs::write(root.join("sub/deep/b.txt"), "below").unwrap();
            symlink("sub/deep/b.txt", root.join("inside")).unwrap();
            symlink("../secret", root.join("outside")).unwrap();
            symlink("/etc/passwd", root.join("absolute")).unwrap();
            symlink("../..", root.join("sub/up")).unwrap();
            symlink("loop", root.join("loop")).unwrap();
            let made = std::process::Command::new("mkfifo")
                .arg(root.join("pipe"))
                .status();
            assert!(made.unwrap().success());
            Self(dir)
        }

        fn root(&self) -> ServedRoot {
            ServedRoot::new(self.0.path().join("root"))
        }
    }

    /// The lookup for kernels without `openat2`.
    fn walk_below(root: &OpenedRoot, path: &str) -> io::Result<EntryKind> {
        let entry = walk(
            &root.directory,
            Path::new(path),
            OFlags::PATH | OFlags::CLOEXEC,
        )?;
        Ok(EntryState::new(&rustix::fs::fstat(entry)?).kind)
    }

    #[test]
    fn links_that_lead_out_are_refused_and_others_followed() {
        let tree = Tree::new();
        let root = tree.root().open(DiskWait::Allowed).unwrap();
        let kind = |path: &str| {
            root.look_at(path.as_bytes(), DiskWait::Allowed)
                .map(|state| state.kind)
                .ok()
        };
        for (path, expected, walked) in [
            ("", Some(EntryKind::Directory), None),
            ("a.txt", Some(EntryKind::File), Some(EntryKind::File)),
            (
                "sub",
                Some(EntryKind::Directory),
                Some(EntryKind::Directory),
            ),
            (
                "sub/deep/b.txt",
                Some(EntryKind::File),
                Some(EntryKind::File),
            ),
            ("inside", Some(EntryKind::File), Some(EntryKind::Other)),
            ("pipe", Some(EntryKind::Other), Some(EntryKind::Other)),
            ("outside", None, Some(EntryKind::Other)),
            ("absolute", None, Some(EntryKind::Other)),
            ("sub/up", None, Some(EntryKind::Other)),
            ("sub/up/secret", None, None),
            ("loop", None, Some(EntryKind::Other)),
            ("a.txt/x", None, None),
            ("../secret", None, None),
            ("sub/../../secret", None, None),
            ("nothing", None, None),
        ] {
            assert_eq!(kind(path), expected, "{path}");
            if !path.is_empty() {
                assert_eq!(walk_below(&root, path).ok(), walked, "{path}, walked");
            }
            if expected != Some(EntryKind::File) {
                assert!(
                    root.open_file(path.as_bytes(), DiskWait::Allowed).is_err(),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn file_in_memory_is_read_without_waiting() {
        let tree = Tree::new();
        let served = tree.root();
        // The first read may have to wait, and brings everything into memory.
        let root = served.open(DiskWait::Allowed).unwrap();
        let (file, _) = root.open_file(b"inside", DiskWait::Allowed).unwrap();
        let mut space = [0; 8];
        read_at(&file, &mut space, 0, DiskWait::Allowed).unwrap();
        if !root.is_local {
            return;
        }
        let (file, state) = root.open_file(b"inside", DiskWait::Never).unwrap();
        assert_eq!(state.size, 5);
        match read_at(&file, &mut space, 1, DiskWait::Never) {
            Ok(count) => assert_eq!(&space[..count], b"elow"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        let error = root.look_at(b"outside", DiskWait::Never).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn replaced_root_is_found_where_its_path_leads_now() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("current");
        for release in ["one", "two"] {
            std::fs::create_dir(dir.path().join(release)).unwrap();
            std::fs::write(dir.path().join(release).join(release), release).unwrap();
        }
        symlink("one", &current).unwrap();
        let served = ServedRoot::new(&current);
        let one = served.open(DiskWait::Allowed).unwrap();
        assert!(one.look_at(b"two", DiskWait::Allowed).is_err());
        assert!(served.reopen(&one, DiskWait::Allowed).unwrap().is_none());
        symlink("two", dir.path().join("next")).unwrap();
        std::fs::rename(dir.path().join("next"), &current).unwrap();
        let two = served.reopen(&one, DiskWait::Allowed).unwrap().unwrap();
        assert!(two.look_at(b"two", DiskWait::Allowed).is_ok());
        assert!(
            served
                .open(DiskWait::Never)
                .unwrap()
                .look_at(b"two", DiskWait::Allowed)
                .is_ok()
        );
    }
}
