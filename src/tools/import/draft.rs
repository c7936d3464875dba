//! The result before it is text: sections with their keys and what is said at each.

use crate::tools::import::notice::ImportNotice;

/// Keys with their values as TOML writes them.
pub type DraftKeys = Vec<(&'static str, String)>;

/// A whole configuration of lameduck's.
#[derive(Debug, Default)]
pub struct ConfigDraft {
    /// About the whole.
    pub notices: Vec<ImportNotice>,
    /// `[server]`
    pub server: DraftKeys,
    /// `[access_log]`
    pub access_log: DraftKeys,
    /// `[headers]`
    pub headers: DraftKeys,
    /// `[compression]`
    pub compression: DraftKeys,
    /// `[[listener]]`
    pub listeners: Vec<ListenerDraft>,
    /// `[[pool]]`
    pub pools: Vec<PoolDraft>,
    /// `[[route]]`, a group for each `server`.
    pub routes: Vec<RouteGroup>,
}

/// A `[[listener]]`; one without keys is left out, and only its notices are written.
#[derive(Debug, Default)]
pub struct ListenerDraft {
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Its own keys.
    pub keys: DraftKeys,
    /// `[listener.tls]`
    pub tls: DraftKeys,
    /// Further certificates: file and key.
    pub certificates: Vec<(String, String)>,
}

/// A `[[pool]]`.
#[derive(Debug, Default)]
pub struct PoolDraft {
    /// Its name.
    pub name: String,
    /// What it is made from; a comment.
    pub title: String,
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Its own keys.
    pub keys: DraftKeys,
    /// `[[pool.backend]]`; one without keys is left out.
    pub backends: Vec<BackendDraft>,
    /// `[pool.…]`: the name behind the dot, and its keys.
    pub sections: Vec<(&'static str, DraftKeys)>,
}

/// A `[[pool.backend]]`.
#[derive(Debug, Default)]
pub struct BackendDraft {
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Its keys.
    pub keys: DraftKeys,
}

/// The routes of one `server`.
#[derive(Debug, Default)]
pub struct RouteGroup {
    /// What they are made from; a comment.
    pub title: String,
    /// About the server.
    pub notices: Vec<ImportNotice>,
    /// Its routes.
    pub routes: Vec<RouteDraft>,
}

/// What a route asks of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DraftPath {
    /// `path`
    Exact(String),
    /// `path_prefix`; `/`: all paths.
    Prefix(String),
    /// `path_regex`
    Regex(String),
}

impl DraftPath {
    /// All paths.
    pub fn any() -> Self {
        DraftPath::Prefix("/".into())
    }

    /// The key, unless it is about all paths.
    pub fn key(&self) -> Option<(&'static str, String)> {
        match self {
            DraftPath::Prefix(prefix) if prefix == "/" => None,
            DraftPath::Prefix(prefix) => Some(("path_prefix", toml_text(prefix))),
            DraftPath::Exact(path) => Some(("path", toml_text(path))),
            DraftPath::Regex(regex) => Some(("path_regex", toml_text(regex))),
        }
    }
}

/// A `[[route]]`, or only what is said at its place.
#[derive(Debug, Clone)]
pub struct RouteDraft {
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Hosts; none: any.
    pub hosts: Vec<String>,
    /// The path.
    pub path: DraftPath,
    /// `priority`
    pub priority: i32,
    /// Further conditions, its action, and what happens on the way. Without any, nothing but notices is written.
    pub keys: DraftKeys,
    /// The pools that its keys name.
    pub pools: Vec<String>,
}

impl Default for RouteDraft {
    fn default() -> Self {
        RouteDraft {
            notices: Vec::new(),
            hosts: Vec::new(),
            path: DraftPath::any(),
            priority: 0,
            keys: DraftKeys::new(),
            pools: Vec::new(),
        }
    }
}

impl RouteDraft {
    /// Nothing but notices.
    pub fn saying(notices: Vec<ImportNotice>) -> Self {
        RouteDraft {
            notices,
            ..Self::default()
        }
    }

    /// Whether there is a route to be written.
    pub fn is_route(&self) -> bool {
        !self.keys.is_empty()
    }

    /// All of its keys, as they are written.
    pub fn all_keys(&self) -> DraftKeys {
        let mut keys = DraftKeys::new();
        match &self.hosts[..] {
            [] => {}
            [host] => keys.push(("host", toml_text(host))),
            hosts => keys.push(("host", toml_list(hosts))),
        }
        keys.extend(self.path.key());
        if self.priority != 0 {
            keys.push(("priority", self.priority.to_string()));
        }
        keys.extend(self.keys.iter().cloned());
        keys
    }
}

impl ConfigDraft {
    /// Every notice, in the order of the files as they were read.
    pub fn all_notices(&self) -> Vec<ImportNotice> {
        let listeners = self.listeners.iter().flat_map(|listener| &listener.notices);
        let pools = self.pools.iter().flat_map(|pool| {
            let backends = pool.backends.iter().flat_map(|backend| &backend.notices);
            pool.notices.iter().chain(backends)
        });
        let routes = self.routes.iter().flat_map(|group| {
            let routes = group.routes.iter().flat_map(|route| &route.notices);
            group.notices.iter().chain(routes)
        });
        let mut all: Vec<_> = self
            .notices
            .iter()
            .chain(listeners)
            .chain(pools)
            .chain(routes)
            .cloned()
            .collect();
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all.dedup();
        all
    }
}

/// A list of texts as TOML writes it.
pub fn toml_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| toml_text(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A table of texts in one line as TOML writes it.
pub fn toml_table(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{} = {value}", toml_key(name)))
        .collect();
    format!("{{ {} }}", fields.join(", "))
}

/// A key as TOML writes it: bare where it can be.
fn toml_key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => toml_text(name),
    }
}

/// Text as TOML writes it.
pub fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
