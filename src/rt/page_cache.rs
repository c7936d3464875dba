//! Which parts of a file the kernel has in memory. That has to be known before the kernel sends a file by itself
//! (`sendfile`), which would wait for the disk and has no flag against that.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::time::Duration;

use super::rooted::{DiskWait, read_at};
use crate::core::Time;

/// Identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldFile {
    /// Device of its file system.
    pub device: u64,
    /// Inode number in that file system.
    pub inode: u64,
}

/// Time for which a result stays valid: a file that is requested again and again stays in memory, because the kernel
/// evicts what was used least recently.
const RESULT_LIFETIME: Duration = Duration::from_millis(250);

/// Number of results that a thread remembers. A new one may replace an earlier one.
const MAX_RESULTS: usize = 256;

/// Bytes of a file that were found in memory.
#[derive(Debug, Clone, Copy)]
struct PageResult {
    file: HeldFile,
    start: u64,
    end: u64,
    holds_until: Time,
}

thread_local! {
    static RECENT_RESULTS: RefCell<Box<[Option<PageResult>]>> =
        RefCell::new(vec![None; MAX_RESULTS].into_boxed_slice());
}

/// Result of [`is_in_memory`], or a recent one of this thread.
///
/// # Errors
/// As for [`is_in_memory`].
pub fn is_in_memory_lately(
    file: &OwnedFd,
    identity: HeldFile,
    range: Range<u64>,
    now: Time,
) -> io::Result<bool> {
    let spread = identity.inode.rotate_left(32) ^ identity.device ^ (range.start >> 12);
    let place = (spread.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % MAX_RESULTS;
    let has = |look: &PageResult| {
        look.file == identity && (look.start, look.end) == (range.start, range.end)
    };
    let seen = RECENT_RESULTS.with_borrow(|looks| looks[place]);
    if seen.is_some_and(|look| has(&look) && now < look.holds_until) {
        return Ok(true);
    }
    let is_there = is_in_memory(file, range.clone())?;
    if is_there {
        let look = PageResult {
            file: identity,
            start: range.start,
            end: range.end,
            holds_until: now.saturating_add(RESULT_LIFETIME),
        };
        RECENT_RESULTS.with_borrow_mut(|looks| looks[place] = Some(look));
    }
    Ok(is_there)
}

/// Whether all of these bytes of a file can be sent without waiting for a disk.
///
/// Two questions must both be answered with yes: whether each page is there (`cachestat`, Linux 6.5), and whether the
/// last one can be read at once (`RWF_NOWAIT`). The second is needed because pages that the disk is still filling count
/// as there; they are filled in order. Between this check and the sending the kernel may still evict a page; that costs
/// one read.
///
/// # Errors
/// It can't be known: the kernel is older, or this process neither owns the file nor may write to it.
pub fn is_in_memory(file: &OwnedFd, range: Range<u64>) -> io::Result<bool> {
    if range.is_empty() {
        return Ok(true);
    }
    let first = range.start / page_size();
    let last = (range.end - 1) / page_size();
    if pages_in_memory(file, range.clone())? <= last - first {
        return Ok(false);
    }
    match read_at(file, &mut [0], range.end - 1, DiskWait::Never) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes of a page.
#[allow(
    unsafe_code,
    reason = "the safe form is in a part of rustix that nothing else here needs"
)]
fn page_size() -> u64 {
    static SIZE: LazyLock<u64> = LazyLock::new(|| {
        // SAFETY: asks for a number, and touches no memory of ours.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(size).unwrap_or(0).max(1)
    });
    *SIZE
}

/// Number of pages of this range that are in memory.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "no library has this call yet")]
fn pages_in_memory(file: &OwnedFd, range: Range<u64>) -> io::Result<u64> {
    use std::os::fd::AsRawFd as _;
    /// System call number, the same on all architectures that have the call.
    const CACHESTAT: libc::c_long = 451;
    #[repr(C)]
    struct CacheRange {
        start: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct CacheState {
        cached: u64,
        dirty: u64,
        written_back: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let asked = CacheRange {
        start: range.start,
        length: range.end - range.start,
    };
    let mut state = CacheState::default();
    // SAFETY: the descriptor is open, for it is borrowed; both structures are those of this call, and live for all of
    // it.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &asked, &mut state, 0_u32) };
    match result {
        0 => Ok(state.cached),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Other systems don't tell.
#[cfg(not(target_os = "linux"))]
fn pages_in_memory(_: &OwnedFd, _: Range<u64>) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rustix::fs::{Advice, fadvise};

    use super::*;

    const SIZE: u64 = 1 << 20;

    #[test]
    fn look_holds_for_a_moment_for_the_same_bytes_of_the_same_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let file = OwnedFd::from(file);
        read_at(&file, &mut vec![0; SIZE as usize], 0, DiskWait::Allowed).unwrap();
        let (one, other) = (
            HeldFile {
                device: 1,
                inode: 1,
            },
            HeldFile {
                device: 1,
                inode: 2,
            },
        );
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        // Beyond the end of the file nothing is in memory, so this result can only be a remembered one.
        let empty = OwnedFd::from(tempfile::tempfile().unwrap());
        let Ok(true) = is_in_memory_lately(&file, one, 0..SIZE, at(0)) else {
            // An older kernel.
            return;
        };
        let is_there =
            |identity, range, ms| is_in_memory_lately(&empty, identity, range, at(ms)).unwrap();
        assert!(is_there(one, 0..SIZE, 249));
        assert!(!is_there(other, 0..SIZE, 249));
        assert!(!is_there(one, 0..SIZE / 2, 249));
        assert!(!is_there(one, 0..SIZE, 250));
    }

    #[test]
    fn read_pages_are_in_memory_and_evicted_ones_are_not() {
        // The file is beside this program, because a file system in memory never evicts anything.
        let program = std::env::current_exe().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap();
        io::Write::write_all(&mut file, &vec![7; SIZE as usize]).unwrap();
        file.as_file().sync_all().unwrap();
        let file = OwnedFd::from(file.reopen().unwrap());
        let is_there = |range| match is_in_memory(&file, range) {
            Ok(is_there) => Some(is_there),
            // An older kernel.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => None,
            Err(error) => panic!("{error}"),
        };
        let Some(all) = is_there(0..SIZE) else { return };
        assert!(all);
        assert_eq!(is_there(5..5), Some(true));
        assert_eq!(is_there(4095..4097), Some(true));
        // Beyond the end of the file there is nothing.
        assert_eq!(is_there(SIZE - 1..SIZE + 1), Some(false));
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if is_there(0..SIZE) == Some(true) {
            // This file system is in memory itself.
            return;
        }
        read_at(&file, &mut [0], SIZE - 1, DiskWait::Allowed).unwrap();
        assert_eq!(is_there(SIZE - 1..SIZE), Some(true));
        assert_eq!(is_there(0..SIZE), Some(false));
    }
}
