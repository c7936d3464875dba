//! Listeners. nginx's servers belong to the addresses that they name: if two addresses have different servers,
//! lameduck's routes are bound to listeners, too.

use super::headers::read_max_age;
use super::mixed_doors::{MixedDoors, read_mixed};
use super::redirect::{HttpsRedirect, read_redirect, turns_away};
use crate::tools::import::draft::{ConfigDraft, ListenerDraft, toml_text};
use crate::tools::import::nginx::listen::{ListenPlace, NginxListen};
use crate::tools::import::nginx::model::{NginxServer, NginxSite};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeKind, NoticeList};
use crate::tools::import::offered;

/// An address with its servers.
pub(super) struct AddressServers<'s, 'a> {
    pub address: ListenPlace,
    pub directive: &'a NginxDirective,
    pub listen: NginxListen,
    /// Indexes and servers, in order.
    pub servers: Vec<(usize, &'s NginxServer<'a>)>,
    pub default: usize,
    /// Whether the default server was marked as such.
    named: bool,
}

impl AddressServers<'_, '_> {
    /// Indexes of its servers, in order.
    fn indexes(&self) -> Vec<usize> {
        self.servers.iter().map(|(index, _)| *index).collect()
    }

    /// Whether another address has the same responses.
    fn answers_as(&self, other: &AddressServers<'_, '_>) -> bool {
        self.default == other.default && self.indexes() == other.indexes()
    }
}

/// Servers of some addresses, for whose routes a group is written.
#[derive(Debug, Default)]
pub(super) struct ServedServers {
    /// The addresses; empty: all.
    pub listeners: Vec<String>,
    pub servers: Vec<usize>,
    pub default: Option<usize>,
    /// Indexes of those servers whose clients have to use HTTPS, each with the port.
    pub redirected: Vec<(usize, u16)>,
}

