//! Drains that end with a restart: watches the processes that are to end, and warns if no restart is seen.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::endpoint::BackendKey;
use super::handle::{RegistryError, RegistryHandle};
use super::persist::DrainRecord;
use super::request;
use super::view::{DrainRequest, DrainView};
use super::writer::RegistryWriter;
use crate::config::Address;
use crate::core::backend::BackendEvent;
use crate::core::drain::{DrainActor, OpenDrain, RestartSign};
use crate::net::serving::{ServingProcesses, accepting_at, accepting_at_path};
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

/// Interval at which the processes are checked.
const LOOK: Duration = Duration::from_millis(100);
/// Number of checks after which the registry is asked whether the drain still exists.
const LOOKS: u32 = 10;
/// Timeout for resolving a host name.
const RESOLVE: Duration = Duration::from_secs(2);

/// Lock for scans of all processes of the host, of which one runs at a time.
static TURN: Semaphore = Semaphore::const_new(1);

/// A kind of restart that can't be seen, for messages.
const KEPT_SOCKET: &str =
    "a restart that keeps the listening socket (gunicorn's HUP, socket activation)";

impl RegistryHandle {
    /// Returns the processes whose end the drain waits for, if it waits for that.
    ///
    /// # Errors
    /// The request is not valid, or these processes can't be seen, so that their end would never be noticed.
    pub(super) async fn find_serving(
        &self,
        pool: &str,
        name: &str,
        request: &DrainRequest,
    ) -> Result<Vec<(BackendKey, ServingProcesses)>, RegistryError> {
        let mut found = Vec::new();
        if sign(request)? != Some(RestartSign::Exit) {
            return Ok(found);
        }
        for view in self.backends(pool, name).await? {
            let serving = serving_at(&view.address).await.map_err(|why| {
                RegistryError::Conflict(format!(
                    "`{pool}/{}` was not drained: {why}, so nobody would notice that they end; use --restarted-when \
                     probe, or drain without --until restarted and `lameduck resume` after the restart",
                    view.name
                ))
            })?;
            found.push((BackendKey(view.id), serving.unwrap_or_default()));
        }
        Ok(found)
    }

    /// Notifies the registry when these processes have ended, for as long as the drain waits for that.
    pub(super) fn watch_serving(
        &self,
        pool: &str,
        name: &str,
        request: &DrainRequest,
        found: Vec<(BackendKey, ServingProcesses)>,
    ) {
        let Ok(order) = request::order(request, Duration::ZERO, clock::now()) else {
            return;
        };
        for (key, serving) in found {
            // If no process listens, the next one that does is a new one.
            if !serving.is_empty() {
                let drain = (order.actor, order.id.clone());
                self.watch_one(pool, name, key, drain, serving);
            }
        }
    }

