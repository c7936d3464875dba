//! Output of a roll: lines that are updated in place on a terminal, one line for each step elsewhere, or JSON.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::exit::Exit;
use super::RollArgs;
use super::plan::RollSettings;
use crate::registry::view::PoolView;
use crate::rt::clock;
use crate::rt::output::{PrintWriter, count, print, print_json, printable, stdout_is_terminal};
use crate::tools::roll::driver::{RollReport, RollStep, RollTeller, base};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RollDisplay {
    Json,
    Lines,
    Terminal,
}

/// Shows the steps of a roll.
pub(super) struct RollScreen {
    pool: String,
    form: RollDisplay,
    /// Line of each backend, for terminals.
    lines: Vec<(String, String)>,
    /// Number of lines on the terminal that the next drawing replaces.
    drawn: usize,
    began: Instant,
}

impl RollScreen {
    /// Output for the backends of these names.
    pub(super) fn new(pool: &str, names: &[String], json: bool) -> Self {
        let form = match (json, stdout_is_terminal()) {
            (true, _) => RollDisplay::Json,
            (false, true) => RollDisplay::Terminal,
            (false, false) => RollDisplay::Lines,
        };
        let lines = names.iter().map(|name| (name.clone(), String::new()));
        Self {
            pool: pool.to_owned(),
            form,
            lines: lines.collect(),
            drawn: 0,
            began: Instant::now(),
        }
    }

    /// Prints what the roll is about to do.
    pub(super) fn begin(&mut self, args: &RollArgs, settings: &RollSettings) {
        let drain = humantime::format_duration(settings.drain).to_string();
        let backends: Vec<&str> = self.lines.iter().map(|(name, _)| name.as_str()).collect();
        match self.form {
            RollDisplay::Json => self.json(
                None,
                json!({ "step": "begin", "backends": backends, "max_unavailable": args.max_unavailable,
                        "drain_timeout": drain }),
            ),
            _ => print(&format!(
                "rolling {}: {}, {} at a time",
                self.pool,
                count(backends.len() as u64, "backend"),
                args.max_unavailable
            )),
        }
        self.draw();
    }

    /// Prints how the roll ended.
    pub(super) fn end(&mut self, report: &RollReport, total: usize, failure: Option<&Exit>) {
        if self.form == RollDisplay::Json {
            let mut end = json!({
                "step": "end", "exit_code": failure.map_or(0, |exit| exit.code),
                "took_ms": self.began.elapsed().as_millis() as u64,
            });
            if let Some(exit) = failure {
                end["reason"] = exit.message.clone().into();
            }
            if let Some((name, ran)) = &report.failed {
                end["failed"] =
                    json!({ "backend": name, "status": ran.describe(), "output": ran.output });
            }
            return self.json(None, end);
        }
        if failure.is_none() {
            print(&format!(
                "rolled {}: {} in {}",
                self.pool,
                count(total as u64, "backend"),
                format_duration(self.began.elapsed())
            ));
        }
    }

    fn json(&self, backend: Option<&str>, mut event: Value) {
        event["time"] = clock::rfc3339(std::time::SystemTime::now()).into();
        event["pool"] = self.pool.as_str().into();
        if let Some(backend) = backend {
            event["backend"] = backend.into();
        }
        print_json(&event);
    }

    fn set(&mut self, name: &str, text: String) {
        if let Some((_, line)) = self.lines.iter_mut().find(|(known, _)| known == name) {
            *line = text;
        }
        self.draw();
    }

    fn draw(&mut self) {
        if self.form != RollDisplay::Terminal {
            return;
        }
        let width = self.lines.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for (name, line) in &self.lines {
            // Exactly one row for each line: line wrapping is off while they are written.
            text.push_str(&format!(
                "\r\x1b[K\x1b[?7l  {name:width$}  {line}\x1b[?7h\n"
            ));
        }
        self.drawn = self.lines.len();
        let _ = PrintWriter.write_all(text.as_bytes());
    }
}

