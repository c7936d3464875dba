//! Does what the plan says: to one instance after its own plan, and to all of them at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lameduck::rt::syscall::{self, monotonic_ns};
use lameduck::tools::demo::admin;
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use super::plan::{Action, Global};
use super::world::{Death, Diary, End, Span};
use crate::harness::apps::App;
use crate::harness::exe;

/// How long each step of the harness may take. An app may take 30 s to stop.
const PATIENCE: Duration = Duration::from_secs(40);

/// An instance and who it is.
pub struct Lane {
    pub instance: DemoInstance,
    pub app: App,
    /// Since when nothing is done to it and the proxy calls it ready.
    well: Option<u64>,
}

/// All that can be acted on.
pub struct Stage {
    pub lanes: Vec<Mutex<Lane>>,
    pub names: Vec<String>,
    pub diary: Diary,
    pub settings: ProxySettings,
    pub dir: PathBuf,
    /// A drain's deadline: above what the load's slow requests take.
    pub deadline: Duration,
    proxy: parking_lot::RwLock<Arc<DemoProxy>>,
    pid: std::sync::atomic::AtomicU32,
    doors: parking_lot::RwLock<Doors>,
}

/// Where the present proxy's admin API is. Whoever has these doesn't keep the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    pub tcp: SocketAddr,
    pub socket: PathBuf,
}

