//! Keeps the launcher's memory small, because it runs for as long as its app.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use super::syscall;

/// Variable that distinguishes the second start from the first.
const MARK: &str = "LAMEDUCK_EXEC_SLIM";
/// Variable for the allocator, which it reads before `main`. By default it uses huge pages of 2 MiB each; that is right
/// for the proxy, but 4 MiB too much here.
const NO_HUGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

static SLIM: OnceLock<bool> = OnceLock::new();

/// Executes this program once more in the same process, with an allocator that uses small pages. Returns in the second
/// start, or if that is not possible; the launcher then uses a little more memory.
#[allow(unsafe_code, reason = "it changes the environment")]
pub fn reexec() {
    if env::var_os(MARK).is_some() {
        // SAFETY: the program has just started, and starts no thread before the app runs.
        unsafe {
            syscall::set_variable(MARK, None);
            syscall::set_variable(NO_HUGE_PAGES, None);
        }
        let _ = SLIM.set(true);
        return;
    }
    let mut words = env::args_os();
    if let (Ok(program), Some(name), None) =
        (env::current_exe(), words.next(), env::var_os(NO_HUGE_PAGES))
    {
        let mut again = Command::new(program);
        again
            .arg0(name)
            .args(words)
            .env(MARK, "1")
            .env(NO_HUGE_PAGES, "0");
        // A return means an error, which does not matter.
        let _ = again.exec();
    }
}

/// Whether the setting against huge pages has to be removed for the app, which inherits the environment.
pub fn is_slim() -> bool {
    SLIM.get().copied().unwrap_or_default()
}

/// Releases the pages of the program's own code and constants: the start has used many of them, and the rest of the
/// launcher's life needs few. The kernel reads them again when needed.
#[allow(unsafe_code, reason = "it changes what is mapped")]
pub fn shed_code() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (from, length) in clean_mappings(&maps) {
        // SAFETY: the kernel has just reported that these are mappings of files, not writable, and never written to.
        unsafe { syscall::forget_pages(from, length) };
    }
}

/// Mappings of files that are not writable and were never written to (as relocated tables were, at the start): address
/// and length.
fn clean_mappings(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        let mut columns = line.split_ascii_whitespace();
        let first = columns.next().unwrap_or_default();
        if first == "Anonymous:" {
            let untouched = columns.next() == Some("0");
            found.extend(candidate.take().filter(|_| untouched));
        } else if let Some((from, to)) = first.split_once('-') {
            let bounds = usize::from_str_radix(from, 16)
                .ok()
                .zip(usize::from_str_radix(to, 16).ok());
            let fixed = matches!(columns.next(), Some("r-xp" | "r--p"));
            let file = columns.nth(3).is_some_and(|path| path.starts_with('/'));
            candidate = bounds
                .filter(|_| fixed && file)
                .map(|(from, to)| (from, to.saturating_sub(from)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_again_is_given_back() {
        let maps = "\
00001000-00003000 r-xp 00000000 08:01 7 /usr/bin/lameduck
Rss:                   8 kB
Anonymous:             0 kB
00003000-00004000 r--p 00002000 08:01 7 /usr/bin/lameduck
Anonymous:             4 kB
00004000-00005000 rw-p 00003000 08:01 7 /usr/bin/lameduck
Anonymous:             0 kB
00005000-00006000 r--p 00000000 00:00 0 [vvar]
Anonymous:             0 kB
00006000-00007000 r--p 00000000 00:00 0
Anonymous:             0 kB
00008000-0000a000 r--p 00000000 08:01 8 /lib/libc.so.6
Anonymous:             0 kB
";
        assert_eq!(clean_mappings(maps), [(0x1000, 0x2000), (0x8000, 0x2000)]);
    }
}
