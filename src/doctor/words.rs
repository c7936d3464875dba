//! Command lines: split into words as a shell does, and asked what part they play.

use std::path::Path;
use std::time::Duration;

use crate::config::duration;
use crate::core::launch::DEFAULT_DRAIN;

/// Options of `exec` and of the hooks that take no value. The command line's own tests hold this against what clap
/// knows: clap itself would refuse values that are still to be filled in, such as `%(program_name)s`.
pub(crate) const FLAGS: [&str; 5] = ["no-port", "no-wait", "json", "all", "wait-ready"];

/// One command line: the commands in it, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) commands: Vec<Vec<String>>,
    /// A shell runs it.
    pub(super) shell: bool,
}

/// What a command is to a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// `lameduck exec`.
    Launcher(Launch),
    /// `lameduck run`.
    Proxy,
    /// `lameduck drain`, `resume`, `register`, `deregister`.
    Hook(Call),
    /// `lameduck health`.
    Health,
    /// Something else, and other commands of lameduck.
    Other,
}

/// `lameduck exec` with what matters of its options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) pool: Option<String>,
    pub(super) name: Option<String>,
    pub(super) port: Option<String>,
    pub(super) no_port: bool,
    /// `None`: nothing was said.
    pub(super) drain: Option<Duration>,
    pub(super) lame_duck: Duration,
    pub(super) admin: Option<String>,
    /// The app's own command.
    pub(super) app: Vec<String>,
    /// In a shell with other commands, and not by `exec`: signals end at the shell.
    pub(super) behind_shell: bool,
}

/// A hook's command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: String,
    pub(super) pool: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) no_wait: bool,
    pub(super) until_restarted: bool,
    pub(super) expires: bool,
    pub(super) admin: Option<String>,
    /// Before the drain: `--lame-duck`, or `sleep` in the same line.
    pub(super) lame_duck: Duration,
}

impl Launch {
    /// How long it drains.
    pub(super) fn drains_for(&self) -> Duration {
        let default = || duration::parse(DEFAULT_DRAIN).unwrap_or_default();
        self.drain.unwrap_or_else(default)
    }
}

impl Line {
    /// From text that no shell sees: `;` and `(` are characters like others.
    pub(super) fn parse(text: &str) -> Self {
        Self::of(split(text, false), 0)
    }

    /// From text that a shell runs.
    pub(super) fn script(text: &str) -> Self {
        Self::of(split(text, true), 0)
    }

    /// From words that somebody has split already.
    pub(super) fn from_words(words: Vec<String>) -> Self {
        Self::of(vec![words], 0)
    }

    fn of(commands: Vec<Vec<String>>, depth: usize) -> Self {
        let mut line = Line {
            shell: commands.len() > 1,
            commands: Vec::new(),
        };
        for words in commands {
            let program = words.first().map_or("", |word| base(word));
            let script = ["sh", "bash", "dash", "ash", "zsh"]
                .contains(&program)
                .then(|| words.iter().position(|word| is_command_flag(word)))
                .flatten()
                .and_then(|at| words.get(at + 1));
            match script {
                Some(script) if depth < 4 => {
                    let inner = Self::of(split(script, true), depth + 1);
                    line.shell = true;
                    line.commands.extend(inner.commands);
                }
                _ => line.commands.push(words),
            }
        }
        line.commands.retain(|words| !words.is_empty());
        line
    }

    /// The first command that plays a part; `env` fills in what the line leaves out.
    pub(super) fn role(&self, env: &[(String, String)]) -> Role {
        let mut slept = Duration::ZERO;
        for words in &self.commands {
            if base(&words[0]) == "sleep" {
                let time = words.get(1).and_then(|time| seconds(time));
                slept += time.unwrap_or_default();
            }
            match role(words, env) {
                Role::Other => {}
                Role::Launcher(mut launch) => {
                    launch.behind_shell =
                        self.shell && self.commands.len() > 1 && words[0] != "exec";
                    return Role::Launcher(launch);
                }
                Role::Hook(call) => {
                    let lame_duck = call.lame_duck + slept;
                    return Role::Hook(Call { lame_duck, ..call });
                }
                other => return other,
            }
        }
        Role::Other
    }
}

/// `sh`'s `-c`, alone or with other flags (`-ec`).
fn is_command_flag(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

/// A program's name without its directory.
pub(super) fn base(word: &str) -> &str {
    Path::new(word)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(word)
}

/// Seconds, with or without the unit.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    match text.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 => Duration::try_from_secs_f64(number).ok(),
        Ok(_) => None,
        Err(_) => duration::parse(text).ok(),
    }
}

