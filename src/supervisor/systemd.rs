//! systemd, over D-Bus. It announces in advance what it will do: a job of type `stop` or `restart` is announced
//! (`JobNew`) before it runs, and the state `deactivating` comes when it runs.
//!
//! Signals only tell which unit to read: its state is always read after the signal. So a late signal can't report an
//! outdated state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, MessageStream};

use super::place::ANSWER_TIMEOUT;
use super::{SupervisorError, SupervisorSource, WordListener};
use crate::core::Time;
use crate::core::supervisor_word::ProcessWord;
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const JOB_INTERFACE: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Most signals of one kind that wait to be read. If there are more, they wait on the bus.
const MAX_QUEUED_SIGNALS: usize = 1024;
/// Time after which units are read even without a signal, because a bus may lose signals that it can't deliver.
const READ_INTERVAL: Duration = Duration::from_secs(30);

/// systemd.
pub(super) struct SystemdSource {
    address: Option<String>,
}

/// A unit that a signal is about.
enum ChangedUnit {
    /// A job was created or has ended, for the unit of this name.
    Job { unit: String },
    /// Properties have changed, of the unit at this path.
    Properties { path: String },
    /// There will be no more signals.
    End,
}

impl ChangedUnit {
    /// Adds the names of the units that this is about, of those at `paths`. Returns whether there may be more signals.
    fn touch<'a>(
        &self,
        paths: &'a BTreeMap<String, String>,
        touched: &mut BTreeSet<(&'a String, &'a String)>,
    ) -> bool {
        match self {
            Self::Job { unit } => {
                touched.extend(paths.iter().filter(|(_, process)| *process == unit));
            }
            Self::Properties { path } => touched.extend(paths.get_key_value(path)),
            Self::End => return false,
        }
        true
    }
}

impl SystemdSource {
    /// A source for the system bus, or for a D-Bus address (`unix:path=…`) or socket path.
    pub(super) fn new(address: Option<&str>) -> Self {
        let address = address.map(|address| match address {
            path if path.starts_with('/') => format!("unix:path={path}"),
            path if path.starts_with("unix:/") => {
                path.replacen("unix://", "unix:", 1)
                    .replacen("unix:", "unix:path=", 1)
            }
            other => other.to_owned(),
        });
        Self { address }
    }

