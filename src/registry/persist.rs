//! State that survives a restart of the proxy, in `[server] state_dir`: drains that were ordered, registered
//! backends, and backends from discovery sources. What the app itself says (its 503) is not kept: the next probe sees
//! it again.
//!
//! Times are by the wall clock, because the file outlives the process. There is one file, replaced as a whole: after
//! a crash it is the old or the new one. A file that can't be read is moved aside with a warning; it never keeps the
//! proxy from starting.

mod sources;
mod wall_clock;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
pub use sources::{KeptBackend, KeptSource};
use thiserror::Error;
use wall_clock::{maybe_wall, wall};

use super::backend_entry::BackendSource;
pub use super::own_key::OwnKeySource;
use super::pause::MaintenancePage;
use super::plan_view::{PlanRequest, PlanStepView};
use super::pool::PoolState;
use crate::core::drain;
use crate::net::serving::ServingProcesses;
use crate::rt::clock::ClockReading;
use crate::rt::files;

/// Name of the file in `state_dir`.
pub const FILE: &str = "state.json";
/// Name under which the file is written before it is renamed.
const NEW: &str = "state.json.new";
/// Name to which a file that can't be read is renamed.
const BAD: &str = "state.json.bad";
/// Most bytes that are written or read: four times what `MAX_BACKENDS` backends need.
const MOST_BYTES: u64 = 64 << 20;
/// Version of the file format. A file with a higher version was written by a newer lameduck.
const VERSION: u32 = 1;

/// The kept state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptState {
    /// Open drains.
    pub drains: Vec<KeptDrain>,
    /// Backends registered over the API.
    pub registrations: Vec<KeptRegistration>,
    /// Pools that are paused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<KeptPause>,
    /// Routes whose split an operator has moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<KeptSplit>,
    /// Plans that move splits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<KeptPlan>,
    /// Sets of discovery sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<KeptSource>,
}

/// One backend's drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptDrain {
    /// The pool.
    pub pool: String,
    /// Name of the backend, as shown.
    pub backend: String,
    /// Address of a configured backend, by which it is recognised if the configuration gives it no name. `None`: the
    /// backend was not configured, or the file is from a lameduck that did not save the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The drain.
    pub drain: DrainRecord,
}

/// One registered backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRegistration {
    /// The pool.
    pub pool: String,
    /// The backend.
    #[serde(flatten)]
    pub backend: KeptBackend,
    /// User (uid) that owns the backend, if it came through the socket for apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// The pause of one pool. Times are by the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPause {
    /// The pool.
    pub pool: String,
    /// Reason.
    pub reason: String,
    /// Time at which it began.
    #[serde(with = "wall")]
    pub since: SystemTime,
    /// Time at which it ends by itself.
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    pub until: Option<SystemTime>,
    /// Page that requests are answered with; `None`: they are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<MaintenancePage>,
}

/// The weights of one route's split, as an operator has moved them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSplit {
    /// The route's name.
    pub route: String,
    /// Weights in the configuration at that time, by pool. If the configuration differs, it takes precedence.
    pub configured: BTreeMap<String, u32>,
    /// Weights in force, by pool.
    pub weights: BTreeMap<String, u32>,
    /// Time since which they have been in force.
    #[serde(with = "wall")]
    pub since: SystemTime,
}

/// A plan in progress, with which the next run continues at the step that was reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPlan {
    /// The route's name.
    pub route: String,
    /// The request that started the plan.
    pub request: PlanRequest,
    /// Weights of the split in the configuration at that time, by pool.
    pub configured: BTreeMap<String, u32>,
    /// Weights before the plan, by pool.
    pub before: BTreeMap<String, u32>,
    /// Time since which these were in force, if they weren't the configuration's.
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    pub before_since: Option<SystemTime>,
    /// Time at which the plan began.
    #[serde(with = "wall")]
    pub began: SystemTime,
    /// Step that it has reached, from 1.
    pub step: u32,
    /// Measurements of the steps so far.
    pub records: Vec<PlanStepView>,
}

/// A drain. Times are by the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainRecord {
    actor: KeptActor,
    id: String,
    reason: String,
    #[serde(with = "wall")]
    since: SystemTime,
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    deadline: Option<SystemTime>,
    until: KeptUntil,
    /// Sign of a restart, with `restarted`. `None`: the file is from a lameduck that knew only one sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restarted_when: Option<Sign>,
    #[serde(with = "maybe_wall", default, skip_serializing_if = "Option::is_none")]
    expires: Option<SystemTime>,
    /// The processes whose end ends the drain, if it waits for that. Empty: no process listened when it was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaited: Option<ServingProcesses>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptActor {
    App,
    Supervisor,
    Operator,
    Config,
    Discovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptUntil {
    Resumed,
    Restarted,
}

