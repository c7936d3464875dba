//! Names for backends of sources that only have addresses. They are made from the address, so that a backend keeps its
//! name, with its drains and metrics, for as long as it keeps its address.

use std::net::IpAddr;

/// Longest name of a backend, in bytes.
const MAX_LENGTH: usize = 100;

/// Name such as `10.0.0.5-8080`; for IPv6 with all groups: `2001-db8-0-0-0-0-0-1-8080`.
pub(super) fn name_address(ip: IpAddr, port: u16) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("{ip}-{port}"),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            format!("{}-{port}", groups.join("-"))
        }
    }
}

/// Name such as `app-1.internal-8080`, from a host and a port. Characters that are not allowed become dashes.
pub(super) fn name_host(host: &str, port: u16) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let plain = host.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || "._-".contains(c) => c,
        _ => '-',
    });
    let plain: String = plain.collect();
    let plain = plain.trim_start_matches(['.', '_', '-']);
    let end = format!("-{port}");
    // A long name is cut at its end, which is what hosts of one service have in common.
    let kept: String = plain.chars().take(MAX_LENGTH - end.len()).collect();
    format!("{kept}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_name;

    #[test]
    fn names_of_addresses_are_names_of_backends() {
        for (ip, name) in [
            ("10.0.0.5", "10.0.0.5-8080"),
            ("::ffff:10.0.0.5", "10.0.0.5-8080"),
            ("2001:db8::1", "2001-db8-0-0-0-0-0-1-8080"),
            ("::1", "0-0-0-0-0-0-0-1-8080"),
        ] {
            assert_eq!(name_address(ip.parse().unwrap(), 8080), name);
            check_name(name).unwrap();
        }
    }

    #[test]
    fn names_of_hosts_are_names_of_backends() {
        for (host, name) in [
            ("App-1.Internal.", "app-1.internal-80"),
            ("_odd.example", "odd.example-80"),
            ("a b.example", "a-b.example-80"),
        ] {
            assert_eq!(name_host(host, 80), name);
            check_name(name).unwrap();
        }
        let long = name_host(&"a".repeat(300), 65535);
        assert_eq!(long.len(), MAX_LENGTH);
        check_name(&long).unwrap();
    }
}
