//! The lease with one proxy: a thread holds it, and requests it again when it breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::mailbox::EventSender;
use crate::client::blocking::{AdminCallError, AdminRemote, HangUp};
use crate::client::names::{BackendName, segment};
use crate::core::drain::DrainOutcome;
use crate::core::launch::proxies::ProxyEvent;
use crate::registry::view::{LeaseEvent, LeaseRequest};
use crate::rt::output::complain;

/// Time between two attempts; a restarted proxy recognises the app within a second.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Time until the next attempt after the proxy has refused, because it will hardly change its mind.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Stack size of the threads, which do little.
const STACK_SIZE: usize = 128 << 10;
/// Time for which a drain is requested before that is given up.
const DRAIN_REQUEST_TIME: Duration = Duration::from_secs(2);
/// Longest wait for one of several proxies that does not answer at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two checks whether new requests still arrive.
const QUIET_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The instance to register.
#[derive(Debug, Clone)]
pub(super) struct LeasedInstance {
    /// Name of the backend.
    pub backend: BackendName,
    /// Weight of the backend.
    pub weight: Option<u32>,
    /// Whether the backend gets requests only while no other one is ready.
    pub backup: bool,
    /// Zone of the backend.
    pub zone: Option<String>,
    /// Host that is reported to the proxy, instead of the one that is found.
    pub advertise: Option<String>,
    /// Process id of the app.
    pub pid: u32,
    /// Random text that distinguishes this launcher from every other one.
    pub nonce: String,
}

/// State of the lease.
#[derive(Debug, Default)]
struct LeaseState {
    id: Option<String>,
    connection: Option<HangUp>,
    /// Last message of the proxy, or why there is no lease; for users.
    status: String,
}

/// A lease with one proxy that is requested again when it breaks.
#[derive(Debug, Clone)]
pub(super) struct LeaseLink {
    /// Client of the proxy.
    remote: AdminRemote,
    /// Whether this is the only proxy.
    is_alone: bool,
    instance: Arc<LeasedInstance>,
    held: Arc<Mutex<LeaseState>>,
    stopped: Arc<AtomicBool>,
    post: EventSender,
}

impl LeaseLink {
    /// A link that does not request anything yet.
    pub(super) fn new(
        remote: AdminRemote,
        instance: LeasedInstance,
        post: EventSender,
        is_alone: bool,
    ) -> Self {
        Self {
            remote,
            is_alone,
            instance: Arc::new(instance),
            held: Arc::default(),
            stopped: Arc::default(),
            post,
        }
    }

