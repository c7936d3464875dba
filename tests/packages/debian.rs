//! A Debian of its own, with systemd as process 1: what packages are installed in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{has, has_namespaces, succeed};

pub(super) struct Debian {
    container: Child,
    /// Process id of its systemd, as seen from here.
    pub(super) init: String,
    dir: tempfile::TempDir,
}

impl Debian {
    /// A system that has just started; `None`, aloud: this machine can't have one.
    pub(super) fn boot() -> Option<Self> {
        let root = root_directory()?;
        let dir = tempfile::tempdir().unwrap();
        let mut start = Command::new("tests/packages/boot-debian.sh");
        start.arg(dir.path()).arg(root);
        let log = File::create(dir.path().join("log")).unwrap();
        start
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .stdin(Stdio::null());
        let container = start.spawn().unwrap();
        let mut debian = Self {
            container,
            init: String::new(),
            dir,
        };
        debian.wait("systemd to be there", |debian| {
            let pid = debian.container.id();
            let children = format!("/proc/{pid}/task/{pid}/children");
            debian.init = std::fs::read_to_string(children)
                .unwrap_or_default()
                .trim()
                .to_owned();
            let name = std::fs::read_to_string(format!("/proc/{}/comm", debian.init));
            name.is_ok_and(|name| name.trim() == "systemd")
        });
        debian.wait("systemd to be up", |debian| {
            let said = debian.run("systemctl is-system-running").1;
            ["running", "degraded"].contains(&said.trim())
        });
        Some(debian)
    }

    fn wait(&mut self, what: &str, mut until: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !until(self) {
            let log = std::fs::read_to_string(self.dir.path().join("log"));
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {log:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A line of its shell: whether it ended well, and what it said.
    pub(super) fn run(&self, line: &str) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup"]);
        command.args(["--root", "--wd", "--target", &self.init]);
        command.args(["/bin/sh", "-c", line]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    pub(super) fn tell(&self, line: &str) -> String {
        let (good, said) = self.run(line);
        let journal = || self.run("journalctl -u lameduck --no-pager -n 30").1;
        assert!(good, "{line}: {said}\n{}", journal());
        said
    }

    /// Runs a line again and again until it ends well.
    pub(super) fn wait_for(&self, line: &str) {
        let began = Instant::now();
        while !self.run(line).0 {
            if began.elapsed() > Duration::from_secs(30) {
                self.tell(line);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts a package where it sees it; returns its path there.
    pub(super) fn bring(&self, package: &Path) -> String {
        let name = package.file_name().unwrap().to_string_lossy().into_owned();
        let to = format!("/proc/{}/root/root/{name}", self.init);
        std::fs::copy(package, to).unwrap();
        format!("/root/{name}")
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.container.kill();
        let _ = self.container.wait();
        let name = self.dir.path().file_name().unwrap();
        for hierarchy in ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"] {
            let mut clean = Command::new("find");
            clean.arg(Path::new(hierarchy).join(name));
            let clean = clean
                .args(["-depth", "-type", "d", "-delete"])
                .stderr(Stdio::null());
            let _ = clean.status();
        }
    }
}

/// The files of a Debian as this machine's, made if need be.
fn root_directory() -> Option<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap();
    let lacks = ["mmdebstrap", "nsenter"].into_iter().find(|one| !has(one));
    let lacks = lacks.or_else(|| (!has_namespaces()).then_some("root, and namespaces"));
    // The program under test runs with the C library that it was linked with, or a later one.
    let lacks = lacks.or_else(|| (!is_debian()).then_some("Debian"));
    if let Some(lacks) = lacks {
        lameduck_rig::setting::skip("a package's life", lacks);
        return None;
    }
    let said = succeed(Command::new("tests/packages/debian-root.sh").arg("target"));
    let root = said.lines().next().unwrap();
    Some(std::fs::canonicalize(root).unwrap())
}

/// Whether this machine is one, of a release.
fn is_debian() -> bool {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    has("ID=debian") && has("VERSION_CODENAME=")
}
