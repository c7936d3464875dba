//! Settings from an Ingress's annotations, for all of its paths.

use std::str::FromStr;
use std::time::Duration;

use super::cors::{CorsRules, read_cors};
use super::guards::read_guards;
use super::pools::{PoolStyle, read_style};
use crate::config::size;
use crate::tools::import::draft::{DraftKeys, toml_table, toml_text};
use crate::tools::import::ingress::annotations::{AnnotationFate, PREFIX, row_of};
use crate::tools::import::ingress::model::{Annotation, IngressObject, KubeObjects};
use crate::tools::import::nginx::scope::{read_size, read_time};
use crate::tools::import::notice::{ImportNotice, NoticeList};
use crate::tools::import::offered;

/// Words in names of unknown annotations that suggest a restriction of access, so that their paths are closed.
const GUARDING_WORDS: [&str; 10] = [
    "auth", "allow", "deny", "white", "black", "block", "secur", "jwt", "oidc", "waf",
];
/// Statuses that a redirect may have.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// Target of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MirrorTarget {
    /// Host and port.
    pub address: String,
    pub tls: bool,
}

/// Settings for all paths of an Ingress.
#[derive(Debug, Default)]
pub(super) struct IngressSettings {
    pub notices: Vec<ImportNotice>,
    /// Whether its paths answer 503; a notice says why.
    pub is_closed: bool,
    /// Whether it restricts access.
    pub is_guarded: bool,
    /// Whether the whole host answers 503, because ingress-nginx restricts access to all of it.
    pub closes_host: bool,
    /// Action that replaces the backend.
    pub redirect: Option<DraftKeys>,
    pub app_root: Option<Annotation>,
    pub rewrite: Option<Annotation>,
    pub use_regex: bool,
    pub request_set: Vec<(String, String)>,
    pub response_set: Vec<(String, String)>,
    /// Keys for guards, limits, sizes and times.
    pub keys: DraftKeys,
    /// Path of the authorities of `auth-tls-secret`, and the annotation.
    pub client_ca: Option<(String, Annotation)>,
    pub cors: Option<CorsRules>,
    pub style: PoolStyle,
    pub mirror: Option<MirrorTarget>,
    /// Hosts whose clients have to use HTTPS, if not all hosts need it.
    pub https_hosts: Vec<String>,
}

/// Reader of an Ingress's annotations.
pub(super) struct AnnotationReader<'o> {
    pub ingress: &'o IngressObject,
    pub objects: &'o KubeObjects,
    pub out: IngressSettings,
}

/// Escapes a text so that nothing in it is a placeholder.
pub(super) fn plain_text(text: &str) -> String {
    text.replace('{', "{{")
        .replace('}', "}}")
        .replace('$', "$$")
}

/// Reads all annotations.
pub(super) fn read_settings(ingress: &IngressObject, objects: &KubeObjects) -> IngressSettings {
    let mut reader = AnnotationReader {
        ingress,
        objects,
        out: IngressSettings::default(),
    };
    reader.name_unused();
    reader.read_paths();
    reader.read_sizes();
    reader.read_headers();
    reader.read_mirror();
    reader.out.style = read_style(&mut reader);
    reader.out.cors = read_cors(&mut reader);
    read_guards(&mut reader);
    reader.out
}

