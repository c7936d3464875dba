//! The sections of the file, each declared in a file of its own: what `ls` shows is what a configuration can say.

mod access_log;
mod admin;
mod drain;
mod headers;
mod health;
mod hold;
mod listener;
mod listener_tls;
mod pool;
mod retry;
mod route;
mod server;
mod slow_start;
mod upstream;
mod upstream_tls;

pub use access_log::{AccessLog, LogFormat, LogSink};
pub use admin::Admin;
pub use drain::Drain;
pub use headers::Headers;
pub use health::{Check, Health};
pub use hold::{Hold, OnEmpty};
pub use listener::Listener;
pub use listener_tls::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion};
pub use pool::{Backend, Balance, Pool};
pub use retry::Retry;
pub use route::Route;
pub use server::{DEFAULT_RATE, Server};
pub use slow_start::SlowStart;
pub use upstream::{ProxyProtocol, Upstream};
pub use upstream_tls::UpstreamTls;

pub(super) use health::CheckKind;

use super::declare::section;
use super::schema::Section;
use super::section_traits::ConfigSection;

section! {
    /// A validated configuration with every default filled in.
    []
    #[derive(Debug, Clone, PartialEq)]
    pub struct Config {}
    sections {
        /// `[server]`.
        server: Server;
        /// `[admin]`.
        admin: Admin;
        /// `[access_log]`.
        access_log: AccessLog;
        /// `[headers]`.
        headers: Headers;
        /// `[[listener]]`.
        #[key = "listener"]
        listeners: Vec<Listener>;
        /// `[[pool]]`.
        #[key = "pool"]
        pools: Vec<Pool>;
        /// `[[route]]`, in file order. No route and one pool: everything goes to that pool.
        #[key = "route"]
        routes: Vec<Route>;
    }
}

/// All sections, in the order in which people should write them.
pub(super) fn all() -> Vec<&'static Section> {
    vec![
        Config::section(),
        Server::section(),
        Admin::section(),
        AccessLog::section(),
        Headers::section(),
        Listener::section(),
        ListenerTls::section(),
        CertificateFiles::section(),
        Pool::section(),
        Backend::section(),
        Health::section(),
        Drain::section(),
        Upstream::section(),
        UpstreamTls::section(),
        Retry::section(),
        Hold::section(),
        SlowStart::section(),
        Route::section(),
    ]
}
