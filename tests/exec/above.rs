//! What the supervisor above sees, and what the app below gets.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::rig::{Launched, PATIENCE, Rig};

/// The rig's usual app, with changes to the launcher's own surroundings.
fn with(rig: &mut Rig, options: &[&str], change: impl FnOnce(&mut Command)) -> Launched {
    let journal = rig.scratch.path().join("app.journal");
    let mut all = vec!["--pool", "app", "--name", "api-0"];
    all.extend(options);
    let script = "env > \"$LOG.env\"; echo $$ > \"$LOG.pid\"; exec \"$EXE\" demo-app --port $PORT --log \"$LOG\"";
    let mut command = rig.exec(&all, &["sh", "-c", script]);
    command.env("EXE", crate::rig::exe()).env("LOG", journal);
    change(&mut command);
    rig.spawn(command)
}

fn environment(rig: &Rig) -> String {
    std::fs::read_to_string(rig.scratch.path().join("app.journal.env")).unwrap()
}

/// What systemd is told. It is taken as it comes: the kernel keeps ten messages, and what finds no room for a second is lost.
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        // Longer than any test is silent.
        socket.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let told = Self(Arc::default());
        let all = told.0.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                all.lock().push(text);
            }
        });
        told
    }

    /// The first message that has this.
    async fn until(&self, wanted: &str) -> String {
        let found = || {
            let all = self.0.lock();
            all.iter().find(|text| text.contains(wanted)).cloned()
        };
        crate::rig::until(wanted, async || found().is_some()).await;
        found().unwrap()
    }
}

#[lameduck_rig::test]
async fn systemd_is_told_when_requests_come_and_not_before() {
    let mut rig = Rig::start().await;
    let path = rig.scratch.path().join("notify");
    let told = Told::at(&path);
    let mut launched = with(&mut rig, &[], |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000");
    });
    let ready = told.until("READY=1").await;
    assert_eq!(
        rig.state("api-0").await.as_deref(),
        Some("ready"),
        "{ready}"
    );
    told.until("WATCHDOG=1").await;
    let environment = environment(&rig);
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_USEC="] {
        assert!(!environment.contains(name), "{environment}");
    }
    launched.process.signal(libc::SIGTERM).unwrap();
    let stopping = told.until("STOPPING=1").await;
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC="), "{stopping}");
    assert!(launched.exited().await.success());
}

/// Hands a descriptor down under its own number.
fn inherit(command: &mut Command, theirs: &OwnedFd) -> String {
    use std::os::unix::process::CommandExt;
    let number = theirs.as_raw_fd();
    #[allow(unsafe_code, reason = "std closes every descriptor at exec")]
    // SAFETY: fcntl with integers, in the child.
    unsafe {
        command.pre_exec(move || {
            libc::fcntl(number, libc::F_SETFD, 0);
            Ok(())
        });
    }
    number.to_string()
}

fn line(from: &UnixStream) -> String {
    use std::io::{BufRead, BufReader};
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    BufReader::new(from).read_line(&mut text).unwrap();
    text
}

#[lameduck_rig::test]
async fn pm2_and_s6_are_told_through_their_descriptors() {
    let mut rig = Rig::start().await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let mut launched = with(&mut rig, &[], |command| {
        let number = inherit(command, &theirs);
        command.env("NODE_CHANNEL_FD", number);
    });
    let told = tokio::task::spawn_blocking(move || line(&ours))
        .await
        .unwrap();
    assert_eq!(told, "\"ready\"\n");
    assert!(
        environment(&rig).contains("NODE_CHANNEL_FD="),
        "kept, and so is the descriptor"
    );
    assert!(launched.stop().await.success());
    drop(theirs);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let number = theirs.as_raw_fd().to_string();
    let mut launched = with(&mut rig, &["--notify-fd", &number], |command| {
        drop(inherit(command, &theirs));
        // Closed, as some supervisors leave it.
        command.env("NODE_CHANNEL_FD", "77");
    });
    let told = tokio::task::spawn_blocking(move || line(&ours))
        .await
        .unwrap();
    assert_eq!(told, "\n");
    assert!(
        !environment(&rig).contains("NODE_CHANNEL_FD="),
        "Node would abort"
    );
    assert!(launched.stop().await.success());
}