/// The sign of a restart, as [`drain::RestartSign`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sign {
    NewProcess,
    Exit,
    Probe,
}

impl From<drain::RestartSign> for Sign {
    fn from(sign: drain::RestartSign) -> Self {
        match sign {
            drain::RestartSign::NewProcess => Self::NewProcess,
            drain::RestartSign::Exit => Self::Exit,
            drain::RestartSign::Probe => Self::Probe,
        }
    }
}

impl From<Sign> for drain::RestartSign {
    fn from(sign: Sign) -> Self {
        match sign {
            Sign::NewProcess => Self::NewProcess,
            Sign::Exit => Self::Exit,
            Sign::Probe => Self::Probe,
        }
    }
}

impl DrainRecord {
    /// Converts a drain to its kept form. `clock` is read at the time of saving, so that changes of the wall clock
    /// are followed.
    pub fn kept(drain: &drain::OpenDrain, clock: &ClockReading) -> Self {
        Self {
            actor: match drain.actor {
                drain::DrainActor::App => KeptActor::App,
                drain::DrainActor::Supervisor => KeptActor::Supervisor,
                drain::DrainActor::Operator => KeptActor::Operator,
                drain::DrainActor::Config => KeptActor::Config,
                drain::DrainActor::Discovery => KeptActor::Discovery,
            },
            id: drain.id.clone(),
            reason: drain.reason.clone(),
            since: clock.to_wall(drain.since),
            deadline: drain.deadline.map(|at| clock.to_wall(at)),
            until: match drain.until {
                drain::DrainUntil::Resumed => KeptUntil::Resumed,
                drain::DrainUntil::Restarted(_) => KeptUntil::Restarted,
            },
            restarted_when: drain.until.sign().map(Sign::from),
            expires: drain.expires.map(|at| clock.to_wall(at)),
            awaited: None,
        }
    }

    /// Adds the processes whose end the drain waits for.
    pub fn awaiting(self, awaited: Option<&ServingProcesses>) -> Self {
        Self {
            awaited: awaited.cloned(),
            ..self
        }
    }

    /// Returns the processes whose end ends the drain; `None`: it waits for no end, or the file is from a lameduck
    /// that did not save them.
    pub fn awaited(&self) -> Option<&ServingProcesses> {
        self.awaited.as_ref()
    }

    /// Returns the order for the same drain. A deadline that passed while the proxy was away is due at once.
    pub fn order(&self) -> drain::DrainSpec {
        let clock = ClockReading::take();
        let due = |at| clock.due_from_wall(at, self.since);
        drain::DrainSpec {
            actor: match self.actor {
                KeptActor::App => drain::DrainActor::App,
                KeptActor::Supervisor => drain::DrainActor::Supervisor,
                KeptActor::Operator => drain::DrainActor::Operator,
                KeptActor::Config => drain::DrainActor::Config,
                KeptActor::Discovery => drain::DrainActor::Discovery,
            },
            id: self.id.clone(),
            reason: self.reason.clone(),
            deadline: self.deadline.map(due),
            until: match self.until {
                KeptUntil::Resumed => drain::DrainUntil::Resumed,
                KeptUntil::Restarted => drain::DrainUntil::Restarted(
                    self.restarted_when.map(Into::into).unwrap_or_default(),
                ),
            },
            expires: self.expires.map(due),
        }
    }

    /// Makes the drain expire at `expires`, if not earlier.
    pub fn limit_expiry(&mut self, expires: SystemTime) {
        self.expires = Some(self.expires.map_or(expires, |at| at.min(expires)));
    }

