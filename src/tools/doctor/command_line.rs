//! Command lines: split into words as a shell does, and classified.

use std::path::Path;
use std::time::Duration;

use super::programs;
use super::shell::{ShellJoiner, ShellPiece, split};
use super::wrappers;
use crate::config::duration;
use crate::core::launch::{DEFAULT_DRAIN, LONGEST_LAME_DUCK};

/// Options of `exec` and of hooks without a value. A test compares them with clap's definition. clap itself can't be
/// used, because it refuses values with placeholders, such as `%(program_name)s`.
pub(crate) const FLAGS: [&str; 6] = ["no-port", "no-wait", "json", "all", "wait-ready", "backup"];

/// A command line with its commands, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) commands: Vec<Vec<String>>,
    /// What follows each of the commands.
    joiners: Vec<ShellJoiner>,
    /// Whether a shell runs the line.
    pub(super) shell: bool,
    /// Words of the line itself, including shells and wrappers.
    pub(super) argv: Vec<String>,
}

/// Role of a command in a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandRole {
    /// `lameduck exec`.
    Launcher(ExecLaunch),
    /// `lameduck run`.
    Proxy,
    /// `lameduck drain`, `resume`, `register`, `deregister`.
    Hook(HookCall),
    /// `lameduck health`.
    Health,
    /// Any other command, including other commands of lameduck.
    Other,
}

/// `lameduck exec`, with the options that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ExecLaunch {
    pub(super) pool: Option<String>,
    pub(super) name: Option<String>,
    pub(super) port: Option<String>,
    pub(super) no_port: bool,
    /// Drain time-out; `None`: not given.
    pub(super) drain: Option<Duration>,
    /// Whether a drain time-out is given that is only known on the host.
    pub(super) is_unknown: bool,
    pub(super) lame_duck: Duration,
    pub(super) admin: Option<String>,
    /// The app's own command.
    pub(super) app: Vec<String>,
    /// Whether it runs in a shell with other commands and without `exec`, so that signals only reach the shell.
    pub(super) behind_shell: bool,
}

/// A call of lameduck in a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HookCall {
    pub(super) verb: String,
    pub(super) pool: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) no_wait: bool,
    pub(super) until_restarted: bool,
    pub(super) expires: bool,
    pub(super) admin: Option<String>,
    /// Time before the drain: `--lame-duck`, or `sleep` in the same line.
    pub(super) lame_duck: Duration,
}

impl ExecLaunch {
    /// Duration of its drain.
    pub(super) fn drains_for(&self) -> Duration {
        let default = || duration::parse(DEFAULT_DRAIN).unwrap_or_default();
        self.drain.unwrap_or_else(default)
    }
}

