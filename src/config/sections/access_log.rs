//! `[access_log]`.

use super::retry::read_share;
use crate::config::declare::{section, words};
use crate::config::forms::{KeyContext, ZeroIsNone, custom, list};
use crate::config::print;
use crate::config::reader::ConfigFindings;
use crate::config::values::{ValueResult, file_path, quoted, text, wrong};
use http::uri::Authority;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeValue;

section! {
    /// One line for each request.
    #[needs(restart)]
    [access_log]
    #[derive(Debug, Clone, PartialEq)]
    pub struct AccessLogConfig {
        /// Where the lines go: a file (opened again on HUP and USR1), [syslog](access-log.md#syslog) (`"syslog"`,
        /// `"syslog:udp://HOST:514"`, `"syslog:tcp://HOST:601"`) or [`"journald"`](access-log.md#journald).
        #[key = "path"]
        sink: LogSink = "stdout", custom("\"stdout\", \"off\", \"syslog\", \"journald\" or path", read_sink, print_sink).public();
        /// One JSON object a line, or the format of Apache and nginx with lameduck's fields at the end.
        format: LogFormat = "json";
        /// The [fields](access-log.md#json) of a line, in their order. Empty: all.
        fields: Vec<LogField> = [], list("list of fields", "[\"time\", \"status\", \"target\"]", LogField::form());
        /// Requests that take this long are marked as `slow`. `"0s"`: none.
        slow: Option<Duration> = "0s", ZeroIsNone(Duration::form());
        /// The share of [plain successes](access-log.md#which-requests) that is logged. All others always are.
        sample: f64 = 1.0, custom("number, 0 to 1", read_share, |share| format!("{share:?}")).public();
        /// The facility of lines to syslog.
        facility: SyslogFacility = "daemon";
    }
}

/// Destination of access-log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// None.
    Off,
    /// Standard output.
    Stdout,
    /// A file, reopened on HUP and USR1.
    File(PathBuf),
    /// A daemon or a server of syslog (RFC 5424).
    Syslog(SyslogTarget),
    /// systemd's journal, by its native protocol at this socket.
    Journald(PathBuf),
}

/// Address of syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTarget {
    /// A datagram socket on this machine.
    Unix(PathBuf),
    /// `host:port`, with a datagram for each line.
    Udp(String),
    /// `host:port`, with octet counting (RFC 6587, section 3.4.1).
    Tcp(String),
}

/// Socket of the machine's syslog daemon.
const LOCAL_SYSLOG: &str = "/dev/log";

/// Socket of the journal.
const JOURNAL: &str = "/run/systemd/journal/socket";

words! {
    /// The form of an access-log line.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// The "combined" format of Apache and nginx, with lameduck's fields appended.
        Combined = "combined",
    }
}

words! {
    /// A field of an access-log line.
    pub enum LogField {
        /// Time at which the request's first byte was read.
        Time = "time",
        /// The client's address.
        Client = "client",
        /// The request method.
        Method = "method",
        /// The host.
        Host = "host",
        /// The request target.
        Target = "target",
        /// The HTTP version.
        Version = "version",
        /// The status code.
        Status = "status",
        /// Body bytes received from the client.
        BytesIn = "bytes_in",
        /// Body bytes sent to the client.
        BytesOut = "bytes_out",
        /// Duration of the request, in milliseconds.
        DurationMs = "duration_ms",
        /// Time spent waiting for backends' first bytes, in milliseconds.
        UpstreamMs = "upstream_ms",
        /// The pool.
        Pool = "pool",
        /// The backend.
        Backend = "backend",
        /// Number of attempts on backends.
        Attempts = "attempts",
        /// Time that the request was on hold, in milliseconds.
        HeldMs = "held_ms",
        /// Name of the user who has authenticated.
        User = "user",
        /// The route.
        Route = "route",
        /// Why the request was tried again, or was not.
        RetryReason = "retry_reason",
        /// State of its sticky session.
        Sticky = "sticky",
        /// How the request ended, unless it ended well.
        End = "end",
        /// Why lameduck answered itself.
        Cause = "cause",
        /// `X-Request-Id`.
        RequestId = "request_id",
        /// `User-Agent`.
        UserAgent = "user_agent",
        /// `Referer`.
        Referer = "referer",
        /// Restarts that the request met, and how.
        Restarts = "restarts",
        /// Trace id.
        TraceId = "trace_id",
        /// Whether the request was slow.
        Slow = "slow",
        /// Share of plain successes that is logged.
        Sample = "sample",
    }
}