impl Doors {
    /// The proxy's own words say which port it got.
    pub async fn of(proxy: &DemoProxy) -> Result<Self> {
        let log = proxy.config().with_extension("log");
        let found = |line: &str| {
            let (_, address) = line.split_once("admin API")?.1.split_once("address=")?;
            address.split_whitespace().next()?.parse().ok()
        };
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = tokio::fs::read_to_string(&log).await?;
            if let Some(tcp) = text.lines().find_map(found) {
                let socket = proxy.socket().to_owned();
                return Ok(Self { tcp, socket });
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "{} names no address of the admin API",
                log.display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Stage {
    pub fn new(
        instances: Vec<(DemoInstance, App)>,
        diary: Diary,
        settings: ProxySettings,
        deadline: Duration,
        dir: PathBuf,
        mut proxy: DemoProxy,
        doors: Doors,
    ) -> Self {
        let pid = proxy.process().pid();
        Self {
            names: instances.iter().map(|(i, _)| i.name().into()).collect(),
            lanes: instances
                .into_iter()
                .map(|(instance, app)| {
                    Mutex::new(Lane {
                        instance,
                        app,
                        well: None,
                    })
                })
                .collect(),
            diary,
            settings,
            dir,
            deadline,
            proxy: parking_lot::RwLock::new(Arc::new(proxy)),
            pid: pid.into(),
            doors: doors.into(),
        }
    }

    pub fn proxy(&self) -> Arc<DemoProxy> {
        self.proxy.read().clone()
    }

    /// The present proxy's admin API.
    pub fn doors(&self) -> Doors {
        self.doors.read().clone()
    }

    /// The present proxy's process.
    pub fn pid(&self) -> u32 {
        self.pid.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Does something to one instance.
    pub async fn act(&self, index: usize, action: Action) {
        let mut lane = self.lanes[index].lock().await;
        let name = self.names[index].clone();
        self.begin(&mut lane, &name);
        self.diary.act(&name, &word(&action), action);
        let done = match self.perform(&mut lane, action).await {
            Ok(()) => self.ready(&mut lane).await,
            failed => failed,
        };
        if let Err(error) = done {
            self.diary
                .violation(&name, &format!("{action:?}: {error:#}"));
        }
    }

    /// From now on it is not well.
    fn begin(&self, lane: &mut Lane, name: &str) {
        if let Some(from) = lane.well.take() {
            let to = monotonic_ns();
            self.diary.well(name, Span { from, to });
        }
    }

    /// Waits until the proxy calls it ready: then it is well.
    async fn ready(&self, lane: &mut Lane) -> Result<()> {
        let name = lane.instance.name().to_owned();
        let mut last = String::new();
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            let pool = self.proxy().pool().await?;
            let state = pool.backends.into_iter().find(|b| b.name == name);
            match state {
                Some(backend) if backend.state == "ready" => {
                    lane.well = Some(monotonic_ns());
                    self.diary.line(&name, "ready");
                    return Ok(());
                }
                state => last = format!("{state:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("not ready after {PATIENCE:?}: {last}")
    }

    async fn perform(&self, lane: &mut Lane, action: Action) -> Result<()> {
        let name = lane.instance.name().to_owned();
        let proxy = self.proxy();
        match action {
            Action::Kill { down } => {
                self.kill(lane).await?;
                pause(down).await;
                lane.instance.start_again().await
            }
            Action::Terminate { down } => {
                self.terminate(lane).await?;
                pause(down).await;
                lane.instance.start_again().await
            }
            Action::Freeze { pause: frozen } => {
                lane.instance.process().signal(libc::SIGSTOP)?;
                pause(frozen).await;
                lane.instance.process().signal(libc::SIGCONT)?;
                Ok(())
            }
            Action::FreezeAndKill {
                pause: frozen,
                down,
            } => {
                lane.instance.process().signal(libc::SIGSTOP)?;
                pause(frozen).await;
                self.kill(lane).await?;
                pause(down).await;
                lane.instance.start_again().await
            }
            Action::SlowProbes { pause } => self.toggle(lane, libc::SIGUSR2, pause).await,
            Action::Outage { pause } => self.toggle(lane, libc::SIGUSR1, pause).await,
            Action::Roll => {
                let from = self.drain(&proxy, &name).await?;
                self.terminate(lane).await?;
                lane.instance.start_again().await?;
                let to = monotonic_ns();
                self.diary.drained(&name, Span { from, to });
                proxy.resume(&name, PATIENCE).await
            }
            Action::RollUntilRestarted => {
                let path = format!("/v1/pools/app/backends/{name}/drain");
                let body = json!({ "until": "restarted", "timeout": self.timeout() });
                admin::call(proxy.socket(), "POST", &path, Some(&body)).await?;
                let from = monotonic_ns();
                self.terminate(lane).await?;
                let to = monotonic_ns();
                self.diary.drained(&name, Span { from, to });
                lane.instance.start_again().await
            }
            Action::DrainAndResume { pause: closed } => {
                let from = self.drain(&proxy, &name).await?;
                pause(closed).await;
                let to = monotonic_ns();
                self.diary.drained(&name, Span { from, to });
                proxy.resume(&name, PATIENCE).await
            }
            Action::DrainTooShort { deadline } => {
                let from = monotonic_ns();
                let deadline = Duration::from_millis(deadline);
                proxy.drain(&name, deadline).await?;
                let to = monotonic_ns();
                self.diary.cut(&name, Span { from, to });
                proxy.resume(&name, PATIENCE).await
            }
            Action::DrainAndKill { down } => {
                let path = format!("/v1/pools/app/backends/{name}/drain");
                let body = json!({ "timeout": self.timeout(), "wait": false });
                admin::call(proxy.socket(), "POST", &path, Some(&body)).await?;
                self.kill(lane).await?;
                pause(down).await;
                lane.instance.start_again().await?;
                proxy.resume(&name, PATIENCE).await
            }
        }
    }

    fn timeout(&self) -> String {
        format!("{}ms", self.deadline.as_millis())
    }

    /// Drains it; returns when it was drained. Clients that read slowly may be cut, ours are not.
    async fn drain(&self, proxy: &DemoProxy, name: &str) -> Result<u64> {
        let drained = proxy.drain(name, self.deadline).await?;
        let at = monotonic_ns();
        self.diary.line(name, &drained);
        let good = matches!(drained.outcome.as_str(), "drained" | "timed_out");
        ensure!(good, "the drain ended as {drained:?}");
        Ok(at)
    }

    async fn toggle(&self, lane: &mut Lane, signal: i32, millis: u64) -> Result<()> {
        lane.instance.process().signal(signal)?;
        pause(millis).await;
        lane.instance.process().signal(signal)?;
        Ok(())
    }

    async fn kill(&self, lane: &mut Lane) -> Result<()> {
        let from = lane.instance.process().signal(libc::SIGKILL)?;
        let (_, to) = lane.instance.process().wait(PATIENCE).await?;
        self.buried(lane, End::Hard, Span { from, to });
        Ok(())
    }

    async fn terminate(&self, lane: &mut Lane) -> Result<()> {
        let from = monotonic_ns();
        lane.instance.terminate()?;
        self.exited(lane, from).await
    }

    async fn exited(&self, lane: &mut Lane, from: u64) -> Result<()> {
        let took = lane.instance.exited(PATIENCE).await?;
        let to = monotonic_ns();
        // An app that forces its exit cuts what it has.
        let forced = took >= Duration::from_secs(30);
        let hard = forced || matches!(lane.app, App::BuiltInAbrupt | App::NodeAbrupt);
        let end = if hard { End::Hard } else { End::Graceful };
        self.buried(lane, end, Span { from, to });
        Ok(())
    }

    fn buried(&self, lane: &Lane, end: End, span: Span) {
        self.diary.death(Death {
            instance: lane.instance.name().to_owned(),
            life: lane.instance.generation() - 1,
            end,
            span,
        });
    }

    /// Waits for all instances, one after the other, and marks them as not well.
    async fn all(&self) -> Vec<MutexGuard<'_, Lane>> {
        let mut lanes = Vec::new();
        for lane in &self.lanes {
            lanes.push(lane.lock().await);
        }
        lanes
    }

    /// Waits until each instance is ready: the run begins well.
    pub async fn settle(&self) -> Result<()> {
        for lane in &mut self.all().await {
            self.ready(lane).await?;
        }
        Ok(())
    }

    /// Nothing more is done: what is well stays so up to now.
    pub async fn finish(&self) {
        for lane in &mut self.all().await {
            let name = lane.instance.name().to_owned();
            self.begin(lane, &name);
        }
    }

    /// Does something to the whole.
    pub async fn act_on_all(&self, action: Global) {
        self.diary.act("all", &word(&action), action);
        let done = match action {
            Global::Reload { round_robin } => self.reload(round_robin).await,
            Global::BrokenReload => self.broken_reload().await,
            Global::Without { instance, pause } => self.without(instance, pause).await,
            Global::RestartAll => self.restart_all(libc::SIGTERM).await,
            Global::KillAll => self.restart_all(libc::SIGKILL).await,
            Global::Storm { connections } => self.storm(connections).await,
        };
        if let Err(error) = done {
            self.diary
                .violation("all", &format!("{action:?}: {error:#}"));
        }
    }

    async fn restart_all(&self, signal: i32) -> Result<()> {
        let mut lanes = self.all().await;
        let from = monotonic_ns();
        for (lane, name) in lanes.iter_mut().zip(&self.names) {
            self.begin(lane, name);
            if signal == libc::SIGTERM {
                lane.instance.terminate()?;
            } else {
                lane.instance.process().signal(signal)?;
            }
        }
        for lane in &mut lanes {
            if signal == libc::SIGTERM {
                self.exited(lane, from).await?;
            } else {
                let (_, to) = lane.instance.process().wait(PATIENCE).await?;
                self.buried(lane, End::Hard, Span { from, to });
            }
            lane.instance.start_again().await?;
        }
        for lane in &mut lanes {
            self.ready(lane).await?;
        }
        Ok(())
    }

    /// The configuration, without one of the instances if need be.
    async fn write(&self, round_robin: bool, without: Option<&str>) -> Result<()> {
        let proxy = self.proxy();
        // The file that is in force says where everything is.
        let text = tokio::fs::read_to_string(self.dir.join("good.toml")).await?;
        let mut file: toml::Table = text.parse()?;
        let pool = file["pool"][0].as_table_mut().context("a pool")?;
        if round_robin {
            pool.insert("balance".into(), "round_robin".into());
        }
        let backends = pool["backend"].as_array_mut().context("backends")?;
        backends.retain(|backend| backend["name"].as_str() != without);
        tokio::fs::write(proxy.config(), file.to_string()).await?;
        Ok(())
    }

    /// HUP, and the counter that says what became of it.
    async fn hup(&self, outcome: &str) -> Result<()> {
        let proxy = self.proxy();
        let before = reloads(&proxy, outcome).await?;
        syscall::kill(self.pid(), libc::SIGHUP)?;
        let end = tokio::time::Instant::now() + PATIENCE;
        while reloads(&proxy, outcome).await? <= before {
            ensure!(
                tokio::time::Instant::now() < end,
                "no reload was {outcome} within {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn reload(&self, round_robin: bool) -> Result<()> {
        self.write(round_robin, None).await?;
        self.hup("applied").await
    }

    async fn broken_reload(&self) -> Result<()> {
        tokio::fs::write(self.proxy().config(), "[server]\nthreads = \"many\"\n").await?;
        self.hup("refused").await?;
        self.reload(false).await
    }

    async fn without(&self, index: usize, millis: u64) -> Result<()> {
        let mut lane = self.lanes[index].lock().await;
        let name = self.names[index].clone();
        self.begin(&mut lane, &name);
        self.write(false, Some(&name)).await?;
        self.hup("applied").await?;
        let end = tokio::time::Instant::now() + PATIENCE;
        while (self.proxy().pool().await?.backends.iter()).any(|backend| backend.name == name) {
            ensure!(
                tokio::time::Instant::now() < end,
                "{name} was removed and is still there"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let from = monotonic_ns();
        pause(millis).await;
        let to = monotonic_ns();
        self.diary.drained(&name, Span { from, to });
        self.reload(false).await?;
        self.ready(&mut lane).await
    }

    async fn storm(&self, connections: usize) -> Result<()> {
        let address = self.proxy().address();
        let open = (0..connections).map(|_| TcpStream::connect(address));
        let open = futures_util::future::join_all(open).await;
        pause(100).await;
        ensure!(open.iter().all(Result::is_ok), "a connection was refused");
        Ok(())
    }

    /// A second proxy takes over, and the first one stops.
    pub async fn hand_over(&self, number: usize) -> Result<()> {
        // Nobody drains or waits meanwhile: a drain would end with the proxy that was asked.
        let lanes = self.all().await;
        let name = format!("proxy-{number}");
        self.diary.act("all", "hand_over", "hand-over");
        let settings = ProxySettings {
            listen: self.proxy().address(),
            access_log: super::access_log(&self.dir, &name),
            ..self.settings.clone()
        };
        let (instances, backends): (Vec<_>, Vec<_>) = lanes
            .iter()
            .map(|lane| (lane.instance.name().to_owned(), lane.instance.address()))
            .unzip();
        let backends: Vec<_> = instances.into_iter().zip(backends).collect();
        let mut new = DemoProxy::start_with(exe(), &name, &self.dir, &settings, &backends).await?;
        new.eligible().await?;
        let pid = new.process().pid();
        tokio::fs::copy(new.config(), self.dir.join("good.toml")).await?;
        let doors = Doors::of(&new).await?;
        *self.doors.write() = doors;
        let old = std::mem::replace(&mut *self.proxy.write(), Arc::new(new));
        self.pid.store(pid, std::sync::atomic::Ordering::Relaxed);
        let mut old = Arc::into_inner(old).context("somebody still uses the old proxy")?;
        let status = old.stop(PATIENCE).await?;
        ensure!(
            status.success(),
            "the old proxy: {status}{}",
            old.process().last_words()
        );
        Ok(())
    }
}

async fn reloads(proxy: &DemoProxy, outcome: &str) -> Result<u64> {
    let (_, text) = admin::request(proxy.socket(), "GET", "/metrics", None).await?;
    let series = format!("lameduck_config_reload_total{{outcome=\"{outcome}\"}} ");
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// The action's name, as the timeline has it.
fn word(action: &impl serde::Serialize) -> String {
    serde_json::to_value(action).unwrap()["action"]
        .as_str()
        .unwrap()
        .to_owned()
}
