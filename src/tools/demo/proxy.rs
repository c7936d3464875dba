//! lameduck as a child process: its configuration, its start, and requests to it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::admin;
use super::instance::DemoInstance;
use super::process::ChildProcess;
use crate::registry::view::{DrainResponse, PoolView};

/// Longest wait until the proxy is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Name of its only pool.
pub const POOL: &str = "app";

/// A running lameduck with one pool, [`POOL`].
#[derive(Debug)]
pub struct DemoProxy {
    process: ChildProcess,
    socket: PathBuf,
    config: PathBuf,
    address: SocketAddr,
}

/// Settings that differ between proxies.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Address to listen at; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether a second proxy may listen at the same address.
    pub reuse_port: bool,
    /// Further keys of the listener, as TOML.
    pub listener: String,
    /// Further keys and tables of the pool, as TOML, such as `[pool.drain]\ndeadline = "5s"`.
    pub pool: String,
    /// Keys of `[server]`, as TOML.
    pub server: String,
    /// Further keys of `[admin]`, as TOML.
    pub admin: String,
    /// Path of the access log, or "off".
    pub access_log: String,
}

impl Default for ProxySettings {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen,
            reuse_port: false,
            listener: String::new(),
            pool: String::new(),
            server: String::new(),
            admin: String::new(),
            access_log: "off".to_owned(),
        }
    }
}

impl ProxySettings {
    /// The configuration file.
    pub fn toml(&self, socket: &Path, backends: &[(String, SocketAddr)]) -> String {
        let socket = socket.display().to_string();
        let mut text = format!(
            "[server]\n{}\n\n[admin]\nsocket = {socket:?}\n{}\n\n",
            self.server.trim(),
            self.admin.trim()
        );
        let _ = writeln!(text, "[access_log]\npath = {:?}\n", self.access_log);
        let _ = writeln!(text, "[[listener]]\naddress = \"{}\"", self.listen);
        if self.reuse_port {
            text.push_str("reuse_port = true\n");
        }
        let _ = writeln!(text, "{}", self.listener.trim());
        let _ = writeln!(text, "\n[[pool]]\nname = {POOL:?}");
        for (name, address) in backends {
            let _ = writeln!(
                text,
                "\n[[pool.backend]]\nname = {name:?}\naddress = \"{address}\""
            );
        }
        let _ = writeln!(text, "\n{}", self.pool.trim());
        text
    }
}

impl DemoProxy {
    /// Starts `exe run` before `instances`, and waits until its first round of probes is finished. Its files
    /// (configuration, admin socket, log) are in `dir`, with `name` as the prefix.
    ///
    /// # Errors
    /// It doesn't start, or isn't ready in time; with its last output.
    pub async fn start(
        exe: &Path,
        name: &str,
        dir: &Path,
        settings: &ProxySettings,
        instances: &[DemoInstance],
    ) -> Result<Self> {
        let backends: Vec<_> = instances
            .iter()
            .map(|i| (i.name().to_owned(), i.address()))
            .collect();
        Self::start_with(exe, name, dir, settings, &backends).await
    }

    /// Starts a proxy before backends that are given by name and address.
    ///
    /// # Errors
    /// As for [`DemoProxy::start`].
    pub async fn start_with(
        exe: &Path,
        name: &str,
        dir: &Path,
        settings: &ProxySettings,
        backends: &[(String, SocketAddr)],
    ) -> Result<Self> {
        let (socket, config) = (
            dir.join(format!("{name}.sock")),
            dir.join(format!("{name}.toml")),
        );
        std::fs::write(&config, settings.toml(&socket, backends))?;
        let mut command = Command::new(exe);
        command
            .arg("run")
            .arg("-c")
            .arg(&config)
            .env_remove("LAMEDUCK_ADMIN");
        let mut process = ChildProcess::start(name, command, &dir.join(format!("{name}.log")))?;
        process.ignore_output();
        let mut proxy = Self {
            process,
            socket,
            config,
            address: settings.listen,
        };
        proxy.answers("/-/ready").await?;
        proxy.address = proxy.listener().await?;
        Ok(proxy)
    }

    /// Waits until an instance takes requests.
    ///
    /// # Errors
    /// None does in time; with the proxy's last output.
    pub async fn eligible(&mut self) -> Result<()> {
        self.answers(&format!("/-/ready?pool={POOL}")).await
    }