/// Plans all listeners; returns groups of addresses that have the same servers.
pub(super) fn plan(
    site: &NginxSite<'_>,
    trusted: bool,
    draft: &mut ConfigDraft,
) -> Vec<ServedServers> {
    let mut doors = collect(site);
    let is_any = |door: &AddressServers<'_, '_>| door.address.is_wide();
    let (both, narrow): (Vec<_>, Vec<_>) = doors
        .iter()
        .filter(|door| is_any(door))
        .partition(|door| door.address.is_ipv4());
    for door in narrow.iter().filter(|door| !door.listen.both_families) {
        if !both
            .iter()
            .any(|other| other.address.port() == door.address.port())
        {
            let text = format!(
                "`listen` on {}: lameduck takes IPv4 there, too",
                door.address
            );
            draft.notices.tell_difference(&door.directive.place, text);
        }
    }
    drop_covered(&mut doors);
    let (mut redirects, mut serving) = (Vec::new(), Vec::new());
    for door in doors {
        match whole_redirect(&door) {
            Some(redirect) => redirects.push((door, redirect)),
            None => serving.push(door),
        }
    }
    // If nothing else is served, routes can express more than a listener.
    let says_less = |redirect: &HttpsRedirect| {
        let mut notices = redirect.notices.iter();
        notices.any(|notice| notice.kind == NoticeKind::LeftOut)
    };
    if serving.is_empty() && offered::has_route_key("redirect") {
        let (kept, moved): (Vec<_>, Vec<_>) = redirects
            .into_iter()
            .partition(|(_, redirect)| !says_less(redirect));
        redirects = kept;
        serving.extend(moved.into_iter().map(|(door, _)| door));
    }
    let reference = serving.iter().position(|door| door.listen.ssl).unwrap_or(0);
    let mut served = ServedServers::default();
    let mut others: Vec<ServedServers> = Vec::new();
    let mut mixed: Option<MixedDoors> = None;
    if let Some(door) = serving.get(reference) {
        served.servers = door.indexes();
        served.default = Some(door.default);
    }
    let ports: Vec<u16> = serving
        .iter()
        .filter_map(|door| door.address.port())
        .collect();
    for (door, redirect) in redirects {
        let mut listener = listener_of(&door, trusted);
        if Some(redirect.port) == door.address.port() && !listener.keys.is_empty() {
            listener.keys.clear();
            listener
                .notices
                .push(left_out(&door, "it redirects to itself"));
        }
        if !listener.keys.is_empty() {
            let value = if redirect.port == 443 {
                "true".into()
            } else {
                redirect.port.to_string()
            };
            listener.keys.push(("redirect_https", value));
        }
        if !ports.contains(&redirect.port) {
            listener.notices.tell_difference(
                &door.directive.place,
                format!(
                    "nothing listens on port {} here: lameduck only redirects to it",
                    redirect.port
                ),
            );
        }
        listener.notices.extend(redirect.notices);
        draft.listeners.push(listener);
    }
    for door in &serving {
        let mut listener = listener_of(door, trusted);
        let reference = serving.get(reference);
        let read = reference.and_then(|secure| read_mixed(door, secure));
        let is_mixed = read.is_some_and(|mut read| match &mixed {
            _ if !offered::has_route_key("redirect_https") => false,
            Some(known) => known.does_the_same(&read),
            None => {
                listener.notices.append(&mut read.notices);
                mixed = Some(read);
                true
            }
        });
        let is_first = is_mixed || reference.is_some_and(|first| first.answers_as(door));
        let covering = serving.iter().find(|other| covers(other, door));
        if let Some(other) = covering.filter(|other| !other.answers_as(door)) {
            let why = format!(
                "it has other servers than {}, and lameduck listens on one of them only",
                other.address
            );
            listener = ListenerDraft::default();
            listener.notices.push(left_out(door, &why));
        } else if door.listen.ssl && !listener.keys.is_empty() {
            plan_tls(door, &mut listener);
        }
        if !listener.keys.is_empty() {
            let group = match is_first {
                true => &mut served,
                false => group_of(door, &mut others),
            };
            group.listeners.push(door.address.to_string());
        }
        draft.listeners.push(listener);
    }
    if others.is_empty() {
        served.listeners.clear();
    }
    if let Some(mixed) = mixed {
        served.servers.extend(mixed.open);
        served.redirected = mixed.redirected;
    }
    // Without a listener, nothing could be checked; this one can't be reached from other hosts.
    if draft
        .listeners
        .iter()
        .all(|listener| listener.keys.is_empty())
    {
        draft.listeners.push(ListenerDraft {
            keys: vec![("address", toml_text("127.0.0.1:8080"))],
            ..ListenerDraft::default()
        });
    }
    // Without its addresses, its routes would apply to those of others.
    if others.is_empty() || !served.listeners.is_empty() {
        others.insert(0, served);
    }
    others
}

/// Addresses with the same servers as this one.
fn group_of<'g>(
    door: &AddressServers<'_, '_>,
    groups: &'g mut Vec<ServedServers>,
) -> &'g mut ServedServers {
    let servers = door.indexes();
    let is_same =
        |group: &ServedServers| group.servers == servers && group.default == Some(door.default);
    let at = groups.iter().position(is_same).unwrap_or(groups.len());
    if at == groups.len() {
        groups.push(ServedServers {
            servers,
            default: Some(door.default),
            ..ServedServers::default()
        });
    }
    &mut groups[at]
}

/// Whether an address also accepts clients of another one.
fn covers(wide: &AddressServers<'_, '_>, narrow: &AddressServers<'_, '_>) -> bool {
    wide.address != narrow.address
        && wide.address.is_wide()
        && !narrow.address.is_wide()
        && wide.address.port() == narrow.address.port()
        && (wide.address.is_ipv4() == narrow.address.is_ipv4() || wide.listen.both_families)
}

fn left_out(door: &AddressServers<'_, '_>, why: &str) -> ImportNotice {
    let names: Vec<_> = door
        .servers
        .iter()
        .flat_map(|(_, server)| &server.hosts)
        .map(String::as_str)
        .take(8)
        .collect();
    let text = format!("`listen` on {} ({}): {why}", door.address, names.join(" "));
    ImportNotice::left_out(&door.directive.place, text.replace(" ()", ""))
}

