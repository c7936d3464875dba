//! `lameduck exec`: stands between a supervisor and an app, so that the app is drained before it is stopped.
//!
//! Read in this order: [`crate::core::launch`] decides; this file carries out; [`app`] starts processes and
//! [`tree`] finds their listeners; [`link`] holds the lease over [`http`]; [`above`] speaks to the supervisor;
//! [`sys`] has the system calls. One thread, and a small one for the lease: no runtime, no pool.

pub mod above;
mod app;
pub mod http;
mod link;
mod post;
mod sys;
mod tree;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use above::Above;
use app::{App, Unable};
use http::{Failure, Remote};
use link::{Instance, Link};
use post::{Letterbox, Post, post};
use sys::{Reaped, Signals};
use tree::Found;

use crate::cli::output::complain;
use crate::cli::values::{BackendName, segment};
use crate::core::launch::{Effect, Event, Fate, Launch, Plan};
use crate::demo::sys::{kill, kill_group};

/// The launcher's own failures, as shells and `env` count them.
const FAILED: u8 = 125;
/// The app's port is looked for this often at first…
const LOOK: Duration = Duration::from_millis(10);
/// …and then this often, after…
const LOOK_LATER: Duration = Duration::from_millis(100);
/// …this time.
const SOON: Duration = Duration::from_secs(5);
/// An app that finds its port taken gets another one, so often.
const PORTS: u32 = 5;

/// What to launch, and how.
#[derive(Debug)]
pub struct Options {
    /// How the proxy is reached.
    pub remote: Remote,
    /// The pool.
    pub pool: String,
    /// The instance's name; found out where it is absent.
    pub name: Option<String>,
    /// Its share.
    pub weight: Option<u32>,
    /// The port; `None`: a free one.
    pub port: Option<u16>,
    /// The variable that tells the app its port.
    pub port_env: String,
    /// The host that the proxy is told.
    pub advertise: Option<String>,
    /// s6's notification descriptor.
    pub notify_fd: Option<RawFd>,
    /// What to decide by.
    pub plan: Plan,
    /// Nobody chose the drain's deadline.
    pub default_timeout: bool,
    /// The app.
    pub command: Vec<OsString>,
}

/// Runs the app to its end; the launcher's exit code. Where a signal killed the app, this dies of it, too.
pub fn run(options: Options) -> u8 {
    match try_run(options) {
        Ok(Fate::Code(code)) => u8::try_from(code).unwrap_or(FAILED),
        Ok(Fate::Signal(signal)) => {
            sys::die_of(signal);
            // Process 1 can't die of a signal that it sends itself.
            128u8.saturating_add(u8::try_from(signal).unwrap_or_default())
        }
        Ok(Fate::GivenUp) => FAILED,
        Err(unable) => {
            complain(&format!("exec: {}", unable.message));
            unable.code
        }
    }
}

fn try_run(options: Options) -> Result<Fate, Unable> {
    let signals =
        Signals::take().map_err(|error| Unable::own(format!("can't take signals: {error}")))?;
    sys::adopt_orphans();
    let above = Above::take(options.notify_fd).map_err(Unable::own)?;
    advise(&options);
    if options.plan.port {
        check_pool(&options)?;
    }
    let (post, letterbox) =
        post().map_err(|error| Unable::own(format!("can't make a socket pair: {error}")))?;
    let app = App::start(
        &options.command,
        options
            .plan
            .port
            .then_some((options.port, &*options.port_env)),
    )?;
    let mut launcher = Launcher {
        launch: Launch::new(options.plan.clone()),
        begun: Instant::now(),
        next_look: options.plan.port.then_some(Duration::ZERO),
        next_sign: above.watchdog.map(|_| Duration::ZERO),
        said_foreign: false,
        tries: 1,
        link: None,
        options,
        app,
        above,
        signals,
        letterbox,
        post,
        end: None,
    };
    launcher.happened(Event::Started);
    Ok(launcher.live())
}

