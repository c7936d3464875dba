//! Resources that this process may use on its machine or in its container, and the defaults that follow from them.

use std::path::{Path, PathBuf};

use crate::config;
use crate::rt::syscall::open_files;

/// Memory that one connection may need before its first request, in bytes, including the kernel's part and a handshake.
const CONNECTION_MEMORY: u64 = 64 << 10;

/// Divisor for the share of memory that clients may fill, and the limits of the result in bytes.
const CLIENTS_SHARE: u64 = 16;
const MIN_FOR_CLIENTS: u64 = 32 << 20;
const MAX_FOR_CLIENTS: u64 = 512 << 20;

/// Memory that is assumed if the system does not report it, in bytes.
const UNKNOWN_MEMORY: u64 = 1 << 30;

/// Default of `max_connections`. Each client connection may need a second descriptor, for its backend.
pub fn default_connections() -> usize {
    let by_memory = memory() / CONNECTION_MEMORY;
    let most = match open_files() {
        Some(limit) => by_memory.min(limit / 2),
        None => by_memory,
    };
    usize::try_from(most).unwrap_or(usize::MAX).max(1)
}

/// Value of `max_memory` in bytes; 0: no limit.
pub fn client_memory(server: &config::ServerConfig) -> u64 {
    server.max_memory.unwrap_or_else(|| share_of(memory()))
}

fn share_of(memory: u64) -> u64 {
    (memory / CLIENTS_SHARE).clamp(MIN_FOR_CLIENTS, MAX_FOR_CLIENTS)
}

/// Memory that the process may use, in bytes: the machine's, or the smallest limit of a control group above the
/// process.
fn memory() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total_of(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let bounds = limit_files(&groups)
        .into_iter()
        // "max" is no number, and version 1 expresses "no limit" by a number that is larger than any memory.
        .filter_map(|path| read(&path)?.trim().parse().ok());
    machine
        .into_iter()
        .chain(bounds)
        .min()
        .unwrap_or(UNKNOWN_MEMORY)
}

/// Value of `MemTotal` in bytes: proc_meminfo(5).
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Files with the memory limits of these control groups (cgroups(7), `/proc/self/cgroup`), for both versions. Every
/// group above the process counts, too. In a container often only its own group is visible.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        let above = path.ancestors();
        files.extend(above.map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_for_clients_follows_memory_within_its_bounds() {
        assert_eq!(share_of(64 << 20), 32 << 20);
        assert_eq!(share_of(2 << 30), 128 << 20);
        assert_eq!(share_of(1 << 40), 512 << 20);
    }

    #[test]
    fn memory_of_the_machine_is_read_from_meminfo() {
        let text = "MemTotal:       24689104 kB\nMemFree:         1 kB\n";
        assert_eq!(total_of(text), Some(24_689_104 << 10));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn each_control_group_above_the_process_bounds_it() {
        let paths = |groups| -> Vec<String> {
            let files = limit_files(groups);
            files
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            paths("0::/system.slice/lameduck.service\n"),
            [
                "/sys/fs/cgroup/system.slice/lameduck.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            paths("12:cpu,cpuacct:/a\n4:memory:/docker/b\n"),
            [
                "/sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(paths("").is_empty());
    }

    #[test]
    fn defaults_on_this_machine_are_finite() {
        assert!((1..usize::MAX).contains(&default_connections()));
        let server = config::ServerConfig::default();
        let bytes = client_memory(&server);
        assert!((MIN_FOR_CLIENTS..=MAX_FOR_CLIENTS).contains(&bytes));
        let off = config::ServerConfig {
            max_memory: Some(0),
            ..server
        };
        assert_eq!(client_memory(&off), 0);
    }
}
