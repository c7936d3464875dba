//! Pools: one for each upstream and way in which it is used.

use std::time::Duration;

use super::balance::read_balance;
use super::sticky::read_sticky;
use crate::config::{Address, check_name, duration};
use crate::tools::import::draft::{BackendDraft, DraftKeys, PoolDraft, toml_text};
use crate::tools::import::nginx::model::NginxSite;
use crate::tools::import::nginx::scope::{NginxScope, read_time};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeList};

/// Name of the pool that answers 503 for what was left out. Without it, such requests would use a less specific route,
/// without their restrictions of access.
const LEFT_OUT_POOL: &str = "left-out";

/// Target of a `proxy_pass` or `grpc_pass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassTarget {
    /// Upstream or address.
    pub to: String,
    pub tls: bool,
    pub http2: bool,
    /// Path that replaces the location's path, if the URL has one.
    pub path: Option<String>,
}

impl PassTarget {
    pub(super) fn read(pass: &NginxDirective) -> Result<Self, String> {
        let url = pass.arg(0);
        if url.contains('$') {
            return Err("its address has variables: lameduck's pools are fixed".into());
        }
        let (scheme, rest) = match (url.split_once("://"), pass.name()) {
            (Some((scheme, rest)), _) => (scheme, rest),
            (None, "grpc_pass") => ("grpc", url),
            (None, _) => return Err("it is not a URL".into()),
        };
        let (tls, http2) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, false),
            "https" => (true, false),
            "grpc" => (false, true),
            "grpcs" => (true, true),
            _ => return Err(format!("lameduck does not speak {scheme}")),
        };
        let (to, path) = match rest.strip_prefix("unix:") {
            Some(socket) => match socket.split_once(':') {
                Some((socket, path)) => (format!("unix:{socket}"), Some(path)),
                None => (rest.to_owned(), None),
            },
            None => match rest.find(['/', '?']) {
                Some(at) => (rest[..at].to_owned(), Some(&rest[at..])),
                None => (rest.to_owned(), None),
            },
        };
        Ok(PassTarget {
            to,
            tls,
            http2,
            path: path.filter(|path| !path.is_empty()).map(str::to_owned),
        })
    }
}

/// Time-outs of a pool, from all places that use it.
#[derive(Debug, Default)]
struct PoolTimes {
    connect: Option<Duration>,
    read: Option<Duration>,
    tunnel: Option<Duration>,
}

#[derive(Debug)]
struct BookedPool {
    target: PassTarget,
    preserve_host: bool,
    unbuffered: bool,
    attempts: Option<u32>,
    tls: DraftKeys,
    times: PoolTimes,
    draft: PoolDraft,
}

/// Pools so far.
#[derive(Debug, Default)]
pub(super) struct PoolBook {
    pools: Vec<BookedPool>,
    left_out: Option<String>,
}

impl PoolBook {
    /// Name of the pool that answers 503, whether or not it exists yet.
    pub(super) fn left_out_name(&self, site: &NginxSite<'_>) -> String {
        let mut name = LEFT_OUT_POOL.to_owned();
        while site.upstream(&name).is_some() {
            name.push('_');
        }
        name
    }

    /// Pool that answers 503.
    pub(super) fn left_out(&mut self, site: &NginxSite<'_>) -> String {
        let name = self.left_out_name(site);
        self.left_out.get_or_insert(name).clone()
    }

    /// Pool for a `proxy_pass` in this scope, with notices about differences.
    pub(super) fn book(
        &mut self,
        site: &NginxSite<'_>,
        pass: &NginxDirective,
        scope: &NginxScope<'_>,
    ) -> Result<(String, Vec<ImportNotice>), String> {
        let mut target = PassTarget::read(pass)?;
        target.path = None;
        target.http2 |= scope.value("proxy_http_version") == "2";
        let mut notices = Vec::new();
        let preserve_host = keeps_host(pass, scope, &target, site, &mut notices);
        let unbuffered = scope.value("proxy_request_buffering") == "off";
        let attempts = attempts(scope);
        let tls = tls_keys(&target, scope);
        let found = self.pools.iter().position(|pool| {
            (
                &pool.target,
                pool.preserve_host,
                pool.unbuffered,
                pool.attempts,
                &pool.tls,
            ) == (&target, preserve_host, unbuffered, attempts, &tls)
        });
        let at = match found {
            Some(at) => at,
            None => {
                let mut draft = self.draft(site, &target)?;
                if target.http2 && !tls.is_empty() {
                    draft.title.push_str(", HTTP/2 by ALPN");
                }
                self.pools.push(BookedPool {
                    target,
                    preserve_host,
                    unbuffered,
                    attempts,
                    tls,
                    times: PoolTimes::default(),
                    draft,
                });
                self.pools.len() - 1
            }
        };
        let pool = &mut self.pools[at];
        let prefix = if pass.name() == "grpc_pass" {
            "grpc"
        } else {
            "proxy"
        };
        let time = |what: &str| read_time(scope.value(&format!("{prefix}_{what}_timeout")));
        let upgrades = scope
            .all("proxy_set_header")
            .iter()
            .any(|header| header.arg(0).eq_ignore_ascii_case("upgrade"));
        let read = time("read").unwrap_or(Duration::from_secs(60));
        let before = pool.times.read;
        pool.times.read = Some(before.map_or(read, |before| before.max(read)));
        if let Some(connect) = time("connect") {
            pool.times.connect = pool.times.connect.max(Some(connect));
        }
        if upgrades {
            pool.times.tunnel = pool.times.tunnel.max(Some(read));
        }
        if let (Some(before), true) = (before, before != Some(read)) {
            let longer = duration::format(before.max(read));
            notices.tell_difference(
                &pass.place,
                format!(
                    "{prefix}_read_timeout: pool \"{}\" has one for all, the longest: {longer}",
                    pool.draft.name
                ),
            );
        }
        Ok((pool.draft.name.clone(), notices))
    }