    /// Returns when the drain began, in the run that kept it.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

/// Error in reading or writing the state.
#[derive(Debug, Error)]
#[error(
    "can't {action} {}: {error}; make [server] state_dir a directory that this user may write, or leave \
     `state_dir` out (drains and registrations then end with the process)",
    path.display()
)]
pub struct PersistError {
    action: &'static str,
    path: PathBuf,
    error: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PersistError {
    move |error| PersistError {
        action,
        path: path.to_owned(),
        error,
    }
}

/// Reads the kept state; empty if there is no file (yet).
///
/// # Errors
/// The directory or the file can't be read at all. (A malformed file is moved aside, with a warning.)
pub fn load(dir: &Path) -> Result<KeptState, PersistError> {
    let path = dir.join(FILE);
    let why = match read(&path).map_err(failed("read", &path))? {
        StateFile::Nothing => return Ok(KeptState::default()),
        StateFile::Text(text) => match parse(&text) {
            Ok(state) => return Ok(state),
            Err(why) => why,
        },
        StateFile::Unfit(why) => why,
    };
    let aside = dir.join(BAD);
    let kept = match std::fs::rename(&path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it can't be moved to {} ({error})", aside.display()),
    };
    tracing::warn!(
        "{} can't be used ({why}): drains and registrations of the last run are forgotten, and {kept}; \
         `lameduck status` shows what is in force",
        path.display(),
    );
    Ok(KeptState::default())
}

/// What was found at the path of the state file.
enum StateFile {
    Nothing,
    Text(Vec<u8>),
    /// A file that lameduck can't have written, with the reason.
    Unfit(String),
}

/// Reads a regular file of at most [`MOST_BYTES`], and nothing else: opening a pipe would wait for a writer.
fn read(path: &Path) -> io::Result<StateFile> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(StateFile::Nothing),
                Some(libc::ELOOP) => Ok(StateFile::Unfit("it is a symbolic link".to_owned())),
                Some(libc::ENXIO) => Ok(StateFile::Unfit("it is a socket".to_owned())),
                _ => Err(error),
            };
        }
    };
    let kind = file.metadata()?;
    if !kind.is_file() {
        return Ok(StateFile::Unfit("it is not a plain file".to_owned()));
    }
    let mut text = Vec::new();
    // One byte more, because the file may grow while it is read.
    file.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    Ok(match text.len() as u64 > MOST_BYTES {
        true => StateFile::Unfit(format!(
            "it has {} bytes, and at most {MOST_BYTES} are ever written",
            kind.len()
        )),
        false => StateFile::Text(text),
    })
}

/// Writes the file atomically, and syncs it to the disk.
///
/// # Errors
/// The directory can't be created or written; the old file is untouched.
pub fn save(dir: &Path, state: &KeptState) -> Result<(), PersistError> {
    let new = dir.join(NEW);
    let bytes = serde_json::to_vec_pretty(&Written {
        version: VERSION,
        state,
    })
    .map_err(|error| failed("write", &new)(error.into()))?;
    if bytes.len() as u64 >= MOST_BYTES {
        return Err(failed("write", &new)(io::ErrorKind::FileTooLarge.into()));
    }
    // The file contains addresses and reasons, so other users must not read it.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(failed("make", dir))?;
    let directory = files::open_directory(dir).map_err(failed("open", dir))?;
    // Must not write through a link or a pipe that another user may have put there.
    files::write_fresh(&directory, NEW, 0o640, &[&bytes, b"\n"]).map_err(failed("write", &new))?;
    files::rename_within(&directory, NEW, FILE).map_err(failed("replace", &dir.join(FILE)))?;
    // The directory has to be synced as well, for the new name.
    File::from(directory)
        .sync_all()
        .map_err(failed("sync", dir))
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    state: &'a KeptState,
}

fn parse(text: &[u8]) -> Result<KeptState, String> {
    #[derive(Deserialize)]
    struct StateHead {
        version: u32,
    }
    // The version is read first, because the rest of another version may have any form.
    let head: StateHead = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!(
            "it has version {}, this lameduck knows version {VERSION}",
            head.version
        ));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

impl PoolState {
    /// Adds the pool's state that has to survive a restart of the proxy.
    pub(super) fn keep(&self, state: &mut KeptState, clock: &ClockReading) {
        let pause = self.pause.as_ref();
        state
            .pauses
            .extend(pause.map(|pause| pause.kept(&self.name, clock)));
        for (member, backend) in self.both().filter(|(member, _)| !member.leaving) {
            if member.source == BackendSource::Api {
                state.registrations.push(KeptRegistration {
                    pool: self.name.to_string(),
                    backend: KeptBackend::of(member),
                    owner: member.owner,
                });
            }
            let kept = backend.drains().filter(|(_, drain)| member.outlives(drain));
            state.drains.extend(kept.map(|(key, drain)| {
                let awaited = member.awaited.get(key);
                KeptDrain {
                    pool: self.name.to_string(),
                    // Not the shown name: in the next run no other backend has that name.
                    backend: member.base.clone(),
                    address: (member.source == BackendSource::Config)
                        .then(|| member.endpoint.address.to_string()),
                    drain: DrainRecord::kept(drain, clock).awaiting(awaited),
                }
            }));
        }
    }
}

#[cfg(test)]
mod tests;