impl<'o> AnnotationReader<'o> {
    pub(super) fn get(&self, name: &str) -> Option<&'o Annotation> {
        self.ingress.get(name)
    }

    /// Reports that an annotation was left out.
    pub(super) fn refuse(&mut self, annotation: &Annotation, why: &str) {
        self.out
            .notices
            .leave_out(&annotation.place, format!("`{}`: {why}", annotation.line()));
    }

    /// Reports that an annotation has a different effect in the result.
    pub(super) fn differ(&mut self, annotation: &Annotation, how: &str) {
        self.out
            .notices
            .tell_difference(&annotation.place, format!("`{}`: {how}", annotation.line()));
    }

    /// Reports an annotation that restricts access, and closes all paths.
    pub(super) fn close(&mut self, annotation: &Annotation, why: &str) {
        self.refuse(annotation, &format!("{why}; its paths answer 503"));
        self.out.is_closed = true;
        self.out.is_guarded = true;
    }

    /// Reports an annotation that restricts access to a whole host, and closes the host.
    pub(super) fn close_host(&mut self, annotation: &Annotation, why: &str) {
        self.refuse(annotation, &format!("{why}; the whole host answers 503"));
        self.out.closes_host = true;
        self.out.is_closed = true;
        self.out.is_guarded = true;
    }

    /// Reads a number, and reports anything else.
    pub(super) fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let annotation = self.get(name)?;
        match annotation.value.trim().parse() {
            Ok(number) => Some(number),
            Err(_) => {
                self.refuse(annotation, "it is not a number");
                None
            }
        }
    }

    /// Reads seconds, or a time in nginx's notation.
    pub(super) fn time(&mut self, name: &str) -> Option<Duration> {
        let annotation = self.get(name)?;
        let time = read_time(annotation.value.trim()).filter(|time| !time.is_zero());
        if time.is_none() {
            self.refuse(annotation, "it is not a time");
        }
        time
    }

    /// Reports annotations that the table leaves out or closes, and unknown ones.
    fn name_unused(&mut self) {
        if let Some((class, place)) = &self.ingress.class
            && !class.contains("nginx")
        {
            let text = format!("ingressClassName {class}: it was read as ingress-nginx would");
            self.out.notices.tell_difference(place, text);
        }
        for annotation in &self.ingress.annotations {
            let name = annotation.name.as_str();
            let value = annotation.value.trim();
            let Some(short) = name.strip_prefix(PREFIX) else {
                self.name_foreign(annotation);
                continue;
            };
            let Some(row) = row_of(short) else {
                let guards = GUARDING_WORDS.iter().any(|word| short.contains(word));
                match guards {
                    true => self.close(
                        annotation,
                        "lameduck does not know it, and it may keep somebody out",
                    ),
                    false => self.refuse(annotation, "lameduck does not know it"),
                }
                continue;
            };
            if value.is_empty() || row.idle.iter().any(|idle| idle.eq_ignore_ascii_case(value)) {
                continue;
            }
            match (row.fate, short) {
                // Handled among the guards, by their contents.
                (_, "configuration-snippet" | "server-snippet") => {}
                (AnnotationFate::LeftOut, _) => self.refuse(annotation, row.note),
                // ingress-nginx applies these to a whole host.
                (AnnotationFate::Closed, "ssl-passthrough" | "auth-tls-match-cn") => {
                    self.close_host(annotation, row.note);
                }
                (AnnotationFate::Closed, _) => self.close(annotation, row.note),
                (AnnotationFate::Carried | AnnotationFate::Harmless, _) => {}
            }
        }
    }

    /// Reports annotations of other programs that use Ingresses.
    fn name_foreign(&mut self, annotation: &Annotation) {
        let name = annotation.name.as_str();
        let domain = name.split('/').next().unwrap_or_default();
        if name == "kubernetes.io/ingress.class" && annotation.value.trim() != "nginx" {
            self.differ(
                annotation,
                "it is of another class; it was read as ingress-nginx would",
            );
        } else if domain.ends_with("cert-manager.io") || name == "kubernetes.io/tls-acme" {
            self.refuse(
                annotation,
                "lameduck asks nobody for certificates: it reads files, and again at each reload",
            );
        } else if [
            "nginx.org",
            "nginx.com",
            "haproxy.org",
            "alb.ingress.kubernetes.io",
        ]
        .contains(&domain)
            || domain.contains("traefik")
            || domain.contains("haproxy")
        {
            self.refuse(annotation, "it is another controller's");
        }
    }

    fn read_paths(&mut self) {
        self.out.use_regex = self.ingress.is_on("use-regex");
        self.out.rewrite = self.get("rewrite-target").cloned();
        self.out.app_root = self.get("app-root").cloned();
        let found = [
            ("temporal-redirect", "temporal-redirect-code", 302),
            ("permanent-redirect", "permanent-redirect-code", 301),
        ];
        for (name, code, usual) in found {
            let Some(annotation) = self.get(name).filter(|_| self.out.redirect.is_none()) else {
                continue;
            };
            let status = self.number::<u16>(code).unwrap_or(usual);
            let known = REDIRECTS.contains(&status);
            if let Some(code) = self.get(code).filter(|_| !known) {
                self.differ(
                    code,
                    &format!(
                        "lameduck redirects with 301, 302, 303, 307 or 308; it is {usual} here"
                    ),
                );
            }
            let status = if known { status } else { usual };
            match read_redirect(annotation.value.trim(), status) {
                Ok((keys, adds_query)) => {
                    if adds_query {
                        self.differ(annotation, "the query of the request goes with it");
                    }
                    self.out.redirect = Some(keys);
                }
                Err(why) => {
                    self.refuse(annotation, &format!("{why}; its paths answer 503"));
                    self.out.is_closed = true;
                }
            }
        }
    }

    fn read_sizes(&mut self) {
        if let Some(annotation) = self.get("proxy-body-size") {
            match read_size(annotation.value.trim()) {
                Some(0) => self.out.keys.push(("max_body", toml_text("0"))),
                Some(bytes) => self
                    .out
                    .keys
                    .push(("max_body", toml_text(&size::format(bytes)))),
                None => self.refuse(annotation, "it is not a size"),
            }
        }
        if let Some(time) = self.time("proxy-read-timeout") {
            self.out.keys.push((
                "read_timeout",
                toml_text(&crate::config::duration::format(time)),
            ));
        }
        if self.ingress.text("proxy-request-buffering") == "off" {
            self.out.keys.push(("request_buffering", "false".into()));
        }
        let next = self.get("proxy-next-upstream");
        let tries = self
            .number::<u32>("proxy-next-upstream-tries")
            .filter(|tries| *tries > 0);
        let attempts = match next.map(|next| next.value.trim()) {
            Some("off") => Some(1),
            _ => tries.map(|tries| tries.min(100)),
        };
        if let Some(next) = next {
            let known = ["error", "timeout", "invalid_header", "off"];
            if let Some(other) = next
                .value
                .split_whitespace()
                .find(|word| !known.contains(word))
            {
                self.refuse(
                    next,
                    &format!("lameduck does not try again after `{other}`"),
                );
            }
        }
        if let Some(attempts) = attempts {
            self.out.keys.push((
                "retry",
                toml_table(&[("attempts".into(), attempts.to_string())]),
            ));
        }
    }

    fn read_headers(&mut self) {
        if let Some(annotation) = self.get("upstream-vhost") {
            self.set_field("request_headers", "Host", annotation);
        }
        if let Some(annotation) = self.get("x-forwarded-prefix") {
            match annotation.value.contains('$') {
                true => self.refuse(
                    annotation,
                    "groups of a path can't be carried over into a field here",
                ),
                false => self.set_field("request_headers", "X-Forwarded-Prefix", annotation),
            }
        }
        let Some(annotation) = self.get("custom-headers") else {
            return;
        };
        let named = annotation.value.trim();
        let (namespace, name) = named
            .split_once('/')
            .unwrap_or((&self.ingress.namespace, named));
        let Some(fields) = self
            .objects
            .config_maps
            .get(&(namespace.to_owned(), name.to_owned()))
        else {
            self.refuse(
                annotation,
                "its ConfigMap is not in this file: put it there, or write `response_headers`",
            );
            return;
        };
        for (name, value) in fields {
            let rule = toml_table(&[(name.clone(), toml_text(&plain_text(value)))]);
            match offered::check_key("response_headers", &toml_table(&[("set".into(), rule)])) {
                Ok(()) => self
                    .out
                    .response_set
                    .push((name.clone(), plain_text(value))),
                Err(why) => self.refuse(annotation, &format!("{name}: {why}")),
            }
        }
    }

    fn set_field(&mut self, key: &'static str, name: &str, annotation: &Annotation) {
        let text = plain_text(annotation.value.trim());
        let rule = toml_table(&[(name.to_owned(), toml_text(&text))]);
        match offered::check_key(key, &toml_table(&[("set".into(), rule)])) {
            Ok(()) => self.out.request_set.push((name.to_owned(), text)),
            Err(why) => self.refuse(annotation, &why),
        }
    }

    fn read_mirror(&mut self) {
        let Some(annotation) = self.get("mirror-target") else {
            return;
        };
        let value = annotation.value.trim();
        let target = value.strip_suffix("$request_uri").unwrap_or(value);
        match split_url(target) {
            Some((scheme, address, "" | "/")) if !target.contains('$') => {
                let tls = scheme == "https";
                let has_port = address.rsplit_once(':').is_some();
                let address = match has_port {
                    true => address.to_owned(),
                    false => format!("{address}:{}", if tls { 443 } else { 80 }),
                };
                self.out.mirror = Some(MirrorTarget { address, tls });
            }
            _ => self.refuse(annotation, "a copy goes to the same path of another pool"),
        }
    }
}