fn collect<'s, 'a>(site: &'s NginxSite<'a>) -> Vec<AddressServers<'s, 'a>> {
    let mut doors: Vec<AddressServers<'s, 'a>> = Vec::new();
    for (index, server) in site.servers.iter().enumerate() {
        for (directive, listen) in &server.listens {
            let at = doors.iter().position(|door| door.address == listen.address);
            let door = match at {
                Some(at) => &mut doors[at],
                None => {
                    doors.push(AddressServers {
                        address: listen.address.clone(),
                        directive,
                        listen: listen.clone(),
                        servers: Vec::new(),
                        default: index,
                        named: false,
                    });
                    let last = doors.len() - 1;
                    &mut doors[last]
                }
            };
            door.listen.ssl |= listen.ssl;
            door.listen.http2 |= listen.http2;
            door.listen.proxy_protocol |= listen.proxy_protocol;
            door.listen.both_families |= listen.both_families;
            if listen.is_default && !door.named {
                (door.default, door.named) = (index, true);
            }
            if door.servers.last().is_none_or(|(last, _)| *last != index) {
                door.servers.push((index, server));
            }
        }
    }
    doors
}

/// Removes addresses such as `10.0.0.1:80` beside `0.0.0.0:80` with the same servers: one listener accepts both.
fn drop_covered(doors: &mut Vec<AddressServers<'_, '_>>) {
    let wide: Vec<_> = doors
        .iter()
        .filter(|door| door.address.is_wide())
        .map(|door| (door.address.clone(), door.indexes()))
        .collect();
    doors.retain(|door| {
        door.address.is_wide()
            || !wide.iter().any(|(address, set)| {
                address.port() == door.address.port()
                    && address.is_ipv4() == door.address.is_ipv4()
                    && *set == door.indexes()
            })
    });
}

/// Redirect to HTTPS that all servers of an address have in common, if there is one.
fn whole_redirect(door: &AddressServers<'_, '_>) -> Option<HttpsRedirect> {
    if door.listen.ssl {
        return None;
    }
    let mut whole: Option<HttpsRedirect> = None;
    let mut closed = Vec::new();
    for (_, server) in &door.servers {
        let Some(redirect) = read_redirect(server) else {
            let end = turns_away(server)?;
            closed.tell_difference(
                &end.place,
                format!(
                    "`{}`: on {} who asks for another host is redirected, too",
                    end.line(),
                    door.address
                ),
            );
            continue;
        };
        match &mut whole {
            Some(known) if known.port != redirect.port => return None,
            Some(known) => known.notices.extend(redirect.notices),
            None => whole = Some(redirect),
        }
    }
    let mut whole = whole?;
    for (_, server) in &door.servers {
        whole.notices.extend(server.notices.iter().cloned());
    }
    whole.notices.extend(closed);
    Some(whole)
}

fn listener_of(door: &AddressServers<'_, '_>, trusted: bool) -> ListenerDraft {
    let mut listener = ListenerDraft::default();
    if door.listen.proxy_protocol && !trusted {
        listener.notices.push(left_out(
            door,
            "`proxy_protocol` needs `set_real_ip_from`: lameduck takes such headers only from those whom it trusts",
        ));
        return listener;
    }
    listener
        .keys
        .push(("address", toml_text(&door.address.to_string())));
    let http2 = door.listen.http2
        || door
            .servers
            .iter()
            .any(|(_, server)| server.scope.value("http2") == "on");
    if door.listen.ssl || http2 {
        listener.keys.push(("http2", http2.to_string()));
    }
    if door.listen.proxy_protocol {
        listener.keys.push(("proxy_protocol", "true".into()));
    }
    listener
}

