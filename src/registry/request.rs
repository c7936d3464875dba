//! What people ask for, as the core takes it: names become types, durations become times.

use std::time::Duration;

use super::handle::Refusal;
use super::own_listeners::OwnListeners;
use super::view::{DrainRequest, RegisterRequest, ResumeRequest};
use crate::config::{Address, check_name};
use crate::core::Time;
use crate::core::backend::Event;
use crate::core::drain::{Actor, Order, Until};

/// A supervisor's drain ends by itself this long after its deadline (a crashed deploy must not strand a backend).
const SUPERVISOR_GRACE: Duration = Duration::from_secs(60);

/// More is a slip of the pen, and clocks would overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The order that a request means. `default`: its deadline, from now, if it names none.
pub fn order(request: &DrainRequest, default: Duration, now: Time) -> Result<Order, Refusal> {
    let duration = |text: &Option<String>| text.as_deref().map(parse_duration).transpose();
    let timeout = duration(&request.timeout)?.unwrap_or(default);
    let actor = actor(request.actor.as_deref())?;
    let until = match request.until.as_deref() {
        None | Some("resumed") => Until::Resumed,
        Some("restarted") => Until::Restarted,
        Some(other) => {
            return Err(Refusal::Invalid(format!(
                "until `{other}` is not known: use \"resumed\" or \"restarted\""
            )));
        }
    };
    let expires = match duration(&request.expires)? {
        Some(expires) => Some(now + expires),
        None if actor == Actor::Supervisor => Some(now + timeout + SUPERVISOR_GRACE),
        None => None,
    };
    let or_actor = |text: &Option<String>| text.clone().unwrap_or_else(|| actor.as_str().into());
    Ok(Order {
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

/// Which drains a resume lifts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Everybody's.
    All,
    /// Every operator's.
    Operators,
    /// This one.
    One(Actor, String),
}

impl Which {
    /// Whether a drain of this actor and id is meant.
    pub fn means(&self, actor: Actor, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Operators => actor == Actor::Operator,
            Self::One(whose, which) => *whose == actor && which == id,
        }
    }

    /// What the core is told.
    pub fn event(&self) -> Event {
        match self {
            Self::All => Event::Resume { all: true },
            Self::Operators => Event::Resume { all: false },
            Self::One(actor, id) => Event::Withdrawn {
                actor: *actor,
                id: id.clone(),
            },
        }
    }
}

/// Which drains a request means: without actor and id, every operator's.
pub fn which(request: &ResumeRequest) -> Result<Which, Refusal> {
    if request.all {
        return Ok(Which::All);
    }
    if request.actor.is_none() && request.id.is_none() {
        return Ok(Which::Operators);
    }
    let actor = actor(request.actor.as_deref())?;
    let id = request.id.clone();
    Ok(Which::One(
        actor,
        id.unwrap_or_else(|| actor.as_str().to_owned()),
    ))
}

/// Who asks; an operator, where nobody says.
fn actor(name: Option<&str>) -> Result<Actor, Refusal> {
    match name {
        None | Some("operator") => Ok(Actor::Operator),
        Some("supervisor") => Ok(Actor::Supervisor),
        Some(other) => Err(Refusal::Invalid(format!(
            "actor `{other}` can't drain or resume: use \"operator\" or \"supervisor\""
        ))),
    }
}

/// The order that ends with the backend's leaving: nothing lifts it.
pub fn leaving(reason: String, deadline: Time) -> Order {
    Order {
        actor: Actor::Config,
        id: "leaving".to_owned(),
        reason,
        deadline: Some(deadline),
        until: Until::Resumed,
        expires: None,
    }
}

/// The address and weight that a registration means.
pub fn registration(
    name: &str,
    request: &RegisterRequest,
    own: &OwnListeners,
) -> Result<(Address, u32), Refusal> {
    let address = request.address.parse::<Address>();
    let address =
        address.map_err(|error| Refusal::Invalid(format!("`{}`: {error}", request.address)))?;
    check_name(name).map_err(Refusal::Invalid)?;
    own.check_address(&address).map_err(|error| {
        Refusal::Invalid(format!(
            "`{address}`: {error}; give the address that the app listens on"
        ))
    })?;
    match request.weight.unwrap_or(1) {
        weight @ 0..=1000 => Ok((address, weight)),
        weight => Err(Refusal::Invalid(format!(
            "weight {weight} is out of range: use 0 to 1000"
        ))),
    }
}

/// Parses a duration such as `30s`.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let duration = humantime::parse_duration(text).map_err(|error| {
        Refusal::Invalid(format!(
            "`{text}` is not a duration ({error}); write it like \"30s\" or \"500ms\""
        ))
    })?;
    if duration > LONGEST {
        let refusal = format!("`{text}` is longer than a year; use at most \"1y\"");
        return Err(Refusal::Invalid(refusal));
    }
    Ok(duration)
}