/// Splits a URL into scheme, host with port, and path.
pub(super) fn split_url(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !["http", "https"].contains(&scheme) {
        return None;
    }
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    (!host.is_empty() && !host.contains('@')).then_some((scheme, host, path))
}

/// Value of `redirect` for a URL, and whether the query is added although nginx would not add it.
fn read_redirect(url: &str, status: u16) -> Result<(DraftKeys, bool), String> {
    let (target, keeps_path) = match url.strip_suffix("$request_uri") {
        Some(target) => (target, true),
        None => (url, false),
    };
    if target.contains('$') {
        return Err("only `$request_uri` at its end is carried over of variables".into());
    }
    let mut fields = vec![("status".to_owned(), status.to_string())];
    let path = match split_url(target) {
        Some((scheme, host, path)) => {
            fields.push(("scheme".into(), toml_text(scheme)));
            match host.rsplit_once(':') {
                Some((host, port)) => {
                    let port: u16 = port.parse().map_err(|_| "its port is not a number")?;
                    fields.push(("host".into(), toml_text(host)));
                    fields.push(("port".into(), port.to_string()));
                }
                None => fields.push(("host".into(), toml_text(host))),
            }
            path
        }
        None if target.starts_with('/') && !target.starts_with("//") => target,
        None => return Err("it is not a URL that lameduck can redirect to".into()),
    };
    let mut adds_query = false;
    if !keeps_path {
        let path = if path.is_empty() { "/" } else { path };
        fields.push(("path".into(), toml_text(&plain_text(path))));
        adds_query = !path.contains('?');
    } else if !["", "/"].contains(&path) {
        fields.push((
            "path".into(),
            toml_text(&format!("{}{{path}}", plain_text(path))),
        ));
    }
    let keys = vec![("redirect", toml_table(&fields))];
    offered::check_route(&keys, &[]).map(|()| (keys, adds_query))
}
