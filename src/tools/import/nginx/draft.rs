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

/// A `[[route]]`, for each host.
#[derive(Debug, Default)]
pub struct RouteDraft {
    /// About it.
    pub notices: Vec<ImportNotice>,
    /// Hosts; none: any.
    pub hosts: Vec<String>,
    /// The prefix.
    pub prefix: String,
    /// The pool's name; `None`: nothing but notices.
    pub pool: Option<String>,
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

/// Text as TOML writes it.
pub fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
