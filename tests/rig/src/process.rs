//! What `/proc` says of a process.

use std::path::{Path, PathBuf};

fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The fields of proc_pid_stat(5) behind the name, which may contain anything: the first is the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(directory(pid).join("stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process runs; one that has ended and that nobody has reaped yet doesn't.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// Whether a process was stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

/// The processes that this one has started, by whichever thread, and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(directory(pid).join("task"));
    let lists = tasks.into_iter().flatten().filter_map(|task| {
        let path = task.ok()?.path().join("children");
        std::fs::read_to_string(path).ok()
    });
    let lists = lists.collect::<Vec<_>>().join(" ");
    let pids = lists.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// The child that has this name.
pub fn child_named(pid: u32, name: &str) -> Option<u32> {
    children(pid).into_iter().find(|child| {
        let comm = std::fs::read_to_string(directory(*child).join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    })
}

/// A line of proc_pid_status(5) that is a size, such as `VmRSS`, in KiB.
pub fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(directory(pid).join("status")).ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// How many descriptors it has open.
pub fn descriptors(pid: u32) -> Option<u64> {
    let open = std::fs::read_dir(directory(pid).join("fd")).ok()?;
    Some(open.count() as u64)
}

/// Processor time of a process so far, in milliseconds (steps of 10); 0 once it has gone.
pub fn cpu_ms(pid: u32) -> u64 {
    let hundredths = |fields: Vec<String>| -> Option<u64> {
        // User and system time, in hundredths of a second.
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    stat(pid).and_then(hundredths).unwrap_or(0) * 10
}

/// The same with its children's.
pub fn cpu_ms_with_children(pid: u32) -> u64 {
    cpu_ms(pid) + children(pid).into_iter().map(cpu_ms).sum::<u64>()
}

/// Whether the process that has this listener's address has read all that came from that client, and its end too where it
/// has come. False: something is unread, or there is no such connection.
pub fn has_read_all(listener: std::net::SocketAddr, client: std::net::SocketAddr) -> bool {
    let hex = |address: std::net::SocketAddr| {
        let std::net::IpAddr::V4(ip) = address.ip() else {
            panic!("{address} is in another table");
        };
        let ip = u32::from_ne_bytes(ip.octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let (local, remote) = (hex(listener), hex(client));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1] == local && fields[2] == remote && fields[4].ends_with(":00000000")
    })
}

/// For each connection that is established with this listener's address: whether something in it is unread.
pub fn unread_in_queues(address: std::net::SocketAddr) -> Vec<bool> {
    let std::net::IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is in another table");
    };
    let ip = u32::from_ne_bytes(ip.octets());
    let local = format!("{ip:08X}:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let established = table.lines().filter_map(|line| {
        // sl, local address, remote address, state (01: established), tx_queue:rx_queue
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields[1] == local && fields[3] == "01").then(|| !fields[4].ends_with(":00000000"))
    });
    established.collect()
}