    async fn answers(&mut self, path: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.process.check()?;
            match admin::request(&self.socket, "GET", path, None).await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) if begun.elapsed() > START_TIMEOUT => {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    bail!(
                        "the proxy isn't ready after {START_TIMEOUT:?}: {status} {body}{}",
                        self.process.last_words()
                    )
                }
                Err(error) if begun.elapsed() > START_TIMEOUT => {
                    return Err(error.context(self.process.last_words()));
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn listener(&self) -> Result<SocketAddr> {
        #[derive(serde::Deserialize)]
        struct DemoListener {
            address: String,
        }
        let answer = admin::call(&self.socket, "GET", "/v1/listeners", None).await?;
        let listeners: Vec<DemoListener> =
            serde_json::from_value(answer).context("GET /v1/listeners")?;
        // A listener on a unix socket has no port to report.
        let mut addresses = listeners.iter().map(|listener| listener.address.parse());
        addresses
            .find_map(Result::ok)
            .context("the proxy has no TCP listener")
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// The pool as the admin API shows it.
    ///
    /// # Errors
    /// The proxy can't be reached, or its answer is malformed.
    pub async fn pool(&self) -> Result<PoolView> {
        let answer = admin::call(&self.socket, "GET", &format!("/v1/pools/{POOL}"), None).await?;
        serde_json::from_value(answer).context("GET /v1/pools/app: not a pool")
    }

    /// Drains a backend, and waits until it is drained or the deadline has passed.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub async fn drain(&self, name: &str, deadline: Duration) -> Result<DrainResponse> {
        let path = format!("/v1/pools/{POOL}/backends/{name}/drain");
        let body = json!({ "timeout": format!("{}ms", deadline.as_millis()), "reason": "rolling restart" });
        let answer = admin::call(&self.socket, "POST", &path, Some(&body)).await?;
        serde_json::from_value(answer).context("the answer to drain")
    }

    /// Lifts the operator's drain, and waits until the backend is ready.
    ///
    /// # Errors
    /// The proxy can't be reached, or the backend isn't ready in time.
    pub async fn resume(&self, name: &str, patience: Duration) -> Result<()> {
        let path = format!("/v1/pools/{POOL}/backends/{name}/resume");
        let body = json!({ "wait": format!("{}ms", patience.as_millis()) });
        admin::call(&self.socket, "POST", &path, Some(&body)).await?;
        let pool = self.pool().await?;
        let state = pool
            .backends
            .into_iter()
            .find(|b| b.name == name)
            .map(|b| b.state);
        ensure!(
            state.as_deref() == Some("ready"),
            "{name} was resumed and is {}",
            state.unwrap_or_else(|| "gone".into())
        );
        Ok(())
    }

    /// Number of held requests and of repeated attempts so far, from the metrics; `None` if there is no such metric.
    ///
    /// # Errors
    /// The proxy can't be reached.
    pub async fn counts(&self) -> Result<(Option<u64>, Option<u64>)> {
        let (_, text) = admin::request(&self.socket, "GET", "/metrics", None).await?;
        let text = String::from_utf8_lossy(&text);
        Ok((
            admin::metric(&text, "lameduck_hold_duration_seconds_count"),
            admin::metric(&text, "lameduck_retries_total"),
        ))
    }

    /// Stops the proxy, and waits for its exit.
    ///
    /// # Errors
    /// It has ended already, or still runs after `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.signal(libc::SIGTERM)?;
        Ok(self.process.wait(patience).await?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_what_was_set() {
        let settings = ProxySettings {
            reuse_port: true,
            pool: "[pool.drain]\ndeadline = \"5s\"".into(),
            ..ProxySettings::default()
        };
        let backends = [("app-1".to_owned(), SocketAddr::from(([127, 0, 0, 1], 4711)))];
        let text = settings.toml(Path::new("/tmp/a b.sock"), &backends);
        let value: toml::Value = toml::from_str(&text).expect("it is TOML");
        assert_eq!(value["admin"]["socket"].as_str(), Some("/tmp/a b.sock"));
        assert_eq!(value["listener"][0]["reuse_port"].as_bool(), Some(true));
        assert_eq!(
            value["pool"][0]["backend"][0]["address"].as_str(),
            Some("127.0.0.1:4711")
        );
        assert_eq!(value["pool"][0]["drain"]["deadline"].as_str(), Some("5s"));
    }
}