    fn draft(&self, site: &NginxSite<'_>, target: &PassTarget) -> Result<PoolDraft, String> {
        let mut draft = PoolDraft::default();
        match site.upstream(&target.to) {
            Some(upstream) => {
                draft.title = format!("upstream {}, {}", target.to, upstream.place);
                read_upstream(upstream, &mut draft);
            }
            None => {
                draft.title = format!("proxy_pass {}", target.to);
                let address = backend_address(&target.to, if target.tls { 443 } else { 80 })?;
                draft.backends.push(BackendDraft {
                    keys: vec![("address", toml_text(&address))],
                    ..BackendDraft::default()
                });
            }
        }
        draft.name = self.free_name(&target.to);
        Ok(draft)
    }

    fn free_name(&self, to: &str) -> String {
        let last = to.strip_prefix("unix:").map_or(to, |path| {
            let file = path.rsplit('/').next().unwrap_or(path);
            file.strip_suffix(".sock").unwrap_or(file)
        });
        let fit = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let mut base: String = last.chars().map(fit).take(90).collect();
        base = base.trim_matches('-').to_owned();
        if check_name(&base).is_err() {
            base = "app".into();
        }
        let taken = |name: &str| {
            self.pools.iter().any(|pool| pool.draft.name == name)
                || self.left_out.as_deref() == Some(name)
                || name == LEFT_OUT_POOL
        };
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        std::iter::once(base.clone())
            .chain(numbered)
            .find(|name| !taken(name))
            .unwrap_or(base)
    }

    /// Drafts of all pools.
    pub(super) fn finish(self) -> Vec<PoolDraft> {
        let mut drafts: Vec<_> = self.pools.into_iter().map(BookedPool::finish).collect();
        if let Some(name) = self.left_out {
            drafts.push(PoolDraft {
                name,
                title: "What was left out answers 503 here, and does not fall to another route."
                    .into(),
                sections: vec![
                    ("health", vec![("type", toml_text("tcp"))]),
                    ("hold", vec![("on_empty", toml_text("fail"))]),
                ],
                ..PoolDraft::default()
            });
        }
        drafts
    }
}

impl BookedPool {
    fn finish(self) -> PoolDraft {
        let mut draft = self.draft;
        let time = |time: Duration| toml_text(&duration::format(time));
        let mut upstream = DraftKeys::new();
        let real = |time: &Duration| !time.is_zero() && *time <= Duration::from_secs(365 * 86_400);
        if let Some(connect) = self.times.connect.filter(real) {
            upstream.push(("connect_timeout", time(connect)));
        }
        if let Some(read) = self.times.read.filter(real) {
            upstream.push(("read_timeout", time(read)));
        }
        if let Some(tunnel) = self.times.tunnel.filter(real) {
            upstream.push(("tunnel_timeout", time(tunnel)));
        }
        if self.unbuffered {
            upstream.push(("request_buffering", "false".into()));
        }
        if !self.preserve_host {
            upstream.push(("preserve_host", "false".into()));
        }
        if self.target.http2 {
            upstream.push(("http2", "true".into()));
        }
        draft
            .sections
            .push(("health", vec![("type", toml_text("tcp"))]));
        let idle = draft
            .sections
            .iter()
            .position(|(name, _)| *name == "upstream");
        if let Some(at) = idle {
            upstream.extend(draft.sections.remove(at).1);
        }
        draft.sections.push(("upstream", upstream));
        draft.sections.push(("tls", self.tls));
        if let Some(attempts) = self.attempts {
            draft
                .sections
                .push(("retry", vec![("attempts", attempts.to_string())]));
        }
        draft
    }
}

