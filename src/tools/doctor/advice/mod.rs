//! Corrections in the syntax of the user's file, which can be pasted as they are, line by line.

mod port;
mod script;

use std::time::Duration;

use super::command_line::{base, shell_text};
use super::keep_alive::KeepAlive;
use super::model::{CommandForm, SupervisedProcess, Supervisor};
use super::programs;
use super::shell;
use super::wrappers;
use crate::config::duration::{self, format};
use crate::core::launch::LONGEST_LAME_DUCK;

use port::port;
pub(super) use script::unwrap_runner;

/// Corrections of a command. All findings about one command are answered by one corrected command.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    /// Whether the command has to be put under the launcher.
    pub(super) wrap: bool,
    pub(super) pool: Option<String>,
    pub(super) drain: Option<Duration>,
    /// Whether the proxy has to be lame duck before the drain, until no new requests arrive.
    pub(super) until_silence: bool,
    pub(super) admin: Option<String>,
    /// Whether the launcher needs `--port auto`.
    pub(super) free_port: bool,
    /// Whether nothing may stand between the supervisor and the launcher.
    pub(super) exec: bool,
    /// Option of the app, with its correct value.
    pub(super) keep_alive: Option<(String, String)>,
    /// Whether the app must be started directly, without npm or a shell.
    pub(super) direct: bool,
    /// The `scripts` of package.json, if it was found.
    pub(super) scripts: Vec<(String, String)>,
}

impl Corrections {
    /// Duration of the lame duck that is advised.
    pub(super) fn lame_duck(&self) -> Option<Duration> {
        let longest = || duration::parse(LONGEST_LAME_DUCK).unwrap_or_default();
        self.until_silence.then(longest)
    }
}

/// A command in words. `second` is the index of its second part: the app behind a launcher, or the text behind `sh -c`.
struct AdvisedCommand {
    words: Vec<String>,
    second: usize,
}

impl AdvisedCommand {
    /// Stands for a command without a launcher: its words replace the old ones.
    const WHOLE: usize = usize::MAX;
}

/// The corrected command, in as many lines as the file needs; `None`: it can't be derived.
pub(super) fn command(process: &SupervisedProcess, fix: &Corrections) -> Option<String> {
    let command = match fix.wrap && !process.has_hook_form() {
        true => wrapped(process, fix)?,
        false => corrected(process, fix)?,
    };
    Some(written(process, &command))
}

/// Words of the launcher, up to `--`.
fn launcher(process: &SupervisedProcess, fix: &Corrections, port: Option<String>) -> Vec<String> {
    let program = match process.supervisor {
        Supervisor::Systemd | Supervisor::Compose | Supervisor::Kubernetes => "/usr/bin/lameduck",
        _ => "lameduck",
    };
    let mut words: Vec<String> = vec![program.into(), "exec".into(), "--pool".into()];
    words.push(fix.pool.clone().unwrap_or_else(|| "app".into()));
    if let Some(admin) = &fix.admin {
        words.extend(["--admin".into(), admin.clone()]);
    }
    if process.supervisor == Supervisor::Compose {
        // In a container, the proxy reaches the app by the service's name.
        let name = process.name.clone();
        words.extend(["--name".into(), name.clone(), "--advertise".into(), name]);
    }
    words.extend(port.into_iter().flat_map(|port| {
        let (option, value) = port.split_once(' ').unwrap_or(("--port", &port));
        [option.to_owned(), value.to_owned()]
    }));
    if fix.until_silence {
        words.extend(["--lame-duck".into(), "auto".into()]);
    }
    words.extend([
        "--drain-timeout".into(),
        format(fix.drain.unwrap_or(Duration::from_secs(30))),
    ]);
    words.push("--".into());
    words
}

