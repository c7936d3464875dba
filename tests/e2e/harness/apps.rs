//! The apps that are restarted.

use std::process::{Command, Stdio};

use lameduck::tools::demo::instance::Program;

/// One kind of app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// The demo's own.
    BuiltIn,
    /// It has no SIGTERM handler.
    BuiltInAbrupt,
    /// It goes on accepting for 3 s after SIGTERM.
    BuiltInLinger,
    /// `node:http` with the full handler.
    Node,
    /// `node:http` with no handler.
    NodeAbrupt,
    /// `node:http` that closes idle connections after so many milliseconds, and says so.
    NodeKeepAlive(&'static str),
    /// The same, without a word.
    NodeUnannounced(&'static str),
    /// `node:http` that goes on accepting for 3 s while `/health` says 503.
    NodeLinger,
    /// Express with http-terminator.
    Express,
    /// Fastify with close-with-grace.
    Fastify,
}

impl App {
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::BuiltInAbrupt => "built-in, no handler",
            Self::BuiltInLinger => "built-in, accepts 3 s more",
            Self::Node => "node:http",
            Self::NodeAbrupt => "node:http, no handler",
            Self::NodeKeepAlive(_) => "node:http, short keep-alive",
            Self::NodeUnannounced(_) => "node:http, short keep-alive, unannounced",
            Self::NodeLinger => "node:http, accepts 3 s more",
            Self::Express => "express, http-terminator",
            Self::Fastify => "fastify, close-with-grace",
        }
    }

    /// Whether it takes 3 s to stop, by design.
    pub fn lingers(self) -> bool {
        matches!(self, Self::BuiltInLinger | Self::NodeLinger)
    }

    /// How to start it; `None` where node or the packages are missing.
    pub fn program(self) -> Option<Program> {
        let built_in = Program::built_in(super::exe());
        match self {
            Self::BuiltIn => Some(built_in),
            Self::BuiltInAbrupt => Some(built_in.with(&["--stop", "abrupt"])),
            Self::BuiltInLinger => Some(built_in.with(&["--stop", "linger"])),
            Self::Node => node("plain.js"),
            Self::NodeAbrupt => node("plain.js").map(|p| p.with(&["--stop", "abrupt"])),
            Self::NodeLinger => node("plain.js").map(|p| p.with(&["--stop", "linger"])),
            Self::NodeKeepAlive(after) => {
                node("plain.js").map(|p| p.with(&["--keep-alive", after]))
            }
            Self::NodeUnannounced(after) => {
                node("plain.js").map(|p| p.with(&["--unannounced", "--keep-alive", after]))
            }
            Self::Express => node("express.js"),
            Self::Fastify => node("fastify.js"),
        }
    }
}

fn node(script: &str) -> Option<Program> {
    let apps = lameduck_rig::place::root().join("tests/apps");
    let version = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let installed =
        version.is_ok_and(|status| status.success()) && apps.join("node_modules/ws").is_dir();
    installed.then(|| Program::new(["node".into(), apps.join(script).into_os_string()]))
}
