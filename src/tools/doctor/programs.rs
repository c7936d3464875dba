//! Knowledge about programs: which ones serve HTTP, which ones do not, and how they stop.

mod names;
mod port;

use std::time::Duration;

use super::command_line::{base, seconds};
use super::wrappers;
use names::{INFRASTRUCTURE, NO_SERVER, OTHERS, SERVER, SERVERS, has};
use port::has_host;
pub(super) use port::{Value, is_foreign, port};

/// Variables that tell an app its port.
const PORTS: &[&str] = &[
    "PORT",
    "HTTP_PORT",
    "SERVER_PORT",
    "APP_PORT",
    "WEB_PORT",
    "API_PORT",
    "LISTEN_PORT",
    "NITRO_PORT",
    "UVICORN_PORT",
    "ASPNETCORE_URLS",
    "ASPNETCORE_HTTP_PORTS",
];

/// Whether a program runs the text of another one.
pub(super) fn is_interpreter(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    [
        "node", "nodejs", "python", "ruby", "php", "perl", "java", "dotnet", "deno", "bun", "tsx",
        "ts-node", "sh", "bash", "dash", "ash", "zsh", "echo", "ls", "cat", "cp", "which", "test",
    ]
    .contains(&stem)
}

/// Index and name of the program that does the work, behind wrappers and interpreters.
pub(super) fn main(argv: &[String]) -> Option<(usize, &str)> {
    let mut at = wrappers::skip(argv);
    for _ in 0..3 {
        let name = base(argv.get(at)?);
        let runs = runner(name);
        if !(is_interpreter(name) || runs) {
            break;
        }
        let mut next = at + 1;
        while let Some(word) = argv.get(next) {
            match word.as_str() {
                "-m" | "-jar" => {
                    next += 1;
                    break;
                }
                "-r"
                | "--require"
                | "--import"
                | "--loader"
                | "-W"
                | "-X"
                | "--env-file"
                | "--experimental-loader"
                | "-cp"
                | "-classpath"
                | "--config" => next += 2,
                "run" | "exec" | "--" if runs || ["deno", "bun", "dotnet"].contains(&name) => {
                    next += 1
                }
                word if word.starts_with('-') && word.len() > 1 => next += 1,
                _ => break,
            }
        }
        if next >= argv.len() {
            break;
        }
        at = next;
    }
    Some((at, base(argv.get(at)?)))
}

/// Whether a program starts what package.json or a directory of tools names.
pub(super) fn runner(name: &str) -> bool {
    [
        "npm",
        "npx",
        "pnpm",
        "pnpx",
        "yarn",
        "yarnpkg",
        "bunx",
        "corepack",
        "npm-run-all",
        "nodemon",
    ]
    .contains(&name)
}

/// Whether a process takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServesRequests {
    /// Its program, or a port that it is given, tells that it does.
    Yes,
    /// Its name suggests it.
    Perhaps,
    /// Nothing tells.
    Unknown,
    No,
}

/// Everything that is known of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KnownCommand<'k> {
    pub(super) name: &'k str,
    pub(super) argv: &'k [String],
    pub(super) image: &'k str,
    pub(super) env: &'k [(String, String)],
    /// It publishes a port.
    pub(super) publishes: bool,
}

/// Whether a process takes requests, by everything that is known of it.
pub(super) fn serves(known: &KnownCommand<'_>) -> ServesRequests {
    let KnownCommand {
        name,
        argv,
        image,
        env,
        publishes,
    } = *known;
    let main = main(argv);
    let program = main.map_or("", |(_, program)| program);
    let is = |list: &str, name: &str| {
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        has(list, name) || (!bare.is_empty() && has(list, bare))
    };
    let rest = main.map_or(&[][..], |(at, _)| &argv[at..]);
    let stem = program
        .rsplit_once('.')
        .map_or(program, |(stem, end)| match end {
            "js" | "cjs" | "mjs" | "ts" | "py" | "rb" | "php" | "sh" | "jar" | "dll" | "pl" => stem,
            _ => program,
        });
    let own = image.rsplit('/').next().unwrap_or(image);
    let own = own.split([':', '@']).next().unwrap_or(own);
    if is(INFRASTRUCTURE, program)
        || is(OTHERS, program)
        || program.ends_with("_exporter")
        || program.ends_with("-exporter")
    {
        return ServesRequests::No;
    }
    let subcommands: Vec<&str> = subcommands(rest);
    if subcommands.iter().take(2).any(|word| is(OTHERS, word)) {
        return ServesRequests::No;
    }
    if is(SERVERS, program) || is(SERVERS, stem) {
        return match subcommands.first() {
            Some(
                &("build" | "lint" | "test" | "generate" | "db:migrate" | "db" | "console" | "c"),
            ) => ServesRequests::No,
            _ => ServesRequests::Yes,
        };
    }
    let words = [name, stem];
    let words = words.into_iter().chain(subcommands.iter().take(3).copied());
    let words: Vec<String> = words.flat_map(parts).collect();
    let says = |list: &str| words.iter().any(|word| has(list, word));
    if is_infrastructure(own) && !is(SERVERS, program) {
        return ServesRequests::No;
    }
    if says(NO_SERVER) {
        return ServesRequests::No;
    }
    let told = env
        .iter()
        .any(|(key, value)| PORTS.contains(&key.as_str()) && !value.is_empty());
    if told || publishes {
        return ServesRequests::Yes;
    }
    let at = main.map_or(0, |(at, _)| at);
    let listens = port(&argv[at.min(argv.len())..]).is_some_and(|port| match port.value {
        Value::Number(number) => !is_foreign(number) && !has_host(rest),
        Value::Placeholder(_) => !has_host(rest),
        Value::Socket => true,
    });
    if listens {
        return ServesRequests::Yes;
    }
    if says(SERVER) {
        ServesRequests::Perhaps
    } else {
        ServesRequests::Unknown
    }
}

