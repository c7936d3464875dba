//! Draft of the resulting configuration: sections with their keys, and the notices about each.

use crate::tools::import::notice::ImportNotice;

/// Keys with their values in TOML notation.
pub type DraftKeys = Vec<(&'static str, String)>;

/// A whole lameduck configuration.
#[derive(Debug, Default)]
pub struct ConfigDraft {
    /// Notices about the whole configuration.
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
    /// Routes, with a group for each `server`.
    pub routes: Vec<RouteGroup>,
}

/// A `[[listener]]`. Without keys, only its notices are written.
#[derive(Debug, Default)]
pub struct ListenerDraft {
    /// Notices about it.
    pub notices: Vec<ImportNotice>,
    /// Its own keys.
    pub keys: DraftKeys,
    /// `[listener.tls]`
    pub tls: DraftKeys,
    /// File and key of further certificates.
    pub certificates: Vec<(String, String)>,
}

/// A `[[pool]]`.
#[derive(Debug, Default)]
pub struct PoolDraft {
    /// Its name.
    pub name: String,
    /// Comment that says what it is made from.
    pub title: String,
    /// Notices about it.
    pub notices: Vec<ImportNotice>,
    /// Its own keys.
    pub keys: DraftKeys,
    /// Its `[[pool.backend]]`s; one without keys is left out.
    pub backends: Vec<BackendDraft>,
    /// Its `[pool.…]` sections: the name behind the dot, and the keys.
    pub sections: Vec<(&'static str, DraftKeys)>,
}

/// A `[[pool.backend]]`.
#[derive(Debug, Default)]
pub struct BackendDraft {
    /// Notices about it.
    pub notices: Vec<ImportNotice>,
    /// Its keys.
    pub keys: DraftKeys,
}

/// Routes of one `server`.
#[derive(Debug, Default)]
pub struct RouteGroup {
    /// Comment that says what they are made from.
    pub title: String,
    /// Notices about the server.
    pub notices: Vec<ImportNotice>,
    /// Its routes.
    pub routes: Vec<RouteDraft>,
}

/// Condition of a route on the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DraftPath {
    /// `path`
    Exact(String),
    /// `path_prefix`; `/` stands for all paths.
    Prefix(String),
    /// `path_regex`
    Regex(String),
}

impl DraftPath {
    /// The condition that all paths meet.
    pub fn any() -> Self {
        DraftPath::Prefix("/".into())
    }

    /// The key, unless the condition is met by all paths.
    pub fn key(&self) -> Option<(&'static str, String)> {
        match self {
            DraftPath::Prefix(prefix) if prefix == "/" => None,
            DraftPath::Prefix(prefix) => Some(("path_prefix", toml_text(prefix))),
            DraftPath::Exact(path) => Some(("path", toml_text(path))),
            DraftPath::Regex(regex) => Some(("path_regex", toml_text(regex))),
        }
    }
}

/// A `[[route]]`, or only notices in its place.
#[derive(Debug, Clone)]
pub struct RouteDraft {
    /// Notices about it.
    pub notices: Vec<ImportNotice>,
    /// Hosts; empty: any.
    pub hosts: Vec<String>,
    /// Condition on the path.
    pub path: DraftPath,
    /// `priority`
    pub priority: i32,
    /// Further conditions, the action, and changes. If empty, only the notices are written.
    pub keys: DraftKeys,
    /// Pools that the keys name.
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
    /// A draft with notices only.
    pub fn saying(notices: Vec<ImportNotice>) -> Self {
        RouteDraft {
            notices,
            ..Self::default()
        }
    }

    /// Whether a route is to be written.
    pub fn is_route(&self) -> bool {
        !self.keys.is_empty()
    }

    /// All keys in the order in which they are written.
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
    /// All notices, in the order of the files.
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

/// A list of texts in TOML notation.
pub fn toml_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| toml_text(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// An inline table of texts in TOML notation.
pub fn toml_table(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{} = {value}", toml_key(name)))
        .collect();
    format!("{{ {} }}", fields.join(", "))
}

/// A key in TOML notation, without quotes if possible.
fn toml_key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => toml_text(name),
    }
}

/// A text in TOML notation.
pub fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
