//! A proxy with one empty pool, and apps under launchers.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use lameduck::registry::view::BackendView;
use lameduck::tools::demo::oracle::{Life, LoadAccount, Sent};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
pub use lameduck_rig::place::exe;
pub use lameduck_rig::process::is_running as runs;
pub use lameduck_rig::setting::proving;
pub use lameduck_rig::wait::{PATIENCE, until};
use lameduck_rig::{oracle, process};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many tests may be under load at once: each keeps a quarter of a core busy.
const TURNS: usize = 3;

/// Waits for this test's turn.
pub async fn turn() -> SemaphorePermit<'static> {
    static LOADS: Semaphore = Semaphore::const_new(TURNS);
    LOADS.acquire().await.unwrap()
}

/// Says a figure aloud where figures are asked for.
pub fn figure(text: &str) {
    if proving() {
        let _ = writeln!(std::io::stderr(), "figure: {text}");
    }
}

pub struct Rig {
    pub proxy: DemoProxy,
    pub settings: ProxySettings,
    /// Through which socket launchers and commands go.
    pub through: PathBuf,
    lives: Vec<(String, PathBuf, Option<u64>)>,
    // Last: processes that still run write into it.
    pub scratch: ScratchDir,
}

/// A launcher with its app.
pub struct Launched {
    pub process: ChildProcess,
    pub journal: PathBuf,
    errors: PathBuf,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with("lame_duck = \"0s\"").await
    }

    /// With these keys of `[server]`.
    pub async fn start_with(server: &str) -> Self {
        let scratch = ScratchDir::new("lameduck-exec").unwrap();
        let apps = scratch.path().join("apps.sock");
        let mut settings = ProxySettings {
            admin: format!("apps_socket = {:?}", apps.display().to_string()),
            server: server.into(),
            ..ProxySettings::default()
        };
        let proxy = DemoProxy::start(exe(), "proxy", scratch.path(), &settings, &[])
            .await
            .unwrap();
        settings.listen = proxy.address();
        Self {
            through: proxy.socket().to_owned(),
            proxy,
            settings,
            lives: Vec::new(),
            scratch,
        }
    }

    /// Starts the proxy again, on the same socket and port.
    pub async fn proxy_again(&mut self) {
        let dir = self.scratch.path();
        self.proxy = DemoProxy::start(exe(), "proxy", dir, &self.settings, &[])
            .await
            .unwrap();
    }

    /// A launcher's command line: these options, this command.
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Command {
        let mut exec = Command::new(exe());
        exec.arg("exec").args(options).arg("--").args(command);
        for name in ["NOTIFY_SOCKET", "INVOCATION_ID", "HOSTNAME", "LISTEN_PID"] {
            exec.env_remove(name);
        }
        exec.env("LAMEDUCK_ADMIN", &self.through);
        exec
    }

    /// Starts a command and keeps what it says.
    pub fn spawn(&mut self, command: Command) -> Launched {
        let n = self.lives.len();
        let errors = self.scratch.path().join(format!("{n}.err"));
        let mut process = ChildProcess::start("launcher", command, &errors).unwrap();
        process.ignore_output();
        let journal = self.scratch.path().join(format!("{n}.journal"));
        self.lives.push((n.to_string(), journal.clone(), None));
        Launched {
            process,
            journal,
            errors,
        }
    }

    /// The demo app under a launcher, in a shell script that is run with `$EXE` and `$LOG`.
    pub fn script(&mut self, options: &[&str], script: &str) -> Launched {
        let journal = self
            .scratch
            .path()
            .join(format!("{}.journal", self.lives.len()));
        let mut all = vec!["--pool", "app"];
        all.extend(options);
        let mut command = self.exec(&all, &["sh", "-c", script]);
        command.env("EXE", exe()).env("LOG", journal);
        self.spawn(command)
    }

    /// The demo app under a launcher.
    pub fn launch(&mut self, name: &str, options: &[&str]) -> Launched {
        let mut all = vec!["--name", name];
        if !options.contains(&"--drain-timeout") {
            all.extend(["--drain-timeout", "10s"]);
        }
        all.extend(options);
        let app = format!("exec \"$EXE\" demo-app --name {name} --port $PORT --log \"$LOG\"");
        self.script(&all, &app)
    }

    /// All backends of the pool.
    pub async fn backends(&self) -> Vec<BackendView> {
        self.proxy.pool().await.unwrap().backends
    }

    /// The state of the one that is shown so; `None`: it is not there.
    pub async fn state(&self, shown: &str) -> Option<String> {
        let mut backends = self.backends().await.into_iter();
        backends
            .find(|backend| backend.name == shown)
            .map(|backend| backend.state)
    }

    /// Waits until it takes requests.
    pub async fn ready(&self, shown: &str) {
        let what = format!("{shown} is ready");
        until(&what, async || {
            self.state(shown).await.as_deref() == Some("ready")
        })
        .await;
    }

    /// Waits until it has left.
    pub async fn gone(&self, shown: &str) {
        let what = format!("{shown} has left");
        until(&what, async || self.state(shown).await.is_none()).await;
    }

    /// Waits until the proxy's log has this.
    pub async fn proxy_says(&self, text: &str) {
        let log = self.scratch.path().join("proxy.log");
        let what = format!("the proxy says `{text}`");
        until(&what, async || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(text))
        })
        .await;
    }

    /// How many requests have reached apps.
    pub fn arrivals(&self) -> usize {
        let texts = self
            .lives
            .iter()
            .filter_map(|(_, journal, _)| std::fs::read_to_string(journal).ok());
        texts.map(|text| text.matches("\"arrival\"").count()).sum()
    }

    /// What the oracle says. An app was told to stop when its own handler says so.
    pub fn account(&self, sent: Vec<Sent>) -> LoadAccount {
        let lives = self.lives.iter().filter(|(_, journal, _)| journal.exists());
        let lives = lives.map(|(name, journal, exited)| {
            let life = oracle::life_in(name, journal);
            Life {
                exited: exited.or(life.exited),
                ..life
            }
        });
        oracle::account(sent, lives.collect())
    }
}

impl Launched {
    /// Waits for its end.
    pub async fn exited(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE).await.unwrap().0
    }

    /// Tells it to stop, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM).unwrap();
        self.exited().await
    }

    /// What launcher and app have said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Waits until it says this.
    pub async fn says(&self, text: &str) {
        let what = format!("the launcher says `{text}`");
        until(&what, async || self.said().contains(text)).await;
    }

    /// The app's process: the launcher's child.
    pub fn app(&self) -> u32 {
        process::children(self.process.pid())[0]
    }
}
