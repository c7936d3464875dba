//! A child process that never outlives this one.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::rt::syscall;

/// A running child: killed when this is dropped, and when this thread ends in any other way.
#[derive(Debug)]
pub struct ChildProcess {
    name: String,
    child: Child,
    pid: u32,
    output: PathBuf,
}

impl ChildProcess {
    /// Starts `command`. Its standard error goes to the file `output`, and its standard output is kept for
    /// [`Self::address`].
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, mut command: Command, output: &Path) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let file =
            File::create(output).with_context(|| format!("can't write {}", output.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file);
        syscall::die_with_parent(&mut command);
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {name} ({program})"))?;
        let pid = child
            .id()
            .with_context(|| format!("{name} has no process id"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            pid,
            output: output.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the address that it prints on standard output as `{"address":"127.0.0.1:4711"}` once it listens.
    ///
    /// # Errors
    /// It exits first, prints something else, or takes longer than 10 s; with the end of its output.
    pub async fn address(&mut self) -> Result<SocketAddr> {
        #[derive(serde::Deserialize)]
        struct ListeningAddress {
            address: SocketAddr,
        }
        let stdout = self
            .child
            .stdout
            .take()
            .with_context(|| format!("{} was asked before", self.name))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await;
        let line = line.map_err(|_| {
            anyhow!(
                "{} doesn't listen after 10 s{}",
                self.name,
                self.last_words()
            )
        })??;
        let line = line.with_context(|| {
            format!(
                "{} ended before it listened{}",
                self.name,
                self.last_words()
            )
        })?;
        // Further output must be read, because a full pipe would block the child.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let listening: ListeningAddress = serde_json::from_str(&line)
            .with_context(|| format!("{} should print its address, not {line:?}", self.name))?;
        Ok(listening.address)
    }

    /// Discards everything that it writes to standard output.
    pub fn ignore_output(&mut self) {
        if let Some(mut stdout) = self.child.stdout.take() {
            tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
        }
    }

    /// Sends a signal; returns the time before (`CLOCK_MONOTONIC`, nanoseconds).
    ///
    /// # Errors
    /// The child has ended already.
    pub fn signal(&mut self, signal: i32) -> Result<u64> {
        // The id of a reaped process may belong to another one by now.
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} has exited already ({status}){}",
                self.name,
                self.last_words()
            );
        }
        let before = syscall::monotonic_ns();
        syscall::kill(self.pid, signal).with_context(|| format!("can't signal {}", self.name))?;
        Ok(before)
    }

    /// Waits for its end; returns the status, and the time at which it was noticed (`CLOCK_MONOTONIC`, nanoseconds).
    ///
    /// # Errors
    /// The child still runs after `patience`.
    pub async fn wait(&mut self, patience: Duration) -> Result<(ExitStatus, u64)> {
        let status = tokio::time::timeout(patience, self.child.wait()).await;
        let status =
            status.map_err(|_| anyhow!("{} still runs after {patience:?}", self.name))??;
        Ok((status, syscall::monotonic_ns()))
    }

    /// Checks that the child runs.
    ///
    /// # Errors
    /// The child has ended; with its last output.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}){}", self.name, self.last_words()),
        }
    }

    /// Last lines of its standard error, to append to an error message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(15)..];
        tail.iter().fold(String::new(), |all, line| {
            format!("{all}\n  {}: {line}", self.name)
        })
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Its process group is killed, too, because a proxy may have worker processes.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = syscall::kill_group(self.pid, libc::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> ChildProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ChildProcess::start("shell", command, &dir.join("err")).unwrap()
    }

    #[tokio::test]
    async fn reads_the_address_and_the_exit() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(
            r#"echo '{"address":"127.0.0.1:4711"}'; exec sleep 60"#,
            dir.path(),
        );
        assert_eq!(process.address().await.unwrap().port(), 4711);
        let before = process.signal(libc::SIGTERM).unwrap();
        let (status, exited) = process.wait(Duration::from_secs(10)).await.unwrap();
        assert!(!status.success() && exited > before);
        assert!(process.signal(libc::SIGTERM).is_err());
    }

    #[tokio::test]
    async fn an_early_end_is_reported_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = shell("echo no port >&2; exit 1", dir.path())
            .address()
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ended before it listened\n  shell: no port"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn child_is_killed_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 60", dir.path());
        let pid = process.pid();
        drop(process);
        // The runtime reaps it later; until then it is a zombie, which still accepts signal 0.
        for _ in 0..200 {
            if syscall::kill(pid, 0).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} outlived its owner");
    }
}
