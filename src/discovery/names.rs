//! Names of backends for sources that name addresses only: made of the address, so that a backend keeps its name, and with
//! it its drains and metrics, for as long as it stays there.

use std::net::IpAddr;

/// Longest name of a backend, in bytes.
const LONGEST: usize = 100;

/// `10.0.0.5-8080`; of IPv6 all groups: `2001-db8-0-0-0-0-0-1-8080`.
pub(super) fn name_address(ip: IpAddr, port: u16) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("{ip}-{port}"),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            format!("{}-{port}", groups.join("-"))
        }
    }
}

/// `app-1.internal-8080`: a host's name and a port. What can't be in a name becomes a dash.
pub(super) fn name_host(host: &str, port: u16) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let plain = host.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || "._-".contains(c) => c,
        _ => '-',
    });
    let plain: String = plain.collect();
    let plain = plain.trim_start_matches(['.', '_', '-']);
    let end = format!("-{port}");
    // The end of a long name tells least: what hosts of one service share is there.
    let kept: String = plain.chars().take(LONGEST - end.len()).collect();
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
        assert_eq!(long.len(), LONGEST);
        check_name(&long).unwrap();
    }
}