/// What is worth knowing before anything goes wrong.
fn advise(options: &Options) {
    if !options.plan.port {
        return;
    }
    let drain = options.plan.drain_timeout;
    if options.default_timeout {
        complain(&format!(
            "exec: at a stop, requests in flight get {drain:?}, because Oxmgr, PM2, Docker and Nomad kill after 5 to \
             10 s. To give them more, set --drain-timeout and the supervisor's own timeout above it"
        ));
    }
    for warning in above::warnings(drain + options.plan.lame_duck) {
        complain(&format!("exec: {warning}"));
    }
}

/// A mistyped pool is better told now than by an app that runs and gets no request.
fn check_pool(options: &Options) -> Result<(), Unable> {
    let path = format!("/v1/pools/{}", segment(&options.pool));
    match options.remote.call("GET", &path, None) {
        Ok(_) => Ok(()),
        Err(Failure::Refused { slug, detail, .. }) if slug == "unknown-pool" => {
            Err(Unable::own(format!(
                "{} Put the pool into lameduck's configuration and `lameduck reload`, or correct --pool.",
                detail.replace("GET /v1/pools lists them.", "")
            )))
        }
        Err(Failure::Unreachable(why)) => {
            complain(&format!(
                "exec: {why} Starting the app anyway; it is registered as soon as the proxy answers."
            ));
            Ok(())
        }
        // Asking for the lease will tell more.
        Err(Failure::Refused { .. }) => Ok(()),
    }
}

/// Everything that a launcher has.
struct Launcher {
    options: Options,
    launch: Launch,
    begun: Instant,
    app: App,
    above: Above,
    signals: Signals,
    letterbox: Letterbox,
    post: Post,
    link: Option<Link>,
    /// When to look for the app's listener; `None`: it was found.
    next_look: Option<Duration>,
    /// When to give systemd's watchdog a sign of life.
    next_sign: Option<Duration>,
    said_foreign: bool,
    tries: u32,
    end: Option<Fate>,
}

impl Launcher {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn live(&mut self) -> Fate {
        loop {
            if let Some(fate) = self.end {
                return fate;
            }
            let now = self.now();
            let deadlines = [self.launch.next_deadline(), self.next_look, self.next_sign];
            let next = deadlines.into_iter().flatten().min();
            let descriptors = [self.signals.as_raw_fd(), self.letterbox.as_raw_fd()];
            sys::wait(&descriptors, next.map(|at| at.saturating_sub(now)));
            while let Some(signal) = self.signals.next() {
                match signal {
                    libc::SIGCHLD => {}
                    signal => self.happened(Event::Signal(signal)),
                }
            }
            for event in self.letterbox.take() {
                self.happened(event);
            }
            self.reap();
            self.look();
            self.give_sign();
            self.happened(Event::Tick);
        }
    }

    fn happened(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        let now = self.now();
        for effect in self.launch.step(event, now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            // `look` has done it: it knows the address.
            Effect::Register => {}
            Effect::StopRegistering => self.with_link(Link::stop),
            Effect::DropLease => self.with_link(Link::hang_up),
            Effect::TellReady => {
                let status = match &self.link {
                    Some(link) => link.status(),
                    None => "running".to_owned(),
                };
                self.above.ready(&status);
            }
            Effect::TellStopping(within) => {
                // With some to spare, for the app's own stop.
                let within = within + Duration::from_secs(10);
                self.above.stopping("draining, then stopping", within);
            }
            Effect::AskLameDuck => {
                let reason = format!("{} is about to stop", self.options.pool);
                self.with_link(|link| link.lame_duck(reason));
            }
            Effect::AskDrain(timeout) => {
                let reason = "its supervisor stops it".to_owned();
                self.with_link(|link| link.drain(timeout, reason));
            }
            // One that has just ended is told soon enough.
            Effect::Send(signal) => drop(kill(self.app.pid(), signal)),
            Effect::SendAll(signal) => self.app.signal_all(signal),
            Effect::Say(text) => complain(&format!("exec: {text}")),
            Effect::Explain { after } => self.explain(after),
            Effect::End(fate) => {
                // Whatever the app left behind in its group must not outlive us.
                let _ = kill_group(self.app.pid(), libc::SIGKILL);
                self.end = Some(fate);
            }
        }
    }

