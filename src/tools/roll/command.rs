//! The command that restarts one backend: its words with placeholders filled in, and its process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::rt::syscall::kill_group;

/// Bytes at the end of a command's output that are kept.
const MAX_OUTPUT: u64 = 16 << 10;
/// Time between SIGTERM and SIGKILL for a command that is stopped.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Placeholders in a command's words.
const PLACEHOLDERS: [&str; 5] = ["{name}", "{address}", "{host}", "{port}", "{pool}"];

/// A command with placeholders, such as `systemctl restart api@{name}`. No shell is involved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTemplate(Vec<String>);

impl CommandTemplate {
    /// Makes a template from words, the program first.
    pub fn new(words: Vec<String>) -> Self {
        Self(words)
    }

    /// Whether it has a placeholder that identifies a backend.
    pub fn names_a_backend(&self) -> bool {
        let own = PLACEHOLDERS.iter().filter(|name| **name != "{pool}");
        own.into_iter()
            .any(|name| self.0.iter().any(|word| word.contains(name)))
    }

    /// Placeholders within a script for a shell, where a name or an address would be part of the script.
    pub fn in_scripts(&self) -> Vec<&'static str> {
        let mut words = self.0.iter().skip_while(|word| !is_shell(word)).skip(1);
        // For example `sh -c`, `bash -ec`, or `su app -c`.
        let is_script = |word: &String| {
            let options = word.strip_prefix('-').unwrap_or_default();
            options.ends_with('c') && !options.starts_with('-')
        };
        let script = match words.any(is_script) {
            true => words.next().map_or("", String::as_str),
            false => "",
        };
        PLACEHOLDERS
            .into_iter()
            .filter(|placeholder| script.contains(placeholder))
            .collect()
    }

    /// Command for one backend.
    ///
    /// # Errors
    /// It has the placeholder for a port, but the address (of a unix socket) has none.
    pub fn for_backend(
        &self,
        pool: &str,
        name: &str,
        address: &str,
    ) -> Result<Vec<String>, String> {
        let (host, port) = match address.strip_prefix("unix:") {
            None => address.rsplit_once(':').unwrap_or((address, "")),
            Some(_) => ("", ""),
        };
        let values = [name, address, host.trim_matches(['[', ']']), port, pool];
        let fill = |word: &String| {
            if word.contains("{port}") && port.is_empty() {
                return Err(format!(
                    "the command has {{port}}, but {pool}/{name} is at {address}, which has none; use {{address}}"
                ));
            }
            Ok(fill(word, &values))
        };
        self.0.iter().map(fill).collect()
    }
}

/// Whether a program runs a script that follows `-c`.
fn is_shell(word: &str) -> bool {
    let program = word.rsplit('/').next().unwrap_or(word);
    matches!(
        program,
        "sh" | "bash" | "dash" | "ash" | "busybox" | "zsh" | "ksh" | "fish" | "su" | "runuser"
    )
}

