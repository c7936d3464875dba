//! Conversion of operators' requests into the core's form: names become types, durations become times.

use std::time::Duration;

use super::bounds;
use super::handle::RegistryError;
use super::own_listeners::OwnListeners;
use super::owner;
use super::view::{DrainRequest, RegisterRequest, ResumeRequest};
use crate::config::{Address, check_name, duration};
use crate::core::Time;
use crate::core::backend::{BackendEvent, BackendState};
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil, RestartSign};

/// Time after its deadline at which a supervisor's drain expires: a crashed deployment must not leave a backend
/// drained for good.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(60);

/// Converts a drain request into an order. `default`: its deadline, from now, if the request has none.
pub(super) fn order(
    request: &DrainRequest,
    default: Duration,
    now: Time,
) -> Result<DrainSpec, RegistryError> {
    let duration = |text: &Option<String>| text.as_deref().map(parse_duration).transpose();
    let timeout = duration(&request.timeout)?.unwrap_or(default);
    bounds::check_reason(request.reason.as_deref())?;
    bounds::check_id("id", request.id.as_deref())?;
    let actor = actor(request.actor.as_deref())?;
    let sign = request.restarted_when.as_deref().map(restart_sign);
    let sign = sign.transpose()?;
    if sign.is_some() && request.until.as_deref() != Some("restarted") {
        return Err(RegistryError::Invalid(
            "`restarted_when` says what ends a drain that ends with a restart: add until \"restarted\", or leave it out"
                .to_owned(),
        ));
    }
    let until = match request.until.as_deref() {
        None | Some("resumed") => DrainUntil::Resumed,
        Some("restarted") => DrainUntil::Restarted(sign.unwrap_or_default()),
        Some(other) => {
            return Err(RegistryError::Invalid(format!(
                "until `{other}` is not known: use \"resumed\" or \"restarted\""
            )));
        }
    };
    let expires = match duration(&request.expires)? {
        Some(expires) => Some(now + expires),
        None if actor == DrainActor::Supervisor => Some(now + timeout + SUPERVISOR_GRACE),
        None => None,
    };
    let or_actor = |text: &Option<String>| text.clone().unwrap_or_else(|| actor.as_str().into());
    Ok(DrainSpec {
        actor,
        id: or_actor(&request.id),
        reason: match &request.reason {
            Some(reason) => reason.clone(),
            None => format!("asked by {}", actor.as_str()),
        },
        deadline: Some(now + timeout),
        until,
        expires,
    })
}

/// Returns the sign of a restart with this name.
fn restart_sign(name: &str) -> Result<RestartSign, RegistryError> {
    RestartSign::named(name).ok_or_else(|| {
        let known = RestartSign::ALL.map(|sign| format!("\"{}\"", sign.as_str()));
        RegistryError::Invalid(format!(
            "restarted_when `{}` is not known: use {}",
            name.escape_debug(),
            known.join(", ")
        ))
    })
}

/// The drains that a resume lifts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResumeScope {
    /// All drains.
    All,
    /// All drains of operators.
    Operators,
    /// The drain of this actor with this ID.
    One(DrainActor, String),
    /// All drains that this user has ordered through the socket for apps.
    Owner(u32),
}

impl ResumeScope {
    /// Whether a drain of this actor with this ID is lifted.
    pub(super) fn covers_drain(&self, actor: DrainActor, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Operators => actor == DrainActor::Operator,
            Self::One(whose, which) => *whose == actor && which == id,
            Self::Owner(owner) => actor == DrainActor::Supervisor && owner::is_drain_of(*owner, id),
        }
    }

    /// Whether ejections end, too: not if only one drain is to be lifted.
    pub(super) fn covers_ejections(&self) -> bool {
        matches!(self, Self::All | Self::Operators)
    }

    /// Returns the events for the core that lift the drains of this backend.
    pub(super) fn events(&self, backend: &BackendState) -> Vec<BackendEvent> {
        match self {
            Self::All => vec![BackendEvent::Resume { all: true }],
            Self::Operators => vec![BackendEvent::Resume { all: false }],
            Self::One(actor, id) => vec![BackendEvent::Withdrawn {
                actor: *actor,
                id: id.clone(),
            }],
            Self::Owner(_) => {
                let meant = backend.drains();
                let meant = meant.filter(|((actor, id), _)| self.covers_drain(*actor, id));
                let withdrawn = meant.map(|((actor, id), _)| BackendEvent::Withdrawn {
                    actor: *actor,
                    id: id.clone(),
                });
                withdrawn.collect()
            }
        }
    }
}

/// Returns the drains that a request refers to: without actor and ID, every operator's.
pub(super) fn which(request: &ResumeRequest) -> Result<ResumeScope, RegistryError> {
    if request.all {
        return Ok(ResumeScope::All);
    }
    if request.actor.is_none() && request.id.is_none() {
        return Ok(ResumeScope::Operators);
    }
    let actor = actor(request.actor.as_deref())?;
    let id = request.id.clone();
    Ok(ResumeScope::One(
        actor,
        id.unwrap_or_else(|| actor.as_str().to_owned()),
    ))
}

/// Returns the actor with this name; by default an operator.
fn actor(name: Option<&str>) -> Result<DrainActor, RegistryError> {
    match name {
        None | Some("operator") => Ok(DrainActor::Operator),
        Some("supervisor") => Ok(DrainActor::Supervisor),
        Some(other) => Err(RegistryError::Invalid(format!(
            "actor `{other}` can't drain or resume: use \"operator\" or \"supervisor\""
        ))),
    }
}

/// Returns the order for a drain with which a backend leaves: nothing lifts it.
pub(super) fn leaving(reason: String, deadline: Time) -> DrainSpec {
    DrainSpec {
        actor: DrainActor::Config,
        id: "leaving".to_owned(),
        reason,
        deadline: Some(deadline),
        until: DrainUntil::Resumed,
        expires: None,
    }
}

/// Returns the address and weight of a registration.
pub(super) fn registration(
    name: &str,
    request: &RegisterRequest,
    own: &OwnListeners,
) -> Result<(Address, u32), RegistryError> {
    bounds::check_address(&request.address)?;
    let address = request.address.parse::<Address>();
    let address = address
        .map_err(|error| RegistryError::Invalid(format!("`{}`: {error}", request.address)))?;
    check_name(name).map_err(RegistryError::Invalid)?;
    if let Some(zone) = &request.zone {
        check_name(zone).map_err(|why| {
            RegistryError::Invalid(format!("zone `{}`: {why}", zone.escape_debug()))
        })?;
    }
    own.check_address(&address).map_err(|error| {
        RegistryError::Invalid(format!(
            "`{address}`: {error}; give the address that the app listens on"
        ))
    })?;
    match request.weight.unwrap_or(1) {
        weight @ 0..=1000 => Ok((address, weight)),
        weight => Err(RegistryError::Invalid(format!(
            "weight {weight} is out of range: use 0 to 1000"
        ))),
    }
}

/// Parses a duration such as `30s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, RegistryError> {
    duration::parse(text).map_err(|why| {
        let short: String = text.chars().take(100).collect();
        RegistryError::Invalid(format!(
            "`{}` can't be taken as a duration: {why}; write it like \"30s\", \"500ms\" or \"1m30s\"; a year (\"365d\") is the most",
            short.escape_debug()
        ))
    })
}