/// Formats a duration as `412 ms`, `3.2 s` or `2m 5s`.
fn format_duration(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        millis @ 1000..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => humantime::format_duration(Duration::from_secs(time.as_secs())).to_string(),
    }
}

/// Describes a step in words and as JSON.
fn describe_step(step: &RollStep<'_>) -> (String, Value) {
    let millis = |time: &Duration| time.as_millis() as u64;
    match step {
        RollStep::Draining => ("draining".to_owned(), json!({ "step": "draining" })),
        RollStep::Drained(answer) => (
            format!(
                "drained in {}",
                format_duration(Duration::from_millis(answer.waited_ms))
            ),
            json!({ "step": "drained", "waited_ms": answer.waited_ms }),
        ),
        RollStep::Running(command) => (
            format!("running `{}`", printable(&command.join(" "))),
            json!({ "step": "running", "command": command }),
        ),
        RollStep::Ran(ran, took) if ran.is_well() => (
            format!("restarted in {}, waiting until it is ready", format_duration(*took)),
            json!({ "step": "ran", "took_ms": millis(took), "status": ran.describe() }),
        ),
        RollStep::Ran(ran, took) => (
            format!(
                "the command failed after {}: {}",
                format_duration(*took),
                ran.describe()
            ),
            json!({ "step": "ran", "took_ms": millis(took), "status": ran.describe() }),
        ),
        RollStep::Ready(took) => (
            format!("ready, {} after the restart", format_duration(*took)),
            json!({ "step": "ready", "took_ms": millis(took) }),
        ),
        RollStep::Unseen => (
            "no new process is seen yet. A restart that keeps its listening socket (gunicorn's HUP, socket activation) \
             never is: Ctrl-C, and --restarted-when probe, or exit if the command returns when the old process is gone"
                .to_owned(),
            json!({ "step": "unseen" }),
        ),
        RollStep::Gone => (
            "left the pool by itself".to_owned(),
            json!({ "step": "gone" }),
        ),
        RollStep::Waiting => (
            "waiting: no other backend is ready".to_owned(),
            json!({ "step": "waiting" }),
        ),
        RollStep::Killing => (
            "stopping its command".to_owned(),
            json!({ "step": "killing" }),
        ),
        RollStep::Undone => ("drain lifted".to_owned(), json!({ "step": "undone" })),
        RollStep::NotUndone(trouble) => (
            format!("its drain could not be lifted: {}", trouble.text),
            json!({ "step": "not_undone", "reason": trouble.text }),
        ),
    }
}

impl RollTeller for RollScreen {
    fn step(&mut self, name: &str, step: RollStep<'_>) {
        let (text, event) = describe_step(&step);
        match self.form {
            RollDisplay::Json => self.json(Some(name), event),
            RollDisplay::Lines => print(&format!("{}/{name}: {text}", self.pool)),
            RollDisplay::Terminal => self.set(name, text),
        }
    }

    fn pool_seen(&mut self, pool: &PoolView) {
        if self.form != RollDisplay::Terminal {
            return;
        }
        for (name, line) in &mut self.lines {
            if line.starts_with("draining") {
                let meant = pool.backends.iter().filter(|one| base(&one.name) == name);
                let in_flight = meant.map(|one| u64::from(one.in_flight)).sum();
                *line = format!("draining: {} in flight", count(in_flight, "request"));
            }
        }
        self.draw();
    }

    fn interrupted(&mut self, again: bool) {
        let text = match again {
            false => "interrupted: running commands are left to their end; once more ends them",
            true => "interrupted again: ending commands",
        };
        match self.form {
            RollDisplay::Json => self.json(None, json!({ "step": "interrupted", "again": again })),
            _ => {
                crate::rt::output::complain(text);
                // The next drawing must start below this line.
                self.drawn = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_formatted_shortly() {
        assert_eq!(format_duration(Duration::from_millis(412)), "412 ms");
        assert_eq!(format_duration(Duration::from_millis(3249)), "3.2 s");
        assert_eq!(format_duration(Duration::from_millis(125_400)), "2m 5s");
    }
}
