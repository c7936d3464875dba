//! What is known of programs: which of them serve HTTP, which have nothing to do with it, and how they stop.

use std::time::Duration;

use super::words::{base, seconds};
use super::wrappers;

/// Servers of HTTP apps.
const SERVERS: &[&str] = &[
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "waitress-serve",
    "granian",
    "uwsgi",
    "flask",
    "fastapi",
    "puma",
    "unicorn",
    "falcon",
    "thin",
    "rackup",
    "rails",
    "http-server",
    "serve",
    "next",
    "nuxt",
    "nuxi",
    "remix-serve",
    "vite",
    "astro",
    "nest",
    "strapi",
    "streamlit",
    "json-server",
    "phx.server",
    "http.server",
    "wsgiref",
    "iodine",
    "passenger",
    "rr",
    "frankenphp",
    "mod_wsgi-express",
    "pserve",
    "tornado",
    "sanic",
    "bjoern",
    "cherryd",
    "meinheld",
    "webpack-dev-server",
];

/// Data stores, brokers, proxies, monitoring: nothing that lameduck stands in front of.
const INFRASTRUCTURE: &[&str] = &[
    "redis",
    "redis-server",
    "redis-sentinel",
    "valkey",
    "valkey-server",
    "keydb",
    "keydb-server",
    "dragonfly",
    "memcached",
    "postgres",
    "postgresql",
    "postgis",
    "timescaledb",
    "pgbouncer",
    "pgpool",
    "pgadmin",
    "pgadmin4",
    "mysql",
    "mysqld",
    "mysqld_safe",
    "mariadb",
    "mariadbd",
    "percona",
    "mongo",
    "mongod",
    "mongodb",
    "mongos",
    "mongo-express",
    "rabbitmq",
    "rabbitmq-server",
    "kafka",
    "kafka-server-start.sh",
    "zookeeper",
    "redpanda",
    "nats",
    "nats-server",
    "mosquitto",
    "emqx",
    "activemq",
    "artemis",
    "pulsar",
    "elasticsearch",
    "opensearch",
    "kibana",
    "logstash",
    "filebeat",
    "fluentd",
    "fluent-bit",
    "vector",
    "telegraf",
    "influxdb",
    "clickhouse",
    "clickhouse-server",
    "cassandra",
    "scylla",
    "couchdb",
    "neo4j",
    "minio",
    "etcd",
    "consul",
    "vault",
    "nomad",
    "nginx",
    "openresty",
    "haproxy",
    "traefik",
    "caddy",
    "envoy",
    "varnish",
    "varnishd",
    "squid",
    "apache2",
    "httpd",
    "prometheus",
    "alertmanager",
    "grafana",
    "loki",
    "promtail",
    "tempo",
    "jaeger",
    "zipkin",
    "otelcol",
    "opentelemetry-collector",
    "statsd",
    "cadvisor",
    "portainer",
    "watchtower",
    "adminer",
    "phpmyadmin",
    "mailhog",
    "mailpit",
    "maildev",
    "localstack",
    "cloudflared",
    "ngrok",
    "frpc",
    "frps",
    "tailscaled",
    "tailscale",
    "wireguard",
    "certbot",
    "acme.sh",
    "sshd",
    "ssh",
    "autossh",
    "stunnel",
    "socat",
    "crond",
    "cron",
    "supercronic",
    "ofelia",
    "busybox",
    "php-fpm",
    "dockerd",
    "containerd",
    "supervisord",
    "pm2",
    "pm2-runtime",
    "meilisearch",
    "typesense",
    "solr",
    "qdrant",
    "weaviate",
    "milvus",
    "temporal",
    "keycloak",
    "sentinel",
    "beanstalkd",
    "gearmand",
    "faktory",
    "rsyslogd",
    "syslog-ng",
    "postfix",
    "dovecot",
    "exim",
    "bind9",
    "named",
    "coredns",
    "dnsmasq",
    "unbound",
    "node_exporter",
    "chrome",
    "chromium",
    "selenium",
    "browserless",
    "ollama",
    "pause",
];

