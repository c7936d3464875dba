//! What survives a restart of the proxy, in `[server] state_dir`: drains that somebody asked for, and backends
//! that were registered. What the app itself says (its 503) is not kept: the next probe finds it again.
//!
//! Times are the wall clock's, because the file outlives the process. One file, replaced as a whole: a crash
//! leaves the old one or the new one. One that can't be read is moved aside and told about; it never keeps the
//! proxy from starting.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::member::Source;
use super::pool::PoolState;
use crate::clock;
use crate::core::drain;

/// The file's name in `state_dir`.
pub const FILE: &str = "state.json";
/// Written first, then renamed.
const NEW: &str = "state.json.new";
/// Where a file goes that can't be read.
const BAD: &str = "state.json.bad";
/// The form of the file. A higher one was written by a newer lameduck.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Open drains.
    pub drains: Vec<KeptDrain>,
    /// Backends registered over the API.
    pub registrations: Vec<Registration>,
}

/// One backend's drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptDrain {
    /// The pool.
    pub pool: String,
    /// The backend, as shown.
    pub backend: String,
    /// Where a configured one was: what knows it again if the file gives it no name. `None`: not a configured one, or
    /// kept by a lameduck that did not save it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What was asked for.
    pub drain: Drain,
}

/// One registered backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Its share.
    pub weight: u32,
}

/// A drain with its times on the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    actor: Actor,
    id: String,
    reason: String,
    #[serde(with = "wall")]
    since: SystemTime,
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    deadline: Option<SystemTime>,
    until: Until,
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    expires: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Actor {
    App,
    Supervisor,
    Operator,
    Config,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Resumed,
    Restarted,
}

impl From<&drain::Drain> for Drain {
    fn from(drain: &drain::Drain) -> Self {
        Self {
            actor: match drain.actor {
                drain::Actor::App => Actor::App,
                drain::Actor::Supervisor => Actor::Supervisor,
                drain::Actor::Operator => Actor::Operator,
                drain::Actor::Config => Actor::Config,
            },
            id: drain.id.clone(),
            reason: drain.reason.clone(),
            since: clock::wall(drain.since),
            deadline: drain.deadline.map(clock::wall),
            until: match drain.until {
                drain::Until::Resumed => Until::Resumed,
                drain::Until::Restarted => Until::Restarted,
            },
            expires: drain.expires.map(clock::wall),
        }
    }
}

impl Drain {
    /// The order that asks for it again. What was due while the proxy was away is due at once.
    pub fn order(&self) -> drain::Order {
        drain::Order {
            actor: match self.actor {
                Actor::App => drain::Actor::App,
                Actor::Supervisor => drain::Actor::Supervisor,
                Actor::Operator => drain::Actor::Operator,
                Actor::Config => drain::Actor::Config,
            },
            id: self.id.clone(),
            reason: self.reason.clone(),
            deadline: self.deadline.map(clock::from_wall),
            until: match self.until {
                Until::Resumed => drain::Until::Resumed,
                Until::Restarted => drain::Until::Restarted,
            },
            expires: self.expires.map(clock::from_wall),
        }
    }

    /// It ends then, if not earlier.
    pub fn hasten(&mut self, expires: SystemTime) {
        self.expires = Some(self.expires.map_or(expires, |at| at.min(expires)));
    }

    /// Since when it was open in the run that kept it.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

/// Why the state can't be read or written.
#[derive(Debug, Error)]
#[error(
    "can't {action} {}: {error}; make [server] state_dir a directory that this user may write, or leave \
     `state_dir` out (drains and registrations then end with the process)",
    path.display()
)]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    error: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error {
        action,
        path: path.to_owned(),
        error,
    }
}

/// Reads what was kept; nothing, if there is no file (yet).
///
/// # Errors
/// The directory or the file can't be read at all. A file without sense is moved aside, with a warning.
pub fn load(dir: &Path) -> Result<State, Error> {
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    match parse(&text) {
        Ok(state) => Ok(state),
        Err(why) => {
            let aside = dir.join(BAD);
            std::fs::rename(&path, &aside).map_err(failed("move aside", &path))?;
            tracing::warn!(
                "{} can't be used ({why}): drains and registrations of the last run are forgotten. The file \
                 is kept as {}; `lameduck status` shows what is in force",
                path.display(),
                aside.display()
            );
            Ok(State::default())
        }
    }
}

/// Writes it, whole or not at all, and makes sure that it is on the disk.
///
/// # Errors
/// The directory can't be made or written; the old file is untouched.
pub fn save(dir: &Path, state: &State) -> Result<(), Error> {
    let new = dir.join(NEW);
    let bytes = serde_json::to_vec_pretty(&Versioned {
        version: VERSION,
        state: state.clone(),
    })
    .map_err(|error| failed("write", &new)(error.into()))?;
    // Addresses and reasons are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(failed("make", dir))?;
    write_synced(&new, &bytes).map_err(failed("write", &new))?;
    let path = dir.join(FILE);
    std::fs::rename(&new, &path).map_err(failed("replace", &path))?;
    // The name is in the directory, which has its own buffers.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    state: State,
}

fn parse(text: &[u8]) -> Result<State, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    // First the version alone: the rest of another one may look like anything.
    let head: Head = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!(
            "it has version {}, this lameduck knows version {VERSION}",
            head.version
        ));
    }
    let versioned: Versioned = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Ok(versioned.state)
}

/// RFC 3339 in the file.
mod wall {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clock::rfc3339(*time))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

mod maybe_wall {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(clock::rfc3339).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

impl PoolState {
    /// What has to survive a restart of the proxy.
    pub fn keep(&self, state: &mut State) {
        for (member, backend) in self.both().filter(|(member, _)| !member.leaving) {
            if member.source == Source::Api {
                state.registrations.push(Registration {
                    pool: self.name.to_string(),
                    name: member.base.clone(),
                    address: member.endpoint.address.to_string(),
                    weight: member.endpoint.weight(),
                });
            }
            let kept = backend.drains().filter(|(_, drain)| member.outlives(drain));
            state.drains.extend(kept.map(|(_, drain)| KeptDrain {
                pool: self.name.to_string(),
                // Not as shown: the next run finds nobody else of that name.
                backend: member.base.clone(),
                address:
                    (member.source == Source::Config).then(|| member.endpoint.address.to_string()),
                drain: Drain::from(drain),
            }));
        }
    }
}

#[cfg(test)]
mod tests;
