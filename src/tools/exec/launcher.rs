//! Main loop of the launcher: waits, reports events to [`AppLaunch`], and carries out its decisions.

use std::time::{Duration, Instant};

use super::ExecOptions;
use super::app::{self, RunningApp};
use super::footprint;
use super::guard::AppGuard;
use super::lease::LeasedInstance;
use super::links::LeaseLinks;
use super::mailbox::{EventInbox, EventSender};
use super::parent::{self, ParentSupervisor};
use super::process_tree::{self, PortHolder};
use super::syscall::{self, LauncherSignals, ReapedChild};
use crate::client::names::BackendName;
use crate::core::launch::{AppLaunch, LaunchEffect, LaunchEvent, ProcessExit};
use crate::rt::output::{complain, retry_errors};
use crate::rt::syscall::{kill, kill_group};

/// Time between two checks for the app's listener at first…
const FAST_CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// …and then this often, after…
const SLOW_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// …this time.
const FAST_CHECK_TIME: Duration = Duration::from_secs(5);
/// Time after which a worker's wrapper should have started the worker itself.
const WRAPPER_TIME: Duration = Duration::from_secs(1);
/// Time between two attempts to write messages that standard error did not take.
const OUTPUT_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Number of times that an app gets another port if its own is taken.
const MAX_PORT_CHANGES: u32 = 5;

/// State of a launcher.
pub(super) struct Launcher {
    options: ExecOptions,
    launch: AppLaunch,
    begun: Instant,
    app: RunningApp,
    above: ParentSupervisor,
    signals: LauncherSignals,
    letterbox: EventInbox,
    post: EventSender,
    links: Option<LeaseLinks>,
    guard: Option<AppGuard>,
    /// Time of the next check for the app's listener; `None`: it was found.
    next_look: Option<Duration>,
    /// Time of the next message to systemd's watchdog.
    next_sign: Option<Duration>,
    said_foreign: bool,
    tries: u32,
    end: Option<ProcessExit>,
}