/// Programs that connect, transfer, build or work off a queue.
const OTHERS: &[&str] = &[
    "redis-cli",
    "mysqldump",
    "psql",
    "pg_dump",
    "mongosh",
    "mongodump",
    "curl",
    "wget",
    "nc",
    "telnet",
    "rsync",
    "git",
    "tail",
    "sleep",
    "tar",
    "rm",
    "cp",
    "mkdir",
    "celery",
    "sidekiq",
    "rq",
    "resque",
    "dramatiq",
    "huey",
    "huey_consumer.py",
    "arq",
    "airflow",
    "delayed_job",
    "good_job",
    "shoryuken",
    "horizon",
    "queue:work",
    "schedule:work",
    "schedule:run",
    "queue:listen",
    "ffmpeg",
    "vector",
    "mc",
    "alembic",
    "flyway",
    "liquibase",
    "prisma",
    "knex",
    "k6",
    "locust",
    "wrk",
];

/// Words in a name or a script that say that it takes no requests.
const NO_SERVER: &[&str] = &[
    "worker",
    "workers",
    "cron",
    "crons",
    "queue",
    "queues",
    "job",
    "jobs",
    "scheduler",
    "consumer",
    "consumers",
    "mailer",
    "beat",
    "celery",
    "sidekiq",
    "bot",
    "bots",
    "migrate",
    "migration",
    "migrations",
    "seed",
    "seeder",
    "backup",
    "backups",
    "exporter",
    "agent",
    "watcher",
    "client",
    "crawler",
    "scraper",
    "spider",
    "indexer",
    "importer",
    "processor",
    "producer",
    "publisher",
    "subscriber",
    "listener",
    "broker",
    "tunnel",
    "replicator",
    "daemon",
    "poller",
    "sync",
    "syncer",
    "etl",
    "ingest",
    "ingester",
    "redis",
    "postgres",
    "mysql",
    "mongo",
    "db",
    "database",
    "cache",
    "kafka",
    "rabbitmq",
    "mqtt",
    "telegram",
    "discord",
    "notifier",
    "cleanup",
    "cleaner",
    "runner",
    "batch",
    "task",
    "tasks",
    "relay",
    "loadtest",
    "report",
    "reports",
    "init",
    "setup",
    "logger",
    "monitor",
    "heartbeat",
];

/// Words that say that it does.
const SERVER: &[&str] = &[
    "server",
    "serve",
    "api",
    "web",
    "app",
    "http",
    "https",
    "site",
    "index",
    "main",
    "backend",
    "frontend",
    "gateway",
    "www",
    "website",
    "bff",
    "graphql",
    "rest",
    "webapp",
    "dashboard",
    "ui",
    "storefront",
    "shop",
    "portal",
    "runserver",
];

/// Variables that tell an app where to listen.
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

/// Ports of data stores, brokers and mail: who names one of them connects to it.
const FOREIGN: &[u16] = &[
    22, 25, 53, 465, 587, 993, 1433, 1521, 1883, 2181, 2379, 3306, 4222, 5432, 5672, 6379, 6380,
    8883, 9042, 9092, 11211, 27017, 27018, 61613,
];

/// Runs another program's text.
pub(super) fn is_interpreter(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    [
        "node", "nodejs", "python", "ruby", "php", "perl", "java", "dotnet", "deno", "bun", "tsx",
        "ts-node", "sh", "bash", "dash", "ash", "zsh", "echo", "ls", "cat", "cp", "which", "test",
    ]
    .contains(&stem)
}

/// The program that does the work, behind wrappers and interpreters: its place and its name.
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

/// Starts what package.json or a directory of tools names.
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
pub(super) enum Serves {
    /// Its program, or a port that it is told, says so.
    Yes,
    /// Its name says so.
    Perhaps,
    /// Nothing says so.
    Unknown,
    No,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known<'k> {
    pub(super) name: &'k str,
    pub(super) argv: &'k [String],
    pub(super) image: &'k str,
    pub(super) env: &'k [(String, String)],
    /// It publishes a port.
    pub(super) publishes: bool,
}

