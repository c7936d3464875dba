//! Listeners on port 80 and on port 443 with the named certificates, and redirects from one to the other.

use super::PlannedIngress;
use super::settings::AnnotationReader;
use crate::tools::import::draft::{ConfigDraft, ListenerDraft, toml_text};
use crate::tools::import::ingress::model::{IngressObject, IngressTls};
use crate::tools::import::notice::NoticeList;

/// Whether a certificate's name covers a host.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => {
            host.split_once('.').is_some_and(|(_, rest)| rest == domain) || name == host
        }
        None => name == host,
    }
}

/// Directory for the certificates of one entry of `spec.tls`.
fn folder(ingress: &IngressObject, tls: &IngressTls) -> String {
    match &tls.secret {
        Some(secret) => format!("/etc/lameduck/tls/{}-{secret}", ingress.namespace),
        None => "/etc/lameduck/tls/default".to_owned(),
    }
}

/// Plans both listeners. Paths that need client certificates are closed if clients can't send any.
pub(super) fn plan_listeners(planned: &mut [PlannedIngress<'_>], draft: &mut ConfigDraft) {
    let mut open = ListenerDraft {
        keys: vec![("address", toml_text("0.0.0.0:80"))],
        ..ListenerDraft::default()
    };
    let mut secure = ListenerDraft::default();
    let mut pairs: Vec<(String, String)> = Vec::new();
    for one in planned.iter() {
        for tls in &one.ingress.tls {
            let folder = folder(one.ingress, tls);
            let pair = (format!("{folder}/tls.crt"), format!("{folder}/tls.key"));
            if pairs.contains(&pair) {
                continue;
            }
            let what = match &tls.secret {
                Some(secret) => format!(
                    "tls: the Secret {}/{secret} is not read",
                    one.ingress.namespace
                ),
                None => "tls: without a Secret, ingress-nginx shows its default certificate".into(),
            };
            secure.notices.leave_out(
                &tls.place,
                format!(
                    "{what}: write its certificate and key to {} and {}",
                    pair.0, pair.1
                ),
            );
            pairs.push(pair);
        }
    }
    plan_redirect(planned, !pairs.is_empty(), &mut open);
    let mut authorities: Option<String> = None;
    for one in planned.iter_mut() {
        let Some((file, annotation)) = one.settings.client_ca.clone() else {
            continue;
        };
        let mut reader = AnnotationReader {
            ingress: one.ingress,
            objects: one.objects,
            out: std::mem::take(&mut one.settings),
        };
        match &authorities {
            _ if pairs.is_empty() => reader.close_host(&annotation, "there is no `tls`: nobody can show a certificate"),
            Some(known) if *known != file => reader.close_host(&annotation, "lameduck's listener has one list of authorities, and another Ingress has named its own"),
            Some(_) => {}
            None => authorities = Some(file),
        }
        one.settings = reader.out;
    }
    draft.listeners.push(open);
    if pairs.is_empty() {
        return;
    }
    secure.keys.push(("address", toml_text("0.0.0.0:443")));
    // As ingress-nginx sends it, except for includeSubDomains.
    secure.keys.push(("hsts", toml_text("365d")));
    let (cert, key) = pairs.remove(0);
    secure.tls = vec![("cert", toml_text(&cert)), ("key", toml_text(&key))];
    if let Some(file) = authorities {
        secure.tls.push(("client_auth", toml_text("optional")));
        secure.tls.push(("client_ca", toml_text(&file)));
    }
    secure.certificates = pairs;
    draft.listeners.push(secure);
}

/// ingress-nginx redirects to HTTPS by Ingress and host. If it redirects all of them, the listener does, and otherwise
/// the routes do.
fn plan_redirect(planned: &mut [PlannedIngress<'_>], has_tls: bool, open: &mut ListenerDraft) {
    let names: Vec<String> = planned
        .iter()
        .flat_map(|one| &one.ingress.tls)
        .flat_map(|tls| tls.hosts.iter().cloned())
        .collect();
    let (mut wanting, mut others) = (Vec::new(), false);
    for (n, one) in planned.iter().enumerate() {
        let hosts: Vec<&str> = match one.ingress.rules.is_empty() {
            true => vec![""],
            false => one
                .ingress
                .rules
                .iter()
                .map(|rule| rule.host.as_str())
                .collect(),
        };
        for host in hosts {
            let has_certificate = names.iter().any(|name| covers(name, host));
            let is_off = one
                .ingress
                .text("ssl-redirect")
                .eq_ignore_ascii_case("false");
            match one.ingress.is_on("force-ssl-redirect") || (has_certificate && !is_off) {
                true => wanting.push((n, host.to_owned())),
                false => others = true,
            }
        }
    }
    if wanting.is_empty() {
        return;
    }
    if has_tls && !others {
        open.keys.push(("redirect_https", "true".into()));
        return;
    }
    for (n, host) in wanting {
        let one = &mut planned[n];
        if !has_tls {
            let annotation = one.settings_place("force-ssl-redirect");
            let place = annotation.unwrap_or(&one.ingress.place).clone();
            let shown = if host.is_empty() { "any host" } else { &host };
            open.notices.leave_out(
                &place,
                format!(
                    "the redirect of {shown} to HTTPS: there is no `tls` in the file. Whoever ends TLS has to be in `trusted` of [headers] and say `X-Forwarded-Proto: https`; else its clients are sent round and round"
                ),
            );
        }
        one.settings.https_hosts.push(host);
    }
}
