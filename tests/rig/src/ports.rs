//! Addresses for programs that can't be asked which port they got. All others bind to port 0.

use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that the kernel gives out by itself. One of those could go to any connection in the time between
/// [`free_address`] and the program's bind: a test under load opens hundreds.
const PORTS: std::ops::Range<u16> = 11_000..31_000;

/// A loopback address that is free, and that this process has given to nobody else.
pub fn free_address() -> SocketAddr {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        // Test binaries that run side by side begin in different places.
        let place = std::process::id().wrapping_mul(7_919) % u32::from(PORTS.end - PORTS.start);
        AtomicU16::new(place as u16)
    });
    if first_given_out() < PORTS.end {
        return any_free();
    }
    for _ in PORTS {
        let place = NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], PORTS.start + place));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

/// So many addresses that are free.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    (0..count).map(|_| free_address()).collect()
}

/// The first port that the kernel gives out by itself.
fn first_given_out() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    first.unwrap_or(0)
}

fn any_free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