fn wrapped(process: &SupervisedProcess, fix: &Corrections) -> Option<AdvisedCommand> {
    let argv = match &process.line.argv[..] {
        [] => vec!["node".to_owned(), "server.js".to_owned()],
        argv => argv.to_vec(),
    };
    if let Some((at, text)) = shell_text(&argv) {
        let app = process.app();
        let (port, replaced) = port(process, &app);
        let before = format!("{} ", script::text(&launcher(process, fix, port)));
        let changed = script::exec_main(text, &before, |text, words| {
            app_text(process, fix, text, words, replaced.as_ref())
        })?;
        let mut words = argv[..at].to_vec();
        if changed.needs_bash {
            to_bash(&mut words);
        }
        words.push(changed.text);
        return Some(AdvisedCommand { words, second: at });
    }
    let mut argv = unwrap_runner(&argv, &fix.scripts).unwrap_or(argv);
    set_app_option(&mut argv, fix);
    let (port, replaced) = port(process, &argv);
    if let Some((old, new)) = &replaced {
        if let Some(at) = argv.iter().position(|word| word == old) {
            argv[at].clone_from(new);
            if at > 0 && argv[at - 1] == "--uds" {
                argv[at - 1] = "--port".into();
            }
        }
        // Only a shell expands the variable.
        let text: Vec<_> = argv
            .iter()
            .map(|word| match word == new {
                true => word.clone(),
                false => shell::quote(word),
            })
            .collect();
        argv = vec!["sh".into(), "-c".into(), format!("exec {}", text.join(" "))];
    }
    let mut words = launcher(process, fix, port);
    let second = words.len();
    words.extend(argv);
    Some(AdvisedCommand { words, second })
}

/// The app's own text within a shell's, changed.
fn app_text(
    process: &SupervisedProcess,
    fix: &Corrections,
    text: &str,
    words: &[String],
    replaced: Option<&(String, String)>,
) -> String {
    let _ = process;
    let mut text = match unwrap_runner(words, &fix.scripts) {
        Some(words) => script::text(&words),
        None => text.to_owned(),
    };
    if let Some((name, value)) = &fix.keep_alive {
        text = script::set_app_option(&text, words, name, value);
    }
    match replaced {
        // In single quotes, because the launcher's shell must not expand it; the app's own shell does.
        Some((old, new)) => {
            let text = script::set_port(&text, old, new);
            format!("sh -c {}", shell::quote(&format!("exec {text}")))
        }
        None => text,
    }
}

fn set_app_option(argv: &mut Vec<String>, fix: &Corrections) {
    let Some((name, value)) = &fix.keep_alive else {
        return;
    };
    let assigned = format!("{name}=");
    if let Some(at) = argv.iter().position(|word| word == name) {
        if let Some(word) = argv.get_mut(at + 1) {
            word.clone_from(value);
        }
    } else if let Some(word) = argv.iter_mut().find(|word| word.starts_with(&assigned)) {
        *word = format!("{assigned}{value}");
    } else if let Some(at) = programs::main(argv).map(|(at, _)| at) {
        argv.splice(at + 1..at + 1, [name.clone(), value.clone()]);
    }
}

/// Command of a launcher, with corrections.
fn corrected(process: &SupervisedProcess, fix: &Corrections) -> Option<AdvisedCommand> {
    let argv = &process.line.argv;
    let app = process.app();
    let mut options = Vec::new();
    options.extend(fix.pool.as_ref().map(|pool| ("pool", pool.clone())));
    options.extend(fix.drain.map(|time| ("drain-timeout", format(time))));
    options.extend(fix.until_silence.then(|| ("lame-duck", "auto".to_owned())));
    options.extend(fix.admin.as_ref().map(|admin| ("admin", admin.clone())));
    options.extend(fix.free_port.then(|| ("port", "auto".to_owned())));
    if let Some((at, text)) = shell_text(argv)
        && text.contains("lameduck")
    {
        let mut text = text.to_owned();
        for (name, value) in &options {
            text = script::set_option(&text, name, value);
        }
        if let Some((name, value)) = &fix.keep_alive {
            text = script::set_app_option(&text, &app, name, value);
        }
        let mut words = argv[..at].to_vec();
        if fix.exec || fix.direct {
            let changed = script::exec_main(&text, "", |text, words| match behind(words) {
                Some((head, app)) => {
                    let own = own_command(app, fix).filter(|own| fix.direct && own != app);
                    own.map_or(text.to_owned(), |own| {
                        format!("{} {}", script::text(head), script::text(&own))
                    })
                }
                None => text.to_owned(),
            })?;
            if changed.needs_bash {
                to_bash(&mut words);
            }
            text = changed.text;
        }
        words.push(text);
        return Some(AdvisedCommand { words, second: at });
    }
    let mut words = argv.clone();
    let is_launcher = |pair: &[String]| base(&pair[0]) == "lameduck" && pair[1] == "exec";
    let Some(at) = words.windows(2).position(is_launcher) else {
        if let Some((at, text)) = shell_text(argv) {
            if let Some((name, value)) = &fix.keep_alive {
                words[at] = script::set_app_option(text, &app, name, value);
            }
        } else {
            set_app_option(&mut words, fix);
        }
        let second = AdvisedCommand::WHOLE;
        return Some(AdvisedCommand { words, second });
    };
    for (name, value) in options {
        set_option(&mut words, at + 2, name, &value);
    }
    let end = words.iter().skip(at).position(|word| word == "--");
    let second = end.map_or(words.len(), |end| at + end + 1);
    let mut app = words.split_off(second);
    if fix.direct {
        app = own_command(&app, fix).unwrap_or(app);
    }
    set_app_option(&mut app, fix);
    words.extend(app);
    Some(AdvisedCommand { words, second })
}