    async fn connect(&self) -> Result<Connection, SupervisorError> {
        let builder = match &self.address {
            None => zbus::connection::Builder::system(),
            Some(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let builder = builder.map_err(|error| SupervisorError::of("the bus's address", error))?;
        let place = self.address.as_deref().unwrap_or("the system bus");
        let connect = builder.method_timeout(ANSWER_TIMEOUT).build();
        let connection = tokio::time::timeout(ANSWER_TIMEOUT, connect).await;
        let connection = connection.map_err(|_| SupervisorError::of(place, "no answer in 5 s"))?;
        connection.map_err(|error| SupervisorError::of(place, error))
    }
}

fn failed(error: zbus::Error) -> SupervisorError {
    SupervisorError::of("D-Bus", error)
}

/// Subscribes to the signals about units.
async fn subscribe(
    connection: &Connection,
) -> Result<(mpsc::UnboundedReceiver<ChangedUnit>, OwnedTask), SupervisorError> {
    let jobs = MatchRule::builder()
        .msg_type(Type::Signal)
        .path(MANAGER)
        .and_then(|rule| rule.interface(MANAGER_INTERFACE));
    let properties = MatchRule::builder()
        .msg_type(Type::Signal)
        .path_namespace("/org/freedesktop/systemd1/unit")
        .and_then(|rule| rule.interface(PROPERTIES))
        .and_then(|rule| rule.member("PropertiesChanged"))
        .and_then(|rule| rule.arg(0, UNIT_INTERFACE));
    let (jobs, properties) = (
        jobs.map_err(failed)?.build(),
        properties.map_err(failed)?.build(),
    );
    let jobs = MessageStream::for_match_rule(jobs, connection, Some(MAX_QUEUED_SIGNALS)).await;
    let properties =
        MessageStream::for_match_rule(properties, connection, Some(MAX_QUEUED_SIGNALS)).await;
    let mut signals = futures_util::stream::select(
        jobs.map_err(failed)?.boxed(),
        properties.map_err(failed)?.boxed(),
    );
    let (sender, receiver) = mpsc::unbounded_channel();
    // In a task of its own, because an answer may be behind signals on the same connection.
    let task = OwnedTask::spawn(async move {
        while let Some(Ok(message)) = signals.next().await {
            let header = message.header();
            let member = header.member().map(|member| member.as_str().to_owned());
            let changed = match member.as_deref() {
                Some("JobNew" | "JobRemoved") => {
                    let body = message.body();
                    let job = body.deserialize::<zbus::zvariant::Structure<'_>>();
                    let fields = job.map(|job| job.into_fields()).unwrap_or_default();
                    let unit = fields
                        .get(2)
                        .and_then(|unit| unit.downcast_ref::<String>().ok());
                    unit.map(|unit| ChangedUnit::Job { unit })
                }
                Some("PropertiesChanged") => header.path().map(|path| ChangedUnit::Properties {
                    path: path.as_str().to_owned(),
                }),
                _ => None,
            };
            if let Some(changed) = changed
                && sender.send(changed).is_err()
            {
                return;
            }
        }
        let _ = sender.send(ChangedUnit::End);
    });
    Ok((receiver, task))
}

#[async_trait]
impl SupervisorSource for SystemdSource {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let connection = self.connect().await?;
        let (mut changes, _task) = subscribe(&connection).await?;
        let manager = |method: &'static str| {
            let connection = connection.clone();
            async move {
                connection
                    .call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), method, &())
                    .await
            }
        };
        manager("Subscribe").await.map_err(failed)?;
        let mut paths = BTreeMap::new();
        for process in listener.processes() {
            let path = load_unit(&connection, &process).await;
            let path = match path {
                Ok(path) => path,
                Err(zbus::Error::MethodError(_, why, _)) => {
                    let why = why.unwrap_or_else(|| "systemd has no such unit".to_owned());
                    listener.unknown(&process, &why, clock::now());
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            paths.insert(path.as_str().to_owned(), process);
        }
        for (path, process) in &paths {
            report_unit(&connection, path, process, listener).await?;
        }
        listener.catch_up();
        loop {
            let changed = tokio::time::timeout(READ_INTERVAL, changes.recv()).await;
            let mut touched = BTreeSet::new();
            match changed {
                Ok(first) => {
                    // Signals that have arrived meanwhile are handled together, so that each unit is read once: if
                    // hundreds restart at once, the last one must not wait for ten reads of each of the others.
                    let mut next = first.or(Some(ChangedUnit::End));
                    while let Some(change) = next {
                        if !change.touch(&paths, &mut touched) {
                            return Err(SupervisorError(
                                "the bus has closed the connection".to_owned(),
                            ));
                        }
                        next = changes.try_recv().ok();
                    }
                }
                Err(_) => touched.extend(paths.iter()),
            }
            for (path, process) in touched {
                report_unit(&connection, path, process, listener).await?;
            }
        }
    }
}

async fn load_unit(connection: &Connection, unit: &str) -> zbus::Result<OwnedObjectPath> {
    let answer = connection
        .call_method(
            Some(SYSTEMD),
            MANAGER,
            Some(MANAGER_INTERFACE),
            "LoadUnit",
            &(unit,),
        )
        .await?;
    answer.body().deserialize()
}