/// Whether the app gets the client's `Host`.
fn keeps_host(
    pass: &NginxDirective,
    scope: &NginxScope<'_>,
    target: &PassTarget,
    site: &NginxSite<'_>,
    notices: &mut Vec<ImportNotice>,
) -> bool {
    let prefix = if pass.name() == "grpc_pass" {
        "grpc"
    } else {
        "proxy"
    };
    let headers = scope.all(&format!("{prefix}_set_header"));
    let host = headers
        .iter()
        .rfind(|header| header.arg(0).eq_ignore_ascii_case("host"));
    match host.map(|header| header.arg(1)) {
        Some(value) if super::headers::is_client_host(value) => true,
        Some("$proxy_host") | None => {
            if site.upstream(&target.to).is_some() || target.to.starts_with("unix:") {
                notices.tell_difference(
                    &pass.place,
                    format!(
                        "`Host` is the backend's address for the app, and was \"{}\"",
                        target.to
                    ),
                );
            }
            if scope.value("proxy_redirect") != "off" {
                notices.tell_difference(
                    &pass.place,
                    "`Location` passes as the app writes it: nginx replaces the backend's address in it",
                );
            }
            false
        }
        // The module `headers` reports these.
        Some(_) => false,
    }
}

fn attempts(scope: &NginxScope<'_>) -> Option<u32> {
    if scope.value("proxy_next_upstream") == "off" {
        return Some(1);
    }
    let tries: u32 = scope.value("proxy_next_upstream_tries").parse().ok()?;
    (1..=100).contains(&tries).then_some(tries)
}

fn tls_keys(target: &PassTarget, scope: &NginxScope<'_>) -> DraftKeys {
    if !target.tls {
        return DraftKeys::new();
    }
    let mut keys = DraftKeys::new();
    let texts = [
        ("ca", "proxy_ssl_trusted_certificate"),
        ("server_name", "proxy_ssl_name"),
        ("cert", "proxy_ssl_certificate"),
        ("key", "proxy_ssl_certificate_key"),
    ];
    for (key, name) in texts {
        let value = scope.value(name);
        if !value.is_empty() && !value.contains('$') {
            keys.push((key, toml_text(value)));
        }
    }
    let verify = scope.value("proxy_ssl_verify") == "on";
    keys.push(("verify", verify.to_string()));
    keys
}

/// Address in lameduck's notation for backends.
fn backend_address(text: &str, port: u16) -> Result<String, String> {
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(host, _)| !host.is_empty() && !text.ends_with(']'));
    let full = match text.starts_with("unix:") || has_port {
        true => text.to_owned(),
        false => format!("{text}:{port}"),
    };
    match full.parse::<Address>() {
        Ok(_) => Ok(full),
        Err(_) => Err(format!(
            "\"{text}\" is not an address that lameduck can take for a backend"
        )),
    }
}

fn read_upstream(upstream: &NginxDirective, draft: &mut PoolDraft) {
    read_balance(upstream, draft);
    for directive in upstream.inner() {
        match directive.name() {
            "server" => draft.backends.push(read_backend(directive)),
            "keepalive_timeout" => {
                if let Some(time) = read_time(directive.arg(0)).filter(|time| !time.is_zero()) {
                    let keys = vec![("idle_timeout", toml_text(&duration::format(time)))];
                    draft.sections.push(("upstream", keys));
                }
            }
            "sticky" => read_sticky(directive, draft),
            "keepalive_requests" => {}
            _ => draft.notices.extend(super::judge(directive)),
        }
    }
    // If there is no other server, backups get all requests in nginx, too.
    let is_backup = |key: &(&'static str, String)| key.0 == "backup";
    let mut taken = draft.backends.iter().filter(|b| !b.keys.is_empty());
    if taken.all(|backend| backend.keys.iter().any(is_backup)) {
        for backend in &mut draft.backends {
            backend.keys.retain(|key| !is_backup(key));
        }
    }
}

fn read_backend(directive: &NginxDirective) -> BackendDraft {
    let mut draft = BackendDraft::default();
    let refuse = |why: &str| {
        ImportNotice::left_out(&directive.place, format!("`{}`: {why}", directive.line()))
    };
    match backend_address(directive.arg(0), 80) {
        Ok(address) => draft.keys.push(("address", toml_text(&address))),
        Err(why) => draft.notices.push(refuse(&why)),
    }
    let mut out = None;
    for word in directive.args().iter().skip(1) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "weight" => match value.parse::<u32>() {
                Ok(1) => {}
                Ok(weight) if (1..=1000).contains(&weight) => {
                    draft.keys.push(("weight", weight.to_string()))
                }
                _ => draft
                    .notices
                    .push(refuse("a weight is at most 1000; it is 1 here")),
            },
            "down" => out = Some("it is marked `down`: put it in when it is to take requests"),
            "backup" => draft.keys.push(("backup", "true".into())),
            "max_fails" if value != "0" => draft.notices.push(ImportNotice::differs(
                &directive.place,
                format!(
                    "`{word}`: lameduck asks each backend itself ([pool.health]), and notices at once where none \
                     listens any more; to leave out one that answers with errors, too, add [pool.outlier] with \
                     `consecutive_errors = {value}`"
                ),
            )),
            "max_fails" | "fail_timeout" | "resolve" => {}
            "max_conns" if value == "0" => {}
            _ => draft
                .notices
                .push(refuse(&format!("`{word}` is left out, the backend is not"))),
        }
    }
    if let Some(why) = out {
        draft.keys.clear();
        draft.notices = vec![refuse(why)];
    }
    if draft.keys.first().is_some_and(|(key, _)| *key != "address") {
        draft.keys.clear();
    }
    draft
}
