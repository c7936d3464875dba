//! nginx's configuration as typed data: upstreams, servers and locations. The [scope](super::scope) of each knows which
//! directives are in effect.

use super::listen::{NginxListen, read_listen};
use super::scope::NginxScope;
use super::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// The `http` block.
#[derive(Debug)]
pub struct NginxSite<'a> {
    /// Directives on its own level.
    pub level: &'a [NginxDirective],
    /// Directives that are in effect there.
    pub scope: NginxScope<'a>,
    /// Its `upstream` blocks, each with a name.
    pub upstreams: Vec<&'a NginxDirective>,
    /// Its `server` blocks, in order.
    pub servers: Vec<NginxServer<'a>>,
}

/// A `server` block.
#[derive(Debug)]
pub struct NginxServer<'a> {
    /// The block.
    pub directive: &'a NginxDirective,
    /// Directives that are in effect in it.
    pub scope: NginxScope<'a>,
    /// Its `listen` directives.
    pub listens: Vec<(&'a NginxDirective, NginxListen)>,
    /// Its names in lameduck's notation for hosts.
    pub hosts: Vec<String>,
    /// Its locations; nested ones follow the outer ones.
    pub locations: Vec<NginxLocation<'a>>,
    /// Notices about what could not be read.
    pub notices: Vec<ImportNotice>,
}

/// Kind of comparison of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationKind {
    /// `location /x`
    Prefix,
    /// `location ^~ /x`: regular expressions are not tried.
    FirmPrefix,
    /// `location = /x`
    Exact,
    /// `location ~ x`, `location ~* x`
    Regex,
    /// `location @x`
    Named,
}

/// A `location` block.
#[derive(Debug)]
pub struct NginxLocation<'a> {
    /// The block.
    pub directive: &'a NginxDirective,
    /// Directives that are in effect in it.
    pub scope: NginxScope<'a>,
    /// Kind of comparison.
    pub kind: LocationKind,
    /// Path or expression.
    pub path: &'a str,
    /// Path of the location whose `root` or `alias` is in effect here: this one, or an outer one.
    pub root_path: &'a str,
}

impl<'a> NginxSite<'a> {
    /// Reads the tree of a whole file. A file of `sites-enabled`, without an `http` block, is read as the content of
    /// one.
    pub fn read(tree: &'a [NginxDirective]) -> Self {
        let http = tree.iter().find(|directive| directive.name() == "http");
        let level = http.map_or(tree, NginxDirective::inner);
        let scope = NginxScope::default().enter(level);
        let blocks = |name: &'static str| {
            level
                .iter()
                .filter(move |d| d.name() == name && d.block.is_some())
        };
        NginxSite {
            level,
            upstreams: blocks("upstream").collect(),
            servers: blocks("server")
                .map(|server| NginxServer::read(server, &scope))
                .collect(),
            scope,
        }
    }

    /// The upstream with this name.
    pub fn upstream(&self, name: &str) -> Option<&'a NginxDirective> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.arg(0) == name)
            .copied()
    }
}

impl<'a> NginxServer<'a> {
    fn read(directive: &'a NginxDirective, http: &NginxScope<'a>) -> Self {
        let scope = http.enter(directive.inner());
        let mut server = NginxServer {
            directive,
            listens: Vec::new(),
            hosts: Vec::new(),
            locations: Vec::new(),
            notices: Vec::new(),
            scope: scope.clone(),
        };
        let mut written = false;
        for inner in directive.inner() {
            match inner.name() {
                "listen" => {
                    written = true;
                    match read_listen(inner) {
                        Ok(listen) => server.listens.push((inner, listen)),
                        Err(why) => server.refuse(inner, &why),
                    }
                }
                "server_name" => server.read_names(inner),
                _ => {}
            }
        }
        if !written {
            server.listens.push((directive, NginxListen::unwritten()));
        }
        server.read_locations(directive.inner(), &scope, "");
        server
    }

    fn refuse(&mut self, what: &NginxDirective, why: &str) {
        let text = format!("`{}`: {why}", what.line());
        self.notices.push(ImportNotice::left_out(&what.place, text));
    }

    fn read_names(&mut self, directive: &NginxDirective) {
        for name in directive.args() {
            let lower = name.to_ascii_lowercase();
            let why = match lower.as_str() {
                // No client sends these names: such a server only serves as the default one.
                "" | "_" | "-" | "!" => continue,
                other if other.starts_with('~') => "lameduck has no regular expressions for hosts",
                other if other.ends_with(".*") => "a host's wildcard stands at its beginning",
                other if other.starts_with('.') && is_host(&other[1..]) => {
                    self.hosts
                        .extend([other[1..].to_owned(), format!("*{other}")]);
                    continue;
                }
                other if is_host(other.strip_prefix("*.").unwrap_or(other)) => {
                    self.hosts.push(lower.clone());
                    continue;
                }
                _ => "it is not a host name",
            };
            self.notices.push(ImportNotice::left_out(
                &directive.place,
                format!("`server_name {name}`: {why}; requests for it go to the default server"),
            ));
        }
    }

    fn read_locations(
        &mut self,
        level: &'a [NginxDirective],
        around: &NginxScope<'a>,
        root_path: &'a str,
    ) {
        for directive in level.iter().filter(|d| d.name() == "location") {
            let (kind, path) = match (directive.arg(0), directive.arg(1)) {
                ("=", path) => (LocationKind::Exact, path),
                ("^~", path) => (LocationKind::FirmPrefix, path),
                ("~" | "~*", path) => (LocationKind::Regex, path),
                (path, "") if path.starts_with('@') => (LocationKind::Named, path),
                // nginx accepts the modifier without a space, too.
                (path, "") if path.starts_with("^~") => (LocationKind::FirmPrefix, &path[2..]),
                (path, "") if path.starts_with("~*") => (LocationKind::Regex, &path[2..]),
                (path, "") if path.starts_with('~') => (LocationKind::Regex, &path[1..]),
                (path, "") if path.starts_with('=') => (LocationKind::Exact, &path[1..]),
                (path, _) => (LocationKind::Prefix, path),
            };
            if kind == LocationKind::Exact && path.is_empty() {
                self.notices.push(ImportNotice::left_out(
                    &directive.place,
                    "`location =` without a path: no request has an empty one",
                ));
                continue;
            }
            let scope = around.enter(directive.inner());
            let has_root = scope
                .own_directive("root")
                .or_else(|| scope.own_directive("alias"))
                .is_some();
            let root_path = if has_root { path } else { root_path };
            self.locations.push(NginxLocation {
                directive,
                scope: scope.clone(),
                kind,
                path,
                root_path,
            });
            // Within a regular expression, the order of prefixes can't be kept.
            if matches!(kind, LocationKind::Prefix | LocationKind::FirmPrefix) {
                self.read_locations(directive.inner(), &scope, root_path);
            }
        }
    }
}

/// Whether `[[route]] host` accepts a name.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    name.len() < 250 && name.split('.').all(label)
}
