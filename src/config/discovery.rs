//! `[[pool.discovery]]`: how special kinds of values are read and printed, and which keys belong to which kind of
//! source.

use super::forms::KeyContext;
use super::print;
use super::reader::{ConfigFindings, ConfigTable};
use super::sections::{
    DiscoveryConfig, DiscoveryKind, DiscoveryPort, DiscoverySourceConfig, DnsRecord, PoolConfig,
};
use super::values::{ValueResult, quoted, text, wrong};
use std::collections::HashMap;
use std::net::SocketAddr;
use toml::de::DeValue;

/// Longest name, label or selector, in bytes.
const LONGEST: usize = 1000;

/// All kinds of sources.
const KINDS: [DiscoveryKind; 4] = [
    DiscoveryKind::File,
    DiscoveryKind::Dns,
    DiscoveryKind::Docker,
    DiscoveryKind::Kubernetes,
];

/// Reports keys that a source of this kind does not know.
pub(super) fn misplaced_keys(
    table: &ConfigTable<'_>,
    source: &DiscoverySourceConfig,
    f: &mut ConfigFindings,
) {
    if !f.sound(&[&table.at("type")]) {
        return;
    }
    let kind = source.kind;
    let mut told = Vec::new();
    for key in KINDS.iter().flat_map(|kind| kind.keys()) {
        if kind.keys().contains(key) || !f.written(&table.at(key)) || told.contains(key) {
            continue;
        }
        told.push(key);
        let of = KINDS.iter().filter(|kind| kind.keys().contains(key));
        let of: Vec<_> = of.map(|kind| format!("`type = \"{kind}\"`")).collect();
        f.error(
            f.place(&table.at(key)),
            format!(
                "`{key}` is a key of {}, and this is `type = \"{kind}\"`",
                of.join(" and ")
            ),
            format!(
                "remove `{key}`; the keys of this type are {}",
                kind.keys()[1..].join(", ")
            ),
        );
    }
}

/// Checks the values in combination.
pub(super) fn validate(path: &str, pool: &PoolConfig, f: &mut ConfigFindings) {
    let mut labels: HashMap<String, usize> = HashMap::new();
    for (i, discovery) in pool.discovery.iter().enumerate() {
        let path = format!("{path}.discovery[{i}]");
        let at = |key: &str| format!("{path}.{key}");
        if !f.sound(&[&at("type")]) {
            continue;
        }
        let kind = discovery.source.kind;
        if !kind.is_built() {
            f.error(
                f.place(&at("type")),
                format!(
                    "`type = \"{kind}\"`: this lameduck was built without the feature `{kind}`"
                ),
                format!(
                    "take a build that has it (`cargo build --features {kind}`), or another source"
                ),
            );
            continue;
        }
        needed_keys(&path, discovery, f);
        let known = kind.keys().iter();
        if !known.clone().all(|key| f.sound(&[&at(key)])) {
            continue;
        }
        if let Some(j) = labels.insert(discovery.label(), i) {
            let first = f.place(&format!(
                "{}.type",
                path.replace(&format!("[{i}]"), &format!("[{j}]"))
            ));
            f.error(
                f.place(&at("type")),
                format!(
                    "pool \"{}\" has the source `{}` twice: each backend would belong to two",
                    pool.name,
                    discovery.label()
                ),
                "remove one of them",
            )
            .also(first, "the other one");
        }
    }
}

fn needed_keys(path: &str, discovery: &DiscoveryConfig, f: &mut ConfigFindings) {
    let at = |key: &str| format!("{path}.{key}");
    let source = &discovery.source;
    let mut lacks = |key: &str, why: &str, remedy: &str| {
        if f.sound(&[&at(key)]) {
            f.error(
                f.place(&at("type")),
                format!("[[pool.discovery]] has no `{key}`: {why}"),
                remedy,
            );
        }
    };
    match source.kind {
        DiscoveryKind::File => {
            if source.path.is_none() {
                lacks(
                    "path",
                    "there is no file to read",
                    "add `path = \"backends.json\"`",
                );
            }
        }
        DiscoveryKind::Dns => {
            if source.name.is_none() {
                lacks(
                    "name",
                    "there is nothing to ask for",
                    "add `name = \"app.internal\"`, or `record = \"srv\"` and `name = \"_http._tcp.app.internal\"`",
                );
            }
            let (is_number, is_name) = match &source.port {
                Some(DiscoveryPort::Number(_)) => (true, false),
                Some(DiscoveryPort::Name(_)) => (false, true),
                None => (false, false),
            };
            match source.record {
                DnsRecord::Address if !is_number && !is_name => lacks(
                    "port",
                    "addresses of DNS have none",
                    "add `port = 8080`, or ask for SRV records with `record = \"srv\"`",
                ),
                DnsRecord::Address if is_name => {
                    let place = f.place(&at("port"));
                    f.error(
                        place,
                        "`port` is a name, and DNS has no names for ports",
                        "write the number that the app listens on, such as `port = 8080`",
                    );
                }
                DnsRecord::Service if is_number || is_name => {
                    let place = f.place(&at("port"));
                    f.error(
                        place,
                        "`port` is given, and SRV records have the port in them",
                        "remove `port`, or ask for addresses with `record = \"a\"`",
                    );
                }
                _ => {}
            }
            let (shortest, longest) = (at("min_ttl"), at("max_ttl"));
            if source.min_ttl > source.max_ttl && f.sound(&[&shortest, &longest]) {
                let also = f.place(&shortest);
                f.error(
                    f.place(&longest),
                    "`max_ttl` is shorter than `min_ttl`",
                    "make `max_ttl` as long as `min_ttl`, or longer",
                )
                .also(also, "and this is the least");
            }
        }
        DiscoveryKind::Docker => {
            if source.socket.is_none() {
                lacks(
                    "socket",
                    "there is no daemon to ask",
                    "add `socket = \"/var/run/docker.sock\"`",
                );
            }
            if matches!(source.port, Some(DiscoveryPort::Name(_))) {
                let place = f.place(&at("port"));
                f.error(
                    place,
                    "`port` is a name, and Docker has no names for ports",
                    "write the number that the app listens on inside its container, such as `port = 8080`",
                );
            }
        }
        DiscoveryKind::Kubernetes => match (&source.service, &source.selector) {
            (None, None) => lacks(
                "service",
                "nothing says which EndpointSlices are meant",
                "add `service = \"app\"`, or `selector = \"app=shop\"`",
            ),
            (Some(_), Some(_)) => {
                let also = f.place(&at("service"));
                f.error(
                    f.place(&at("selector")),
                    "`service` and `selector` are both given, and each says which EndpointSlices are meant",
                    "remove one of them",
                )
                .also(also, "the other one");
            }
            _ => {}
        },
    }
}