impl Launcher {
    /// A launcher for a running app.
    pub(super) fn new(
        options: ExecOptions,
        app: RunningApp,
        above: ParentSupervisor,
        signals: LauncherSignals,
        post: EventSender,
        letterbox: EventInbox,
    ) -> Self {
        Self {
            launch: AppLaunch::new(options.plan.clone()),
            begun: Instant::now(),
            next_look: Some(if options.plan.port {
                FAST_CHECK_INTERVAL
            } else {
                WRAPPER_TIME
            }),
            next_sign: above.watchdog.map(|_| Duration::ZERO),
            said_foreign: false,
            tries: 1,
            links: None,
            guard: None,
            options,
            app,
            above,
            signals,
            letterbox,
            post,
            end: None,
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Runs until the app has ended; returns how it ended.
    pub(super) fn live(&mut self) -> ProcessExit {
        self.handle_event(LaunchEvent::Started);
        loop {
            if let Some(fate) = self.end {
                return fate;
            }
            let now = self.now();
            let deadlines = [self.launch.next_deadline(), self.next_look, self.next_sign];
            // Messages that could not be written may be possible now.
            let retry = retry_errors().then(|| now + OUTPUT_RETRY_INTERVAL);
            let next = deadlines.into_iter().flatten().chain(retry).min();
            let patience = next.map(|at| at.saturating_sub(now));
            syscall::wait(&self.signals, &self.letterbox, patience);
            while let Some(signal) = self.signals.read() {
                match signal {
                    libc::SIGCHLD => {}
                    signal => self.handle_event(LaunchEvent::Signal(signal)),
                }
            }
            for (proxy, event) in self.letterbox.take() {
                let links = self.links.as_mut();
                let told = links.map(|links| links.handle_proxy_event(proxy, event));
                told.into_iter()
                    .flatten()
                    .for_each(|event| self.handle_event(event));
            }
            self.reap();
            self.look_for_listener();
            self.give_sign();
            self.handle_event(LaunchEvent::Tick);
        }
    }

    fn handle_event(&mut self, event: LaunchEvent) {
        if self.end.is_some() {
            return;
        }
        let now = self.now();
        for effect in self.launch.step(event, now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: LaunchEffect) {
        match effect {
            // `look_for_listener` has registered it, because it knows the address.
            LaunchEffect::Register => {}
            LaunchEffect::StopRegistering => self.with_links(|links| links.stop()),
            LaunchEffect::DropLease => self.with_links(|links| links.hang_up()),
            LaunchEffect::TellReady => {
                let status = match &self.links {
                    Some(links) => links.status(),
                    None => "running".to_owned(),
                };
                self.above.ready(&status);
                footprint::shed_code();
            }
            LaunchEffect::TellStopping(within) => {
                // Some time is added, for the app's own stop.
                let within = within + Duration::from_secs(10);
                self.above.stopping("draining, then stopping", within);
            }
            LaunchEffect::AskLameDuck { until_quiet } => {
                let reason = format!("{} is about to stop", self.options.pool);
                self.with_links(|links| links.lame_duck(&reason, until_quiet));
            }
            LaunchEffect::AskDrain(timeout) => {
                self.with_links(|links| links.drain(timeout, "its supervisor stops it"));
            }
            // The exit status of a process that has just ended will arrive soon.
            LaunchEffect::Send(signal) => drop(kill(self.app.pid(), signal)),
            LaunchEffect::SendGroup(signal) => drop(kill_group(self.app.pid(), signal)),
            LaunchEffect::SendAll(signal) => self.app.signal_all(signal),
            LaunchEffect::Say(text) => complain(&format!("exec: {text}")),
            LaunchEffect::Explain { after } => self.explain(after),
            LaunchEffect::End(fate) => {
                // Remaining processes of the app's group must not outlive the launcher.
                let _ = kill_group(self.app.pid(), libc::SIGKILL);
                self.end = Some(fate);
            }
        }
    }

    fn with_links(&mut self, act: impl FnOnce(&mut LeaseLinks)) {
        if let Some(links) = &mut self.links {
            act(links);
        }
    }

    fn reap(&mut self) {
        let mut ended = None;
        let left = loop {
            match syscall::reap() {
                ReapedChild::Ended(pid, fate) if pid == self.app.pid() => ended = Some(fate),
                ReapedChild::Ended(..) => {}
                ReapedChild::Running => break true,
                ReapedChild::Nobody => break false,
            }
        };
        match ended {
            Some(fate) if self.start_again(fate) => {}
            Some(fate) => {
                self.next_look = None;
                let leftovers = left && self.somebody_left();
                self.handle_event(LaunchEvent::Exited { fate, leftovers });
            }
            None if self.launch.has_leftovers() && !(left && self.somebody_left()) => {
                self.handle_event(LaunchEvent::NobodyLeft);
            }
            None => {}
        }
    }

    fn somebody_left(&self) -> bool {
        let guard = self.guard.as_ref().map(AppGuard::pid);
        let mut processes = process_tree::descendants().into_iter();
        processes.any(|process| Some(process) != guard)
    }

    /// Starts a guard process if the app has started other processes.
    fn post_guard(&mut self) {
        let mut processes = process_tree::descendants().into_iter();
        if processes.all(|process| process == self.app.pid()) || self.guard.is_some() {
            return;
        }
        match AppGuard::start(self.app.pid()) {
            Ok(guard) => self.guard = Some(guard),
            Err(error) => complain(&format!(
                "exec: can't start a guard process: {error}; if the launcher is killed, what the app has started \
                 lives on"
            )),
        }
    }

    /// Whether the app ended because its port was taken, and was started again with another port.
    fn start_again(&mut self, fate: ProcessExit) -> bool {
        let waiting = self.next_look.is_some() && !self.launch.is_ending();
        let Some(port) = self
            .app
            .port()
            .filter(|_| waiting && fate != ProcessExit::Code(0))
        else {
            return false;
        };
        if !app::is_taken(port) {
            return false;
        }
        if self.options.port.is_some() {
            complain(&format!(
                "exec: port {port} is taken by another process; free it, or use --port auto"
            ));
            return false;
        }
        if self.tries >= MAX_PORT_CHANGES {
            complain(&format!(
                "exec: {MAX_PORT_CHANGES} free ports were taken before the app could listen"
            ));
            return false;
        }
        self.tries += 1;
        let port_env = Some((None, &*self.options.port_env));
        match RunningApp::start(&self.options.command, port_env) {
            Ok(app) => {
                complain(&format!(
                    "exec: port {port} was taken meanwhile: another try"
                ));
                self.app = app;
                self.next_look = Some(self.now());
                true
            }
            Err(unable) => {
                complain(&format!("exec: {}", unable.message));
                false
            }
        }
    }

    /// Looks for the app's listener, and registers the app once it is there.
    fn look_for_listener(&mut self) {
        let now = self.now();
        if self.next_look.is_none_or(|at| at > now) {
            return;
        }
        if self.launch.is_ending() {
            self.next_look = None;
            return;
        }
        let Some(port) = self.app.port() else {
            self.next_look = None;
            self.post_guard();
            return;
        };
        let address = match process_tree::find_port_holder(port) {
            PortHolder::Ours(address) => address,
            PortHolder::Unknown(address) => {
                complain(&format!(
                    "exec: can't see whether the listener on port {port} is the app's, because it runs as another \
                     user; taken for granted"
                ));
                address
            }
            PortHolder::Foreign if !self.said_foreign => {
                self.said_foreign = true;
                complain(&format!(
                    "exec: the listener on port {port} is not the app's; waiting for the app's own"
                ));
                return self.look_later(now);
            }
            PortHolder::Foreign | PortHolder::Nobody => return self.look_later(now),
        };
        self.next_look = None;
        // Before a second thread is started, which a forked process would lack.
        self.post_guard();
        let links = LeaseLinks::new(&self.options.remotes, &self.instance(port), &self.post);
        match links.keep(process_tree::reachable(address)) {
            Ok(()) => {
                self.links = Some(links);
                self.handle_event(LaunchEvent::Listening);
            }
            Err(error) => {
                complain(&format!(
                    "exec: can't start a thread: {error}; trying again"
                ));
                self.look_later(now);
            }
        }
    }

    fn look_later(&mut self, now: Duration) {
        let pause = if now < FAST_CHECK_TIME {
            FAST_CHECK_INTERVAL
        } else {
            SLOW_CHECK_INTERVAL
        };
        self.next_look = Some(now + pause);
    }

    fn instance(&self, port: u16) -> LeasedInstance {
        let ExecOptions {
            pool,
            name,
            weight,
            backup,
            zone,
            advertise,
            ..
        } = &self.options;
        let name = name.clone().or_else(|| parent::name(pool));
        let pid = self.app.pid();
        LeasedInstance {
            backend: BackendName {
                pool: pool.clone(),
                name: name.unwrap_or_else(|| format!("{pool}-{port}")),
            },
            weight: *weight,
            backup: *backup,
            zone: zone.clone(),
            advertise: advertise.clone(),
            pid,
            nonce: format!("{pid}-{:016x}", fastrand::u64(..)),
        }
    }

    fn give_sign(&mut self) {
        let now = self.now();
        if let (Some(every), Some(at)) = (self.above.watchdog, self.next_sign)
            && at <= now
        {
            self.above.notify("WATCHDOG=1");
            self.next_sign = Some(now + every);
        }
    }

    /// Explains why the app is not ready.
    fn explain(&self, after: Duration) {
        let seconds = after.as_secs();
        let port = self.app.port().unwrap_or_default();
        if let Some(links) = &self.links {
            let status = links.status();
            complain(&format!(
                "exec: not ready after {seconds} s. It listens on port {port}, and the proxy says: {status}"
            ));
            return;
        }
        let open: Vec<String> = process_tree::app_ports()
            .iter()
            .map(u16::to_string)
            .collect();
        let variable = &self.options.port_env;
        complain(&match open.as_slice() {
            [] => format!(
                "exec: not ready after {seconds} s: the app does not listen on port {port} ({variable})"
            ),
            open => format!(
                "exec: error: after {seconds} s the app does not listen on port {port}, which {variable} tells it, but \
                 on {}. Make it read {variable}, name the variable that it reads with --port-env, or give its port \
                 with --port",
                open.join(", ")
            ),
        });
    }
}
