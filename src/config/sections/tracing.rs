//! `[tracing]`.

use super::retry::read_share;
use crate::config::declare::{section, words};
use crate::config::forms::{
    ByteSize, EmptyIsNone, FilePath, KeyContext, custom, integer, some_time,
};
use crate::config::print;
use crate::config::reader::ConfigFindings;
use crate::config::values::{ValueResult, quoted, text, wrong};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

section! {
    /// [Traces](tracing.md) of requests, for a collector that speaks OTLP over HTTP. Without this section nothing is
    /// recorded, and trace contexts pass as they are.
    #[needs(restart)]
    [tracing]
    #[derive(Debug, Clone, PartialEq)]
    pub struct TracingConfig {
        /// Where the collector takes traces, by OTLP over HTTP. Without a path, `/v1/traces` is asked for.
        endpoint: CollectorEndpoint = "http://127.0.0.1:4318/v1/traces", custom("URL", read_endpoint, |endpoint| print::text(endpoint.as_str()));
        /// The share of requests that begin a trace. Those that come with a trace context go by their caller's decision.
        sample: f64 = 0.01, custom("number, 0 to 1", read_share, |share| format!("{share:?}")).public();
        /// Whose trace context is taken: `"all"` callers', that of the `"trusted"` ones of [headers](#headers), or
        /// `"none"`. In place of another one a request goes on with its own, or with none.
        trust: TraceTrust = "all";
        /// What this proxy is called in the traces (`service.name`).
        service_name: String = "lameduck", custom("text", read_name, |name| print::text(name)).public();
        /// File with header fields for the collector, one `Name: value` in each line: tokens, keys of tenants.
        headers_file: Option<PathBuf> = "", FilePath;
        /// PEM file with the certificates of the authorities that sign the collector's. `""`: those of the system.
        ca: Option<PathBuf> = "", FilePath;
        /// How long one request to the collector may take, and how long a batch is tried in all.
        timeout: Duration = "10s", some_time();
        /// Spans that wait for the collector. Further ones are dropped, and counted.
        queue_spans: usize = 8192, integer(1..=1_000_000).told();
        /// The memory that those may take.
        queue_bytes: u64 = "8MiB", ByteSize;
        /// The environment that this proxy belongs to (`deployment.environment.name`), such as `production`.
        environment: Option<String> = "", EmptyIsNone("production", custom("text", read_name, |name| print::text(name)).public());
    }
}

words! {
    /// Callers whose trace context is accepted.
    pub enum TraceTrust {
        /// All callers.
        All = "all",
        /// Clients whose `X-Forwarded-…` are trusted.
        Trusted = "trusted",
        /// None.
        Nobody = "none",
    }
}

/// URL at which a collector accepts traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorEndpoint {
    url: String,
    is_https: bool,
    port: u16,
}

impl CollectorEndpoint {
    /// Returns the URL as text, with its path.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Whether it is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }
}

/// Port at which collectors accept OTLP over gRPC.
const GRPC_PORT: u16 = 4317;

fn read_endpoint(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<CollectorEndpoint> {
    let given = text(key.name, value, "http://127.0.0.1:4318/v1/traces")?;
    let refuse = |why: &str, remedy: &str| Err(wrong(key.name, quoted(given), why, remedy));
    let whole = "write the collector's URL, such as \"http://127.0.0.1:4318/v1/traces\"";
    if given.is_empty() {
        return refuse(
            "it is empty",
            "remove the section for no traces, or write a URL",
        );
    }
    let Ok(url) = given.parse::<Uri>() else {
        return refuse("it is not a URL", whole);
    };
    let is_https = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some("grpc") => {
            return refuse(
                "traces are sent by OTLP over HTTP, not over gRPC",
                "write the collector's HTTP endpoint, by default \"http://HOST:4318/v1/traces\"",
            );
        }
        _ => return refuse("it begins with neither http:// nor https://", whole),
    };
    let Some(authority) = url
        .authority()
        .filter(|authority| !authority.host().is_empty())
    else {
        return refuse("it has no host", whole);
    };
    if authority.as_str().contains('@') {
        return refuse(
            "it has a password in it",
            "put `Authorization: Basic …` into a file, and name that in `headers_file`",
        );
    }
    let port = authority
        .port_u16()
        .unwrap_or(if is_https { 443 } else { 80 });
    let scheme = if is_https { "https" } else { "http" };
    let path = match url.path_and_query().map_or("", |path| path.as_str()) {
        "" | "/" => "/v1/traces",
        path => path,
    };
    Ok(CollectorEndpoint {
        url: format!("{scheme}://{authority}{path}"),
        is_https,
        port,
    })
}

fn read_name(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let given = text(key.name, value, "lameduck")?;
    let (why, remedy) = match given {
        _ if given.trim().is_empty() => ("it is empty", "write a name, or remove the key"),
        _ if given.chars().any(char::is_control) => {
            ("it has a control character in it", "write plain text")
        }
        _ if given.len() > 255 => ("it has more than 255 bytes", "write a shorter name"),
        _ => return Ok(given.to_owned()),
    };
    Err(wrong(key.name, quoted(given), why, remedy))
}

/// Checks values in combination.
pub(in crate::config) fn validate(tracing: &TracingConfig, f: &mut ConfigFindings) {
    let endpoint = &tracing.endpoint;
    if f.sound(&["tracing.endpoint"]) && endpoint.port == GRPC_PORT {
        f.warning(
            f.place("tracing.endpoint"),
            "`endpoint` has port 4317, where collectors take OTLP over gRPC: lameduck sends it over HTTP",
            "write the port that takes HTTP, by default 4318",
        );
    }
    if f.sound(&["tracing.endpoint", "tracing.ca"]) && tracing.ca.is_some() && !endpoint.is_https {
        f.error(
            f.place("tracing.ca"),
            "`ca` has no effect: `endpoint` is asked without TLS",
            "write `endpoint` with https://, or remove `ca`",
        );
    }
    if f.sound(&["tracing.queue_bytes"]) && !(64 << 10..=1 << 30).contains(&tracing.queue_bytes) {
        f.error(
            f.place("tracing.queue_bytes"),
            "`queue_bytes` must be from 64KiB to 1GiB",
            "write a size such as \"8MiB\": a span takes about 1KiB",
        );
    }
}
