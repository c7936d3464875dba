//! Pools for Services: with one address each, because the cluster's network chooses the pod.

use std::time::Duration;

use super::affinity::read_affinity;
use super::guards::secret_path;
use super::settings::{AnnotationReader, MirrorTarget};
use crate::config::check_name;
use crate::config::duration;
use crate::tools::import::draft::{BackendDraft, DraftKeys, PoolDraft, toml_text};
use crate::tools::import::ingress::model::{IngressBackend, KubeObjects};
use crate::tools::import::notice::NoticeList;
use crate::tools::import::offered;

/// Name of the pool for what was left out.
pub(super) const LEFT_OUT_POOL: &str = "left-out";
/// Longest name of a pool before a number is added, in characters.
const NAME_LENGTH: usize = 90;

/// How lameduck connects to a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PoolStyle {
    pub http2: bool,
    /// Keys of `[pool.tls]`; empty: cleartext.
    pub tls: DraftKeys,
    pub connect: Option<Duration>,
    /// Keys of `[pool.sticky]`; empty: not sticky.
    pub sticky: DraftKeys,
}

/// Reads the style from annotations.
pub(super) fn read_style(reader: &mut AnnotationReader<'_>) -> PoolStyle {
    let mut style = PoolStyle {
        connect: reader.time("proxy-connect-timeout"),
        sticky: read_affinity(reader),
        ..PoolStyle::default()
    };
    let mut tls = false;
    if let Some(protocol) = reader.get("backend-protocol") {
        match protocol.value.trim().to_ascii_uppercase().as_str() {
            "HTTP" => {}
            "HTTPS" => tls = true,
            "GRPC" => style.http2 = true,
            "GRPCS" => (style.http2, tls) = (true, true),
            _ => reader.close(
                protocol,
                "lameduck speaks HTTP, HTTPS and gRPC with backends",
            ),
        }
    }
    if !tls {
        return style;
    }
    if let Some(secret) = reader.get("proxy-ssl-secret") {
        let folder = secret_path(reader, "tls", secret.value.trim());
        reader.refuse(
            secret,
            &format!("a Secret is not read: write its `ca.crt`, and `tls.crt` and `tls.key` if it has them, to {folder}, and name them as `ca`, `cert` and `key` in `[pool.tls]`"),
        );
    }
    if let Some(name) = reader.get("proxy-ssl-name") {
        style
            .tls
            .push(("server_name", toml_text(name.value.trim())));
    }
    let verify = reader.ingress.text("proxy-ssl-verify") == "on";
    style.tls.push(("verify", verify.to_string()));
    style
}

/// Pools that were needed so far.
#[derive(Debug, Default)]
pub(super) struct IngressPools {
    pools: Vec<IngressPool>,
    left_out: bool,
}

#[derive(Debug)]
struct IngressPool {
    /// Service, or target of a mirror, that it is for.
    target: String,
    style: PoolStyle,
    draft: PoolDraft,
}

impl IngressPools {
    /// Pool for what was left out.
    pub(super) fn left_out(&mut self) -> String {
        self.left_out = true;
        LEFT_OUT_POOL.to_owned()
    }

    /// Pool of a Service; `None`: there is no Service.
    pub(super) fn of_service(
        &mut self,
        objects: &KubeObjects,
        namespace: &str,
        backend: &IngressBackend,
        style: &PoolStyle,
    ) -> Option<String> {
        if backend.service.is_empty() {
            return None;
        }
        let (service, port) = (&backend.service, &backend.port);
        let target = format!("{namespace}-{service}-{port}");
        if let Some(name) = self.known(&target, style) {
            return Some(name);
        }
        let mut draft = PoolDraft {
            name: self.free_name(&target),
            title: format!(
                "Service {namespace}/{service}, port {port}, {}",
                backend.place
            ),
            ..PoolDraft::default()
        };
        let known = objects
            .services
            .get(&(namespace.to_owned(), service.clone()));
        let host = known
            .and_then(|service| service.external.clone())
            .unwrap_or_else(|| format!("{service}.{namespace}.svc"));
        let named = known.and_then(|service| {
            let found = service.ports.iter().find(|(name, _)| name == port);
            found.map(|(_, number)| number.clone())
        });
        let number = named.or_else(|| port.parse::<u16>().ok().map(|port| port.to_string()));
        match number {
            Some(number) => draft.backends.push(BackendDraft {
                keys: vec![("address", toml_text(&format!("{host}:{number}")))],
                ..BackendDraft::default()
            }),
            None => {
                draft.notices.leave_out(
                    &backend.place,
                    format!("port `{port}` of the Service {service} has a name, and the Service is not in this file: put it there, or write `[[pool.backend]]` with `address = \"{host}:NUMBER\"` below; until then it answers 503"),
                );
                draft
                    .sections
                    .push(("hold", vec![("on_empty", toml_text("fail"))]));
            }
        }
        self.book(target, style, draft)
    }