    /// Requests a lease, and again whenever it breaks.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn keep(&self, address: SocketAddr) -> std::io::Result<()> {
        let link = self.clone();
        let thread = thread::Builder::new()
            .name("lease".to_owned())
            .stack_size(STACK_SIZE);
        thread.spawn(move || link.keep_lease(address)).map(drop)
    }

    /// Does not request the lease again when it breaks from now on.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Ends the lease.
    pub(super) fn hang_up(&self) {
        self.stop();
        if let Some(connection) = &self.held().connection {
            connection.now();
        }
    }

    /// Last message of the proxy, or why there is no lease.
    pub(super) fn status(&self) -> String {
        self.held().status.clone()
    }

    /// Name of the proxy in messages.
    pub(super) fn name(&self) -> String {
        self.remote.name()
    }

    /// Prints a message about this proxy, with its name if there are several.
    fn complain(&self, text: &str) {
        match self.is_alone {
            true => complain(&format!("exec: {text}")),
            false => complain(&format!("exec: {}: {text}", self.name())),
        }
    }

    /// Requests the drain; its end is reported over the lease.
    pub(super) fn drain(&self, deadline: Instant, reason: &str) {
        let reason = reason.to_owned();
        self.ask("drain", deadline, move |lease| {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = format!("{}ms", left.as_millis());
            let body = json!({ "timeout": timeout, "reason": reason, "wait": false });
            (format!("/v1/leases/{}/drain", segment(lease)), body)
        });
    }

    /// Makes the proxy lame duck. With `until_quiet`, also reports when no new requests arrive any more.
    pub(super) fn lame_duck(&self, reason: &str, until_quiet: bool) {
        let reason = reason.to_owned();
        self.ask("lame duck", Instant::now(), move |lease| {
            let body = json!({ "lease": lease, "reason": reason });
            ("/v1/lame-duck".to_owned(), body)
        });
        if until_quiet {
            self.listen();
        }
    }

    /// Checks again and again whether new requests arrive, and reports when none do.
    fn listen(&self) {
        let link = self.clone();
        let listening = move || {
            let mut is_lame = false;
            while link.held().id.is_some() {
                match link.remote.call("GET", "/v1/lame-duck", None) {
                    Ok(state) if state["quiet"] == true => {
                        return link.post.send(ProxyEvent::Quiet);
                    }
                    // The lame duck was lifted, so there is nothing to wait for.
                    Ok(state) if is_lame && state["lame_duck"] == false => {
                        return link.post.send(ProxyEvent::Quiet);
                    }
                    Ok(state) => is_lame |= state["lame_duck"] == true,
                    Err(_) => {}
                }
                thread::sleep(QUIET_CHECK_INTERVAL);
            }
        };
        let thread = thread::Builder::new()
            .name("listen".to_owned())
            .stack_size(STACK_SIZE);
        // Without this report, the lame duck has its longest duration.
        drop(thread.spawn(listening));
    }

    /// Makes a request under the present lease until it is granted, refused, or given up. With several proxies, the
    /// launcher soon stops waiting for one that does not answer, but the request is repeated until `deadline`: even a
    /// late one is useful.
    fn ask(
        &self,
        what: &'static str,
        deadline: Instant,
        request: impl Fn(&str) -> (String, serde_json::Value) + Send + 'static,
    ) {
        let link = self.clone();
        let asking = move || {
            let begun = Instant::now();
            let remote = match link.is_alone {
                true => link.remote.clone(),
                false => link.remote.clone().within(STOP_TIMEOUT),
            };
            let mut is_given_up = false;
            loop {
                let mut is_final = link.is_alone;
                let lease = link.held().id.clone();
                let answer = match &lease {
                    Some(lease) => {
                        let (path, body) = request(lease);
                        remote.call("POST", &path, Some(&body))
                    }
                    // Another attempt to get it is under way.
                    None => Err(AdminCallError::Unreachable(
                        "it has not granted the lease again".to_owned(),
                    )),
                };
                let why = match answer {
                    Ok(_) if is_given_up => {
                        return link.complain("it has learnt of the drain, late");
                    }
                    Ok(_) => return,
                    Err(_) if is_given_up && Instant::now() < deadline => {
                        thread::sleep(RETRY_PAUSE);
                        continue;
                    }
                    Err(_) if is_given_up => return,
                    Err(AdminCallError::Refused {
                        status: 503,
                        detail,
                        ..
                    }) if begun.elapsed() > DRAIN_REQUEST_TIME => detail,
                    Err(AdminCallError::Unreachable(why))
                        if begun.elapsed() > DRAIN_REQUEST_TIME =>
                    {
                        why
                    }
                    // A refusal of an earlier lease says nothing about the present one.
                    Err(AdminCallError::Refused { status, detail, .. })
                        if status != 503 && lease == link.held().id =>
                    {
                        is_final = true;
                        detail
                    }
                    Err(_) => {
                        thread::sleep(RETRY_PAUSE);
                        continue;
                    }
                };
                match what {
                    "drain" => link.post.send(ProxyEvent::DrainRefused(why)),
                    _ => link.complain(&format!("the proxy does not become lame duck: {why}")),
                }
                if is_final {
                    return;
                }
                is_given_up = true;
            }
        };
        let thread = thread::Builder::new()
            .name("ask".to_owned())
            .stack_size(STACK_SIZE);
        if let Err(error) = thread.spawn(asking) {
            self.post.send(ProxyEvent::DrainRefused(error.to_string()));
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, LeaseState> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_lease(&self, address: SocketAddr) {
        let mut said = String::new();
        while !self.stopped.load(Ordering::SeqCst) {
            let pause = match self.hold(address) {
                Ok(()) => {
                    said.clear();
                    if !self.stopped.load(Ordering::SeqCst) {
                        self.complain("the proxy has ended the lease; asking for it again");
                    }
                    RETRY_PAUSE
                }
                Err(failure) => {
                    let (why, pause) = match failure {
                        AdminCallError::Unreachable(why) => (why, RETRY_PAUSE),
                        AdminCallError::Refused { detail, .. } => (detail, REFUSED_PAUSE),
                    };
                    if said != why {
                        self.post.send(ProxyEvent::Unreachable);
                        self.complain(&format!("not registered: {why} Trying again and again."));
                        said.clone_from(&why);
                    }
                    self.held().status = why;
                    pause
                }
            };
            thread::sleep(pause);
        }
    }

    /// Holds one lease until it breaks.
    fn hold(&self, address: SocketAddr) -> Result<(), AdminCallError> {
        let path = format!("{}/lease", self.instance.backend.path());
        let mut lines = self.remote.open("POST", &path, |outside| {
            serde_json::to_value(self.request(address, outside)).ok()
        })?;
        self.held().connection = lines.hang_up();
        while let Some(line) = lines.read() {
            // Lines that only a newer proxy sends are ignored.
            if let Ok(event) = serde_json::from_str(&line) {
                self.tell(event);
            }
        }
        *self.held() = LeaseState {
            status: "the proxy has ended the lease".to_owned(),
            ..LeaseState::default()
        };
        self.post.send(ProxyEvent::LeaseLost);
        Ok(())
    }

    fn request(&self, mut address: SocketAddr, outside: Option<std::net::IpAddr>) -> LeaseRequest {
        // A proxy on another host can't reach our loopback address.
        if let Some(ip) = outside.filter(|_| address.ip().is_loopback()) {
            address.set_ip(ip);
        }
        let address = match &self.instance.advertise {
            Some(host) if host.contains(':') => format!("[{host}]:{}", address.port()),
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        };
        LeaseRequest {
            address,
            weight: self.instance.weight,
            backup: self.instance.backup,
            zone: self.instance.zone.clone(),
            pid: Some(self.instance.pid),
            nonce: Some(self.instance.nonce.clone()),
        }
    }

    fn tell(&self, event: LeaseEvent) {
        match event {
            LeaseEvent::Registered {
                lease,
                name,
                incarnation,
                state,
                pool,
            } => {
                let mut held = self.held();
                held.id = Some(lease);
                held.status =
                    format!("registered as {pool}/{name}, incarnation {incarnation}, {state}");
                drop(held);
                self.post.send(ProxyEvent::Registered);
                self.post.send(ProxyEvent::Ready(state == "ready"));
            }
            LeaseEvent::State { state, reason, .. } => {
                self.held().status = format!("{state}: {reason}");
                self.post.send(ProxyEvent::Ready(state == "ready"));
            }
            LeaseEvent::Alive {
                state, last_probe, ..
            } => {
                self.held().status = match last_probe {
                    Some(probe) => format!("{state}; the last health check: {probe}"),
                    None => state,
                };
            }
            LeaseEvent::Drain(ended) => {
                // Another release may have other words for an ended drain, but it has ended.
                let ending = ended.ending().unwrap_or(DrainOutcome::Drained);
                self.post.send(ProxyEvent::Drained(ending));
            }
            LeaseEvent::Left => {}
        }
    }
}
