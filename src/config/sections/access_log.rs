//! `[access_log]`.

use crate::config::declare::{section, words};
use crate::config::forms::{KeyContext, custom};
use crate::config::print;
use crate::config::values::{Read, file_path, text, wrong};
use std::path::PathBuf;
use toml::de::DeValue;

section! {
    /// One line for each request.
    #[needs(restart)]
    [access_log]
    #[derive(Debug, Clone, PartialEq)]
    pub struct AccessLogConfig {
        /// Where the lines go. A file is opened again on HUP and USR1.
        #[key = "path"]
        sink: LogSink = "stdout", custom("\"stdout\", \"off\" or path", read_sink, print_sink).public();
        /// One JSON object a line, or the format of Apache and nginx with lameduck's fields at the end.
        format: LogFormat = "json";
    }
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, reopened on HUP and USR1.
    File(PathBuf),
}

words! {
    /// The form of an access-log line.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// The "combined" format of Apache and nginx, with lameduck's fields appended.
        Combined = "combined",
    }
}

fn read_sink(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<LogSink> {
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
        path => file_path(key.name, path, key.base).map(LogSink::File),
    }
}

fn print_sink(sink: &LogSink) -> String {
    match sink {
        LogSink::Off => print::text("off"),
        LogSink::Stdout => print::text("stdout"),
        LogSink::File(path) => print::text(&path.display().to_string()),
    }
}
