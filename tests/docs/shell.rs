//! Runs what the documentation shows as typed: in bash, from a directory of its own, bounded in time.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lameduck::rt::syscall;

/// Separates one command's output from the next one's.
const MARK: &str = "@@@";

/// How long a command that stays may take to say what it has to, on a busy machine.
const LONGEST_STAY: Duration = Duration::from_secs(60);

/// A directory with `lameduck` in its `PATH`, and bash to run things there.
pub struct Shell {
    pub dir: tempfile::TempDir,
    bin: tempfile::TempDir,
    /// Process groups that were started here.
    groups: Vec<u32>,
}

/// What a script did.
pub struct Ended {
    /// Exit code; 124: it was still running when its time was over.
    pub code: i32,
    /// Both streams, as they came.
    pub output: String,
}

impl Shell {
    pub fn new() -> Self {
        let bin = tempfile::tempdir().unwrap();
        let lameduck = bin.path().join("lameduck");
        std::os::unix::fs::symlink(lameduck_rig::place::exe(), lameduck).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            bin,
            groups: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs a script, for so long at most; what it leaves in the background goes on until the shell is dropped.
    pub fn run(&mut self, script: &str, limit: Duration) -> Ended {
        self.run_until(script, limit, |_| false)
    }

    /// The same for one that never ends by itself: it has to stay for so long, and then until it has said what it has to.
    pub fn stays(
        &mut self,
        script: &str,
        shortest: Duration,
        said: impl Fn(&str) -> bool,
    ) -> Ended {
        let end = Instant::now() + shortest;
        self.run_until(script, LONGEST_STAY, |output| {
            Instant::now() > end && said(output)
        })
    }

    fn run_until(
        &mut self,
        script: &str,
        limit: Duration,
        is_over: impl Fn(&str) -> bool,
    ) -> Ended {
        let number = self.groups.len();
        let (file, output) = (format!(".script-{number}"), format!(".output-{number}"));
        self.write(&file, script);
        let out = std::fs::File::create(self.path(&output)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut child = Command::new("bash")
            .arg(&file)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.bin.path().display()))
            .env("HOME", self.dir.path())
            .env("NO_COLOR", "1")
            .env("LAMEDUCK_ADMIN", self.path("lameduck.sock"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap();
        self.groups.push(child.id());
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            let output = std::fs::read(self.path(&output)).unwrap();
            if Instant::now() > end || is_over(&String::from_utf8_lossy(&output)) {
                let _ = syscall::kill_group(child.id(), libc::SIGKILL);
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let code = status.map_or(124, |status| status.code().unwrap_or(-1));
        let output = std::fs::read(self.path(&output)).unwrap();
        let output = String::from_utf8_lossy(&output).into_owned();
        Ended { code, output }
    }

    /// Whether nothing of what the scripts started is left, or is gone within 30 s.
    pub fn is_quiet(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        let left = || self.groups.iter().any(|group| group_runs(*group));
        while left() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        !left()
    }

    /// The files that are there, but those of the scripts.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for group in &self.groups {
            let _ = syscall::kill_group(*group, libc::SIGKILL);
        }
    }
}

/// Whether a process of the group runs; one that has ended and waits for its parent doesn't.
fn group_runs(group: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            return false;
        };
        let mut fields = rest.split(' ');
        let state = fields.next();
        state != Some("Z") && fields.nth(1) == Some(group.to_string().as_str())
    })
}

/// Whether bash understands it.
pub fn is_bash(script: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    std::fs::write(&file, script).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    match checked.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&checked.stderr).into_owned()),
    }
}

/// One thing that is typed, and what is shown below it.
pub struct Typed {
    pub command: String,
    pub shown: Vec<String>,
}

/// The commands of a block: all of an `sh` block is one.
pub fn typed(language: &str, text: &str) -> Vec<Typed> {
    if language == "sh" {
        return vec![Typed {
            command: text.to_owned(),
            shown: Vec::new(),
        }];
    }
    let mut all: Vec<Typed> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(command), _) => all.push(Typed {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(last)) => last.shown.push(line.to_owned()),
            (None, None) => panic!("a console block begins with a command: {line}"),
        }
    }
    all
}

/// A script of these commands: what comes before each is `before`, and its exit code is printed after it.
pub fn script(all: &[Typed]) -> String {
    let mut text = String::new();
    for typed in all {
        text.push_str(&format!(
            "echo '{MARK}'\n{}\necho \"{MARK}code $?\"\n",
            typed.command.trim_end()
        ));
    }
    text
}

/// What each command of [`script`] printed, and its exit code.
pub fn answers(output: &str) -> Vec<(String, String)> {
    let mark = format!("{MARK}\n");
    let parts = output.split(&mark).skip(1);
    parts
        .map(|part| {
            let (text, rest) = part
                .split_once(&format!("{MARK}code "))
                .unwrap_or((part, "none"));
            let code = rest.lines().next().unwrap_or_default();
            (text.to_owned(), code.to_owned())
        })
        .collect()
}

/// A line without what differs from run to run: numbers, units of time, and the width of columns.
pub fn plain(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if text.ends_with('N') => {}
            '0'..='9' => text.push('N'),
            '.' if text.ends_with('N') => {}
            c => text.push(c),
        }
    }
    let text = text.replace(" ms", " s");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first line shown that isn't there, in this order; `...` stands for any lines.
pub fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a String> {
    let mut lines = printed.lines().map(plain);
    let mut shown = shown.iter().filter(|line| *line != "...");
    shown.find(|line| {
        let wanted = plain(line);
        !lines.any(|line| line == wanted)
    })
}

/// Ports that nobody has just now.
pub fn ports<const N: usize>() -> [u16; N] {
    [(); N].map(|()| lameduck_rig::ports::free_address().port())
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}
