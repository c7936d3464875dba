//! The lease: a thread that holds it, and asks again when it breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::mailbox::Post;
use crate::client::blocking::{AdminCallError, AdminRemote, HangUp};
use crate::client::names::{BackendName, segment};
use crate::core::launch::{DrainEnd, LaunchEvent};
use crate::registry::view::{LeaseEvent, LeaseRequest};
use crate::rt::output::complain;

/// Between two attempts: a proxy that was restarted knows us again within a second.
const PAUSE: Duration = Duration::from_millis(100);
/// The proxy answers and refuses: it is not about to change its mind.
const REFUSED: Duration = Duration::from_secs(1);
/// The threads do little: their stacks may be small.
const STACK: usize = 128 << 10;
/// How long a drain is asked for before that is given up.
const INSIST: Duration = Duration::from_secs(2);

/// What is to be registered.
#[derive(Debug, Clone)]
pub struct LeasedInstance {
    /// How the proxy is reached.
    pub remote: AdminRemote,
    /// As whom.
    pub backend: BackendName,
    /// Its share.
    pub weight: Option<u32>,
    /// It gets requests only while no other is ready.
    pub backup: bool,
    /// The host that the proxy is told, instead of what we find.
    pub advertise: Option<String>,
    /// The app's process.
    pub pid: u32,
    /// Tells this launcher from every other one.
    pub nonce: String,
}

/// What is known of the lease.
#[derive(Debug, Default)]
struct LeaseState {
    id: Option<String>,
    connection: Option<HangUp>,
    /// For people: what the proxy last said, or why there is no lease.
    status: String,
}

/// A lease that is kept up.
#[derive(Debug, Clone)]
pub struct Link {
    instance: Arc<LeasedInstance>,
    held: Arc<Mutex<LeaseState>>,
    stopped: Arc<AtomicBool>,
    post: Post,
}

impl Link {
    /// Nothing is asked for yet.
    pub fn new(instance: LeasedInstance, post: Post) -> Self {
        Self {
            instance: Arc::new(instance),
            held: Arc::default(),
            stopped: Arc::default(),
            post,
        }
    }

    /// Asks for a lease, and again whenever it breaks.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn keep(&self, address: SocketAddr) -> std::io::Result<()> {
        let link = self.clone();
        let thread = thread::Builder::new()
            .name("lease".to_owned())
            .stack_size(STACK);
        thread.spawn(move || link.keep_lease(address)).map(drop)
    }

    /// From now on, a lease that breaks stays broken.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Ends the lease.
    pub fn hang_up(&self) {
        self.stop();
        if let Some(connection) = &self.held().connection {
            connection.now();
        }
    }

    /// What the proxy last said, or why there is no lease.
    pub fn status(&self) -> String {
        self.held().status.clone()
    }

    /// Asks for the drain; its end comes over the lease.
    pub fn drain(&self, timeout: Duration, reason: String) {
        let body = json!({ "timeout": format!("{}ms", timeout.as_millis()), "reason": reason, "wait": false });
        self.ask("drain", move |lease| {
            (format!("/v1/leases/{}/drain", segment(lease)), body.clone())
        });
    }

    /// Asks the proxy to be lame duck.
    pub fn lame_duck(&self, reason: String) {
        self.ask("lame duck", move |lease| {
            (
                "/v1/lame-duck".to_owned(),
                json!({ "lease": lease, "reason": reason }),
            )
        });
    }

    fn ask(
        &self,
        what: &'static str,
        request: impl Fn(&str) -> (String, serde_json::Value) + Send + 'static,
    ) {
        let link = self.clone();
        let asking = move || {
            let Some(lease) = link.held().id.clone() else {
                // That it broke has been said.
                return;
            };
            let (path, body) = request(&lease);
            let begun = Instant::now();
            loop {
                let why = match link.instance.remote.call("POST", &path, Some(&body)) {
                    Ok(_) => return,
                    Err(AdminCallError::Refused {
                        status: 503,
                        detail,
                        ..
                    }) if begun.elapsed() > INSIST => detail,
                    Err(AdminCallError::Unreachable(why)) if begun.elapsed() > INSIST => why,
                    Err(AdminCallError::Refused { status, detail, .. }) if status != 503 => detail,
                    Err(_) => {
                        thread::sleep(PAUSE);
                        continue;
                    }
                };
                match what {
                    "drain" => link.post.send(LaunchEvent::DrainRefused(why)),
                    _ => complain(&format!("exec: the proxy does not become lame duck: {why}")),
                }
                return;
            }
        };
        let thread = thread::Builder::new()
            .name("ask".to_owned())
            .stack_size(STACK);
        if let Err(error) = thread.spawn(asking) {
            self.post.send(LaunchEvent::DrainRefused(error.to_string()));
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
                        complain("exec: the proxy has ended the lease; asking for it again");
                    }
                    PAUSE
                }
                Err(failure) => {
                    let (why, pause) = match failure {
                        AdminCallError::Unreachable(why) => (why, PAUSE),
                        AdminCallError::Refused { detail, .. } => (detail, REFUSED),
                    };
                    if said != why {
                        complain(&format!(
                            "exec: not registered: {why} Trying again and again."
                        ));
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
        let LeasedInstance {
            remote, backend, ..
        } = &*self.instance;
        let path = format!("{}/lease", backend.path());
        let mut lines = remote.open("POST", &path, |outside| {
            serde_json::to_value(self.request(address, outside)).ok()
        })?;
        self.held().connection = lines.hang_up();
        while let Some(line) = lines.read() {
            // Lines of a newer proxy that we don't know change nothing.
            if let Ok(event) = serde_json::from_str(&line) {
                self.tell(event);
            }
        }
        *self.held() = LeaseState {
            status: "the proxy has ended the lease".to_owned(),
            ..LeaseState::default()
        };
        self.post.send(LaunchEvent::LeaseLost);
        Ok(())
    }

    fn request(&self, mut address: SocketAddr, outside: Option<std::net::IpAddr>) -> LeaseRequest {
        // A proxy elsewhere does not reach our loopback.
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
                self.post.send(LaunchEvent::Registered);
                self.post.send(LaunchEvent::Ready(state == "ready"));
            }
            LeaseEvent::State { state, reason, .. } => {
                self.held().status = format!("{state}: {reason}");
                self.post.send(LaunchEvent::Ready(state == "ready"));
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
                let ending = match ended.outcome.as_str() {
                    "timed_out" => DrainEnd::TimedOut { cut: ended.cut },
                    "died" => DrainEnd::Died { lost: ended.lost },
                    "resumed" => DrainEnd::Resumed,
                    _ => DrainEnd::Drained,
                };
                self.post.send(LaunchEvent::Drained(ending));
            }
            LeaseEvent::Left => {}
        }
    }
}
