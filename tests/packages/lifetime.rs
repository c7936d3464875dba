//! A package's whole life in a Debian of its own, with systemd as process 1: installed, upgraded under load, removed, purged.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::{build, has, succeed};

/// What debootstrap makes, kept: it takes a minute.
const DEBIAN: &str = "target/debian-root";

/// The address of the installed configuration.
const ADDRESS: &str = "127.0.0.1:8080";

/// Upgrades in one run.
const UPGRADES: u32 = 5;

struct Debian {
    container: Child,
    init: String,
    dir: tempfile::TempDir,
}

impl Debian {
    fn boot() -> Option<Self> {
        let lacks = ["debootstrap", "dpkg-deb", "unshare", "nsenter"];
        let lacks = lacks.into_iter().find(|program| !has(program));
        if let Some(program) = lacks {
            lameduck_rig::setting::skip("a package's life", program);
            return None;
        }
        if !Path::new(DEBIAN).join("lib/systemd/systemd").exists() {
            let _ = std::fs::remove_dir_all(DEBIAN);
            let new = format!("{DEBIAN}.new");
            let _ = std::fs::remove_dir_all(&new);
            let mut make = Command::new("debootstrap");
            make.args([
                "--variant=minbase",
                "--include=systemd,systemd-sysv,logrotate,adduser",
            ]);
            succeed(make.args(["bookworm", &new]));
            std::fs::rename(new, DEBIAN).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let mut start = Command::new("tests/packages/boot-debian.sh");
        start
            .arg(dir.path())
            .arg(std::fs::canonicalize(DEBIAN).unwrap());
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
    fn run(&self, line: &str) -> (bool, String) {
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

    fn tell(&self, line: &str) -> String {
        let (good, said) = self.run(line);
        let journal = || self.run("journalctl -u lameduck --no-pager -n 30").1;
        assert!(good, "{line}: {said}\n{}", journal());
        said
    }

    /// Puts a package where it sees it.
    fn bring(&self, deb: &Path) -> String {
        let name = deb.file_name().unwrap().to_string_lossy().into_owned();
        let to = format!("/proc/{}/root/root/{name}", self.init);
        std::fs::copy(deb, to).unwrap();
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

/// Clients in its network, each with one request after the other, half of them on connections that are kept.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(init: &str) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let clients = (0..4).map(|number| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let network = File::open(format!("/proc/{init}/ns/net")).unwrap();
            std::thread::spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
                let mut lost = Vec::new();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    match ask(&mut kept, number % 2 == 0) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => lost.push(why),
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                lost
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    fn wait_for(&self, more: u32) {
        let (before, began) = (self.answered.load(Ordering::Relaxed), Instant::now());
        while self.answered.load(Ordering::Relaxed) < before + more {
            assert!(began.elapsed() < Duration::from_secs(30), "no answers");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        let lost = lost.collect();
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

/// One request. A kept connection that was closed before a byte of the answer was said is no loss: every client has to know
/// that, and asks again on a new one.
fn ask(kept: &mut Option<TcpStream>, keep: bool) -> Result<(), String> {
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let again = kept.is_some();
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .map_err(|error| format!("connect: {error}"))?,
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let close = if keep { "" } else { "Connection: close\r\n" };
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{close}\r\n");
    let mut answer = Vec::new();
    let ended = stream
        .write_all(text.as_bytes())
        .and_then(|()| read_answer(&mut stream, &mut answer));
    let shown = String::from_utf8_lossy(&answer);
    match ended {
        _ if answer.is_empty() && again => ask(kept, keep),
        Err(error) => Err(format!("{error} after {shown:?}")),
        Ok(()) if !shown.starts_with("HTTP/1.1 200 ") => Err(shown.into_owned()),
        Ok(()) => {
            let closes = shown.to_ascii_lowercase().contains("connection: close");
            *kept = (keep && !closes).then_some(stream);
            Ok(())
        }
    }
}

fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length:").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let whole = match length {
                Some(length) => body.len() >= length,
                None => body.ends_with("0\r\n\r\n"),
            };
            if whole {
                return Ok(());
            }
        }
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&part[..read]),
        }
    }
}

fn deb(dir: &Path, version: &str) -> PathBuf {
    build(dir, version, &["deb"]);
    let mut entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = format!("lameduck_{version}-1_");
    entries
        .find(|path| path.to_string_lossy().contains(&name))
        .unwrap()
}

#[test]
fn package_is_installed_upgraded_under_load_without_a_loss_removed_and_purged() {
    if !lameduck_rig::setting::proving() {
        return lameduck_rig::setting::say("a package's life: only with LAMEDUCK_PROVE=1");
    }
    let Some(debian) = Debian::boot() else { return };
    let dir = tempfile::tempdir().unwrap();
    let first = debian.bring(&deb(dir.path(), "0.1.0"));
    let said = debian.tell(&format!("dpkg --install {first}"));
    assert!(!said.contains("rror"), "{said}");
    // On and started, for this host alone.
    debian.tell("systemctl is-enabled lameduck && systemctl is-active lameduck");
    assert!(debian.tell("lameduck status").contains("app"));
    debian.tell("lameduck check -c /etc/lameduck/lameduck.toml");
    assert_eq!(
        debian.tell("stat -c %U /var/lib/lameduck /var/log/lameduck"),
        "lameduck\nlameduck\n"
    );
    let owner = debian.tell("stat -c %U /proc/$(systemctl show -P MainPID lameduck)");
    assert_eq!(owner.trim(), "lameduck");

    // An app that registers itself, as another unit.
    debian.tell(
        "systemd-run --unit app --quiet lameduck exec --pool app --name app-1 -- lameduck demo-app",
    );
    debian.tell("lameduck status app && lameduck resume app/app-1 --wait 30s");
    let load = Load::start(&debian.init);
    load.wait_for(50);

    // The administrator's own words stay.
    debian.tell("printf '\\n# mine\\n' >> /etc/lameduck/lameduck.toml");
    let pid = || debian.tell("systemctl show -P MainPID lameduck");
    for n in 0..UPGRADES {
        let next = debian.bring(&deb(dir.path(), &format!("0.{}.0", n + 2)));
        let before = pid();
        let said = debian.tell(&format!(
            "dpkg --install --force-confdef --force-confold {next}"
        ));
        assert!(!said.contains("has not taken over"), "{said}");
        let after = pid();
        assert_ne!(before, after, "{said}");
        load.wait_for(50);
        debian.tell("systemctl is-active lameduck && grep -q '# mine' /etc/lameduck/lameduck.toml");
    }

    // A release that refuses the configuration: the old one goes on, and the package is whole.
    debian.tell("echo 'nonsense = 1' >> /etc/lameduck/lameduck.toml");
    let last = debian.bring(&deb(dir.path(), "0.9.0"));
    let before = pid();
    let said = debian.tell(&format!(
        "dpkg --install --force-confdef --force-confold {last}"
    ));
    assert!(said.contains("the old one goes on serving"), "{said}");
    assert_eq!(before, pid());
    load.wait_for(50);
    debian.tell("sed -i '/^nonsense/d' /etc/lameduck/lameduck.toml && systemctl reload lameduck");
    assert_ne!(before, pid());
    load.wait_for(50);

    // The log is rotated while it is written.
    debian.tell("logrotate --force /etc/logrotate.d/lameduck");
    load.wait_for(50);
    // Lines are written when there are enough of them, or after a moment.
    debian.tell(
        "cd /var/log/lameduck && test -s access.log.1 && \
         for _ in $(seq 100); do test -s access.log && exit; sleep 0.1; done; exit 1",
    );

    let (answered, lost) = load.end();
    assert!(
        lost.is_empty(),
        "of {answered}: {} lost: {:?}",
        lost.len(),
        lost.first()
    );
    lameduck_rig::setting::say(&format!(
        "{} upgrades of the package under load: {answered} answered, 0 lost",
        UPGRADES + 1
    ));

    // What is off stays off.
    debian.tell("systemctl stop app");
    debian.tell("systemctl disable --now lameduck");
    debian.tell(&format!("dpkg --install {last}"));
    assert!(!debian.run("systemctl is-enabled lameduck").0);
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("systemctl enable --now lameduck");

    debian.tell("dpkg --remove lameduck");
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("test -e /etc/lameduck/lameduck.toml && test -d /var/lib/lameduck && getent passwd lameduck");
    debian.tell("dpkg --purge lameduck");
    let left = debian.tell(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/log/journal -o -path /run \\) -prune -o \
         -name '*lameduck*' -print",
    );
    assert_eq!(left, "", "left behind");
    assert!(!debian.run("getent passwd lameduck").0);
}
