//! Changes the text of a shell: puts the launcher before its main command, with `exec`.

use super::super::command_line::{CommandLine, base};
use super::super::programs;
use super::super::shell::{ShellJoiner, ShellPiece, join, split};
use super::super::wrappers;

/// Starts the text's main command with `exec` and `before` (the launcher, or nothing), after `change` has changed it.
/// Commands after it are left out. A pipe behind it is kept, which needs bash (`needs_bash`). `None`: it starts several
/// things at once, and it is unclear which one is the main command.
pub(super) fn exec_main(
    text: &str,
    before: &str,
    change: impl FnOnce(&str, &[String]) -> String,
) -> Option<ChangedText> {
    let pieces = split(text, true);
    let line = CommandLine::script(text);
    let (at, _) = line.main()?;
    // The line also describes shells within shells, whose positions are those of another text.
    let piece = pieces
        .get(at)
        .filter(|_| pieces.len() == line.commands.len())?;
    if piece.joiner == ShellJoiner::Background {
        return None;
    }
    let end = pipeline_end(&pieces, at);
    let command = text[piece.span.clone()].trim_start_matches("exec ").trim();
    let words = match piece.words.first() {
        Some(first) if first == "exec" => &piece.words[1..],
        _ => &piece.words[..],
    };
    // In `A=1 node x`, only `node x` may follow `exec`, which needs a program.
    let assigned = words
        .first()
        .is_some_and(|word| wrappers::is_assignment(word));
    let env = if assigned { "env " } else { "" };
    let mut changed = change(command, words);
    let needs_bash = end > at + 1;
    if needs_bash {
        let rest = text[pieces[at + 1].span.start..pieces[end - 1].span.end].trim();
        let alone = changed.trim_end_matches("2>&1").trim_end().to_owned();
        let errors = if alone.len() < changed.len() {
            " 2>&1"
        } else {
            ""
        };
        changed = format!("{alone} > >({rest}){errors}");
    }
    let mut head = text[..piece.span.start].to_owned();
    if head.trim_end().ends_with('(') || head.trim_end().ends_with('{') {
        head = head.trim_end().trim_end_matches(['(', '{']).to_owned();
    }
    Some(ChangedText {
        text: format!("{head}exec {before}{env}{changed}"),
        needs_bash,
    })
}

/// A changed text.
pub(super) struct ChangedText {
    pub(super) text: String,
    pub(super) needs_bash: bool,
}

fn pipeline_end(pieces: &[ShellPiece], start: usize) -> usize {
    let mut end = start + 1;
    while end < pieces.len() && pieces[end - 1].joiner == ShellJoiner::Pipe {
        end += 1;
    }
    end
}

/// Replaces an option's value (`--name value` or `--name=value`) at its place.
fn replace_option_value(text: &str, option: &str, value: &str) -> Option<String> {
    let forms = [format!("{option} "), format!("{option}=")];
    let from = forms
        .iter()
        .find_map(|form| Some(text.find(form)? + form.len()))?;
    let end = text[from..]
        .find(char::is_whitespace)
        .map_or(text.len(), |end| from + end);
    Some(format!("{}{value}{}", &text[..from], &text[end..]))
}

/// Sets an option of the launcher.
pub(super) fn set_option(text: &str, name: &str, value: &str) -> String {
    let option = format!("--{name}");
    if let Some(changed) = replace_option_value(text, &option, value) {
        return changed;
    }
    let launcher = "lameduck exec";
    match text.find(launcher) {
        Some(at) => {
            let end = at + launcher.len();
            format!("{} {option} {value}{}", &text[..end], &text[end..])
        }
        None => text.to_owned(),
    }
}

/// Sets an option of the app; a new one is put behind its program.
pub(super) fn set_app_option(text: &str, words: &[String], name: &str, value: &str) -> String {
    if let Some(changed) = replace_option_value(text, name, value) {
        return changed;
    }
    let Some((_, program)) = programs::main(words) else {
        return text.to_owned();
    };
    match text.rfind(program) {
        Some(at) => {
            let end = at + program.len();
            format!("{} {name} {value}{}", &text[..end], &text[end..])
        }
        None => text.to_owned(),
    }
}

/// Replaces the word of a port.
pub(super) fn set_port(text: &str, old: &str, new: &str) -> String {
    match text.find(old) {
        Some(at) => format!("{}{new}{}", &text[..at], &text[at + old.len()..]),
        None => text.to_owned(),
    }
}

