//! The sections of the file, each declared in a file of its own: `ls` shows what can be configured.

mod access_log;
mod admin;
mod admin_tls;
mod compression;
mod discovery;
mod drain;
mod files;
mod headers;
mod health;
mod hold;
mod listener;
mod listener_acme;
mod listener_tls;
mod outlier;
mod pool;
mod retry;
mod route;
mod route_actions;
mod route_guards;
mod route_headers;
mod server;
mod slow_start;
mod sticky;
mod supervisor;
mod tracing;
mod upstream;
mod upstream_tls;

pub use access_log::{AccessLogConfig, LogField, LogFormat, LogSink, SyslogFacility, SyslogTarget};
pub use admin::AdminConfig;
pub use admin_tls::AdminTlsConfig;
pub use compression::{CompressionAlgorithm, CompressionConfig};
pub use discovery::{
    DiscoveryConfig, DiscoveryKind, DiscoveryPort, DiscoverySourceConfig, DnsFamily, DnsRecord,
};
pub use drain::DrainConfig;
pub use files::FilesAction;
pub use headers::{HeadersConfig, TrustedClient};
pub use health::{HealthCheck, HealthConfig};
pub use hold::{HoldConfig, OnEmptyConfig};
pub use listener::ListenerConfig;
pub use listener_acme::{AcmeCertificate, AcmeChallenge, AcmeConfig, ManagedCertificate};
pub use listener_tls::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion};
pub use outlier::OutlierConfig;
pub use pool::{BackendConfig, BalanceConfig, PoolConfig};
pub use retry::RetryConfig;
pub use route::Route;
pub use route_actions::{RedirectAction, RedirectScheme, RespondAction};
pub use route_guards::{RouteAuth, RouteHold, RouteRate, RouteRetry};
pub use route_headers::{RequestHeaderRules, ResponseHeaderRules};
pub use server::{DEFAULT_RATE, ServerConfig};
pub use slow_start::SlowStart;
pub use sticky::{MOST_KEYS, OnDrain, SHORTEST_KEY, SameSite, StickyConfig};
pub use supervisor::{SupervisorConfig, SupervisorKind};
pub use tracing::{CollectorEndpoint, TraceTrust, TracingConfig};
pub use upstream::{ProxyProtocol, UpstreamConfig};
pub use upstream_tls::UpstreamTls;

pub(super) use access_log::validate as validate_access_log;
pub(super) use compression::validate as validate_compression;
pub(super) use health::CheckKind;
pub(super) use listener_acme::validate as validate_acme;
pub(super) use outlier::validate as validate_outlier;
pub(super) use sticky::validate as validate_sticky;
pub(super) use supervisor::validate as validate_supervisor;
pub(super) use tracing::validate as validate_tracing;

use super::declare::section;
use super::hidden_texts::HiddenTexts;
use super::schema::SectionSchema;
use super::section_traits::ConfigSection;

section! {
    /// A validated configuration with every default filled in.
    []
    #[derive(Debug, Clone, PartialEq)]
    pub struct Config {}
    sections {
        /// `[server]`.
        server: ServerConfig;
        /// `[admin]`.
        admin: AdminConfig;
        /// `[access_log]`.
        access_log: AccessLogConfig;
        /// `[tracing]`; `None`: nothing is recorded, and trace contexts pass as they are.
        tracing: Option<TracingConfig>;
        /// `[headers]`.
        headers: HeadersConfig;
        /// `[compression]`; `None`: answers are passed on as they are.
        compression: Option<CompressionConfig>;
        /// `[[listener]]`.
        #[key = "listener"]
        listeners: Vec<ListenerConfig>;
        /// `[[pool]]`.
        #[key = "pool"]
        pools: Vec<PoolConfig>;
        /// `[[route]]`, in file order. No route and one pool: everything goes to that pool.
        #[key = "route"]
        routes: Vec<Route>;
    }
    state {
        /// What came from the environment and is not to be shown.
        hidden: HiddenTexts = HiddenTexts::default(), |_| HiddenTexts::default();
    }
}

/// Returns all sections, in the order in which they should be written.
pub(super) fn all() -> Vec<&'static SectionSchema> {
    vec![
        Config::section(),
        ServerConfig::section(),
        AdminConfig::section(),
        AdminTlsConfig::section(),
        AccessLogConfig::section(),
        TracingConfig::section(),
        HeadersConfig::section(),
        CompressionConfig::section(),
        ListenerConfig::section(),
        ListenerTls::section(),
        CertificateFiles::section(),
        AcmeConfig::section(),
        AcmeCertificate::section(),
        PoolConfig::section(),
        BackendConfig::section(),
        DiscoveryConfig::section(),
        HealthConfig::section(),
        DrainConfig::section(),
        UpstreamConfig::section(),
        UpstreamTls::section(),
        RetryConfig::section(),
        HoldConfig::section(),
        SlowStart::section(),
        StickyConfig::section(),
        OutlierConfig::section(),
        SupervisorConfig::section(),
        Route::section(),
        RedirectAction::section(),
        RespondAction::section(),
        RequestHeaderRules::section(),
        ResponseHeaderRules::section(),
        RouteRate::section(),
        RouteAuth::section(),
        RouteRetry::section(),
        RouteHold::section(),
        FilesAction::section(),
    ]
}
