//! Programs of others: whether they are there, and what they say.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a program is there; if not, says so.
pub fn has(program: &str) -> bool {
    let found = is_there(program);
    if !found {
        skip(program);
    }
    found
}

/// Whether a program is there.
pub fn is_there(program: &str) -> bool {
    let probe = std::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

/// Whether the app can run: Node and its packages are there.
pub fn has_app() -> bool {
    let packages = lameduck_rig::place::root().join("tests/apps/node_modules/ws");
    if !packages.is_dir() {
        skip("tests/apps/node_modules");
        return false;
    }
    has("node")
}

/// The Python of a virtual environment that tests/setup.sh has made.
pub fn venv(name: &str) -> Option<String> {
    if let Some(python) = lameduck_rig::place::in_venv(name, "python") {
        return Some(python.to_str().unwrap().to_owned());
    }
    skip(name);
    None
}

fn skip(what: &str) {
    lameduck_rig::setting::skip("clients", &format!("{what} (tests/setup.sh)"));
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .current_dir(lameduck_rig::place::root())
        .stdin(Stdio::null())
        // With those that it starts itself: a browser is many processes behind a script.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// What a program prints that ends well.
pub async fn output(words: &[&str]) -> String {
    let output = timeout(PATIENCE, command(words).output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{words:?} doesn't end"))
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{words:?}: {}\n{errors}\n{text}",
        output.status
    );
    text
}

/// A program that is listened to while it runs; ends with this.
pub struct Talking {
    child: Child,
    says: BufReader<ChildStdout>,
    what: String,
}

impl Drop for Talking {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id() {
            let _ = lameduck::rt::syscall::kill_group(pid, libc::SIGKILL);
        }
    }
}

impl Talking {
    pub fn start(words: &[&str]) -> Self {
        let mut child = command(words).stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            says,
            what: words.join(" "),
        }
    }

    /// The next line.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.says.read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("{} says nothing", self.what))
            .unwrap();
        line.trim_end().to_owned()
    }

    /// What it says until its end, and whether that was a good one.
    pub async fn rest(mut self) -> (String, bool) {
        let mut text = String::new();
        let ending = async {
            self.says.read_to_string(&mut text).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = timeout(PATIENCE, ending).await;
        let status = status.unwrap_or_else(|_| panic!("{} doesn't end", self.what));
        (text, status.success())
    }
}
