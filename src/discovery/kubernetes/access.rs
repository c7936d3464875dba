//! Access to the API server: its address, the account, and the trusted authorities.

use std::path::PathBuf;
use std::time::Duration;

use http::Response;
use http::header::{HeaderValue, USER_AGENT};
use kube::client::{ClientBuilder, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use super::bounded_lines::BoundedLines;

/// Longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Address of the API server, and the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAccess {
    /// The cluster that lameduck runs in, with the pod's service account.
    InCluster,
    /// Settings of a kubeconfig.
    Kubeconfig(PathBuf),
    /// This URL, without credentials, as for `kubectl proxy`.
    Url(String),
}

/// Reason why there is no access to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterAccessError {
    /// lameduck runs outside of a cluster.
    #[error(
        "lameduck runs in no cluster ({0}); in a pod, its service account must be mounted \
         (`automountServiceAccountToken`); elsewhere, write `kubeconfig = …`"
    )]
    NoCluster(String),
    /// The kubeconfig can't be used.
    #[error("{0}; correct the kubeconfig")]
    Kubeconfig(String),
    /// The token can't be read.
    #[error(
        "the token in {0} can't be read: {1}; correct the file's rights, or where it is mounted"
    )]
    Token(String, std::io::Error),
    /// The URL is malformed.
    #[error("`api_server` is no URL: {0}; write it as `https://HOST:PORT`")]
    Url(String),
    /// The client can't be built.
    #[error("no client for the API server: {0}")]
    Client(String),
}

impl ApiAccess {
    /// Builds a client from the files as they are now, because tokens and authorities are renewed there. Also returns
    /// the default namespace.
    ///
    /// # Errors
    /// See `ClusterAccessError`.
    pub async fn connect(&self) -> Result<(Client, String), ClusterAccessError> {
        let access = self.clone();
        let runtime = tokio::runtime::Handle::current();
        // This reads files and may run a command that a kubeconfig names, so it must not block the runtime.
        let built = tokio::task::spawn_blocking(move || {
            let mut config = runtime.block_on(access.config())?;
            config.connect_timeout = Some(CONNECT_TIMEOUT);
            // The caller has its own time limits and pauses.
            config.read_timeout = None;
            config.default_retry = false;
            let name = HeaderValue::from_static(concat!("lameduck/", env!("CARGO_PKG_VERSION")));
            config.headers.push((USER_AGENT, name));
            // kube would cache the token for a minute, and include its line end.
            if let Some(path) = config.auth_info.token_file.take() {
                let token = std::fs::read_to_string(&path);
                let token = token.map_err(|error| ClusterAccessError::Token(path, error))?;
                config.auth_info.token = Some(token.trim().to_owned().into());
            }
            let namespace = config.default_namespace.clone();
            let client = ClientBuilder::try_from(config)
                .map_err(|error| ClusterAccessError::Client(with_causes(&error)))?;
            let bounded = |answer: Response<Box<DynBody>>| answer.map(BoundedLines::new);
            let client = client.with_layer(&MapResponseLayer::new(bounded)).build();
            Ok((client, namespace))
        });
        built
            .await
            .unwrap_or_else(|error| Err(ClusterAccessError::Client(error.to_string())))
    }

    async fn config(&self) -> Result<Config, ClusterAccessError> {
        match self {
            Self::InCluster => Config::incluster()
                .map_err(|error| ClusterAccessError::NoCluster(with_causes(&error))),
            Self::Kubeconfig(path) => {
                let broken = |error| ClusterAccessError::Kubeconfig(with_causes(&error));
                let file = Kubeconfig::read_from(path).map_err(broken)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(broken)
            }
            Self::Url(url) => {
                let url: http::Uri = url
                    .parse()
                    .map_err(|error| ClusterAccessError::Url(with_causes(&error)))?;
                Ok(Config::new(url))
            }
        }
    }
}

/// An error with its causes, each once.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