/// Nothing is handed down to it but the standard streams, whatever this process got.
fn hand_nothing_down(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    #[allow(unsafe_code, reason = "std hands down what it has not opened")]
    // SAFETY: fcntl with integers, in the child. What isn't open is an error, nothing else.
    unsafe {
        command.pre_exec(|| {
            for number in 3..64 {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            Ok(())
        });
    }
}

#[lameduck_rig::test]
async fn descriptor_that_only_the_launcher_itself_has_is_not_taken_for_its_supervisor_s() {
    let mut rig = Rig::start().await;
    for number in 3..8 {
        let number = number.to_string();
        let options = ["--pool", "app", "--notify-fd", &number];
        let mut command = rig.exec(&options, &["true"]);
        hand_nothing_down(&mut command);
        let mut launched = rig.spawn(command);
        let code = launched.exited().await.code();
        let said = launched.said();
        assert_eq!(code, Some(125), "{said}");
        assert!(said.contains("is not open"), "{said}");
    }
}

#[lameduck_rig::test]
async fn sockets_are_handed_on_in_the_app_s_name() {
    let mut rig = Rig::start().await;
    let mut launched = with(&mut rig, &[], |command| {
        // As systemd does it: they are meant for the launcher.
        in_shell(command, "LISTEN_FDS=0 LISTEN_PID=$$ exec \"$0\" \"$@\"");
    });
    rig.ready("api-0").await;
    let pid = std::fs::read_to_string(rig.scratch.path().join("app.journal.pid")).unwrap();
    let environment = environment(&rig);
    assert!(
        environment.contains(&format!("LISTEN_PID={}\n", pid.trim())),
        "{environment}"
    );
    assert_eq!(launched.app().to_string(), pid.trim());
    assert!(launched.stop().await.success());
}

/// Starts the command from a shell, as `$0` with `$@`.
fn in_shell(command: &mut Command, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(command.get_program());
    shell.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    *command = shell;
}

#[lameduck_rig::test]
async fn sockets_that_were_meant_for_another_process_are_not_handed_on() {
    let mut rig = Rig::start().await;
    let mut launched = with(&mut rig, &[], |command| {
        command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    });
    rig.ready("api-0").await;
    assert!(environment(&rig).contains("LISTEN_PID=1\n"));
    assert!(launched.stop().await.success());
}

/// A signal to the launcher's group, as Oxmgr sends it, does not reach the app before it is drained.
#[lameduck_rig::test]
async fn a_signal_to_the_whole_group_is_the_launcher_s() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let slow = tokio::spawn(crate::endings::get(rig.proxy.address(), "/slow?ms=800"));
    crate::endings::in_flight(&rig, 1).await;
    lameduck::rt::syscall::kill_group(launched.process.pid(), libc::SIGTERM).unwrap();
    // And once more, to the process: the same signal.
    launched.process.signal(libc::SIGTERM).unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), 200);
    assert!(launched.exited().await.success(), "{}", launched.said());
    assert!(!launched.said().contains("again"), "{}", launched.said());
}

#[lameduck_rig::test]
async fn other_signals_reach_the_app_as_they_come() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    // The demo app plays an outage then.
    launched.process.signal(libc::SIGUSR1).unwrap();
    crate::rig::until("the app has had USR1", async || {
        rig.state("api-0")
            .await
            .is_some_and(|state| state.starts_with("drain"))
    })
    .await;
    assert!(launched.stop().await.success());
}

#[lameduck_rig::test]
async fn workers_without_a_port_are_not_registered_and_stop_at_once() {
    let mut rig = Rig::start().await;
    let command = rig.exec(
        &["--no-port"],
        &[
            "sh",
            "-c",
            "trap 'exit 3' TERM; echo up >&2; while :; do sleep 0.01; done",
        ],
    );
    let mut launched = rig.spawn(command);
    launched.says("up").await;
    let begun = std::time::Instant::now();
    assert_eq!(launched.stop().await.code(), Some(3));
    // No drain is waited for.
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(rig.backends().await.is_empty());
}

/// As small as it can be, and nothing of that is inherited by the app.
#[lameduck_rig::test]
async fn a_launcher_takes_little_and_its_app_does_not_notice() {
    let mut rig = Rig::start().await;
    let mut launched = with(&mut rig, &[], |_| ());
    rig.ready("api-0").await;
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (own, app) = (status(launched.process.pid()), status(launched.app()));
    let threads = number(&own, "Threads:").unwrap();
    assert!(threads <= 2, "the loop and the lease: {threads}");
    // The unoptimised program's code is several times as large, and how much of its file the kernel maps is the kernel's
    // affair: there, what is the process's own counts.
    let counted = if cfg!(debug_assertions) {
        "RssAnon:"
    } else {
        "VmRSS:"
    };
    let resident = number(&own, counted).unwrap();
    crate::rig::figure(&format!("a launcher's resident memory: {resident} KiB"));
    assert!(resident < 5 * 1024, "{own}");
    // Kernels without it say nothing.
    assert_ne!(number(&app, "THP_enabled:"), Some(0));
    let environment = environment(&rig);
    assert!(
        !environment.contains("MIMALLOC") && !environment.contains("SLIM"),
        "{environment}"
    );
    assert!(launched.stop().await.success());
}