    fn watch_one(
        &self,
        pool: &str,
        name: &str,
        key: BackendKey,
        (actor, id): (DrainActor, String),
        serving: ServingProcesses,
    ) {
        let pids = serving.pids();
        info!(
            pool,
            backend = name,
            ?pids,
            "the drain ends when these processes have ended"
        );
        let (handle, pool, name) = (self.clone(), pool.to_owned(), name.to_owned());
        tokio::spawn(async move {
            while handle.is_awaited(&pool, &name, key, actor, &id).await {
                for _ in 0..LOOKS {
                    if serving.have_ended() {
                        let event = BackendEvent::Ended { actor, id };
                        return handle.report(key, event, String::new());
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        });
    }

    async fn is_awaited(
        &self,
        pool: &str,
        name: &str,
        key: BackendKey,
        actor: DrainActor,
        id: &str,
    ) -> bool {
        let views = self.backends(pool, name).await.unwrap_or_default();
        let view = views.iter().find(|view| view.id == key.0);
        let mut drains = view.into_iter().flat_map(|view| &view.drains);
        let exit = Some(RestartSign::Exit.as_str());
        drains.any(|drain| {
            drain.restarted_when.as_deref() == exit
                && drain.actor == actor.as_str()
                && drain.id == id
        })
    }

    /// Returns a warning for the client that ordered this drain, which is in force nevertheless.
    pub(super) async fn warning(
        &self,
        pool: &str,
        name: &str,
        request: &DrainRequest,
    ) -> Option<String> {
        let mut warnings: Vec<String> = self.unsaved().await.into_iter().collect();
        if let Ok(Some(RestartSign::NewProcess)) = sign(request)
            && let Ok(view) = self.pool(pool).await
            && view.eligible == 0
        {
            warnings.push(format!(
                "no backend of {pool} is ready until a new process is seen behind {name} (another listening socket, an \
                 answer after a refused connect, a registration). It never is after {KEPT_SOCKET}: use --restarted-when \
                 probe or exit for those"
            ));
        }
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }
}

/// Returns the sign of the restart that ends a drain; `None`: no restart ends it.
fn sign(request: &DrainRequest) -> Result<Option<RestartSign>, RegistryError> {
    let order = request::order(request, Duration::ZERO, clock::now())?;
    Ok(order.until.sign())
}

/// Returns the processes behind an address; `None`: no process listens there, so that the next one that does is a new
/// one.
async fn serving_at(address: &str) -> Result<Option<ServingProcesses>, String> {
    let elsewhere = || {
        "its address is not one of this host's, and the processes behind it can't be seen from here"
            .to_owned()
    };
    let address: Address = address.parse().map_err(|_| elsewhere())?;
    let candidates: Vec<SocketAddr> = match &address {
        Address::Socket(address) => vec![*address],
        Address::Name(host, port) => {
            let found = tokio::time::timeout(RESOLVE, lookup_host((host.as_str(), *port))).await;
            found
                .ok()
                .and_then(Result::ok)
                .into_iter()
                .flatten()
                .collect()
        }
        Address::Unix(_) => Vec::new(),
    };
    let _turn = TURN.acquire().await;
    let looked = spawn_blocking(move || {
        let inodes = match &address {
            Address::Unix(path) => Some(accepting_at_path(path)),
            // A host name may resolve to several addresses of this host (`::1` and 127.0.0.1); the app listens at one
            // of them.
            _ => candidates
                .into_iter()
                .filter_map(accepting_at)
                .reduce(|one, other| if one.is_empty() { other } else { one }),
        };
        inodes.map(|inodes| (!inodes.is_empty()).then(|| ServingProcesses::of(&inodes)))
    });
    match looked.await.ok().flatten() {
        None => Err(elsewhere()),
        Some(Some(serving)) if serving.is_empty() => Err(
            "the processes that listen there can't be seen (they are another user's or another container's)".to_owned(),
        ),
        Some(serving) => Ok(serving),
    }
}

/// Returns why a drain may last longer than the caller expects, and what to do about it; `None`: no reason is known.
pub(super) fn unseen(pool: &str, name: &str, drain: &OpenDrain) -> Option<String> {
    let sign = drain.until.sign().filter(|_| drain.unseen)?;
    let why = match sign {
        RestartSign::NewProcess | RestartSign::Probe => format!(
            "the same process still passes its probes, and no new one is seen. It never is after {KEPT_SOCKET}: use \
             --restarted-when probe or exit for those"
        ),
        RestartSign::Exit => "a process that accepted connections when it was drained still does, and passes its probes. \
                              If it is to stay, use --restarted-when probe"
            .to_owned(),
    };
    let lasts = match drain.expires {
        Some(at) => format!("it stays closed until {}", clock::rfc3339(clock::wall(at))),
        None => "it stays closed".to_owned(),
    };
    let actor = match drain.actor {
        DrainActor::Supervisor => " --actor supervisor",
        _ => "",
    };
    Some(format!(
        "{why}. Otherwise {lasts}; `lameduck resume {pool}/{name}{actor}` opens it now"
    ))
}

/// Returns a drain as the API shows it.
pub(super) fn view(pool: &str, name: &str, drain: &OpenDrain) -> DrainView {
    let people = |at| clock::rfc3339(clock::wall(at));
    let sign = drain.until.sign().map(RestartSign::as_str);
    DrainView {
        actor: drain.actor.as_str().to_owned(),
        id: drain.id.clone(),
        reason: drain.reason.clone(),
        since: people(drain.since),
        deadline: drain.deadline.map(people),
        until: drain.until.as_str().to_owned(),
        restarted_when: sign.map(str::to_owned),
        expires: drain.expires.map(people),
        warning: unseen(pool, name, drain),
    }
}

impl RegistryWriter {
    /// Records for which processes' end a drain waits, so that the next run can continue to wait.
    pub(super) fn note_awaited(
        &mut self,
        request: &DrainRequest,
        serving: Vec<(BackendKey, ServingProcesses)>,
    ) {
        let Ok(order) = request::order(request, Duration::ZERO, clock::now()) else {
            return;
        };
        let drain = (order.actor, order.id);
        for (key, serving) in serving {
            let Some(pool) = self.home_mut(key) else {
                continue;
            };
            let (Some(member), Some(backend)) = (pool.members.get_mut(&key), pool.core.get(&key))
            else {
                continue;
            };
            let is_open = |of: &(DrainActor, String)| backend.drains().any(|(open, _)| open == of);
            member.awaited.retain(|of, _| is_open(of));
            member.awaited.insert(drain.clone(), serving);
        }
    }

    /// Continues to wait for the end of processes that a drain of the last run waited for. They may have ended
    /// meanwhile.
    pub(super) fn watch_again(&mut self, key: BackendKey, kept: &[DrainRecord]) {
        let handle = self.handle.clone();
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let pool_name = pool.name.clone();
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        for record in kept {
            let order = record.order();
            if order.until.sign() != Some(RestartSign::Exit) {
                continue;
            }
            let drain = (order.actor, order.id);
            let (name, address) = (member.base.clone(), member.endpoint.address.to_string());
            match record.awaited() {
                Some(serving) => {
                    member.awaited.insert(drain.clone(), serving.clone());
                    handle.watch_one(&pool_name, &name, key, drain, serving.clone());
                }
                // The record is from a lameduck that did not save the processes: take those that are there now.
                None => {
                    let (handle, pool) = (handle.clone(), pool_name.clone());
                    tokio::spawn(async move {
                        if let Ok(Some(serving)) = serving_at(&address).await {
                            handle.watch_one(&pool, &name, key, drain, serving);
                        }
                    });
                }
            }
        }
    }

    /// Reports a drain that waits for a restart of which no sign has been seen for some time.
    pub(super) fn tell_unseen(&mut self, key: BackendKey, actor: DrainActor, id: &str) {
        let Some(state) = self.home_mut(key) else {
            return;
        };
        let Some(member) = state.members.get(&key) else {
            return;
        };
        let (pool, name) = (state.name.clone(), member.endpoint.name.clone());
        let drain = state.core.get(&key).and_then(|backend| {
            let mut drains = backend.drains();
            drains.find(|((whose, which), _)| *whose == actor && which == id)
        });
        let why = drain.and_then(|(_, drain)| unseen(&pool, &name, drain));
        let Some(why) = why else { return };
        warn!(%pool, backend = %name, actor = actor.as_str(), id, "drained until it restarts: {why}");
        self.event(
            EventKind::Drain,
            Some((&pool, &name)),
            None,
            Some("unseen"),
            why,
        );
    }
}
