//! A listener without TLS that redirects some hosts to HTTPS and serves others, beside the listener with TLS. Routes
//! apply to both, and those of the redirected hosts say so (`redirect_https`).

use super::listeners::AddressServers;
use super::redirect::{HttpsRedirect, read_redirect, turns_away};
use crate::tools::import::nginx::model::NginxServer;
use crate::tools::import::notice::{ImportNotice, NoticeKind, NoticeList};

/// Both listeners together.
#[derive(Debug, Default)]
pub(super) struct MixedDoors {
    /// Servers of the listener with TLS whose clients have to use it, each with its port.
    pub redirected: Vec<(usize, u16)>,
    /// Servers that are only on the listener without TLS.
    pub open: Vec<usize>,
    /// Notices about differences.
    pub notices: Vec<ImportNotice>,
}

impl MixedDoors {
    /// Whether both have the same routes.
    pub(super) fn does_the_same(&self, other: &Self) -> bool {
        self.redirected == other.redirected && self.open == other.open
    }
}

/// Reads a listener without TLS beside one with TLS. `None`: routes for both can't express what nginx does there.
pub(super) fn read_mixed(
    open: &AddressServers<'_, '_>,
    secure: &AddressServers<'_, '_>,
) -> Option<MixedDoors> {
    if open.listen.ssl || !secure.listen.ssl {
        return None;
    }
    let mut mixed = MixedDoors::default();
    let mut sent: Vec<(&NginxServer<'_>, HttpsRedirect)> = Vec::new();
    let mut sends_strangers = None;
    let is_on =
        |door: &AddressServers<'_, '_>, index: usize| door.servers.iter().any(|(i, _)| *i == index);
    for (index, server) in &open.servers {
        if is_on(secure, *index) {
            continue;
        }
        let Some(redirect) = read_redirect(server) else {
            match turns_away(server).filter(|_| *index == open.default) {
                Some(end) => mixed.notices.tell_difference(
                    &end.place,
                    format!(
                        "`{}`: who asks for another host on {} gets what {} has for that",
                        end.line(),
                        open.address,
                        secure.address
                    ),
                ),
                None => mixed.open.push(*index),
            }
            continue;
        };
        let mut notices = redirect.notices.iter();
        if notices.any(|notice| notice.kind == NoticeKind::LeftOut) {
            return None;
        }
        if *index == open.default {
            sends_strangers = Some(redirect.port);
        }
        sent.push((server, redirect));
    }
    let of_host = |host: &String| {
        let found = sent.iter().find(|(server, _)| server.hosts.contains(host));
        found.map(|(_, redirect)| redirect.port)
    };
    for (index, server) in secure.servers.iter().filter(|(i, _)| !is_on(open, *i)) {
        let ports: Vec<_> = server.hosts.iter().map(of_host).collect();
        let first = ports.first().copied().flatten();
        let port = match ports.iter().all(|port| *port == first) {
            true => first.or(sends_strangers)?,
            false => return None,
        };
        mixed.redirected.push((*index, port));
    }
    // Another server of the same name would be a second route for the same requests.
    let open_hosts = || {
        let servers = open.servers.iter();
        let alone = servers.filter(|(index, _)| mixed.open.contains(index));
        alone.flat_map(|(_, server)| server.hosts.iter())
    };
    let is_served = |host: &String| {
        let mut others = secure.servers.iter();
        others.any(|(_, server)| server.hosts.contains(host))
    };
    if mixed.redirected.is_empty() || open_hosts().any(is_served) {
        return None;
    }
    let names: Vec<_> = open_hosts().map(String::as_str).take(8).collect();
    if !names.is_empty() {
        mixed.notices.tell_difference(
            &open.directive.place,
            format!("{} is served on {}, too", names.join(" "), secure.address),
        );
    }
    if open.default != secure.default && sends_strangers.is_none() {
        mixed.notices.tell_difference(
            &open.directive.place,
            format!(
                "who asks for another host on {} gets what {} has for that",
                open.address, secure.address
            ),
        );
    }
    for (server, redirect) in sent {
        mixed.notices.extend(server.notices.iter().cloned());
        mixed.notices.extend(redirect.notices);
    }
    Some(mixed)
}