/// Reads a name of DNS, Kubernetes or Docker; `""` means none.
pub(super) fn read_names(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
    plain_text(key, value, "app.internal", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
}

/// Reads a label selector of Kubernetes; `""` means none.
pub(super) fn read_selector(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<Option<String>> {
    plain_text(key, value, "app=shop", |c| {
        c.is_ascii_alphanumeric() || "._-/=!,() ".contains(c)
    })
}

/// Reads a label of Docker; `""` means none.
pub(super) fn read_label(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
    plain_text(key, value, "com.example.app=shop", |c| c.is_ascii_graphic())
}

fn plain_text(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
    example: &str,
    fits: fn(char) -> bool,
) -> ValueResult<Option<String>> {
    let key = key.name;
    let written = text(key, value, example)?;
    let refused = |why: String| {
        let remedy = format!("write one such as `{key} = \"{example}\"`");
        Err(wrong(key, quoted(written), why, remedy))
    };
    if written.len() > LONGEST {
        return refused(format!("it has more than {LONGEST} characters"));
    }
    match written.chars().find(|c| !fits(*c)) {
        Some(c) => refused(format!("`{}` can't be in it", c.escape_debug())),
        None => Ok((!written.is_empty()).then(|| written.to_owned())),
    }
}

/// Reads the URL of an API server; `""` means none.
pub(super) fn read_api_server(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<Option<String>> {
    let url = plain_text(key, value, "https://10.0.0.1:6443", |c| {
        c.is_ascii_graphic()
    })?;
    match url {
        Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => Err(wrong(
            key.name,
            quoted(&url),
            "it is no URL",
            format!("write `{} = \"https://10.0.0.1:6443\"`", key.name),
        )),
        url => Ok(url),
    }
}

/// Reads the address of a DNS server; `""` means none, and the port may be left out.
pub(super) fn read_server(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<Option<SocketAddr>> {
    let written = text(key.name, value, "10.0.0.53:53")?;
    if written.is_empty() {
        return Ok(None);
    }
    let plain = written.parse::<std::net::IpAddr>().ok();
    let address = written.parse().ok();
    match address.or(plain.map(|ip| SocketAddr::new(ip, 53))) {
        Some(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(wrong(
            key.name,
            quoted(written),
            "it is not an IP address with a port",
            format!("write `{} = \"10.0.0.53:53\"`", key.name),
        )),
    }
}

/// Reads a port's number or name; `""` and `0` mean none.
pub(super) fn read_port(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<Option<DiscoveryPort>> {
    if let DeValue::Integer(_) = value {
        let number = super::values::integer(key.name, value, &(0..=65535))?;
        let number = u16::try_from(number).unwrap_or_default();
        return Ok((number != 0).then_some(DiscoveryPort::Number(number)));
    }
    let name = plain_text(key, value, "http", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })?;
    match name {
        Some(name) if name.bytes().all(|b| b.is_ascii_digit()) => Err(wrong(
            key.name,
            quoted(&name),
            "a number in quotes is the name of a port",
            format!("write it without quotes: `{} = {name}`", key.name),
        )),
        name => Ok(name.map(DiscoveryPort::Name)),
    }
}

/// Prints a port as it is read.
pub(super) fn print_port(port: &Option<DiscoveryPort>) -> String {
    match port {
        Some(DiscoveryPort::Number(port)) => port.to_string(),
        Some(DiscoveryPort::Name(port)) => print::text(port),
        None => print::text(""),
    }
}
