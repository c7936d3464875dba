//! PM2, by its bus (`pub.sock`) and its remote calls (`rpc.sock`).
//!
//! `process:event` reports exits and starts after they have happened. Before the signal, PM2 only writes a line to its
//! own log, which it also publishes on the bus: `Stopping app:NAME id:ID`. The lines of apps are another kind of
//! message, so that no app can forge this one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::axon::{Argument, read_frame, write_frame};
use super::place::{ANSWER_TIMEOUT, home};
use super::{SupervisorError, SupervisorSource, WordListener};
use crate::core::supervisor_word::ProcessWord;
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;

/// Most attempts to read the state until no event arrives during the read.
const MAX_READS: usize = 5;

/// PM2.
pub(super) struct Pm2Source {
    home: PathBuf,
}

/// Meaning of a message on the bus.
#[derive(Debug, Clone, PartialEq)]
enum BusMessage {
    /// The process is about to be signalled.
    Stopping { id: u64 },
    /// The process has ended.
    Exit { id: u64, mark: String },
    /// The process was started.
    Online { id: u64, mark: String },
    /// The set of processes may have changed.
    Changed,
}

/// A process of PM2.
#[derive(Debug, Clone)]
struct Pm2Process {
    id: u64,
    name: String,
    instance: Option<String>,
    status: String,
    mark: String,
}

impl Pm2Source {
    /// A source for this home directory of PM2.
    pub(super) fn new(address: Option<&str>) -> Self {
        let usual = || {
            let named = std::env::var_os("PM2_HOME").map(PathBuf::from);
            named.unwrap_or_else(|| home().join(".pm2"))
        };
        Self {
            home: address.map_or_else(usual, PathBuf::from),
        }
    }

    async fn connect(&self, name: &str) -> Result<UnixStream, SupervisorError> {
        let path = self.home.join(name);
        let stream = UnixStream::connect(&path).await;
        stream.map_err(|error| SupervisorError::of(path.display(), error))
    }

    /// The processes as they are now.
    async fn processes(&self) -> Result<Vec<Pm2Process>, SupervisorError> {
        let failed = |error: std::io::Error| SupervisorError::of("PM2's answer", error);
        let call = async {
            let mut stream = self.connect("rpc.sock").await?;
            let call = json!({ "type": "call", "method": "getMonitorData", "args": [{}] });
            let frame = [Argument::Json(call), Argument::Text("lameduck:0".into())];
            write_frame(&mut stream, &frame).await.map_err(failed)?;
            let answer = read_frame(&mut stream).await.map_err(failed)?;
            let Some(Argument::Json(answer)) = answer.into_iter().next() else {
                return Err(SupervisorError("PM2's answer is none".to_owned()));
            };
            match &answer["error"] {
                Value::Null => Ok(read_processes(&answer)),
                error => Err(SupervisorError::of("PM2", error)),
            }
        };
        let late = |_| SupervisorError("PM2 has not answered within 5 s".to_owned());
        timeout(ANSWER_TIMEOUT, call).await.map_err(late)?
    }
}

#[async_trait]
impl SupervisorSource for Pm2Source {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let mut bus = self.connect("pub.sock").await?;
        let (sender, mut messages) = mpsc::unbounded_channel();
        // Each frame is read to its end before anything else is done.
        let _reading = OwnedTask::spawn(async move {
            loop {
                let read = read_frame(&mut bus).await;
                let is_end = read.is_err();
                let read = read.map(|frame| read_message(&frame)).transpose();
                if let Some(read) = read
                    && sender.send(read).is_err()
                {
                    return;
                }
                if is_end {
                    return;
                }
            }
        });
        let ended = |error: std::io::Error| SupervisorError::of("PM2's bus", error);
        loop {
            // The state includes the effects of events from before the read.
            let mut known = BTreeMap::new();
            let mut at = clock::now();
            for _ in 0..MAX_READS {
                while messages.try_recv().is_ok() {}
                at = clock::now();
                let processes = self.processes().await?;
                known = processes_by_name(listener, processes);
                if messages.is_empty() {
                    break;
                }
            }
            for process in listener.processes() {
                match known.values().find(|(of, _)| *of == process) {
                    Some((_, found)) => {
                        let word = word_of(&found.status);
                        let mark = (word != ProcessWord::Ended).then(|| found.mark.clone());
                        listener.hear(&process, word, mark, at);
                    }
                    None => listener.unknown(&process, "PM2 has no such process", at),
                }
            }
            listener.catch_up();
            loop {
                let message = messages.recv().await;
                let Some(message) = message else {
                    return Err(SupervisorError("PM2's bus has ended".to_owned()));
                };
                let at = clock::now();
                let (id, word, mark) = match message.map_err(ended)? {
                    BusMessage::Stopping { id } => (id, ProcessWord::Stopping, None),
                    BusMessage::Exit { id, mark } => (id, ProcessWord::Ended, Some(mark)),
                    BusMessage::Online { id, mark } => (id, ProcessWord::Running, Some(mark)),
                    BusMessage::Changed => break,
                };
                match known.get(&id) {
                    Some((process, _)) => {
                        let process = process.clone();
                        listener.hear(&process, word, mark, at);
                    }
                    // A new process, whose ID is not known yet, may have one of the watched names.
                    None if word == ProcessWord::Running => break,
                    None => {}
                }
            }
        }
    }
}