/// Uses bash if the text needs process substitution, which only bash has.
fn to_bash(words: &mut [String]) {
    let at = wrappers::skip(words);
    if let Some(shell) = words.get_mut(at).filter(|shell| base(shell) != "bash") {
        *shell = if shell.starts_with('/') {
            "/bin/bash".into()
        } else {
            "bash".into()
        };
    }
}

/// Splits the launcher's words up to `--` from those of the app.
fn behind(words: &[String]) -> Option<(&[String], &[String])> {
    let end = words.iter().position(|word| word == "--")? + 1;
    Some(words.split_at(end))
}

/// Command of the app without programs that only start it.
fn own_command(app: &[String], fix: &Corrections) -> Option<Vec<String>> {
    if let Some(app) = unwrap_runner(app, &fix.scripts) {
        return Some(app);
    }
    let (at, text) = shell_text(app)?;
    let changed = script::exec_main(text, "", |text, words| {
        match unwrap_runner(words, &fix.scripts) {
            Some(words) => script::text(&words),
            None => text.to_owned(),
        }
    })?;
    let mut words = app[..at].to_vec();
    if changed.needs_bash {
        to_bash(&mut words);
    }
    words.push(changed.text);
    Some(words)
}

fn set_option(words: &mut Vec<String>, start: usize, name: &str, value: &str) {
    let option = format!("--{name}");
    let assigned = format!("{option}=");
    let start = start.min(words.len());
    let end = words[start..].iter().position(|word| word == "--");
    let end = end.map_or(words.len(), |end| start + end);
    let place = words[start..end]
        .iter()
        .position(|word| *word == option || word.starts_with(&assigned));
    match place.map(|at| at + start) {
        Some(at) if words[at] == option => {
            if let Some(word) = words.get_mut(at + 1) {
                *word = value.to_owned();
            }
        }
        Some(at) => words[at] = format!("{assigned}{value}"),
        None => {
            words.splice(start..start, [option, value.to_owned()]);
        }
    }
}

/// Formats a command in the syntax of its file.
fn written(process: &SupervisedProcess, command: &AdvisedCommand) -> String {
    let AdvisedCommand { words, second } = command;
    let list = |words: &[String]| {
        let words: Vec<_> = words
            .iter()
            .map(|word| serde_json::Value::from(word.as_str()).to_string())
            .collect();
        format!("[{}]", words.join(", "))
    };
    match process.form {
        CommandForm::Toml => process.setting("command", &shell::join(words)),
        CommandForm::Script { .. } | CommandForm::Yaml => {
            let (script, args) = words
                .split_first()
                .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            let simple = args.iter().all(|word| shell::quote(word) == *word);
            let args = match simple {
                true => args.join(" "),
                false => list(args),
            };
            [
                process.setting("script", script),
                process.setting("args", &args),
                process.setting("interpreter", "none"),
                process.setting("exec_mode", "fork"),
            ]
            .join("\n")
        }
        CommandForm::Unit { .. } => format!("ExecStart={}", unit_text(words)),
        CommandForm::Ini => format!("command={}", ini_text(words)),
        CommandForm::Service {
            command,
            entrypoint,
        } if *second == AdvisedCommand::WHOLE => match (command, entrypoint) {
            (true, true) => format!("entrypoint: {}\ncommand: []", list(words)),
            (false, true) => format!("entrypoint: {}", list(words)),
            _ => format!("command: {}", list(words)),
        },
        CommandForm::Container { command } if *second == AdvisedCommand::WHOLE => match command {
            true => format!("command: {}\nargs: []", list(words)),
            false => format!("args: {}", list(words)),
        },
        CommandForm::Service {
            command,
            entrypoint,
        } => {
            let (first, rest) = words.split_at((*second).min(words.len()));
            let mut lines = vec![process.setting("entrypoint", &list(first))];
            if !(command || entrypoint) {
                lines.push("# what the image's own ENTRYPOINT and CMD say:".into());
            }
            lines.push(process.setting("command", &list(rest)));
            lines.join("\n")
        }
        CommandForm::Container { command } => {
            let (first, rest) = words.split_at((*second).min(words.len()));
            let mut lines = vec![process.setting("command", &list(first))];
            if !command && process.line.argv.is_empty() {
                lines.push("# what the image's own ENTRYPOINT and CMD say:".into());
            }
            lines.extend((!rest.is_empty()).then(|| process.setting("args", &list(rest))));
            lines.join("\n")
        }
    }
}