    fn with_link(&self, act: impl FnOnce(&Link)) {
        if let Some(link) = &self.link {
            act(link);
        }
    }

    fn reap(&mut self) {
        let mut ended = None;
        let left = loop {
            match sys::reap() {
                Reaped::Ended(pid, fate) if pid == self.app.pid() => ended = Some(fate),
                Reaped::Ended(..) => {}
                Reaped::Running => break true,
                Reaped::Nobody => break false,
            }
        };
        match ended {
            Some(fate) if self.start_again(fate) => {}
            Some(fate) => {
                self.next_look = None;
                self.happened(Event::Exited {
                    fate,
                    leftovers: left,
                });
            }
            None if !left => self.happened(Event::NobodyLeft),
            None => {}
        }
    }

    /// Whether the app ended because its port was taken, and runs again on another.
    fn start_again(&mut self, fate: Fate) -> bool {
        let waiting = self.next_look.is_some() && !self.launch.is_ending();
        let Some(port) = self.app.port().filter(|_| waiting && fate != Fate::Code(0)) else {
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
        if self.tries >= PORTS {
            complain(&format!(
                "exec: {PORTS} free ports were taken before the app could listen"
            ));
            return false;
        }
        self.tries += 1;
        let port_env = Some((None, &*self.options.port_env));
        match App::start(&self.options.command, port_env) {
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

    /// Looks for the app's listener, and registers it.
    fn look(&mut self) {
        let now = self.now();
        let Some(port) = self
            .app
            .port()
            .filter(|_| self.next_look.is_some_and(|at| at <= now))
        else {
            return;
        };
        if self.launch.is_ending() {
            self.next_look = None;
            return;
        }
        let address = match tree::look(port) {
            Found::Ours(address) => address,
            Found::Unknown(address) => {
                complain(&format!(
                    "exec: can't see whether the listener on port {port} is the app's, because it runs as another \
                     user; taken for granted"
                ));
                address
            }
            Found::Foreign if !self.said_foreign => {
                self.said_foreign = true;
                complain(&format!(
                    "exec: the listener on port {port} is not the app's; waiting for the app's own"
                ));
                return self.look_later(now);
            }
            Found::Foreign | Found::Nobody => return self.look_later(now),
        };
        self.next_look = None;
        let link = Link::new(self.instance(port), self.post.clone());
        match link.keep(tree::reachable(address)) {
            Ok(()) => {
                self.link = Some(link);
                self.happened(Event::Listening);
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
        let pause = if now < SOON { LOOK } else { LOOK_LATER };
        self.next_look = Some(now + pause);
    }

    fn instance(&self, port: u16) -> Instance {
        let Options {
            remote,
            pool,
            name,
            weight,
            advertise,
            ..
        } = &self.options;
        let name = name.clone().or_else(|| above::name(pool));
        let pid = self.app.pid();
        Instance {
            remote: remote.clone(),
            backend: BackendName {
                pool: pool.clone(),
                name: name.unwrap_or_else(|| format!("{pool}-{port}")),
            },
            weight: *weight,
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

    /// Says why the app is not ready.
    fn explain(&self, after: Duration) {
        let seconds = after.as_secs();
        let port = self.app.port().unwrap_or_default();
        if let Some(link) = &self.link {
            let status = link.status();
            complain(&format!(
                "exec: not ready after {seconds} s. It listens on port {port}, and the proxy says: {status}"
            ));
            return;
        }
        let open: Vec<String> = tree::ports().iter().map(u16::to_string).collect();
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
