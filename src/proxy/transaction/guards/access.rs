//! Guards that check the client's network and its certificate.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{GuardedRequest, Refusal};
use crate::config::CertificateDemand;
use crate::metrics::RouteRefusal;

impl GuardedRequest<'_> {
    /// Checks the client's address; `deny` takes precedence. A client without a known address is in no network, and
    /// so not in `allow`.
    pub(super) fn check_network(&self) -> Result<(), Refusal> {
        let route = &self.rule.route;
        if route.allow.is_empty() && route.deny.is_empty() {
            return Ok(());
        }
        match may_come(&route.allow, &route.deny, self.address) {
            true => Ok(()),
            false => {
                let cause = "clients of this network may not come here";
                Err(Refusal::new(RouteRefusal::Network, 403, cause))
            }
        }
    }

    /// Checks the certificate of this connection's own TLS handshake. Header fields about certificates are never
    /// read, and without TLS there is no certificate.
    pub(super) fn check_certificate(&self) -> Result<(), Refusal> {
        let Some(demand) = &self.rule.route.client_certificate else {
            return Ok(());
        };
        let identity = self.client.origin.identity.as_deref();
        match identity.is_some_and(|identity| fits(demand, identity)) {
            true => Ok(()),
            false => {
                let cause = match identity {
                    Some(_) => "this client certificate may not come here",
                    None => "a client certificate is needed here",
                };
                Err(Refusal::new(RouteRefusal::Certificate, 403, cause))
            }
        }
    }
}

fn may_come(allow: &[IpNet], deny: &[IpNet], address: Option<IpAddr>) -> bool {
    let Some(address) = address.map(|address| address.to_canonical()) else {
        return allow.is_empty();
    };
    let has = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    !has(deny) && (allow.is_empty() || has(allow))
}

/// Returns whether the certificate that these lines describe meets the demand.
fn fits(demand: &CertificateDemand, identity: &str) -> bool {
    let line = |name: &str| {
        let mut lines = identity.split("\r\n");
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let is_subject = match &demand.subject {
        None => true,
        Some(subject) => line("X-Client-Cert-Subject") == Some(subject),
    };
    let is_named = demand.san.is_empty()
        || line("X-Client-Cert-San")
            .is_some_and(|names| each_name(names).any(|name| demand.san.iter().any(|n| n == name)));
    is_subject && is_named
}

/// Splits a list into names; a comma within a name is escaped by a backslash.
fn each_name(list: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    list.split(move |c| {
        let separates = c == ',' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        separates
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter()
            .map(|network| network.parse().unwrap())
            .collect()
    }

    #[test]
    fn deny_wins_and_unknown_clients_are_in_no_network() {
        let allow = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        let deny = networks(&["10.1.0.0/16", "192.0.2.1/32"]);
        for (address, both, only_deny) in [
            (Some("10.2.0.1"), true, true),
            (Some("10.1.0.1"), false, false),
            (Some("::ffff:10.2.0.1"), true, true),
            (Some("::ffff:10.1.0.1"), false, false),
            (Some("192.0.2.1"), false, false),
            (Some("192.0.2.2"), false, true),
            (Some("2001:db8::1"), true, true),
            (Some("2001:db9::1"), false, true),
            (None, false, true),
        ] {
            let parsed = address.map(|address| address.parse().unwrap());
            assert_eq!(may_come(&allow, &deny, parsed), both, "{address:?}");
            assert_eq!(may_come(&[], &deny, parsed), only_deny, "{address:?}");
        }
    }

    #[test]
    fn only_complete_certificate_names_match() {
        let identity = "X-Client-Cert-Subject: CN=ann,O=Example\r\n\
             X-Client-Cert-San: DNS:a.example,URI:spiffe://x/a\\,DNS:evil.example\r\n\
             X-Client-Cert-Fingerprint: 00\r\n";
        let demand = |subject: &str, san: &[&str]| CertificateDemand {
            subject: (!subject.is_empty()).then(|| subject.into()),
            san: san.iter().map(|name| (*name).into()).collect(),
        };
        for (subject, san, is_fit) in [
            ("", &[][..], true),
            ("CN=ann,O=Example", &[], true),
            ("CN=ann", &[], false),
            ("O=Example", &[], false),
            ("", &["DNS:a.example"], true),
            ("", &["DNS:b.example", "DNS:a.example"], true),
            ("", &["DNS:evil.example"], false),
            ("", &["a.example"], false),
            ("CN=ann,O=Example", &["DNS:a.example"], true),
            ("CN=bob,O=Example", &["DNS:a.example"], false),
            ("CN=ann,O=Example", &["DNS:b.example"], false),
        ] {
            assert_eq!(
                fits(&demand(subject, san), identity),
                is_fit,
                "{subject} {san:?}"
            );
        }
        assert!(!fits(&demand("CN=ann", &[]), ""));
    }
}
