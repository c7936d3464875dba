//! What a proxy is asked once a second, and what it answers.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::counts::ProxyCounts;
use crate::admin::upgrade::UpgradeView;
use crate::cli::exit::Exit;
use crate::client::http::{AdminClient, AnswerWait};
use crate::registry::view::PoolView;

/// A proxy that has not answered for so long is shown as one that does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// What one proxy says of itself at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyAnswers {
    /// Its pools and their backends.
    pub pools: Vec<PoolView>,
    /// Its counters; `None` where it shows none, as its socket for apps.
    pub counts: Option<ProxyCounts>,
    /// Why it is not ready, if so.
    pub unready: Option<String>,
    /// Its listeners with their certificates, as the API has them.
    pub listeners: Value,
    /// The last restarts as the API has them; `Null` where it knows none of them.
    pub restarts: Value,
    /// Whether another process takes over.
    pub upgrade: Option<UpgradeView>,
}

/// Asks a proxy everything, at once.
///
/// # Errors
/// It can't be reached, refuses, or does not answer within 3 s.
pub(super) async fn ask_proxy(client: &AdminClient) -> Result<ProxyAnswers, Exit> {
    let asked = async {
        let (pools, counts, unready, listeners, restarts, upgrade) = tokio::join!(
            client.get::<Vec<PoolView>>("/v1/pools"),
            read_counts(client),
            read_unready(client),
            client.get::<Value>("/v1/listeners"),
            client.get::<Value>("/v1/restarts"),
            client.get::<UpgradeView>("/v1/upgrade"),
        );
        // Whether it answers is decided by its pools: older proxies lack some of the other paths.
        Ok(ProxyAnswers {
            pools: pools?,
            counts,
            unready,
            listeners: listeners.unwrap_or_default(),
            restarts: restarts.unwrap_or_default(),
            upgrade: upgrade.ok(),
        })
    };
    let silent = |_elapsed| {
        Exit::unreachable(format!(
            "the proxy takes connections but does not answer within {}; it may be overloaded or stopped (SIGSTOP)",
            humantime::format_duration(PATIENCE)
        ))
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(silent)?
}

async fn read_counts(client: &AdminClient) -> Option<ProxyCounts> {
    let asked = client.raw(Method::GET, "/metrics", None::<&Value>, AnswerWait::Short);
    let (status, body) = asked.await.ok()?;
    let text = str::from_utf8(&body).ok()?;
    status.is_success().then(|| ProxyCounts::read(text))
}

async fn read_unready(client: &AdminClient) -> Option<String> {
    let asked = client.raw(Method::GET, "/-/ready", None::<&Value>, AnswerWait::Short);
    let (status, body) = asked.await.ok()?;
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = problem["detail"].as_str().unwrap_or("it does not say why");
    (!status.is_success()).then(|| why.to_owned())
}
