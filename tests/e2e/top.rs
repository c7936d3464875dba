//! `lameduck top` in a real terminal: tmux draws it at two sizes, through a rolling restart, a drain by key, a restart of the
//! proxy, and every way to end it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lameduck::core::drain::DrainOutcome;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, skip, turn, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A tmux server of its own.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(&self.socket)
            .args(["-u", "-f", "/dev/null"]);
        let ended = command.args(words).env_remove("TMUX").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "tmux {words:?}: {said}");
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Runs a shell script in a terminal of this size.
    fn start(&self, name: &str, (width, height): (u16, u16), script: &str) {
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", &width, "-y", &height];
        let words = [&["new-session", "-d", "-s", name][..], &size, &[script]].concat();
        self.run(&words);
    }

    fn keys(&self, name: &str, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", name][..], keys].concat());
    }

    fn shown(&self, name: &str) -> String {
        self.run(&["capture-pane", "-p", "-t", name])
    }

    async fn until(&self, name: &str, what: &str) {
        self.until_shown(name, what, true).await;
    }

    async fn until_gone(&self, name: &str, what: &str) {
        self.until_shown(name, what, false).await;
    }

    async fn until_shown(&self, name: &str, what: &str, wanted: bool) {
        let seen = tokio::time::timeout(PATIENCE, async {
            while self.shown(name).contains(what) != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let seen = seen.await;
        assert!(
            seen.is_ok(),
            "{name}: {what:?} shown is never {wanted}:\n{}",
            self.shown(name)
        );
    }

    /// The process that the shell in it runs.
    fn child(&self, name: &str) -> u32 {
        let shell = self.run(&["list-panes", "-t", name, "-F", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(children).unwrap();
        children.trim().parse().unwrap()
    }

    /// Keeps what is drawn, with its colours, for whoever wants to look at it.
    fn keep(&self, name: &str, file: &str) {
        let dir = lameduck_rig::place::target().join("top");
        std::fs::create_dir_all(&dir).unwrap();
        let text = self.run(&["capture-pane", "-p", "-e", "-t", name]);
        std::fs::write(dir.join(file), text).unwrap();
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).arg("kill-server");
        let _ = command.env_remove("TMUX").output();
    }
}

/// `lameduck top`, with what the terminal was like before and is like after it; without its size, which the test changes.
fn script(socket: &Path) -> String {
    format!(
        "stty -a | sed 1d >{dir}/before.$$; {exe:?} top --admin {socket:?}; echo \"code $?\"; stty -a | \
         sed 1d | cmp - {dir}/before.$$ && echo restored; exec sleep 600",
        dir = socket.parent().unwrap().display(),
        exe = exe(),
    )
}

async fn state(proxy: &DemoProxy, name: &str) -> String {
    let pool = proxy.pool().await.unwrap();
    let backend = pool.backends.into_iter().find(|one| one.name == name);
    backend.unwrap().state
}

#[lameduck_rig::test]
async fn terminal_shows_a_roll_drains_by_key_outlives_the_proxy_and_is_given_back() {
    if Command::new("tmux").arg("-V").output().is_err() {
        skip("top", "tmux (run tests/setup.sh)");
        return;
    }
    let _turn = turn().await;
    let mut bench = Bench::start("top", App::BuiltIn, 3).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let settings = ProxySettings {
        pool: "[pool.drain]\ndeadline = \"10s\"".to_owned(),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let load = Load::start(LoadPlan::new(proxy.address(), 60));
    let tmux = Tmux {
        socket: dir.join("tmux"),
    };
    let sizes = [("narrow", (80, 24)), ("wide", (200, 50))];
    for (name, size) in sizes {
        tmux.start(name, size, &script(proxy.socket()));
    }
    for (name, _) in sizes {
        tmux.until(name, "3 of 3 eligible").await;
        tmux.until(name, " app-3 ").await;
        // Two looks are needed for a rate.
        tmux.until(name, " in flight, ").await;
    }

    // A roll: the drain, with what is left and the time to its deadline, and the restart.
    for instance in &mut bench.instances {
        // It stays drained until both have shown it.
        let name = instance.name().to_owned();
        let drained = proxy.drain(&name, Duration::from_secs(10));
        let watch = async |(terminal, size): (&str, (u16, u16))| {
            tmux.until(terminal, "2 of 3 eligible").await;
            tmux.keep(terminal, &format!("roll-{}x{}.ansi", size.0, size.1));
        };
        let (drained, (), ()) = tokio::join!(drained, watch(sizes[0]), watch(sizes[1]));
        assert_eq!(drained.unwrap().ending(), Some(DrainOutcome::Drained));
        roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
        proxy.resume(&name, PATIENCE).await.unwrap();
        for (terminal, _) in sizes {
            tmux.until(terminal, "3 of 3 eligible").await;
        }
    }
    for (terminal, size) in sizes {
        tmux.until(terminal, "nothing lost").await;
        tmux.keep(terminal, &format!("rolled-{}x{}.ansi", size.0, size.1));
    }

    // A drain and its end by keys: nothing without a yes.
    tmux.keys("narrow", &["d"]);
    tmux.until("narrow", "Drain app/app-1?").await;
    tmux.keep("narrow", "question-80x24.ansi");
    tmux.keys("narrow", &["n"]);
    tmux.keys("narrow", &["j", "d"]);
    tmux.until("narrow", "Drain app/app-2?").await;
    assert_eq!(state(&proxy, "app-1").await, "ready");
    tmux.keys("narrow", &["y"]);
    tmux.until("narrow", "app/app-2 drains").await;
    tmux.until("wide", "operator: lameduck top").await;
    until("drained", PATIENCE, async || {
        state(&proxy, "app-2").await == "drained"
    })
    .await;
    tmux.keys("narrow", &["r"]);
    tmux.until("narrow", "Resume app/app-2?").await;
    tmux.keys("narrow", &["y"]);
    until("ready", PATIENCE, async || {
        state(&proxy, "app-2").await == "ready"
    })
    .await;

    // The filter, and another size.
    tmux.keys("narrow", &["/", "app-3", "Enter"]);
    tmux.until("narrow", " /app-3 ").await;
    tmux.until_gone("narrow", " app-1 ").await;
    tmux.keys("narrow", &["Escape"]);
    tmux.until("narrow", " app-1 ").await;
    tmux.run(&["resize-window", "-t", "narrow", "-x", "100", "-y", "30"]);
    tmux.until("narrow", "STREAM").await;
    assert!(!load.stop().await.is_empty());

    // In a pipe: once, as text.
    let mut piped = Command::new(exe());
    piped.args(["top", "--admin"]).arg(proxy.socket());
    let piped = piped.output().unwrap();
    let text = String::from_utf8(piped.stdout).unwrap();
    assert!(
        piped.status.success() && text.contains("app: 3 of 3 eligible"),
        "{text}"
    );
    assert!(
        text.contains("\n app-1 ") && !text.contains('\x1b'),
        "{text}"
    );

    // The proxy goes, and comes back at the same place.
    proxy.stop(PATIENCE).await.unwrap();
    for (terminal, size) in sizes {
        tmux.until(terminal, "no answer for ").await;
        tmux.keep(terminal, &format!("away-{}x{}.ansi", size.0, size.1));
    }
    let mut piped = Command::new(exe());
    piped.args(["top", "--admin"]).arg(proxy.socket());
    assert_eq!(piped.output().unwrap().status.code(), Some(5));
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    for (terminal, _) in sizes {
        tmux.until_gone(terminal, "no answer for ").await;
    }

    // Every end gives the terminal back as it was, and leaves nothing of ours on it.
    tmux.keys("narrow", &["q"]);
    tmux.until("narrow", "code 0\nrestored").await;
    lameduck::rt::syscall::kill(tmux.child("wide"), libc::SIGTERM).unwrap();
    tmux.until("wide", "code 143\nrestored").await;
    for (terminal, _) in sizes {
        assert!(
            !tmux.shown(terminal).contains("lameduck top "),
            "{}",
            tmux.shown(terminal)
        );
    }
    // Without colour; in the background and back; ended by Ctrl-C.
    let script = format!("export NO_COLOR=1; {}", script(proxy.socket()));
    tmux.start("plain", (80, 24), &script);
    tmux.until("plain", "3 of 3 eligible").await;
    let coloured = tmux.run(&["capture-pane", "-p", "-e", "-t", "plain"]);
    // 39 is the terminal's own.
    let coloured = coloured.replace("\x1b[39m", "");
    assert!(!coloured.contains("\x1b[3"), "{coloured:?}");
    tmux.keys("plain", &["C-z"]);
    tmux.until_gone("plain", "lameduck top ").await;
    let pid = tmux.child("plain");
    until("stopped", PATIENCE, async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ")
    })
    .await;
    lameduck::rt::syscall::kill(pid, libc::SIGCONT).unwrap();
    tmux.until("plain", "3 of 3 eligible").await;
    tmux.keys("plain", &["C-c"]);
    tmux.until("plain", "code 130\nrestored").await;
}
