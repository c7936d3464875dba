//! One proxy during a roll, over the admin API.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::super::exit::Exit;
use super::plan::RollSettings;
use crate::client::error::ClientError;
use crate::client::http::{AdminClient, AdminEvents, AnswerWait};
use crate::client::names::{BackendName, segment};
use crate::core::drain::RestartSign;
use crate::registry::view::{
    BackendView, DrainRequest, DrainResponse, PoolView, ResumeRequest, RollRequest,
};
use crate::tools::roll::driver::{RollError, RollProxy, RollWatch};

/// Longest time between two checks, even without an event.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Client that drains, lifts drains, and reads the pool.
pub(super) struct RollRemote {
    client: AdminClient,
    pool: String,
    id: String,
    reason: String,
    drain: Duration,
    expires: Duration,
}

/// Events of the pool, and the connection that holds the right to roll.
pub(super) struct RemoteChanges {
    events: AdminEvents,
    held: AdminEvents,
    next: Instant,
}

impl RollRemote {
    /// Takes the right to roll the pool, and subscribes to its events.
    pub(super) async fn open(
        client: AdminClient,
        pool: &str,
        settings: &RollSettings,
    ) -> Result<(Self, RemoteChanges), Exit> {
        let by = roll_owner();
        let path = format!("/v1/pools/{}/roll", segment(pool));
        let request = RollRequest { by: by.clone() };
        let mut held = client.stream(Method::POST, &path, Some(&request)).await?;
        let first = held.next().await?;
        let id = id(&first).ok_or_else(|| {
            Exit::failed("the proxy did not say which roll this is; is it of the same version (`lameduck --version`)?")
        })?;
        let events = client.events(Some(pool)).await?;
        let remote = Self {
            client,
            pool: pool.to_owned(),
            id,
            reason: format!("roll by {by}"),
            drain: settings.drain,
            expires: settings.expires,
        };
        let changes = RemoteChanges {
            events,
            held,
            next: Instant::now(),
        };
        Ok((remote, changes))
    }

    /// Id of this roll, which its drains have.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Request for a drain of this roll that ends with a restart, as `sign` shows it.
    fn request(&self, sign: RestartSign, wait: bool) -> DrainRequest {
        DrainRequest {
            timeout: Some(milliseconds(self.drain)),
            until: Some("restarted".to_owned()),
            restarted_when: Some(sign.as_str().to_owned()),
            expires: Some(milliseconds(self.expires)),
            reason: Some(self.reason.clone()),
            actor: Some("operator".to_owned()),
            id: Some(self.id.clone()),
            wait: Some(wait),
        }
    }

    /// Requests a drain without waiting for its end.
    pub(super) async fn ask_drain(&self, name: &str) -> Result<(), ClientError> {
        let request = self.request(RestartSign::NewProcess, false);
        let path = self.path(name, "drain");
        let client = &self.client;
        let asked = client.call(Method::POST, &path, Some(&request), AnswerWait::Short);
        let asked: Result<DrainResponse, ClientError> = asked.await;
        asked.map(drop)
    }

    fn path(&self, name: &str, what: &str) -> String {
        let backend = BackendName {
            pool: self.pool.clone(),
            name: name.to_owned(),
        };
        format!("{}/{what}", backend.path())
    }
}

/// Parses the id in an event such as `event: held\ndata: {"id":"…"}`.
fn id(event: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(event).ok()?;
    let data = text.lines().find_map(|line| line.strip_prefix("data:"))?;
    let data: Value = serde_json::from_str(data.trim()).ok()?;
    Some(data["id"].as_str()?.to_owned())
}

/// Who runs this roll, for the message to a second user: `alice on web-1 (pid 4242)`. If the environment has no user
/// name (cron, containers, units), the user id is shown instead: `uid 1000 on web-1 (pid 4242)`.
fn roll_owner() -> String {
    let name = ["USER", "LOGNAME"].map(|variable| std::env::var(variable).unwrap_or_default());
    let uid = std::fs::metadata("/proc/self").map(|own| own.uid()).ok();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    owner_text(&name, uid, host.trim(), std::process::id())
}