/// Whether it serves, by all that is known of it.
pub(super) fn serves(known: &Known<'_>) -> Serves {
    let Known {
        name,
        argv,
        image,
        env,
        publishes,
    } = *known;
    let main = main(argv);
    let program = main.map_or("", |(_, program)| program);
    let is = |list: &[&str], name: &str| {
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        list.contains(&name) || (!bare.is_empty() && list.contains(&bare))
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
        return Serves::No;
    }
    let subcommands: Vec<&str> = subcommands(rest);
    if subcommands.iter().take(2).any(|word| is(OTHERS, word)) {
        return Serves::No;
    }
    if is(SERVERS, program) || is(SERVERS, stem) {
        return match subcommands.first() {
            Some(
                &("build" | "lint" | "test" | "generate" | "db:migrate" | "db" | "console" | "c"),
            ) => Serves::No,
            _ => Serves::Yes,
        };
    }
    let words = [name, stem];
    let words = words.into_iter().chain(subcommands.iter().take(3).copied());
    let words: Vec<String> = words.flat_map(parts).collect();
    let says = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if is_infrastructure(own) && !is(SERVERS, program) {
        return Serves::No;
    }
    if says(NO_SERVER) {
        return Serves::No;
    }
    let told = env
        .iter()
        .any(|(key, value)| PORTS.contains(&key.as_str()) && !value.is_empty());
    if told || publishes {
        return Serves::Yes;
    }
    let at = main.map_or(0, |(at, _)| at);
    let listens = port(&argv[at.min(argv.len())..]).is_some_and(|port| match port.value {
        Value::Number(number) => !FOREIGN.contains(&number) && !has_host(rest),
        Value::Placeholder(_) => !has_host(rest),
        Value::Socket => true,
    });
    if listens {
        return Serves::Yes;
    }
    if says(SERVER) {
        Serves::Perhaps
    } else {
        Serves::Unknown
    }
}

/// Whether an image is one of theirs: `redis`, `cp-kafka`, `node-exporter`.
fn is_infrastructure(image: &str) -> bool {
    let (first, last) = (
        image.split(['-', '_']).next(),
        image.rsplit(['-', '_']).next(),
    );
    let known = |part: Option<&str>| part.is_some_and(|part| INFRASTRUCTURE.contains(&part));
    !image.is_empty()
        && (INFRASTRUCTURE.contains(&image)
            || known(first)
            || known(last)
            || last == Some("exporter"))
}

/// The words that are neither options nor look like their values.
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

/// `--host` with a name that is not this machine's: a client's.
fn has_host(words: &[String]) -> bool {
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

/// What a command says about where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u16),
    /// `%(process_num)d`, `%i`, `${PORT}`.
    Placeholder(String),
    /// A unix socket.
    Socket,
}

/// A port that a command names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) value: Value,
    /// Its word.
    pub(super) at: usize,
    /// What stands before it in that word (`--port=`, `0.0.0.0:`).
    pub(super) before: String,
}

/// Where a command says that it listens.
pub(super) fn port(argv: &[String]) -> Option<Port> {
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
    let parse = |text: &str, at: usize, before: &str| -> Option<Port> {
        let found = |value: Value, head: &str| {
            let before = format!("{before}{head}");
            Some(Port { value, at, before })
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

/// The signal that makes this program drop what it has, of those that others take for an orderly stop; and the one to
/// send instead.
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

/// How long the program itself is told to let requests finish, with the option that says so.
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

    fn of(name: &str, command: &str) -> Serves {
        let argv: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        serves(&Known {
            name,
            argv: &argv,
            ..Known::default()
        })
    }

    #[test]
    fn servers_are_told_from_everything_else() {
        for (name, command, expected) in [
            (
                "x",
                "gunicorn --workers 4 -k uvicorn.workers.UvicornWorker a:app",
                Serves::Yes,
            ),
            ("x", "python3 -m uvicorn a:app --workers 2", Serves::Yes),
            (
                "x",
                "node --max-old-space-size=512 dist/main.js",
                Serves::Perhaps,
            ),
            ("x", "node dist/worker.js --port 3000", Serves::No),
            ("my-bot", "node index.js", Serves::No),
            ("x", "redis-server --port 6379", Serves::No),
            ("x", "celery -A app worker", Serves::No),
            ("x", "mysqldump --port 3306", Serves::No),
            (
                "x",
                "./tool --host db.internal --port 9000",
                Serves::Unknown,
            ),
            ("x", "./tool --port 9000", Serves::Yes),
            ("x", "php artisan queue:work", Serves::No),
            ("x", "npm start", Serves::Unknown),
            ("web", "npm start", Serves::Perhaps),
            ("x", "npx next start -p 3000", Serves::Yes),
            ("x", "bundle exec puma -C c.rb", Serves::Yes),
            ("x", "bundle exec sidekiq", Serves::No),
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