    /// Pool for the target of a mirror.
    pub(super) fn of_mirror(&mut self, mirror: &MirrorTarget) -> Option<String> {
        let target = format!(
            "mirror-{}",
            mirror.address.rsplit_once(':').map_or("", |(host, _)| host)
        );
        let style = PoolStyle {
            tls: if mirror.tls {
                vec![("verify", "false".into())]
            } else {
                DraftKeys::new()
            },
            ..PoolStyle::default()
        };
        if let Some(name) = self.known(&mirror.address, &style) {
            return Some(name);
        }
        let draft = PoolDraft {
            name: self.free_name(&target),
            title: format!("copies for {}", mirror.address),
            backends: vec![BackendDraft {
                keys: vec![("address", toml_text(&mirror.address))],
                ..BackendDraft::default()
            }],
            sections: vec![("upstream", vec![("preserve_host", "false".into())])],
            ..PoolDraft::default()
        };
        self.book(mirror.address.clone(), &style, draft)
    }

    fn known(&self, target: &str, style: &PoolStyle) -> Option<String> {
        let found = self
            .pools
            .iter()
            .find(|pool| pool.target == target && pool.style == *style);
        found.map(|pool| pool.draft.name.clone())
    }

    fn book(&mut self, target: String, style: &PoolStyle, mut draft: PoolDraft) -> Option<String> {
        for backend in &draft.backends {
            let address = backend
                .keys
                .first()
                .map(|(_, value)| value.trim_matches('"').to_owned());
            address?.parse::<crate::config::Address>().ok()?;
        }
        let is_mirror = draft.sections.iter().any(|(name, _)| *name == "upstream");
        draft
            .sections
            .insert(0, ("health", vec![("type", toml_text("tcp"))]));
        let mut upstream = DraftKeys::new();
        if !is_mirror {
            let connect = style.connect.unwrap_or(Duration::from_secs(5));
            upstream.push(("connect_timeout", toml_text(&duration::format(connect))));
            upstream.push(("read_timeout", toml_text("1m")));
        }
        if style.http2 {
            upstream.push(("http2", "true".into()));
        }
        if !upstream.is_empty() {
            draft.sections.push(("upstream", upstream));
        }
        if !style.sticky.is_empty() && !is_mirror {
            draft.sections.push(("sticky", style.sticky.clone()));
        }
        if !style.tls.is_empty() && offered::has_key("[pool.tls]", "verify") {
            draft.sections.push(("tls", style.tls.clone()));
        }
        let name = draft.name.clone();
        self.pools.push(IngressPool {
            target,
            style: style.clone(),
            draft,
        });
        Some(name)
    }

    fn free_name(&self, target: &str) -> String {
        let fit = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let mut base: String = target.chars().map(fit).take(NAME_LENGTH).collect();
        if check_name(&base).is_err() {
            base = "app".into();
        }
        let taken = |name: &str| {
            name == LEFT_OUT_POOL || self.pools.iter().any(|pool| pool.draft.name == name)
        };
        let mut name = base.clone();
        let mut number = 1;
        while taken(&name) {
            number += 1;
            name = format!("{base}-{number}");
        }
        name
    }

    /// Drafts of the pools that routes name.
    pub(super) fn finish(self, used: &[String]) -> Vec<PoolDraft> {
        let mut drafts: Vec<_> = self
            .pools
            .into_iter()
            .map(|pool| pool.draft)
            .filter(|draft| used.contains(&draft.name))
            .collect();
        if self.left_out || drafts.is_empty() {
            drafts.push(PoolDraft {
                name: LEFT_OUT_POOL.into(),
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
