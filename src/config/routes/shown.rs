//! A route as other code sees it: its conditions, and how it is shown.

use super::conditions::{FieldMatch, TextMatch};
use super::sharing::SplitKey;
use crate::config::{ErrorPages, ListenAddress, Route};
use ipnet::IpNet;
use std::fmt::{self, Write as _};

/// Condition of a route on the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchedPath<'a> {
    /// The path is equal to this.
    Exact(&'a str),
    /// The path begins with these whole segments; `/`: no condition.
    Prefix(&'a str),
    /// The path has a match of this regular expression.
    Regex(&'a str),
}

/// All conditions of a route besides its host, in a fixed order: routes with the same conditions compare equal.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::config) struct AskedOfRequest<'a> {
    path: MatchedPath<'a>,
    methods: Vec<&'a str>,
    headers: Vec<(String, &'a TextMatch)>,
    query: &'a [FieldMatch],
    cookies: &'a [FieldMatch],
    clients: Vec<IpNet>,
    listeners: Vec<&'a ListenAddress>,
}

impl Route {
    /// Creates a route to a pool, for all requests.
    pub fn to_pool(pool: impl Into<String>) -> Self {
        Self {
            name: None,
            hosts: Vec::new(),
            path: None,
            path_prefix: "/".into(),
            path_regex: None,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            clients: Vec::new(),
            listeners: Vec::new(),
            priority: 0,
            pool: Some(pool.into()),
            strip_prefix: None,
            rewrite: None,
            redirect: None,
            respond: None,
            request_headers: None,
            response_headers: None,
            split: Vec::new(),
            split_on: SplitKey::Request,
            mirror: None,
            allow: Vec::new(),
            deny: Vec::new(),
            connections: None,
            client_certificate: None,
            max_body: None,
            total_timeout: None,
            read_timeout: None,
            request_buffering: None,
            rate: None,
            auth: None,
            retry: None,
            hold: None,
            compression: true,
            error_pages: ErrorPages::default(),
            intercept: false,
            files: None,
            redirect_https: None,
        }
    }

    /// Returns its hosts; `None`: any.
    pub fn each_host(&self) -> impl Iterator<Item = Option<&str>> {
        let any = self.hosts.is_empty().then_some(None);
        self.hosts.iter().map(|host| Some(&**host)).chain(any)
    }

    /// Returns the pools that may get its requests, or copies of them.
    pub fn each_pool(&self) -> impl Iterator<Item = &str> {
        let split = self.split.iter().map(|share| &*share.pool);
        let mirrored = self.mirror.iter().map(|mirror| &*mirror.pool);
        self.pool
            .as_deref()
            .into_iter()
            .chain(split)
            .chain(mirrored)
    }

    /// Returns its condition on the path.
    pub fn matched_path(&self) -> MatchedPath<'_> {
        match (&self.path, &self.path_regex) {
            (Some(path), _) => MatchedPath::Exact(path),
            (None, Some(regex)) => MatchedPath::Regex(regex),
            (None, None) => MatchedPath::Prefix(&self.path_prefix),
        }
    }

    /// Returns its action keys that are written: a valid route has one, or `files` beside pools.
    pub(in crate::config) fn actions(&self) -> Vec<&'static str> {
        let written = [
            ("pool", self.pool.is_some()),
            ("redirect", self.redirect.is_some()),
            ("respond", self.respond.is_some()),
            ("files", self.files.is_some()),
            ("split", !self.split.is_empty()),
        ];
        let mut written = written.to_vec();
        written.retain(|(_, is_written)| *is_written);
        written.into_iter().map(|(key, _)| key).collect()
    }

    /// Whether lameduck answers its requests itself, without a pool.
    pub(in crate::config) fn answers_itself(&self) -> bool {
        self.pool.is_none() && self.split.is_empty() && !self.actions().is_empty()
    }

    /// Whether requests for which there is no file go to a pool.
    pub fn has_files_before_pool(&self) -> bool {
        self.files.is_some() && (self.pool.is_some() || !self.split.is_empty())
    }

    /// Returns its action as text: `pool app`.
    pub fn shown_action(&self) -> String {
        let pools = self.shown_pools();
        match (&self.files, pools) {
            (Some(files), Some(pools)) => {
                format!("files of {}, else {pools}", files.root.display())
            }
            (None, Some(pools)) => pools,
            (_, None) => self.shown_answer(),
        }
    }

    fn shown_pools(&self) -> Option<String> {
        if !self.split.is_empty() {
            let shares = self.split.iter();
            let shares: Vec<_> = shares
                .map(|share| format!("{} {}", share.pool, share.weight))
                .collect();
            return Some(format!("split {}", shares.join(", ")));
        }
        self.pool.as_ref().map(|pool| format!("pool {pool}"))
    }

    fn shown_answer(&self) -> String {
        match (&self.redirect, &self.respond, &self.files) {
            (Some(redirect), ..) => format!("a redirect ({})", redirect.status),
            (None, Some(respond), _) => format!("a fixed answer ({})", respond.status),
            (None, None, Some(files)) => format!("files of {}", files.root.display()),
            (None, None, None) => "nothing".into(),
        }
    }

    /// Whether its only conditions are hosts and a path prefix, whatever its action.
    pub fn asks_for_prefix_alone(&self) -> bool {
        let has_conditions = [&self.headers, &self.query, &self.cookies]
            .iter()
            .any(|fields| !fields.is_empty());
        matches!(self.matched_path(), MatchedPath::Prefix(_))
            && self.priority == 0
            && self.methods.is_empty()
            && self.clients.is_empty()
            && self.listeners.is_empty()
            && !has_conditions
    }

    /// Whether its only conditions are hosts and a path prefix, and a pool gets its requests unchanged.
    pub fn is_plain(&self) -> bool {
        self.asks_for_prefix_alone()
            && self.name.is_none()
            && !self.is_guarded()
            && self.pool.is_some()
            && self.files.is_none()
            && !self.has_changes()
            && self.mirror.is_none()
            && self.compression
            && self.error_pages.is_empty()
            && !self.intercept
    }

    /// Returns its conditions besides its host.
    pub(in crate::config) fn asked(&self) -> AskedOfRequest<'_> {
        let mut methods: Vec<_> = self.methods.iter().map(String::as_str).collect();
        methods.sort_unstable();
        methods.dedup();
        let headers = self.headers.iter();
        let mut headers: Vec<_> = headers
            .map(|field| (field.name.to_ascii_lowercase(), &field.value))
            .collect();
        headers.sort();
        let mut listeners: Vec<_> = self.listeners.iter().collect();
        listeners.sort_unstable();
        listeners.dedup();
        AskedOfRequest {
            path: self.matched_path(),
            methods,
            headers,
            query: &self.query,
            cookies: &self.cookies,
            clients: IpNet::aggregate(&self.clients),
            listeners,
        }
    }

    /// Returns it as text, as if it had only this host: `shop.example.org/api`, `any host, /api`.
    pub(super) fn shown_for(&self, host: Option<&str>) -> String {
        self.shown(host.unwrap_or("any host, "))
    }

    fn shown(&self, host: &str) -> String {
        let mut out = host.to_owned();
        // Writing to a `String` can't fail.
        let _ = match self.matched_path() {
            MatchedPath::Exact(path) => write!(out, " = {path}"),
            MatchedPath::Prefix(prefix) => write!(out, "{prefix}"),
            MatchedPath::Regex(regex) => write!(out, " ~ {regex}"),
        };
        if !self.methods.is_empty() {
            out.push_str(&format!(", {}", self.methods.join(" or ")));
        }
        let places = [
            ("header", &self.headers),
            ("query", &self.query),
            ("cookie", &self.cookies),
        ];
        for (place, fields) in places {
            for FieldMatch { name, value } in fields {
                let _ = match value {
                    TextMatch::Exact(text) => write!(out, ", {place} {name} = {text:?}"),
                    TextMatch::Regex(regex) => write!(out, ", {place} {name} ~ {regex}"),
                };
            }
        }
        if !self.clients.is_empty() {
            let clients: Vec<_> = self.clients.iter().map(IpNet::to_string).collect();
            out.push_str(&format!(", from {}", clients.join(" or ")));
        }
        if !self.listeners.is_empty() {
            let listeners: Vec<_> = self
                .listeners
                .iter()
                .map(ListenAddress::to_string)
                .collect();
            out.push_str(&format!(", at {}", listeners.join(" or ")));
        }
        out
    }
}

/// Formats as `shop.example.org/api`, `*/api`, `a.org,b.org ~ ^/v[0-9]/, GET`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = match self.hosts.is_empty() {
            true => "*".to_owned(),
            false => self.hosts.join(","),
        };
        f.write_str(&self.shown(&hosts))
    }
}
