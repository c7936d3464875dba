//! Finds the port at which a command listens.

use super::main;

/// Ports of data stores, brokers and mail: a command with one of these connects to it.
const FOREIGN: [u16; 39] = [
    22, 25, 53, 465, 587, 993, 1433, 1521, 1883, 2181, 2379, 3306, 4222, 5432, 5672, 6379, 6380,
    8883, 9042, 9092, 11211, 27017, 27018, 61613, 21, 69, 110, 123, 143, 161, 389, 445, 554, 636,
    995, 3389, 5060, 25565, 51820,
];

/// Whether a port is not used for HTTP.
pub(in super::super) fn is_foreign(port: u16) -> bool {
    FOREIGN.contains(&port)
}

/// Whether `--host` names another machine, so that the program is a client.
pub(super) fn has_host(words: &[String]) -> bool {
    let value = words
        .iter()
        .enumerate()
        .find_map(|(at, word)| match word.split_once('=') {
            Some(("--host" | "--hostname", value)) => Some(value),
            None if ["--host", "--hostname", "-h"].contains(&word.as_str()) => {
                words.get(at + 1).map(String::as_str)
            }
            _ => None,
        });
    value.is_some_and(|host| {
        let own = ["localhost", "::", "[::]", "::1", "*", ""];
        host.starts_with(|c: char| c.is_ascii_alphabetic()) && !own.contains(&host)
    })
}

/// Where a command listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Value {
    Number(u16),
    /// A placeholder such as `%(process_num)d`, `%i` or `${PORT}`.
    Placeholder(String),
    /// A unix socket.
    Socket,
}

/// A port in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct NamedPort {
    pub(in super::super) value: Value,
    /// Index of its word.
    pub(in super::super) at: usize,
    /// Text before it in that word, such as `--port=` or `0.0.0.0:`.
    pub(in super::super) before: String,
}

/// Finds where a command listens.
pub(in super::super) fn port(argv: &[String]) -> Option<NamedPort> {
    const OPTIONS: [&str; 18] = [
        "--port",
        "-p",
        "--http-port",
        "--bind",
        "-b",
        "--listen",
        "-l",
        "--server.port",
        "-Dserver.port",
        "--address",
        "--addr",
        "-addr",
        "-port",
        "--http",
        "-S",
        "--uds",
        "--listen-address",
        "--urls",
    ];
    let program = main(argv).map_or("", |(_, program)| program);
    let parse = |text: &str, at: usize, before: &str| -> Option<NamedPort> {
        let found = |value: Value, head: &str| {
            let before = format!("{before}{head}");
            Some(NamedPort { value, at, before })
        };
        if text.starts_with("unix:") || text.starts_with('/') {
            return found(Value::Socket, "");
        }
        let head = text
            .rfind(':')
            .filter(|_| !text.contains(":-"))
            .map_or("", |end| &text[..=end]);
        let number = &text[head.len()..];
        match number.parse() {
            Ok(number) => found(Value::Number(number), head),
            Err(_) if number.contains(['$', '%']) => {
                found(Value::Placeholder(number.to_owned()), head)
            }
            Err(_) => None,
        }
    };
    for (at, word) in argv.iter().enumerate() {
        let found = match word.split_once('=') {
            Some((option, value)) if OPTIONS.contains(&option) => {
                parse(value, at, &format!("{option}="))
            }
            // `-p3000`, `-b0.0.0.0:80`.
            None if word.len() > 2 && ["-p", "-b"].contains(&word.get(..2).unwrap_or_default()) => {
                parse(&word[2..], at, &word[..2])
            }
            None if OPTIONS.contains(&word.as_str()) => {
                argv.get(at + 1).and_then(|value| parse(value, at + 1, ""))
            }
            // `http.server 8000`, `runserver 0.0.0.0:8000`.
            None if ["http.server", "runserver"].contains(&word.as_str()) => {
                argv.get(at + 1).and_then(|value| parse(value, at + 1, ""))
            }
            _ => None,
        };
        let found = found.or_else(|| {
            // `serve -l tcp://0.0.0.0:3000` and puma's `-b tcp://…`.
            (word.starts_with("tcp://") && program != "dockerd").then(|| parse(word, at, ""))?
        });
        if found.is_some() {
            return found;
        }
    }
    None
}