/// Quotes as systemd needs; `%` and `$` are the user's own already.
fn unit_text(words: &[String]) -> String {
    let quote =
        |word: &String| match word.is_empty() || word.contains([' ', '\t', '"', '\'', '\\', ';']) {
            false => word.clone(),
            true => format!(
                "\"{}\"",
                word.replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', " ")
            ),
        };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Quotes as supervisord needs, which splits as a shell does; `%` is the user's own already.
fn ini_text(words: &[String]) -> String {
    let quote = |word: &String| match word.contains("%(") && !word.contains([' ', '\'', '"', '\\'])
    {
        true => word.clone(),
        false => shell::quote(word),
    };
    words
        .iter()
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
        .replace('\n', " ")
}

/// All settings that a supervisor needs for an app that is put under the launcher.
pub(super) fn under_launcher(
    process: &SupervisedProcess,
    fix: &Corrections,
    kill: Duration,
) -> String {
    if let CommandForm::Unit {
        template,
        hook: true,
    } = process.form
    {
        let name = if template {
            "%i"
        } else {
            process.name.as_str()
        };
        let pool = fix.pool.as_deref().unwrap_or("app");
        let drain = fix.drain.unwrap_or(Duration::from_secs(30));
        return [
            format!(
                "ExecStop=-/usr/bin/lameduck drain {pool}/{name} --timeout {} --until restarted",
                format(drain)
            ),
            process.kill_line(kill),
        ]
        .join("\n");
    }
    let Some(command) = command(process, fix) else {
        return "one program for each process, and each of them under `lameduck exec --pool POOL -- …`".into();
    };
    let mut lines: Vec<String> = command.lines().map(str::to_owned).collect();
    let signal = process.signal.as_ref().map(|(name, _)| name.as_str());
    let drains = signal.is_none_or(|name| ["TERM", "INT", "QUIT"].contains(&name));
    match process.supervisor {
        Supervisor::Oxmgr | Supervisor::OldOxmgr => {
            lines.push(process.setting("stop_signal", "SIGINT"))
        }
        Supervisor::Pm2 => {
            lines.push(process.setting("treekill", "false"));
            lines.push(process.setting("wait_ready", "true"));
            lines.push(process.setting("listen_timeout", "60000"));
        }
        Supervisor::Systemd => {
            lines.insert(0, "Type=notify".into());
            lines.push("KillMode=mixed".into());
            lines.extend((!drains).then(|| "KillSignal=SIGTERM".to_owned()));
        }
        Supervisor::Supervisord => {
            lines.push("stopasgroup=false".into());
            lines.push("killasgroup=true".into());
            lines.extend((!drains).then(|| "stopsignal=TERM".to_owned()));
        }
        Supervisor::Compose => lines.extend((!drains).then(|| "stop_signal: SIGTERM".to_owned())),
        Supervisor::Kubernetes => {}
    }
    lines.push(process.kill_line(kill));
    if matches!(
        process.supervisor,
        Supervisor::Compose | Supervisor::Kubernetes
    ) {
        lines.push("# with lameduck in the image, and the directory of its admin socket as a volume of both".into());
    }
    lines.join("\n")
}

/// Option or variable with which the app keeps idle connections longer than the proxy.
pub(super) fn longer_keep_alive(app: &KeepAlive, idle: Duration) -> (String, String) {
    let more = idle.as_secs() + 1;
    let millis = !app.setting.starts_with('-') && app.in_millis;
    let value = if millis { more * 1000 } else { more };
    (app.setting.clone(), value.to_string())
}
