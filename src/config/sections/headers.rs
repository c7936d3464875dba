//! `[headers]`.

use crate::config::declare::section;
use crate::config::forms::{CustomForm, KeyContext, ListForm, custom, list};
use crate::config::print;
use crate::config::reader::ValueError;
use crate::config::values::{Read, quoted, text};
use ipnet::IpNet;
use std::net::IpAddr;
use toml::de::DeValue;

section! {
    /// Header fields that are added to requests on their way to the app.
    [headers]
    #[derive(Debug, Clone, PartialEq)]
    pub struct Headers {
        /// Clients whose own `X-Forwarded-*` and `Forwarded` are kept and added to, such as `["10.0.0.0/8"]`. Everybody
        /// else's are replaced.
        trusted: Vec<IpNet> = [], networks();
        /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
        x_forwarded: bool = true;
        /// `Forwarded` (RFC 7239).
        forwarded: bool = false;
        /// `Via` (RFC 9110, section 7.6.3).
        via: bool = false;
        /// `X-Request-Id`: the client's where it is sane, else a new one.
        request_id: bool = true;
    }
}

impl Headers {
    /// Whether what this address says of others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// A list of networks.
pub(super) fn networks() -> ListForm<CustomForm<IpNet>> {
    let network = custom("network", read_network, print_network).public();
    list("list of networks", "[\"10.0.0.0/8\"]", network)
}

fn read_network(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<IpNet> {
    let text = text(key.name, value, "10.0.0.0/8")?;
    let problem = |why: &str, remedy: String| {
        ValueError::new(
            format!("`{}` has {}: {why}", key.name, quoted(text)),
            remedy,
        )
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        let remedy = "write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"";
        problem("it is not a network", remedy.into())
    })?;
    if network.trunc() != network {
        let (whole, one) = (network.trunc(), network.addr());
        let remedy = format!("write \"{whole}\", or \"{one}\" for that one address");
        return Err(problem(
            "the address has bits set beyond its prefix length",
            remedy,
        ));
    }
    Ok(network)
}

fn print_network(network: &IpNet) -> String {
    print::text(&network.to_string())
}