/// Replaces a program that starts another one by name: `npx next start` becomes `node_modules/.bin/next start`, and
/// `npm start` becomes what package.json's `scripts` say, or a guess.
pub(in super::super) fn unwrap_runner(
    words: &[String],
    scripts: &[(String, String)],
) -> Option<Vec<String>> {
    let start = wrappers::skip(words);
    // Some users have PM2 run `bash npm start`.
    let shell = ["sh", "bash"].contains(&base(words.get(start)?))
        && words
            .get(start + 1)
            .is_some_and(|word| programs::runner(base(word)));
    let at = if shell { start + 1 } else { start };
    let runner = base(words.get(at)?);
    if !programs::runner(runner) {
        return None;
    }
    let rest = &words[at + 1..];
    let mut rest: Vec<&str> = rest
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "--")
        .collect();
    // These are options of the runner itself.
    while rest.first().is_some_and(|word| word.starts_with('-')) {
        let valued = [
            "--prefix",
            "-C",
            "--filter",
            "--dir",
            "--cwd",
            "-w",
            "--workspace",
            "-p",
            "--package",
        ];
        let skip = if valued.contains(&rest[0]) { 2 } else { 1 };
        rest.drain(..skip.min(rest.len()));
    }
    let command: Vec<String> = match (runner, rest.split_first()) {
        ("nodemon", Some(_)) => std::iter::once("node")
            .chain(rest)
            .map(str::to_owned)
            .collect(),
        ("npx" | "pnpx" | "bunx" | "nodemon" | "corepack", _) => tool(&rest),
        (_, Some((&("exec" | "dlx"), rest))) => tool(rest),
        ("yarn" | "pnpm" | "yarnpkg", Some((verb, _)))
            if ![
                "start",
                "run",
                "serve",
                "dev",
                "prod",
                "production",
                "workspace",
                "server",
            ]
            .contains(verb)
                && !verb.contains(':') =>
        {
            tool(&rest)
        }
        _ => match named(&rest, scripts) {
            Some(script) => {
                let line = CommandLine::script(script);
                match &line.commands[..] {
                    [one] if !programs::runner(base(&one[0])) => local(one),
                    _ => guess(),
                }
            }
            None => guess(),
        },
    };
    Some(words[..start].iter().cloned().chain(command).collect())
}

/// Text of the script that `npm start`, `npm run NAME` or `yarn NAME` runs.
fn named<'s>(words: &[&str], scripts: &'s [(String, String)]) -> Option<&'s str> {
    let name = words
        .iter()
        .find(|word| !["run", "run-script"].contains(*word))?;
    let (_, script) = scripts.iter().find(|(known, _)| known == name)?;
    Some(script)
}

fn guess() -> Vec<String> {
    vec!["node".into(), "server.js".into()]
}

fn tool(words: &[&str]) -> Vec<String> {
    if words.first() == Some(&"nodemon") {
        let script = words
            .iter()
            .find(|word| word.ends_with("js") || word.ends_with(".ts"));
        return script.map_or_else(guess, |script| vec!["node".into(), (*script).to_owned()]);
    }
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    if words.is_empty() {
        guess()
    } else {
        local(&words)
    }
}

/// Path of a program that npm finds in `node_modules/.bin`.
fn local(words: &[String]) -> Vec<String> {
    let at = wrappers::skip(words);
    let mut words = words.to_vec();
    let program = words[at].clone();
    let ours = ["tsx", "ts-node"].contains(&program.as_str());
    if !program.contains('/') && (ours || !programs::is_interpreter(&program)) {
        words[at] = format!("node_modules/.bin/{program}");
    }
    words
}

/// Joins words to a text for a shell.
pub(super) fn text(words: &[String]) -> String {
    join(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_go_in_front_of_the_main_command_alone() {
        for (text, expected) in [
            ("node a.js > /log 2>&1", "exec L -- node a.js > /log 2>&1"),
            (
                "cd /srv && . ./env && exec node a.js",
                "cd /srv && . ./env && exec L -- node a.js",
            ),
            ("node s.js; true", "exec L -- node s.js"),
            (
                "cd /srv; node a.js 2>&1 | tee -a /log",
                "cd /srv; exec L -- node a.js > >(tee -a /log) 2>&1",
            ),
            ("A=1 node 'a b'", "exec L -- env A=1 node 'a b'"),
        ] {
            let changed = exec_main(text, "L -- ", |text, _| text.to_owned()).unwrap();
            assert_eq!(changed.text, expected);
        }
        assert!(exec_main("node a & node b &", "L -- ", |text, _| text.to_owned()).is_none());
    }

    #[test]
    fn runners_become_programs() {
        let scripts = [("start", "next start"), ("start:prod", "node dist/main")];
        let scripts = scripts.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let of = |text: &str, scripts: &[(String, String)]| {
            let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
            unwrap_runner(&words, scripts).map(|words| words.join(" "))
        };
        assert_eq!(of("npm start", &[]).unwrap(), "node server.js");
        assert_eq!(
            of("npm run start:prod", &scripts).unwrap(),
            "node dist/main"
        );
        assert_eq!(
            of("npm start", &scripts).unwrap(),
            "node_modules/.bin/next start"
        );
        assert_eq!(
            of("npx -y serve -l 3", &[]).unwrap(),
            "node_modules/.bin/serve -l 3"
        );
        assert_eq!(
            of("yarn next start", &[]).unwrap(),
            "node_modules/.bin/next start"
        );
        assert_eq!(of("node a", &[]), None);
    }
}