impl CommandLine {
    /// Parses a text that no shell runs, so that `;` and `(` are ordinary characters.
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = split(text, false);
        // A text with shell syntax is probably meant for a shell.
        if let [piece] = &mut pieces[..]
            && piece
                .words
                .iter()
                .any(|word| ["&&", "||", "|", ">", ">>", "2>&1", "&>"].contains(&word.as_str()))
            && shell_text(&piece.words).is_none()
        {
            return Self::script(text);
        }
        Self::of(pieces)
    }

    /// Parses a text that a shell runs.
    pub(super) fn script(text: &str) -> Self {
        Self::from_words(vec!["sh".into(), "-c".into(), text.to_owned()])
    }

    /// A command line that is already split into words.
    pub(super) fn from_words(words: Vec<String>) -> Self {
        let end = words.len();
        Self::of(vec![ShellPiece {
            words,
            span: 0..end,
            joiner: ShellJoiner::End,
        }])
    }

    fn of(pieces: Vec<ShellPiece>) -> Self {
        let mut line = CommandLine {
            argv: pieces
                .first()
                .map(|piece| piece.words.clone())
                .unwrap_or_default(),
            ..CommandLine::default()
        };
        line.add(pieces, 0);
        line
    }

    fn add(&mut self, pieces: Vec<ShellPiece>, depth: usize) {
        for ShellPiece { words, joiner, .. } in pieces {
            match shell_text(&words) {
                Some((_, script)) if depth < 4 => {
                    self.shell = true;
                    let before = self.joiners.len();
                    self.add(split(script, true), depth + 1);
                    // What follows the shell follows the last of its commands.
                    if self.joiners.len() > before
                        && let Some(last) = self.joiners.last_mut()
                        && *last == ShellJoiner::End
                    {
                        *last = joiner;
                    }
                }
                _ if words.is_empty() => {}
                _ => {
                    self.commands.push(words);
                    self.joiners.push(joiner);
                }
            }
        }
    }

    /// Whether a shell stays between the supervisor and this command.
    pub(super) fn is_below_shell(&self, at: usize) -> bool {
        let execs = self.commands[at][0] == "exec";
        let beside = |at: usize| {
            matches!(
                self.joiners.get(at),
                Some(ShellJoiner::Pipe | ShellJoiner::Background)
            )
        };
        let piped = beside(at)
            || at
                .checked_sub(1)
                .is_some_and(|before| self.joiners.get(before) == Some(&ShellJoiner::Pipe));
        self.shell && (piped || (self.commands.len() > 1 && !execs))
    }

    /// The command that keeps running: the last one, or the first one of its pipeline.
    pub(super) fn main(&self) -> Option<(usize, &[String])> {
        let passing = |words: &[String]| {
            let rest = words.get(wrappers::skip(words)..).unwrap_or_default();
            let name = rest.first().map_or("", |word| base(word));
            PASSING.contains(&name) || words.iter().all(|word| wrappers::is_assignment(word))
        };
        let last = self.commands.iter().rposition(|words| !passing(words));
        let mut at = last.or(self.commands.len().checked_sub(1))?;
        while at > 0 && self.joiners.get(at - 1) == Some(&ShellJoiner::Pipe) {
            at -= 1;
        }
        Some((at, &self.commands[at]))
    }

    /// Role of the first command that has one; `env` provides options that the line lacks.
    pub(super) fn role(&self, env: &[(String, String)]) -> CommandRole {
        let mut slept = Duration::ZERO;
        for (at, words) in self.commands.iter().enumerate() {
            slept += sleep(words).unwrap_or_default();
            match role(words, env) {
                CommandRole::Other => {}
                CommandRole::Launcher(mut launch) => {
                    launch.behind_shell = self.is_below_shell(at);
                    return CommandRole::Launcher(launch);
                }
                CommandRole::Hook(call) => {
                    let lame_duck = call.lame_duck + slept;
                    return CommandRole::Hook(HookCall { lame_duck, ..call });
                }
                other => return other,
            }
        }
        CommandRole::Other
    }

    /// Total time of its `sleep`s.
    pub(super) fn slept(&self) -> Duration {
        self.commands.iter().filter_map(|words| sleep(words)).sum()
    }
}

/// Commands that end at once, or only pass on the output of another one.
const PASSING: [&str; 26] = [
    "true",
    ":",
    "wait",
    "exit",
    "tee",
    "cat",
    "logger",
    "rotatelogs",
    "cronolog",
    "grep",
    "sed",
    "awk",
    "ts",
    "pino-pretty",
    "bunyan",
    "cd",
    "export",
    "set",
    "source",
    ".",
    "trap",
    "echo",
    "fi",
    "done",
    "}",
    "multilog",
];

fn sleep(words: &[String]) -> Option<Duration> {
    let words = words.get(wrappers::skip(words)..)?;
    let (program, times) = words.split_first()?;
    let times = times.iter().take_while(|_| base(program) == "sleep");
    let times: Vec<_> = times.filter_map(|time| seconds(time)).collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

/// Text that these words have a shell run (`sh -c TEXT`, even within wrappers), with its index among the words.
pub(super) fn shell_text(words: &[String]) -> Option<(usize, &str)> {
    let at = wrappers::skip(words);
    let program = base(words.get(at)?);
    let is_shell = ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "su"].contains(&program);
    let flag = words
        .iter()
        .skip(at)
        .position(|word| is_command_flag(word))?;
    let place = at + flag + 1;
    let text = words.get(place).filter(|_| is_shell)?;
    Some((place, text))
}