fn role(words: &[String], env: &[(String, String)]) -> Role {
    let wrapper = |word: &str| {
        [
            "exec",
            "env",
            "nice",
            "setsid",
            "sudo",
            "tini",
            "dumb-init",
            "--",
        ]
        .contains(&base(word))
            || word
                .split_once('=')
                .is_some_and(|(name, _)| !name.contains('/'))
    };
    let rest: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .skip_while(|word| wrapper(word))
        .collect();
    let Some((program, rest)) = rest.split_first() else {
        return Role::Other;
    };
    if base(program) != "lameduck" {
        return Role::Other;
    }
    let Some((verb, rest)) = rest.split_first() else {
        return Role::Other;
    };
    match *verb {
        "exec" => Role::Launcher(launch(rest, env)),
        "run" => Role::Proxy,
        "health" => Role::Health,
        "drain" | "resume" | "register" | "deregister" => Role::Hook(call(verb, rest, env)),
        _ => Role::Other,
    }
}

/// Options and arguments.
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

/// The value of an option, or of its variable.
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

fn launch(words: &[&str], env: &[(String, String)]) -> Launch {
    let end = words
        .iter()
        .position(|word| *word == "--")
        .unwrap_or(words.len());
    let (options, loose) = options(&words[..end]);
    let of = |name: &str| value(&options, env, name);
    let text = |name: &str| of(name).map(str::to_owned);
    let app = words
        .get(end + 1..)
        .filter(|app| !app.is_empty())
        .map_or(loose, <[_]>::to_vec);
    Launch {
        pool: text("pool"),
        name: text("name"),
        port: text("port"),
        no_port: of("no-port").is_some_and(truthy),
        drain: of("drain-timeout").and_then(|time| duration::parse(time).ok()),
        lame_duck: of("lame-duck")
            .and_then(|time| duration::parse(time).ok())
            .unwrap_or_default(),
        admin: text("admin"),
        app: app.into_iter().map(str::to_owned).collect(),
        behind_shell: false,
    }
}

fn truthy(text: &str) -> bool {
    !["", "0", "false", "no", "n", "f", "off"].contains(&text.to_ascii_lowercase().as_str())
}

fn call(verb: &str, words: &[&str], env: &[(String, String)]) -> Call {
    let (options, arguments) = options(words);
    let of = |name: &str| value(&options, env, name);
    Call {
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
        lame_duck: of("lame-duck")
            .and_then(|time| duration::parse(time).ok())
            .unwrap_or_default(),
    }
}

/// Knows quotes, backslashes, and, for a shell, what joins commands.
fn split(text: &str, shell: bool) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    let (mut word, mut quote, mut inside) = (String::new(), None, false);
    let mut end = |word: &mut String, inside: &mut bool, next: bool| {
        if let Some(last) = all.last_mut().filter(|_| *inside || !word.is_empty()) {
            last.push(std::mem::take(word));
        }
        *inside = false;
        if next {
            all.push(Vec::new());
        }
    };
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\\') | (Some('"'), '\\') => word.extend(chars.next()),
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                inside = true;
            }
            (None, ';' | '&' | '|' | '\n' | '(' | ')') if shell => {
                end(&mut word, &mut inside, true)
            }
            (None, c) if c.is_whitespace() => end(&mut word, &mut inside, false),
            (None, c) => word.push(c),
        }
    }
    end(&mut word, &mut inside, false);
    all.retain(|words| !words.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch_of(text: &str) -> Option<Launch> {
        match Line::parse(text).role(&[]) {
            Role::Launcher(launch) => Some(launch),
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
        ] {
            let launch = launch_of(text).unwrap_or_default();
            assert_eq!(launch.pool.as_deref(), Some("api"), "{text}");
            assert_eq!(launch.drains_for(), Duration::from_secs(30), "{text}");
            assert_eq!(launch.app, ["node", "a.js", "--port", "1"], "{text}");
            assert!(!launch.behind_shell, "{text}");
        }
        assert!(launch_of("node lameduck exec").is_none());
        // supervisord's `%(name)s`, with no shell anywhere.
        let plain = launch_of("lameduck exec --pool a --name %(n)s --drain-timeout 9s -- b");
        assert!(
            plain.is_some_and(|launch| !launch.behind_shell && launch.drains_for().as_secs() == 9)
        );
        let behind = launch_of("sh -c 'cd /srv && lameduck exec --pool a -- b'");
        assert!(behind.is_some_and(|launch| launch.behind_shell));
    }

    #[test]
    fn hooks_and_variables() {
        let env = [("LAMEDUCK_TIMEOUT".to_owned(), "7s".to_owned())];
        let line = Line::script("sleep 5 && lameduck drain api/%i --no-wait --until restarted");
        let Role::Hook(call) = line.role(&env) else {
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
