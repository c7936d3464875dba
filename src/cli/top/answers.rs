//! Fetches the data of a proxy once a second.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::counts::ProxyCounts;
use crate::admin::upgrade::UpgradeView;
use crate::cli::exit::Exit;
use crate::client::http::{AdminClient, AnswerWait};
use crate::registry::view::PoolView;

/// Time without an answer after which a proxy is shown as unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Data of one proxy at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyAnswers {
    /// Pools and their backends.
    pub pools: Vec<PoolView>,
    /// Counters; `None` if the proxy shows none, as on its socket for apps.
    pub counts: Option<ProxyCounts>,
    /// Reason why the proxy is not ready, if it isn't.
    pub unready: Option<String>,
    /// Listeners with their certificates, in the form of the API.
    pub listeners: Value,
    /// Last restarts in the form of the API; `Null` if the proxy is too old to report them.
    pub restarts: Value,
    /// State of an upgrade.
    pub upgrade: Option<UpgradeView>,
}

/// Fetches all data of a proxy at once.
///
/// # Errors
/// The proxy can't be reached, refuses, or does not answer within 3 s.
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
        // Only the request for pools decides whether the proxy answers: older proxies lack some of the other paths.
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
            humantime::format_duration(ANSWER_TIMEOUT)
        ))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asked)
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
