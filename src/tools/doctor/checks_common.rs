//! Checks that are the same under every supervisor; each is decided only here.
//!
//! All findings about one command are answered by one corrected command. So findings are collected first, and then one
//! correction is made for all of them.

mod corrected_lines;
mod hooks;
mod sessions;
mod times;

use std::time::Duration;

use super::advice::{self, Corrections};
use super::checks::{self as check, DoctorCheck};
use super::command_line::{CommandLine, CommandRole, ExecLaunch, base, shell_text};
use super::coordination::{fitting_way, with_silence};
use super::finding::DoctorFindings;
use super::keep_alive;
use super::model::{ExpectedDrain, FindingPlace, SupervisedProcess, Supervisor};
use super::programs::{self, ServesRequests};
use super::proxy::ProxySide;
use super::wrappers;
use crate::config::duration::format;
use crate::config::{PoolConfig, Severity};
use corrected_lines::{cluster_line, health_line, signal_line, variable_line};
use times::StopNeeds;

/// Values that are assumed if no file tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct AssumedTimes {
    /// Time that the app needs from its signal to its end, if nothing is in flight.
    pub(super) app_stop: Duration,
}

/// Correction for a finding.
enum Help {
    /// The corrected command.
    Command,
    /// The command under the launcher, with all settings that its supervisor needs.
    Launcher,
    /// More time before SIGKILL, with a text before it.
    Time(&'static str),
    /// This text.
    Text(String),
}

struct ProcessJudge<'j> {
    process: &'j SupervisedProcess,
    proxy: &'j ProxySide,
    assumed: AssumedTimes,
    pool: Option<&'j PoolConfig>,
    fix: Corrections,
    pending: Vec<(Severity, DoctorCheck, FindingPlace, String, Help)>,
}

/// Checks one process; `scripts` are those of package.json.
pub(super) fn process(
    process: &SupervisedProcess,
    proxy: &ProxySide,
    assumed: AssumedTimes,
    scripts: &[(String, String)],
    found: &mut DoctorFindings,
) {
    let launch = process.launch();
    let named = launch.as_ref().and_then(|launch| launch.pool.as_deref());
    let hooked = process
        .hooks
        .iter()
        .find_map(|hook| hook.call.pool.as_deref());
    let pool = match named.or(hooked) {
        Some(name) => proxy.pool(name),
        None => proxy.pool_of(&process.name),
    };
    let mut judge = ProcessJudge {
        process,
        proxy,
        assumed,
        pool,
        fix: Corrections {
            scripts: scripts.to_vec(),
            ..Corrections::default()
        },
        pending: Vec::new(),
    };
    judge.signal(launch.is_some());
    match &launch {
        None if process.role() == CommandRole::Proxy => {
            times::itself(process, proxy, found);
            return judge.finish(launch.as_ref(), found);
        }
        Some(launch) => judge.launched(launch),
        None => judge.alone(),
    }
    judge.hooks();
    judge.probes(named.or(hooked));
    judge.idle_connections(launch.is_some());
    judge.times(launch.as_ref());
    judge.sessions();
    judge.finish(launch.as_ref(), found);
}

