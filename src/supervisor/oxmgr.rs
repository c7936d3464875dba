//! Oxmgr, by its event socket and its state file. It reports a stop only after the process has ended, and a restart or
//! reload only at the start of the next process. So this source shortens the wait for a new process, but can't drain
//! before the signal.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use super::place::{SupervisorPlace, home};
use super::{SupervisorError, SupervisorSource, WordListener};
use crate::config::plain_file::read_lasting_file;
use crate::core::supervisor_word::ProcessWord;
use crate::rt::clock;

/// The longest line of an event, in bytes.
const MAX_LINE_LENGTH: u64 = 1 << 20;
/// The longest state file, in bytes.
const MAX_STATE_LENGTH: u64 = 64 << 20;

/// Oxmgr.
pub(super) struct OxmgrSource {
    socket: PathBuf,
}

impl OxmgrSource {
    /// A source for this event socket, or for the one in Oxmgr's home directory.
    pub(super) fn new(address: Option<&str>) -> Self {
        let usual = || {
            let named = std::env::var_os("OXMGR_HOME").map(PathBuf::from);
            named.unwrap_or_else(|| home().join(".local/share/oxmgr"))
        };
        let place = match address.map(|address| SupervisorPlace::parse(address, 0)) {
            Some(SupervisorPlace::Socket(path)) => path,
            Some(SupervisorPlace::Http { .. }) | None => usual(),
        };
        let socket = match place.is_dir() {
            true => place.join("events.sock"),
            false => place,
        };
        Self { socket }
    }
}

#[async_trait]
impl SupervisorSource for OxmgrSource {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let failed = |error: std::io::Error| SupervisorError::of("Oxmgr's events", error);
        let place = SupervisorPlace::Socket(self.socket.clone());
        let stream = place.connect().await?;
        let (events, mut filter) = tokio::io::split(stream);
        let wanted = json!({ "subscribe": ["process:*", "daemon:*"], "process": null });
        let wanted = format!("{wanted}\n");
        filter.write_all(wanted.as_bytes()).await.map_err(failed)?;
        let state = self.socket.with_file_name("state.json");
        let at = clock::now();
        let known = tokio::task::spawn_blocking(move || read_state(&state));
        let known = known.await;
        let known = known.map_err(|error| SupervisorError::of("Oxmgr's state", error))?;
        for process in listener.processes() {
            let found = known.iter().find(|(name, ..)| *name == process);
            match found {
                Some((_, word, mark)) => listener.hear(&process, *word, mark.clone(), at),
                None => listener.silent(&process, "Oxmgr's state has no such process"),
            }
        }
        listener.catch_up();
        let mut events = BufReader::new(events);
        loop {
            let line = read_line(&mut events).await.map_err(failed)?;
            let Some(line) = line else {
                return Err(SupervisorError("Oxmgr has closed its events".to_owned()));
            };
            if let Some((process, word, mark)) = read_event(&line) {
                listener.hear(&process, word, mark, clock::now());
            }
        }
    }
}

/// Reads a line; `None`: there are no more.
async fn read_line(events: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = events.take(MAX_LINE_LENGTH);
    limited.read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 == MAX_LINE_LENGTH => {
            let why = format!("a line of more than {MAX_LINE_LENGTH} bytes");
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
        }
        // The line is incomplete, and its end will not arrive.
        Some(_) => Ok(None),
    }
}

/// Name, state and identity of each process.
fn read_state(path: &Path) -> Vec<(String, ProcessWord, Option<String>)> {
    let text = read_lasting_file(path, MAX_STATE_LENGTH).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    let processes = state["processes"].as_array().into_iter().flatten();
    let read = processes.filter_map(|process| {
        let name = process["name"].as_str()?.to_owned();
        let status = process["status"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        Some(match (process["pid"].as_u64(), status.as_str()) {
            (Some(pid), "running") => (name, ProcessWord::Running, Some(pid.to_string())),
            _ => (name, ProcessWord::Ended, None),
        })
    });
    read.collect()
}

/// Meaning of an event; `None`: it is not about the life of a process.
fn read_event(line: &[u8]) -> Option<(String, ProcessWord, Option<String>)> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let word = match event["event"].as_str()? {
        "process:started" | "process:online" | "process:restarted" => ProcessWord::Running,
        "process:stopped" | "process:exited" | "process:crashed" | "process:errored" => {
            ProcessWord::Ended
        }
        _ => return None,
    };
    let process = &event["process"];
    let mark = process["pid"].as_u64().map(|pid| pid.to_string());
    match (word, &mark) {
        // The process runs, and nothing distinguishes it from an earlier one.
        (ProcessWord::Running, None) => None,
        _ => Some((process["name"].as_str()?.to_owned(), word, mark)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_words_about_a_process() {
        let event = |kind: &str, pid: Option<u32>| {
            let process = json!({ "id": 1, "name": "api-0", "pid": pid });
            let event = json!({ "event": kind, "at": 1, "process": process, "data": {} });
            read_event(event.to_string().as_bytes())
        };
        let name = || "api-0".to_owned();
        assert_eq!(
            event("process:online", Some(7)),
            Some((name(), ProcessWord::Running, Some("7".into())))
        );
        assert_eq!(
            event("process:stopped", None),
            Some((name(), ProcessWord::Ended, None))
        );
        assert_eq!(event("process:online", None), None);
        assert_eq!(event("log:out", Some(7)), None);
        assert_eq!(read_event(b"not JSON"), None);
    }

    #[test]
    fn state_file_says_which_processes_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let text = r#"{"next_id":3,"processes":[{"name":"api-0","pid":7,"status":"running"},
            {"name":"api-1","pid":null,"status":"stopped"}]}"#;
        std::fs::write(&path, text).unwrap();
        let running = (
            "api-0".to_owned(),
            ProcessWord::Running,
            Some("7".to_owned()),
        );
        let stopped = ("api-1".to_owned(), ProcessWord::Ended, None);
        assert_eq!(read_state(&path), [running, stopped]);
        assert!(read_state(&dir.path().join("none")).is_empty());
    }

    #[tokio::test]
    async fn line_without_end_is_refused_and_binary_data_is_skipped() {
        let mut lines = &b"\xff\n{}\nhalf"[..];
        let first = read_line(&mut lines).await.unwrap().unwrap();
        assert_eq!(read_event(&first), None);
        assert_eq!(read_line(&mut lines).await.unwrap().unwrap(), b"{}\n");
        assert_eq!(read_line(&mut lines).await.unwrap(), None);
        let endless = tokio::io::repeat(b'x');
        let error = read_line(&mut BufReader::new(endless)).await.unwrap_err();
        assert!(error.to_string().contains("a line of more than"), "{error}");
    }
}