/// Replaces placeholders from left to right, so that inserted text is not searched again.
fn fill(word: &str, values: &[&str; 5]) -> String {
    let (mut filled, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut known = PLACEHOLDERS.iter().zip(values);
        match known.find(|(name, _)| rest.starts_with(**name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

/// Result of a command.
#[derive(Debug)]
pub struct CommandRun {
    /// Exit status; an error if it could not be started.
    pub status: io::Result<ExitStatus>,
    /// End of its output on standard output and standard error.
    pub output: String,
}

impl CommandRun {
    /// Whether the command succeeded.
    pub fn is_well(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    /// Description of how it ended.
    pub fn describe(&self) -> String {
        match &self.status {
            Ok(status) => status.to_string(),
            Err(error) => format!("can't be run: {error}"),
        }
    }
}

/// Runs a command to its end. When `kill` is sent or dropped, the command is stopped, after 5 s by force.
///
/// It has a process group of its own, so that Ctrl-C in a terminal reaches only lameduck, and the command is not
/// stopped halfway. Its output goes to an unnamed file and not to a pipe: processes that it leaves in the background
/// must neither block lameduck nor fail when it ends.
pub async fn run_command(words: Vec<String>, kill: oneshot::Receiver<()>) -> CommandRun {
    let started =
        open_scratch_file().and_then(|file| start(&words, &file).map(|child| (child, file)));
    let (mut child, file) = match started {
        Ok(started) => started,
        Err(error) => {
            return CommandRun {
                status: Err(error),
                output: String::new(),
            };
        }
    };
    let status = tokio::select! {
        status = child.wait() => status,
        _ = kill => end(&mut child).await,
    };
    CommandRun {
        status,
        output: read_tail(file).unwrap_or_default(),
    }
}

fn start(words: &[String], output: &File) -> io::Result<Child> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command"))?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
}

async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    // It was not reaped yet, so its process id is still its own.
    if let Some(pid) = child.id() {
        let _ = kill_group(pid, libc::SIGTERM);
        if let Ok(status) = tokio::time::timeout(KILL_TIMEOUT, child.wait()).await {
            return status;
        }
        let _ = kill_group(pid, libc::SIGKILL);
    }
    child.wait().await
}

/// A private file for output.
fn open_scratch_file() -> io::Result<File> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!(
        "lameduck-roll-{pid}-{count}-{:016x}",
        fastrand::u64(..)
    ));
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn read_tail(mut file: File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_OUTPUT)))?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(line: &str) -> CommandTemplate {
        CommandTemplate::new(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn placeholders_are_replaced_and_nothing_else() {
        let fill = |line: &str, address: &str| {
            let words = template(line).for_backend("api", "api-{port}", address);
            words.map(|words| words.join(" "))
        };
        assert_eq!(
            fill("x {name}@{port} {host} {pool}{{address}} {}", "[::1]:80").unwrap(),
            "x api-{port}@80 ::1 api{[::1]:80} {}"
        );
        assert_eq!(
            fill("docker ps --format {{.Names}}", "a:1").unwrap(),
            "docker ps --format {{.Names}}"
        );
        assert_eq!(fill("x {address}", "unix:/a b").unwrap(), "x unix:/a b");
        assert!(
            fill("x {port}", "unix:/a")
                .unwrap_err()
                .contains("{address}")
        );
        assert!(template("a b{port}").names_a_backend());
        assert!(!template("a {pool} {}").names_a_backend());
    }

    #[test]
    fn placeholders_in_a_script_are_found_and_its_arguments_are_none() {
        let scripts = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            CommandTemplate::new(words).in_scripts()
        };
        for words in [
            &["sh", "-c", "systemctl restart app@{name}"][..],
            &["/bin/bash", "-ec", "systemctl restart app@{name}"],
            &["env", "A=1", "sh", "-c", "systemctl restart app@{name}"],
            &["sudo", "-u", "app", "bash", "-l", "-c", "restart {name}"],
            &["su", "app", "-c", "restart {name}"],
        ] {
            assert_eq!(scripts(words), ["{name}"], "{words:?}");
        }
        for words in [
            &["systemctl", "restart", "app@{name}"][..],
            &["sh", "-c", "systemctl restart app@$1", "sh", "{name}"],
            &["tar", "-c", "{name}"],
            &["sh", "restart.sh", "{name}"],
        ] {
            assert!(scripts(words).is_empty(), "{words:?}");
        }
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn exit_status_and_output_are_reported() {
        let (_kill, killed) = oneshot::channel();
        let ran = run_command(shell("echo out; echo err >&2; exit 3"), killed).await;
        assert!(!ran.is_well());
        assert_eq!(ran.describe(), "exit status: 3");
        assert_eq!(ran.output, "out\nerr\n");
        let (_kill, killed) = oneshot::channel();
        let ran = run_command(vec!["/nonexistent/command".into()], killed).await;
        assert!(ran.describe().starts_with("can't be run: "), "{ran:?}");
    }

    #[tokio::test]
    async fn background_process_does_not_block_the_command() {
        let (_kill, killed) = oneshot::channel();
        let ran = run_command(shell("sleep 5 & echo $!"), killed).await;
        assert!(ran.is_well());
        let pid: u32 = ran.output.trim().parse().unwrap();
        crate::rt::syscall::kill(pid, libc::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn it_can_be_ended_with_all_its_helpers() {
        let (kill, killed) = oneshot::channel();
        let running = tokio::spawn(run_command(shell("sleep 60; echo not reached"), killed));
        kill.send(()).unwrap();
        let ran = tokio::time::timeout(Duration::from_secs(20), running);
        let ran = ran.await.unwrap().unwrap();
        assert!(!ran.is_well() && ran.output.is_empty(), "{ran:?}");
    }
}