fn owner_text(names: &[String], uid: Option<u32>, host: &str, pid: u32) -> String {
    let name = names.iter().map(|name| name.trim());
    let name = name.clone().find(|name| !name.is_empty());
    let user = match (name, uid) {
        (Some(name), _) => format!("{name} "),
        (None, Some(uid)) => format!("uid {uid} "),
        (None, None) => String::new(),
    };
    let host = match host {
        "" => String::new(),
        host => format!("on {host} "),
    };
    format!("{user}{host}(pid {pid})")
}

fn roll_error(error: ClientError) -> RollError {
    RollError {
        gone: error.is_unreachable(),
        text: error.message,
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

impl RollProxy for RollRemote {
    fn drain(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<DrainResponse, RollError>> + 'static {
        let request = self.request(RestartSign::NewProcess, true);
        let (client, path, wait) = (
            self.client.clone(),
            self.path(name, "drain"),
            AnswerWait::For(self.drain),
        );
        async move {
            let answer = client.call(Method::POST, &path, Some(&request), wait);
            answer.await.map_err(roll_error)
        }
    }

    async fn await_probes(&self, name: &str) -> Result<(), RollError> {
        let request = self.request(RestartSign::Probe, false);
        let path = self.path(name, "drain");
        let asked = self
            .client
            .call(Method::POST, &path, Some(&request), AnswerWait::Short);
        let asked: Result<DrainResponse, ClientError> = asked.await;
        asked.map(drop).map_err(roll_error)
    }

    async fn lift_drain(&self, name: &str) -> Result<(), RollError> {
        let request = ResumeRequest {
            actor: Some("operator".to_owned()),
            id: Some(self.id.clone()),
            ..ResumeRequest::default()
        };
        let path = self.path(name, "resume");
        let lifted = self
            .client
            .call(Method::POST, &path, Some(&request), AnswerWait::Short);
        let lifted: Result<BackendView, ClientError> = lifted.await;
        match lifted {
            Ok(_) => Ok(()),
            // The backend may have left the pool; then there is nothing to lift.
            Err(error) if !error.is_unreachable() => match self.fetch_pool().await {
                Ok(pool) if !still_ours(&pool, &self.id) => Ok(()),
                _ => Err(roll_error(error)),
            },
            Err(error) => Err(roll_error(error)),
        }
    }

    async fn fetch_pool(&self) -> Result<PoolView, RollError> {
        let path = format!("/v1/pools/{}", segment(&self.pool));
        self.client.get(&path).await.map_err(roll_error)
    }
}

fn still_ours(pool: &PoolView, id: &str) -> bool {
    let mut drains = pool.backends.iter().flat_map(|backend| &backend.drains);
    drains.any(|drain| drain.id == id)
}

impl RollWatch for RemoteChanges {
    async fn changed(&mut self) -> Result<(), RollError> {
        tokio::select! {
            changed = self.events.changed() => changed.map_err(roll_error)?,
            ended = self.held.next() => {
                let text = match ended {
                    Ok(_) => "it is stopping".to_owned(),
                    Err(error) => error.message,
                };
                return Err(RollError { gone: true, text });
            }
            () = sleep_until(self.next) => {}
        }
        self.next = Instant::now() + POLL_INTERVAL;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_has_the_id() {
        let event = b"event: held\ndata: {\"id\":\"roll-1\"}\n\n";
        assert_eq!(id(event).as_deref(), Some("roll-1"));
        assert_eq!(id(b"event: held\n\n"), None);
    }

    #[test]
    fn a_roll_without_a_users_name_is_told_by_uid() {
        let name = |names: &[&str], uid| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            owner_text(&names, uid, "web-1", 7)
        };
        assert_eq!(name(&["alice", "bob"], Some(1)), "alice on web-1 (pid 7)");
        assert_eq!(name(&["", "bob"], Some(1)), "bob on web-1 (pid 7)");
        assert_eq!(name(&["", " "], Some(1000)), "uid 1000 on web-1 (pid 7)");
        assert_eq!(name(&["", ""], None), "on web-1 (pid 7)");
        assert_eq!(owner_text(&[], Some(0), "", 7), "uid 0 (pid 7)");
        assert!(roll_owner().contains("(pid "));
    }
}