/// Whether a word is `-c` of `sh`, alone or with other flags (`-ec`).
fn is_command_flag(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

/// Name of a program without its directory.
pub(super) fn base(word: &str) -> &str {
    Path::new(word)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(word)
}

/// Parses seconds, with or without the unit.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    match text.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 => Duration::try_from_secs_f64(number).ok(),
        Ok(_) => None,
        Err(_) => duration::parse(text).ok(),
    }
}

fn role(words: &[String], env: &[(String, String)]) -> CommandRole {
    let own = words.get(wrappers::skip(words)..).unwrap_or_default();
    // Behind an unknown wrapper: `./start lameduck exec …`, but not `node lameduck exec`.
    let unknown = || {
        let known = own
            .first()
            .is_none_or(|word| programs::is_interpreter(base(word)));
        let at = own.windows(2).position(|pair| {
            base(&pair[0]) == "lameduck" && ["exec", "run"].contains(&pair[1].as_str())
        });
        at.filter(|_| !known).map(|at| &own[at..])
    };
    let rest = match own.first() {
        Some(first) if base(first) == "lameduck" => own,
        _ => match unknown() {
            Some(rest) => rest,
            None => return CommandRole::Other,
        },
    };
    let rest: Vec<&str> = rest.iter().skip(1).map(String::as_str).collect();
    let Some((verb, rest)) = rest.split_first() else {
        // In an image, the command of the image continues here; as a command, it would only print help.
        return CommandRole::Other;
    };
    match *verb {
        "exec" => CommandRole::Launcher(launch(rest, env)),
        "run" => CommandRole::Proxy,
        "health" => CommandRole::Health,
        "drain" | "resume" | "register" | "deregister" => CommandRole::Hook(call(verb, rest, env)),
        _ => CommandRole::Other,
    }
}

/// Splits options from arguments.
fn options<'w>(words: &[&'w str]) -> (Vec<(&'w str, &'w str)>, Vec<&'w str>) {
    let (mut options, mut arguments) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some(option) => match option.split_once('=') {
                Some(pair) => options.push(pair),
                None if FLAGS.contains(&option) => options.push((option, "true")),
                None => options.push((option, words.next().copied().unwrap_or_default())),
            },
            None => arguments.push(*word),
        }
    }
    (options, arguments)
}

/// Value of an option, or of its variable.
fn value<'v>(
    options: &[(&'v str, &'v str)],
    env: &'v [(String, String)],
    name: &str,
) -> Option<&'v str> {
    let variable = format!("LAMEDUCK_{}", name.to_uppercase().replace('-', "_"));
    let written = options.iter().rev().find(|(option, _)| *option == name);
    let set = || env.iter().find(|(key, _)| *key == variable);
    written
        .map(|(_, value)| *value)
        .or_else(|| set().map(|(_, value)| value.as_str()))
}

fn launch(words: &[&str], env: &[(String, String)]) -> ExecLaunch {
    let end = words
        .iter()
        .position(|word| *word == "--")
        .unwrap_or(words.len());
    let (options, loose) = options(&words[..end]);
    let of = |name: &str| value(&options, env, name);
    let text = |name: &str| of(name).map(str::to_owned);
    let unknown = |name: &str| of(name).is_some_and(|time| duration::parse(time).is_err());
    let app = words
        .get(end + 1..)
        .filter(|app| !app.is_empty())
        .map_or(loose, <[_]>::to_vec);
    ExecLaunch {
        pool: text("pool"),
        name: text("name"),
        port: text("port"),
        no_port: of("no-port").is_some_and(truthy),
        is_unknown: unknown("drain-timeout")
            || (unknown("lame-duck") && of("lame-duck") != Some("auto")),
        drain: of("drain-timeout").and_then(|time| duration::parse(time).ok()),
        lame_duck: lame_duck(of),
        admin: text("admin"),
        app: app.into_iter().map(str::to_owned).collect(),
        behind_shell: false,
    }
}