/// Whether an image is infrastructure, such as `redis`, `cp-kafka` or `node-exporter`.
fn is_infrastructure(image: &str) -> bool {
    let (first, last) = (
        image.split(['-', '_']).next(),
        image.rsplit(['-', '_']).next(),
    );
    let known = |part: Option<&str>| part.is_some_and(|part| has(INFRASTRUCTURE, part));
    !image.is_empty()
        && (has(INFRASTRUCTURE, image) || known(first) || known(last) || last == Some("exporter"))
}

/// Words that are neither options nor look like their values.
fn subcommands(words: &[String]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut after_option = false;
    for word in words.iter().skip(1) {
        let option = word.starts_with('-');
        if !option && !after_option {
            found.push(word.as_str());
        }
        after_option = option && !word.contains('=') && word.len() > 1;
    }
    found
}

fn parts(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .filter(|part| !part.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// For a signal that makes this program abort although it is an orderly stop for others: the signal to send instead.
pub(super) fn abrupt(argv: &[String], signal: &str) -> Option<&'static str> {
    let (_, program) = main(argv)?;
    match (program, signal) {
        ("gunicorn", "QUIT" | "INT") => Some("TERM"),
        ("unicorn" | "unicorn_rails", "TERM" | "INT") => Some("QUIT"),
        ("nginx" | "openresty", "TERM" | "INT") | ("php-fpm", "TERM" | "INT") => None,
        ("uwsgi", "INT" | "QUIT") => Some("TERM"),
        ("puma", "QUIT") => Some("TERM"),
        _ => None,
    }
}

/// Time that the program itself gives requests to finish, with the option that sets it.
pub(super) fn graceful(argv: &[String]) -> Option<(&'static str, Duration)> {
    let (_, program) = main(argv)?;
    let names: &[&'static str] = match program {
        "gunicorn" => &["--graceful-timeout"],
        "uvicorn" => &["--timeout-graceful-shutdown"],
        "hypercorn" => &["--graceful-timeout"],
        "granian" => &["--workers-kill-timeout"],
        "sanic" => &["--graceful-shutdown-timeout"],
        _ => return None,
    };
    argv.iter().enumerate().find_map(|(at, word)| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value),
            None => (word.as_str(), argv.get(at + 1)?.as_str()),
        };
        let name = names.iter().find(|known| **known == name)?;
        Some((*name, seconds(value)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, command: &str) -> ServesRequests {
        let argv: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        serves(&KnownCommand {
            name,
            argv: &argv,
            ..KnownCommand::default()
        })
    }

    #[test]
    fn servers_are_distinguished_from_other_programs() {
        for (name, command, expected) in [
            (
                "x",
                "gunicorn --workers 4 -k uvicorn.workers.UvicornWorker a:app",
                ServesRequests::Yes,
            ),
            (
                "x",
                "python3 -m uvicorn a:app --workers 2",
                ServesRequests::Yes,
            ),
            (
                "x",
                "node --max-old-space-size=512 dist/main.js",
                ServesRequests::Perhaps,
            ),
            ("x", "node dist/worker.js --port 3000", ServesRequests::No),
            ("my-bot", "node index.js", ServesRequests::No),
            ("x", "redis-server --port 6379", ServesRequests::No),
            ("x", "celery -A app worker", ServesRequests::No),
            ("x", "mysqldump --port 3306", ServesRequests::No),
            (
                "x",
                "./tool --host db.internal --port 9000",
                ServesRequests::Unknown,
            ),
            ("x", "./tool --port 9000", ServesRequests::Yes),
            ("x", "php artisan queue:work", ServesRequests::No),
            ("x", "npm start", ServesRequests::Unknown),
            ("web", "npm start", ServesRequests::Perhaps),
            ("x", "npx next start -p 3000", ServesRequests::Yes),
            ("x", "bundle exec puma -C c.rb", ServesRequests::Yes),
            ("x", "bundle exec sidekiq", ServesRequests::No),
        ] {
            assert_eq!(of(name, command), expected, "{name}: {command}");
        }
    }

    #[test]
    fn ports_are_read_in_all_their_forms() {
        for (command, number) in [
            ("next start -p 3000", Value::Number(3000)),
            ("gunicorn --bind=0.0.0.0:8000 a", Value::Number(8000)),
            ("gunicorn -b :80 a", Value::Number(80)),
            ("php -S 0.0.0.0:9000 -t public", Value::Number(9000)),
            ("python -m http.server 8080", Value::Number(8080)),
            ("java -jar a.jar --server.port=8081", Value::Number(8081)),
            ("gunicorn --bind unix:/run/a.sock a", Value::Socket),
            (
                "a --port=80%(process_num)02d",
                Value::Placeholder("80%(process_num)02d".into()),
            ),
        ] {
            let argv: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(
                port(&argv).map(|port| port.value),
                Some(number),
                "{command}"
            );
        }
    }
}