words! {
    /// A facility of syslog (RFC 5424, section 6.2.1).
    pub enum SyslogFacility {
        /// System daemons.
        Daemon = "daemon",
        /// User-level messages.
        User = "user",
        /// Local use 0.
        Local0 = "local0",
        /// Local use 1.
        Local1 = "local1",
        /// Local use 2.
        Local2 = "local2",
        /// Local use 3.
        Local3 = "local3",
        /// Local use 4.
        Local4 = "local4",
        /// Local use 5.
        Local5 = "local5",
        /// Local use 6.
        Local6 = "local6",
        /// Local use 7.
        Local7 = "local7",
    }
}

impl SyslogFacility {
    /// Returns its number.
    pub const fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Daemon => 3,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

fn read_sink(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<LogSink> {
    match text(key.name, value, "stdout")? {
        "off" => Ok(LogSink::Off),
        "stdout" => Ok(LogSink::Stdout),
        "stderr" => Err(wrong(
            key.name,
            "\"stderr\"",
            "that is where lameduck's own messages go",
            "write \"stdout\", \"off\" or a path",
        )),
        "" => Err(wrong(
            key.name,
            "\"\"",
            "it is empty",
            "write \"off\" for none, \"stdout\" or a path",
        )),
        "syslog" => Ok(LogSink::Syslog(SyslogTarget::Unix(LOCAL_SYSLOG.into()))),
        "journald" => Ok(LogSink::Journald(JOURNAL.into())),
        path => match path.split_once(':') {
            Some(("syslog", target)) => read_syslog(key, path, target).map(LogSink::Syslog),
            Some(("journald", socket)) => {
                file_path(key.name, socket, key.base).map(LogSink::Journald)
            }
            _ => file_path(key.name, path, key.base).map(LogSink::File),
        },
    }
}

fn read_syslog(key: &KeyContext<'_>, given: &str, target: &str) -> ValueResult<SyslogTarget> {
    let server = |text: &str, port: u16| {
        let read = text.parse::<Authority>().ok();
        let read = read.filter(|read| !read.host().is_empty() && !text.contains('@'));
        match read {
            Some(read) => Ok(match read.port() {
                Some(_) => text.to_owned(),
                None => format!("{text}:{port}"),
            }),
            None => Err(wrong(
                key.name,
                quoted(given),
                "it names no server",
                "write a host and a port, such as \"syslog:udp://logs.internal:514\"",
            )),
        }
    };
    if let Some(text) = target.strip_prefix("udp://") {
        return server(text, 514).map(SyslogTarget::Udp);
    }
    if let Some(text) = target.strip_prefix("tcp://") {
        return server(text, 601).map(SyslogTarget::Tcp);
    }
    if target.is_empty() || target.contains("://") || !target.starts_with('/') {
        return Err(wrong(
            key.name,
            quoted(given),
            "syslog is taken by a socket of this machine, by UDP or by TCP",
            "write \"syslog\", \"syslog:/dev/log\", \"syslog:udp://HOST:514\" or \"syslog:tcp://HOST:601\"",
        ));
    }
    file_path(key.name, target, key.base).map(SyslogTarget::Unix)
}

fn print_sink(sink: &LogSink) -> String {
    match sink {
        LogSink::Off => print::text("off"),
        LogSink::Stdout => print::text("stdout"),
        LogSink::File(path) => print::text(&path.display().to_string()),
        LogSink::Journald(socket) if socket == Path::new(JOURNAL) => print::text("journald"),
        LogSink::Journald(socket) => print::text(&format!("journald:{}", socket.display())),
        LogSink::Syslog(SyslogTarget::Unix(socket)) if socket == Path::new(LOCAL_SYSLOG) => {
            print::text("syslog")
        }
        LogSink::Syslog(SyslogTarget::Unix(socket)) => {
            print::text(&format!("syslog:{}", socket.display()))
        }
        LogSink::Syslog(SyslogTarget::Udp(server)) => {
            print::text(&format!("syslog:udp://{server}"))
        }
        LogSink::Syslog(SyslogTarget::Tcp(server)) => {
            print::text(&format!("syslog:tcp://{server}"))
        }
    }
}

/// Checks values in combination.
pub(in crate::config) fn validate(log: &AccessLogConfig, f: &mut ConfigFindings) {
    let key = "access_log.fields";
    let fields = &log.fields;
    let twice = |(at, field): (usize, &LogField)| fields[..at].contains(field).then_some(*field);
    if f.sound(&[key])
        && let Some(twice) = fields.iter().enumerate().find_map(twice)
    {
        f.error(
            f.place(key),
            format!("`fields` has \"{twice}\" twice"),
            "remove one of them",
        );
    }
}
