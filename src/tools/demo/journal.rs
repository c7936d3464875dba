//! An app's journal: one JSON line for each request that reached it, and for each event of its process.
//!
//! Apps in other languages write the same lines: `{"t":NANOSECONDS,"event":"arrival","id":"7","method":"GET",
//! "path":"/"}`, with `t` from `CLOCK_MONOTONIC`. Each process has a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::rt::syscall;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// Time in nanoseconds of `CLOCK_MONOTONIC`.
    pub t: u64,
    /// `arrival`, `listening`, `signalled` or `exit`.
    pub event: String,
    /// The client's `x-demo-id`, for an arrival that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Method of an arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path of an arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Writer of a journal. Unbuffered, so that nothing is missing when the process is killed.
#[derive(Debug)]
pub struct Journal(Option<File>);

impl Journal {
    /// Opens (or creates) the file and appends to it; without a path, nothing is recorded.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |p| OpenOptions::new().create(true).append(true).open(p);
        Ok(Self(path.map(open).transpose()?))
    }

    /// Records an event of the process.
    pub fn event(&self, event: &str) {
        self.write(event, None, None, None);
    }

    /// Records a request that reached the process.
    pub fn arrival(&self, id: &str, method: &str, path: &str) {
        self.write("arrival", Some(id), Some(method), Some(path));
    }

    fn write(&self, event: &str, id: Option<&str>, method: Option<&str>, path: Option<&str>) {
        let Some(mut file) = self.0.as_ref() else {
            return;
        };
        let line = JournalLine {
            t: syscall::monotonic_ns(),
            event: event.to_owned(),
            id: id.map(str::to_owned),
            method: method.map(str::to_owned),
            path: path.map(str::to_owned),
        };
        // One write for each line: with O_APPEND, lines are never mixed. A full disk shows as answers without an
        // arrival.
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            let _ = file.write_all(&bytes);
        }
    }
}

/// Reads a journal.
///
/// # Errors
/// The file can't be read, or a line is malformed: the oracle must not judge with incomplete data.
pub fn read(path: &Path) -> io::Result<Vec<JournalLine>> {
    let text = std::fs::read_to_string(path)?;
    let parse = |(number, line)| {
        serde_json::from_str(line).map_err(|e| {
            io::Error::other(format!(
                "{}:{}: not a journal line: {e}",
                path.display(),
                number + 1
            ))
        })
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_is_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(Some(&path)).unwrap();
        journal.event("listening");
        journal.arrival("7", "POST", "/echo");
        let lines = read(&path).unwrap();
        assert_eq!(lines[0].event, "listening");
        assert_eq!(
            (lines[1].id.as_deref(), lines[1].method.as_deref()),
            (Some("7"), Some("POST"))
        );
        assert!(lines[0].t <= lines[1].t);
    }

    #[test]
    fn a_damaged_journal_is_refused_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "{\"t\":1,\"event\":\"listening\"}\nnonsense\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("journal:2: not a journal line"), "{error}");
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        Journal::open(None).unwrap().arrival("1", "GET", "/");
    }
}