fn truthy(text: &str) -> bool {
    !["", "0", "false", "no", "n", "f", "off"].contains(&text.to_ascii_lowercase().as_str())
}

fn call(verb: &str, words: &[&str], env: &[(String, String)]) -> HookCall {
    let (options, arguments) = options(words);
    let of = |name: &str| value(&options, env, name);
    HookCall {
        verb: verb.to_owned(),
        pool: arguments.first().map(|target| {
            let pool = target.split_once('/').map_or(*target, |(pool, _)| pool);
            pool.to_owned()
        }),
        timeout: of("timeout").and_then(|time| duration::parse(time).ok()),
        no_wait: of("no-wait").is_some_and(truthy),
        until_restarted: of("until") == Some("restarted"),
        expires: of("expires").is_some(),
        admin: of("admin").map(str::to_owned),
        lame_duck: lame_duck(of),
    }
}

/// Longest time that the proxy is lame duck before the drain.
fn lame_duck<'a>(of: impl Fn(&str) -> Option<&'a str>) -> Duration {
    let time = match of("lame-duck") {
        Some("auto") => of("lame-duck-max").or(Some(LONGEST_LAME_DUCK)),
        other => other,
    };
    time.and_then(|time| duration::parse(time).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch_of(text: &str) -> Option<ExecLaunch> {
        match CommandLine::parse(text).role(&[]) {
            CommandRole::Launcher(launch) => Some(launch),
            _ => None,
        }
    }

    #[test]
    fn launchers_are_found_wherever_they_stand() {
        for text in [
            "lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1",
            "/usr/bin/lameduck exec --pool=api --drain-timeout=30s -- node a.js --port 1",
            "sh -c 'exec lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1'",
            "env A=1 lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1",
            "tini -g -- gosu app lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1",
            "./start lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1",
            "bash -lc 'cd /srv && exec lameduck exec --pool api --drain-timeout 30s -- node a.js --port 1 > /log 2>&1'",
        ] {
            let launch = launch_of(text).unwrap_or_default();
            assert_eq!(launch.pool.as_deref(), Some("api"), "{text}");
            assert_eq!(launch.drains_for(), Duration::from_secs(30), "{text}");
            assert_eq!(launch.app, ["node", "a.js", "--port", "1"], "{text}");
            assert!(!launch.behind_shell, "{text}");
        }
        assert!(launch_of("node lameduck exec").is_none());
        // supervisord's `%(name)s`, without a shell.
        let plain = launch_of("lameduck exec --pool a --name %(n)s --drain-timeout 9s -- b");
        assert!(
            plain.is_some_and(|launch| !launch.behind_shell && launch.drains_for().as_secs() == 9)
        );
        let behind = launch_of("sh -c 'cd /srv && lameduck exec --pool a -- b'");
        assert!(behind.is_some_and(|launch| launch.behind_shell));
        let piped = launch_of("sh -c 'exec lameduck exec --pool a -- b 2>&1 | tee /log'");
        assert!(piped.is_some_and(|launch| launch.behind_shell));
    }

    #[test]
    fn hooks_and_variables() {
        let env = [("LAMEDUCK_TIMEOUT".to_owned(), "7s".to_owned())];
        let line =
            CommandLine::script("sleep 5 && lameduck drain api/%i --no-wait --until restarted");
        let CommandRole::Hook(call) = line.role(&env) else {
            panic!("{line:?}")
        };
        assert_eq!(
            (call.pool.as_deref(), call.verb.as_str()),
            (Some("api"), "drain")
        );
        assert_eq!(call.timeout, Some(Duration::from_secs(7)));
        assert!(call.no_wait && call.until_restarted);
        assert_eq!(call.lame_duck, Duration::from_secs(5));
    }
}
