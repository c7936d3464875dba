//! One backend as the registry keeps it: where it came from, who probes it, who waits for it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::endpoint::Endpoint;
use super::probing::{Cadence, Prober};
use super::view::{BackendView, DrainResponse, DrainView};
use crate::clock;
use crate::config::Address;
use crate::core::Time;
use crate::core::backend::{Backend, Health, State};
use crate::core::drain::{Actor, Drain, Outcome, Until};

/// Where a backend came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration file (or `--backend`).
    Config,
    /// `register` or the API.
    Api,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::Config => "config",
            Source::Api => "api",
        }
    }
}

/// One backend, with what the core does not need to know.
pub struct Member {
    /// The data plane's side.
    pub endpoint: Arc<Endpoint>,
    /// Its name without `~2`.
    pub base: String,
    /// Where it came from.
    pub source: Source,
    /// Its prober.
    pub prober: Box<dyn Prober>,
    /// What the prober was last told.
    pub cadence: Cadence,
    /// The last probe, for people.
    pub last_probe: Option<String>,
    /// The first probe has ended.
    pub probed: bool,
    /// Those who wait for the drain's end.
    pub waiters: Vec<oneshot::Sender<DrainResponse>>,
    /// Since when it drains.
    pub draining_since: Option<Time>,
    /// It goes when it has drained.
    pub leaving: bool,
}

impl Member {
    /// Tells everybody who waits how the drain ended.
    pub fn announce(&mut self, outcome: Outcome) -> DrainResponse {
        let waited = self
            .draining_since
            .map(|since| clock::now().saturating_sub(since));
        let (name, cut, lost) = match outcome {
            Outcome::Drained => ("drained", 0, 0),
            Outcome::TimedOut { cut } => ("timed_out", cut, 0),
            Outcome::Died { lost } => ("died", 0, lost),
            Outcome::Resumed => ("resumed", 0, 0),
        };
        let response = DrainResponse {
            outcome: name.to_owned(),
            in_flight: self.endpoint.gate.in_flight(),
            cut,
            lost,
            waited_ms: waited.unwrap_or_default().as_millis() as u64,
        };
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(response.clone());
        }
        response
    }

    /// Passes a changed cadence on.
    pub fn set_cadence(&mut self, cadence: Cadence) {
        if self.cadence != cadence {
            self.cadence = cadence;
            self.prober.set(cadence);
        }
    }

    /// As people see it.
    pub fn view(&self, backend: &Backend) -> BackendView {
        BackendView {
            name: self.endpoint.name.to_string(),
            address: address_text(&self.endpoint.address),
            weight: self.endpoint.weight(),
            incarnation: backend.incarnation(),
            state: state_name(backend.state()).to_owned(),
            health: match backend.health() {
                Health::Starting => "starting",
                Health::Up => "up",
                Health::Down => "down",
            }
            .to_owned(),
            source: self.source.as_str().to_owned(),
            last_probe: self.last_probe.clone(),
            drains: backend
                .drains()
                .map(|(_, drain)| drain_view(drain))
                .collect(),
            in_flight: self.endpoint.gate.in_flight(),
            connections: self.endpoint.connections.open(),
            requests: self.endpoint.counters.requests(),
        }
    }
}

/// The state's name in API, metrics and logs.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Drained => "drained",
        State::Draining => "draining",
        State::Starting => "starting",
        State::Down => "down",
        State::Ready => "ready",
    }
}

/// The actor's name in API and logs.
pub fn actor_name(actor: Actor) -> &'static str {
    match actor {
        Actor::App => "app",
        Actor::Supervisor => "supervisor",
        Actor::Operator => "operator",
        Actor::Config => "config",
    }
}

/// An address as the config writes it.
pub fn address_text(address: &Address) -> String {
    match address {
        Address::Socket(address) => address.to_string(),
        Address::Name(host, port) => format!("{host}:{port}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn drain_view(drain: &Drain) -> DrainView {
    let people = |at: Time| clock::rfc3339(clock::wall(at));
    DrainView {
        actor: actor_name(drain.actor).to_owned(),
        id: drain.id.clone(),
        reason: drain.reason.clone(),
        since: people(drain.since),
        deadline: drain.deadline.map(people),
        until: match drain.until {
            Until::Resumed => "resumed",
            Until::Restarted => "restarted",
        }
        .to_owned(),
        expires: drain.expires.map(people),
    }
}