impl ProcessJudge<'_> {
    fn add(
        &mut self,
        severity: Severity,
        check: DoctorCheck,
        place: &FindingPlace,
        what: String,
        help: Help,
    ) {
        self.pending
            .push((severity, check, place.clone(), what, help));
    }

    fn signal(&mut self, launcher: bool) {
        let process = self.process;
        let Some((signal, place)) = &process.signal else {
            return;
        };
        let drains = ["TERM", "INT", "QUIT"].contains(&signal.as_str());
        if signal == "KILL" || (launcher && !drains) {
            let what = format!("`{}` is stopped with SIG{signal}", process.name);
            self.add(
                Severity::Error,
                check::STOP_SIGNAL,
                place,
                what,
                signal_line(process, "SIGTERM"),
            );
        }
    }

    /// Checks a process under the launcher.
    fn launched(&mut self, launch: &ExecLaunch) {
        let process = self.process;
        let place = &process.command_place;
        if launch.behind_shell {
            self.fix.exec = true;
            let what = format!("`{}` runs the launcher below a shell", process.name);
            self.add(
                Severity::Error,
                check::BEHIND_SHELL,
                place,
                what,
                Help::Command,
            );
        }
        if launch.no_port {
            return;
        }
        if let Some(wrapper) = wrapper(&launch.app) {
            self.fix.direct = true;
            let what = format!(
                "the launcher of `{}` starts {wrapper}, and not the app itself",
                process.name
            );
            self.add(
                Severity::Warning,
                check::APP_WRAPPER,
                place,
                what,
                Help::Command,
            );
        }
        if let Some(at) = &process.cluster {
            let what = format!("`{}` runs in cluster mode", process.name);
            let help = Help::Text(cluster_line(process));
            self.add(Severity::Error, check::PM2_CLUSTER, at, what, help);
        }
        if process.sidecar && launch.lame_duck.is_zero() && process.slept.is_zero() {
            self.fix.until_silence = true;
            let what = format!(
                "`{}` is drained the moment its pod is deleted",
                process.name
            );
            self.add(
                Severity::Warning,
                check::LAME_DUCK,
                place,
                what,
                Help::Command,
            );
        }
        if let Some(pool) = self.pool
            && !launch.is_unknown
            && launch.drains_for() < pool.drain.deadline
        {
            let what = format!(
                "the launcher of `{}` drains for {}, its pool `{}` for {}",
                process.name,
                format(launch.drains_for()),
                pool.name,
                format(pool.drain.deadline)
            );
            self.fix.drain = Some(pool.drain.deadline);
            self.add(
                Severity::Warning,
                check::SHORT_DRAIN,
                place,
                what,
                Help::Command,
            );
        }
        if let Some(at) = &process.instances
            && launch
                .port
                .as_deref()
                .is_some_and(|port| port.parse::<u16>().is_ok())
        {
            self.fix.free_port = true;
            let what = format!(
                "several instances of `{}` would listen on one port",
                process.name
            );
            self.add(Severity::Error, check::SAME_PORT, at, what, Help::Command);
        }
        self.reached(
            launch.pool.as_deref(),
            launch.admin.as_deref(),
            place,
            &Help::Command,
        );
    }

    /// Checks a process without a launcher.
    fn alone(&mut self) {
        let process = self.process;
        let serves = process.serves();
        let server = self.pool.is_some() || process.is_server();
        if !process.hooks.is_empty() {
            return;
        }
        self.fix.wrap = true;
        self.fix.pool = Some(self.pool_name());
        self.fix.drain = self
            .pool
            .or(self.proxy.pools().first())
            .map(|pool| pool.drain.deadline);
        self.fix.admin = self.socket();
        let (place, what) = match process.expected {
            ExpectedDrain::Nothing => return,
            ExpectedDrain::PodDrain => {
                self.fix.until_silence = process.slept.is_zero();
                let what = format!(
                    "`{}` gets SIGTERM at once when the pod is deleted, while requests still come",
                    process.name
                );
                self.add(
                    Severity::Error,
                    check::UNCOORDINATED,
                    &process.place,
                    what,
                    Help::Launcher,
                );
                return;
            }
            ExpectedDrain::Drain if !server => return,
            ExpectedDrain::Drain => {
                let place = match process.supervisor {
                    Supervisor::Kubernetes => &process.place,
                    _ => &process.command_place,
                };
                let otherwise = match process.supervisor.watched_as() {
                    Some(kind) => format!(
                        "; if this file can't be changed, [pool.supervisor] with type = \"{}\" in lameduck's own drains it \
                         with the signal",
                        kind.as_str()
                    ),
                    None => String::new(),
                };
                let what = format!(
                    "{} stops `{}` without a drain{otherwise}",
                    process.supervisor.name(),
                    process.name
                );
                (place, what)
            }
        };
        if !process.supervisor.is_watched(self.pool) {
            self.add(
                Severity::Warning,
                check::UNCOORDINATED,
                place,
                what,
                Help::Launcher,
            );
        }
        if let Some(at) = &process.cluster {
            let what = format!("`{}` runs in cluster mode", process.name);
            self.add(
                Severity::Error,
                check::PM2_CLUSTER,
                at,
                what,
                Help::Launcher,
            );
        } else if let Some(at) = process
            .instances
            .as_ref()
            .filter(|_| serves != ServesRequests::No)
        {
            let what = format!(
                "several instances of `{}` would listen on one port",
                process.name
            );
            self.add(Severity::Error, check::SAME_PORT, at, what, Help::Launcher);
        }
        if let Some(orderly) = programs::abrupt(&process.app(), process.stop_signal()) {
            let place = process
                .signal
                .as_ref()
                .map_or(&process.command_place, |(_, place)| place);
            let program = process.app();
            let program = programs::main(&program).map_or("it", |(_, name)| name);
            let what = format!(
                "SIG{} makes {program} drop the requests of `{}`; SIG{orderly} lets them finish",
                process.stop_signal(),
                process.name
            );
            let help = signal_line(process, &format!("SIG{orderly}"));
            self.add(Severity::Warning, check::STOP_SIGNAL, place, what, help);
        }
    }

    /// Name of the pool for the launcher of a process that has none.
    fn pool_name(&self) -> String {
        let pool = self.pool.or(self.proxy.pools().first());
        pool.map_or("app", |pool| pool.name.as_str()).to_owned()
    }

    /// The admin socket, if it is not the default.
    fn socket(&self) -> Option<String> {
        let socket = self.proxy.config()?.admin.socket.as_deref()?;
        let default = std::path::Path::new(hooks::DEFAULT_SOCKET);
        (socket != default).then(|| socket.display().to_string())
    }

    fn probes(&mut self, named: Option<&str>) {
        let process = self.process;
        let launch = process.launch();
        let known =
            named.is_some() || self.pool.is_some() || process.expected == ExpectedDrain::PodDrain;
        for probe in process.probes.iter().filter(|_| known) {
            if !self.proxy.says_503(self.pool, &probe.path) {
                continue;
            }
            let what = format!(
                "the health check of `{}` asks `{}`, which says 503 while the app drains",
                process.name, probe.path
            );
            let instance = launch.as_ref().and_then(|launch| launch.name.as_deref());
            let instance = instance.unwrap_or(&process.name);
            let pool = named.map_or_else(|| self.pool_name(), str::to_owned);
            let line = health_line(process, &pool, instance, probe.command);
            self.add(
                Severity::Error,
                check::HEALTH_URL,
                &probe.place,
                what,
                Help::Text(line),
            );
        }
    }

    fn idle_connections(&mut self, launched: bool) {
        let process = self.process;
        let concerned = launched
            || self.pool.is_some()
            || process.expected == ExpectedDrain::PodDrain
            || (process.expected == ExpectedDrain::Drain && process.is_server());
        if !concerned {
            return;
        }
        let app = process.app();
        let Some(app) = keep_alive::of(&app, &process.env) else {
            return;
        };
        let idle = self.proxy.idle(self.pool);
        if app.time > idle {
            return;
        }
        let default = if app.written { "" } else { " by default" };
        let what = format!(
            "{} closes idle connections after {}{default}; lameduck keeps them for {} (idle_timeout)",
            app.server,
            format(app.time),
            format(idle)
        );
        let (name, value) = advice::longer_keep_alive(&app, idle);
        let help = if name.starts_with('-') {
            self.fix.keep_alive = Some((name, value));
            match self.fix.wrap && !self.process.has_hook_form() {
                true => Help::Launcher,
                false => Help::Command,
            }
        } else {
            Help::Text(variable_line(process, &name, &value))
        };
        self.add(
            Severity::Warning,
            check::KEEP_ALIVE,
            &process.command_place,
            what,
            help,
        );
    }

    /// Adds all findings to `found`, with their corrections.
    fn finish(self, launch: Option<&ExecLaunch>, found: &mut DoctorFindings) {
        let needs = StopNeeds::of(self.process, launch, &self.fix, self.proxy, self.assumed);
        let kill = self.process.kill_line(needs.enough());
        // A command that drains longer needs a longer kill timeout, too.
        let more = launch.is_some() && needs.exceed(&self.process.kill);
        let command = advice::command(self.process, &self.fix).map(|command| match more {
            true => format!("{command}\n{kill}"),
            false => command,
        });
        let can_be_wrapped = command.is_some();
        let (fix, proxy) = (&self.fix, self.proxy);
        let command = command.map(|command| with_silence(command, fix, proxy));
        let launcher = fix.wrap.then(|| {
            let help = advice::under_launcher(self.process, fix, needs.enough());
            with_silence(help, fix, proxy)
        });
        let way = fitting_way(self.process, can_be_wrapped);
        for (severity, check, place, what, help) in self.pending {
            let help = match help {
                Help::Text(text) => text,
                Help::Time("") => kill.clone(),
                Help::Time(before) => format!("{before}\n{kill}"),
                Help::Launcher if check == check::UNCOORDINATED => {
                    let help = launcher.iter().cloned();
                    way.iter()
                        .cloned()
                        .chain(help)
                        .collect::<Vec<_>>()
                        .join("\n")
                }
                Help::Launcher => launcher.clone().unwrap_or_default(),
                Help::Command => command.clone().unwrap_or_else(|| {
                    "start one program, by `exec lameduck exec …`, with nothing beside it".into()
                }),
            };
            found.add(severity, check, &place, what, help);
        }
    }
}

/// Description of what stands between the launcher and the app.
fn wrapper(app: &[String]) -> Option<String> {
    let at = wrappers::skip(app);
    let program = base(app.get(at)?);
    if programs::runner(program) {
        return Some(format!("`{program}`"));
    }
    shell_text(app)?;
    let line = CommandLine::from_words(app.to_vec());
    let (at, words) = line.main()?;
    if programs::runner(base(&words[wrappers::skip(words).min(words.len() - 1)])) {
        return Some(format!("`{}`", base(&words[wrappers::skip(words)])));
    }
    line.is_below_shell(at).then(|| "a shell".to_owned())
}