/// Reports the state of a unit.
async fn report_unit(
    connection: &Connection,
    path: &str,
    process: &str,
    listener: &mut WordListener,
) -> Result<(), SupervisorError> {
    let at = clock::now();
    let answer = connection
        .call_method(
            Some(SYSTEMD),
            path,
            Some(PROPERTIES),
            "GetAll",
            &(UNIT_INTERFACE,),
        )
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(zbus::Error::MethodError(_, why, _)) => {
            let why = why.unwrap_or_else(|| "systemd has no such unit".to_owned());
            listener.unknown(process, &why, at);
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let properties = answer.body();
    let properties: HashMap<String, OwnedValue> = properties.deserialize().map_err(failed)?;
    let job = match job_of(&properties) {
        Some(job) => job_type(connection, &job).await?,
        None => None,
    };
    report_unit_state(listener, process, &unit_state(&properties, job), at);
    Ok(())
}

fn report_unit_state(listener: &mut WordListener, process: &str, state: &UnitState, at: Time) {
    match state.word() {
        Some((ProcessWord::Unknown, _)) => {
            listener.unknown(process, "systemd has no such unit", at);
        }
        Some((word, mark)) => listener.hear(process, word, mark, at),
        None => {}
    }
}

/// Path of the unit's current job, if it has one.
fn job_of(properties: &HashMap<String, OwnedValue>) -> Option<OwnedObjectPath> {
    let job = properties.get("Job")?.try_clone().ok()?;
    let (number, path) = <(u32, OwnedObjectPath)>::try_from(job).ok()?;
    (number != 0).then_some(path)
}

/// Type of a job; `None`: it has ended.
async fn job_type(
    connection: &Connection,
    job: &OwnedObjectPath,
) -> Result<Option<String>, SupervisorError> {
    let answer = connection
        .call_method(
            Some(SYSTEMD),
            job.as_str(),
            Some(PROPERTIES),
            "Get",
            &(JOB_INTERFACE, "JobType"),
        )
        .await;
    match answer {
        Ok(answer) => {
            let body = answer.body();
            let value: OwnedValue = body.deserialize().map_err(failed)?;
            Ok(String::try_from(value).ok())
        }
        Err(zbus::Error::MethodError(..)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Properties of a unit that matter here.
#[derive(Debug, Clone, Default)]
struct UnitState {
    load: String,
    active: String,
    sub: String,
    invocation: String,
    job: Option<String>,
}

fn unit_state(properties: &HashMap<String, OwnedValue>, job: Option<String>) -> UnitState {
    let text = |name: &str| {
        let value = properties
            .get(name)
            .and_then(|value| value.try_clone().ok());
        value.and_then(|value| String::try_from(value).ok())
    };
    let invocation = properties.get("InvocationID");
    let invocation = invocation.and_then(|value| value.try_clone().ok());
    let invocation = invocation.and_then(|value| Vec::<u8>::try_from(value).ok());
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    UnitState {
        load: text("LoadState").unwrap_or_default(),
        active: text("ActiveState").unwrap_or_default(),
        sub: text("SubState").unwrap_or_default(),
        invocation: invocation.map(hex).unwrap_or_default(),
        job,
    }
}

impl UnitState {
    /// Meaning for its process; `None`: it is unknown.
    fn word(&self) -> Option<(ProcessWord, Option<String>)> {
        let mark = Some(self.invocation.clone()).filter(|id| !id.is_empty());
        let is_to_stop = matches!(
            self.job.as_deref(),
            Some("stop" | "restart" | "try-restart")
        );
        let runs = match is_to_stop {
            true => ProcessWord::StopPlanned,
            false => ProcessWord::Running,
        };
        Some(match self.active.as_str() {
            "active" | "reloading" | "refreshing" => (runs, mark),
            "deactivating" => (ProcessWord::Stopping, mark),
            // The process has ended, and the next one is awaited.
            "activating" if self.sub.starts_with("auto-restart") => (ProcessWord::Ended, None),
            "activating" if self.job.as_deref() == Some("stop") => (runs, mark),
            "activating" => (ProcessWord::Running, mark),
            "inactive" | "failed" | "maintenance" => match self.load.as_str() {
                "not-found" => (ProcessWord::Unknown, None),
                _ => (ProcessWord::Ended, None),
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(active: &str, sub: &str, job: Option<&str>) -> ProcessWord {
        let state = UnitState {
            load: "loaded".into(),
            active: active.into(),
            sub: sub.into(),
            invocation: "ab".into(),
            job: job.map(str::to_owned),
        };
        state.word().unwrap().0
    }

    #[test]
    fn jobs_say_it_before_states_do() {
        for job in ["stop", "restart", "try-restart"] {
            assert_eq!(
                word("active", "running", Some(job)),
                ProcessWord::StopPlanned
            );
            assert_eq!(
                word("deactivating", "stop-sigterm", Some(job)),
                ProcessWord::Stopping
            );
        }
        for job in [None, Some("start"), Some("reload"), Some("verify-active")] {
            assert_eq!(word("active", "running", job), ProcessWord::Running);
        }
        assert_eq!(word("deactivating", "stop", None), ProcessWord::Stopping);
        assert_eq!(word("activating", "auto-restart", None), ProcessWord::Ended);
        assert_eq!(
            word("activating", "start-post", Some("restart")),
            ProcessWord::Running
        );
        assert_eq!(word("inactive", "dead", None), ProcessWord::Ended);
        assert_eq!(word("failed", "failed", Some("start")), ProcessWord::Ended);
    }

    #[test]
    fn unit_without_a_file_is_unknown() {
        let state = UnitState {
            load: "not-found".into(),
            active: "inactive".into(),
            ..UnitState::default()
        };
        assert_eq!(state.word(), Some((ProcessWord::Unknown, None)));
    }

    #[test]
    fn many_changes_of_one_unit_are_one_look_at_it() {
        let paths = ["a", "b"].map(|unit| (format!("/unit/{unit}"), format!("{unit}.service")));
        let paths = BTreeMap::from(paths);
        let mut touched = BTreeSet::new();
        for path in ["/unit/a", "/unit/a", "/unit/other"] {
            let change = ChangedUnit::Properties { path: path.into() };
            assert!(change.touch(&paths, &mut touched));
        }
        let job = ChangedUnit::Job {
            unit: "a.service".into(),
        };
        assert!(job.touch(&paths, &mut touched));
        let units: Vec<_> = touched.iter().map(|(_, unit)| unit.as_str()).collect();
        assert_eq!(units, ["a.service"]);
        assert!(!ChangedUnit::End.touch(&paths, &mut touched));
    }
}
