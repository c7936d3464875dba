//! `[headers]`.

use crate::config::declare::section;
use crate::config::forms::{CustomForm, KeyContext, ListForm, custom, list};
use crate::config::print;
use crate::config::reader::ValueError;
use crate::config::values::{ValueResult, quoted, text};
use ipnet::IpNet;
use std::net::IpAddr;
use toml::de::DeValue;

section! {
    /// Header fields that are added to requests on their way to the app.
    [headers]
    #[derive(Debug, Clone, PartialEq)]
    pub struct HeadersConfig {
        /// Clients whose own `X-Forwarded-*` and `Forwarded` are kept and added to, such as `["10.0.0.0/8"]`; `"unix:"`:
        /// whoever comes by a unix socket. Everybody else's are replaced.
        trusted: Vec<TrustedClient> = [], list("list of networks", "[\"10.0.0.0/8\"]", custom("network", read_trusted, print_trusted).public());
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

impl HeadersConfig {
    /// Whether forwarding headers from this address are trusted.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|trusted| match trusted {
            TrustedClient::Network(network) => network.contains(&address),
            TrustedClient::Unix => false,
        })
    }

    /// Whether forwarding headers from clients on a unix socket are trusted.
    pub fn trusts_unix(&self) -> bool {
        self.trusted.contains(&TrustedClient::Unix)
    }
}

/// Clients whose forwarding headers are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedClient {
    /// Clients in a network.
    Network(IpNet),
    /// Clients on unix sockets, whose file permissions control who may connect.
    Unix,
}

impl From<IpNet> for TrustedClient {
    fn from(network: IpNet) -> Self {
        TrustedClient::Network(network)
    }
}

/// How clients on unix sockets are written.
const UNIX: &str = "unix:";

fn read_trusted(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<TrustedClient> {
    match value {
        DeValue::String(text) if text == UNIX => Ok(TrustedClient::Unix),
        DeValue::String(text) if text.starts_with(UNIX) => Err(ValueError::new(
            format!(
                "`{}` has {}: a client of a unix socket has no path",
                key.name,
                quoted(text)
            ),
            "write \"unix:\" for all who come by a unix socket; the file's `mode` and `group` say who can",
        )),
        value => read_network(key, value).map(TrustedClient::Network),
    }
}

fn print_trusted(trusted: &TrustedClient) -> String {
    match trusted {
        TrustedClient::Network(network) => print_network(network),
        TrustedClient::Unix => print::text(UNIX),
    }
}

/// Returns the form of a list of networks.
pub(super) fn networks() -> ListForm<CustomForm<IpNet>> {
    let network = custom("network", read_network, print_network).public();
    list("list of networks", "[\"10.0.0.0/8\"]", network)
}

fn read_network(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<IpNet> {
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