/// Our names for PM2's processes, by PM2's id: `NAME` if only one process has it, or `NAME:INSTANCE`.
fn processes_by_name(
    listener: &WordListener,
    processes: Vec<Pm2Process>,
) -> BTreeMap<u64, (String, Pm2Process)> {
    let mut known = BTreeMap::new();
    for process in &processes {
        let alone = processes
            .iter()
            .filter(|one| one.name == process.name)
            .count()
            == 1;
        let of_instance = process.instance.as_ref();
        let of_instance = of_instance.map(|instance| format!("{}:{instance}", process.name));
        let name = Some(process.name.clone()).filter(|name| alone && listener.watches(name));
        let name = name.or(of_instance.filter(|name| listener.watches(name)));
        if let Some(name) = name {
            known.insert(process.id, (name, process.clone()));
        }
    }
    known
}

fn word_of(status: &str) -> ProcessWord {
    match status {
        "online" | "launching" | "one-launch-status" => ProcessWord::Running,
        "stopping" => ProcessWord::Stopping,
        // Other values are `stopped`, `errored` and `waiting restart`.
        _ => ProcessWord::Ended,
    }
}

fn read_processes(answer: &Value) -> Vec<Pm2Process> {
    let list = answer["args"][0].as_array();
    let list = list.into_iter().flatten();
    let read = list.filter_map(|process| {
        let environment = &process["pm2_env"];
        let instance_variable = environment["instance_var"].as_str();
        let instance = &environment[instance_variable.unwrap_or("NODE_APP_INSTANCE")];
        Some(Pm2Process {
            id: number_of(environment)?,
            name: environment["name"]
                .as_str()
                .or(process["name"].as_str())?
                .to_owned(),
            instance: match instance {
                Value::Number(number) => Some(number.to_string()),
                Value::String(text) => Some(text.clone()),
                _ => None,
            },
            status: environment["status"].as_str()?.to_owned(),
            mark: mark_of(environment),
        })
    });
    read.collect()
}

fn number_of(environment: &Value) -> Option<u64> {
    environment["pm_id"].as_u64()
}

/// Identity of a process: its id, its number of restarts, and its start time.
fn mark_of(environment: &Value) -> String {
    let text = |name: &str| environment[name].to_string();
    format!(
        "{}/{}@{}",
        text("pm_id"),
        text("restart_time"),
        text("pm_uptime")
    )
}

/// Meaning of a frame from the bus; `None`: it does not matter here.
fn read_message(frame: &[Argument]) -> Option<BusMessage> {
    let [Argument::Text(kind), Argument::Json(data), ..] = frame else {
        return None;
    };
    match kind.as_str() {
        "log:PM2" => {
            let line = data["data"].as_str()?.trim_end();
            let (_, id) = line.strip_prefix("Stopping app:")?.rsplit_once(" id:")?;
            let id = id.trim().parse().ok()?;
            Some(BusMessage::Stopping { id })
        }
        "process:event" => {
            let process = &data["process"];
            let (id, mark) = (number_of(process)?, mark_of(process));
            match data["event"].as_str()? {
                "exit" => Some(BusMessage::Exit { id, mark }),
                "online" => Some(BusMessage::Online { id, mark }),
                "delete" => Some(BusMessage::Changed),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_is_read_from_pm2s_own_line_alone() {
        let line = |kind: &str, text: &str| {
            let frame = [
                Argument::Text(kind.into()),
                Argument::Json(json!({ "at": 1, "data": text, "process": { "name": "PM2" } })),
            ];
            read_message(&frame)
        };
        let stopping = Some(BusMessage::Stopping { id: 3 });
        assert_eq!(line("log:PM2", "Stopping app:my app id:9 id:3\n"), stopping);
        assert_eq!(line("log:out", "Stopping app:app id:3\n"), None);
        assert_eq!(line("log:PM2", "App [app:0] online\n"), None);
    }

    #[test]
    fn exits_and_starts_tell_the_processes_apart() {
        let event = |event: &str, restarts: u64, started: u64| {
            let process = json!({ "pm_id": 2, "name": "app", "restart_time": restarts, "pm_uptime": started });
            let frame = [
                Argument::Text("process:event".into()),
                Argument::Json(json!({ "event": event, "process": process })),
            ];
            read_message(&frame)
        };
        let mark = "2/0@100".to_owned();
        assert_eq!(
            event("exit", 0, 100),
            Some(BusMessage::Exit { id: 2, mark })
        );
        let mark = "2/1@200".to_owned();
        assert_eq!(
            event("online", 1, 200),
            Some(BusMessage::Online { id: 2, mark })
        );
        assert_eq!(event("restart", 1, 200), None);
    }
}