fn plan_tls(door: &AddressServers<'_, '_>, listener: &mut ListenerDraft) {
    let mut certificates: Vec<(String, String)> = Vec::new();
    let default = door
        .servers
        .iter()
        .filter(|(index, _)| *index == door.default);
    let others = door
        .servers
        .iter()
        .filter(|(index, _)| *index != door.default);
    for (_, server) in default.chain(others) {
        let keys = server.scope.all("ssl_certificate_key");
        for (n, cert) in server.scope.all("ssl_certificate").iter().enumerate() {
            let key = keys.get(n).map_or("", |key| key.arg(0));
            if [cert.arg(0), key].iter().any(|file| {
                file.is_empty()
                    || file.contains('$')
                    || file.contains("data:")
                    || file.starts_with("engine:")
            }) {
                let text = format!(
                    "`{}`: a certificate is a file, and so is its key",
                    cert.line()
                );
                listener.notices.leave_out(&cert.place, text);
                continue;
            }
            let pair = (cert.arg(0).to_owned(), key.to_owned());
            if !certificates.contains(&pair) {
                certificates.push(pair);
            }
        }
    }
    if certificates.is_empty() {
        listener.keys.clear();
        listener.notices.push(left_out(
            door,
            "there is no `ssl_certificate` that could be carried over",
        ));
        return;
    }
    let (cert, key) = certificates.remove(0);
    listener.tls = vec![("cert", toml_text(&cert)), ("key", toml_text(&key))];
    listener.certificates = certificates;
    let Some((_, server)) = door
        .servers
        .iter()
        .find(|(index, _)| *index == door.default)
    else {
        return;
    };
    let scope = &server.scope;
    if let Some(protocols) = scope.last("ssl_protocols") {
        let has = |name: &str| protocols.args().iter().any(|word| word == name);
        if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
            let text = format!(
                "`{}`: lameduck speaks TLS 1.2 and 1.3 only",
                protocols.line()
            );
            listener.notices.leave_out(&protocols.place, text);
        }
        if has("TLSv1.3") && !has("TLSv1.2") {
            listener.tls.push(("min_version", toml_text("1.3")));
        }
    }
    plan_client_auth(door, server, listener);
    // If routes have header rules, this is one of them.
    if !offered::has_route_key("response_headers") {
        plan_hsts(door, listener);
    }
}

fn plan_client_auth(
    door: &AddressServers<'_, '_>,
    default: &NginxServer<'_>,
    listener: &mut ListenerDraft,
) {
    let verify = |server: &NginxServer<'_>| match server.scope.value("ssl_verify_client") {
        "on" => "required",
        "optional" => "optional",
        _ => "off",
    };
    if door
        .servers
        .iter()
        .any(|(_, server)| server.scope.value("ssl_verify_client") == "optional_no_ca")
    {
        listener.notices.push(left_out(
            door,
            "`ssl_verify_client optional_no_ca` is not there",
        ));
        listener.keys.clear();
        return;
    }
    let wanted = verify(default);
    if door
        .servers
        .iter()
        .any(|(_, server)| verify(server) != wanted)
    {
        listener.notices.push(left_out(
            door,
            "its servers differ in `ssl_verify_client`, and a listener has one",
        ));
        listener.keys.clear();
        return;
    }
    if wanted == "off" {
        return;
    }
    let ca = default.scope.value("ssl_client_certificate");
    let ca = if ca.is_empty() {
        default.scope.value("ssl_trusted_certificate")
    } else {
        ca
    };
    listener.tls.push(("client_auth", toml_text(wanted)));
    listener.tls.push(("client_ca", toml_text(ca)));
    if ca.is_empty() {
        let why = "`ssl_verify_client` has no `ssl_client_certificate`";
        listener.notices.push(left_out(door, why));
        listener.keys.clear();
        return;
    }
    let crl = default.scope.value("ssl_crl");
    if !crl.is_empty() {
        listener.tls.push(("client_crl", toml_text(crl)));
    }
}

fn plan_hsts(door: &AddressServers<'_, '_>, listener: &mut ListenerDraft) {
    let hsts = |server: &NginxServer<'_>| {
        let all = server.scope.all("add_header");
        let found = all
            .into_iter()
            .find(|d| d.arg(0).eq_ignore_ascii_case("strict-transport-security"))?;
        read_max_age(found.arg(1)).map(|(age, _)| (age, found.place.clone()))
    };
    let ages: Vec<_> = door
        .servers
        .iter()
        .map(|(_, server)| hsts(server))
        .collect();
    let Some(Some((age, place))) = ages.iter().find(|age| age.is_some()) else {
        return;
    };
    let same = ages
        .iter()
        .all(|other| other.as_ref().is_some_and(|(other, _)| other == age));
    if same && (1..=31_536_000).contains(age) {
        listener.keys.push(("hsts", toml_text(&format!("{age}s"))));
    } else {
        let text = "Strict-Transport-Security: `hsts` is the same for a whole listener, and at most 365 days";
        listener.notices.leave_out(place, text);
    }
}
