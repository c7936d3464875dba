//! The process's own log, which goes to standard error as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::rt::output::{self, ErrorWriter};

/// Variable with the log filter: `debug`, or `info,lameduck::probe=debug` (default `info`).
pub const FILTER: &str = "LAMEDUCK_LOG";
/// Variable with the format: `json` for one JSON object in each line; anything else for text.
pub const FORMAT: &str = "LAMEDUCK_LOG_FORMAT";

/// Filter directives before those of the user, which override them. Pingora logs at `info` what only its own developers
/// need, and kube logs as `error` each failure that the discovery reports once.
const QUIET: &str = "pingora=warn,pingora_core=warn,pingora_proxy=warn,pingora_pool=warn,pingora_runtime=warn,\
     kube_client=off,hickory_resolver=off,hickory_net=off,hickory_proto=off";

/// Starts logging as the environment says. Records of the `log` crate (Pingora's) are included. A second call has no
/// effect. Lines go through the queue for standard error, so logging never waits for a reader or a disk.
pub fn init() {
    let asked = std::env::var(FILTER).unwrap_or_default();
    let (filter, complaint) = filter(&asked);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // The library would report its own failures by `eprintln!`, which panics if standard error is closed.
        .log_internal_errors(false)
        .with_writer(|| ErrorWriter);
    let started = if std::env::var(FORMAT).is_ok_and(|format| format.eq_ignore_ascii_case("json")) {
        builder.json().flatten_event(true).finish().try_init()
    } else {
        let colour = output::stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colour).finish().try_init()
    };
    if started.is_ok() {
        output::tell_losses_by(tell_losses);
    }
    if let (Ok(()), Some(complaint)) = (started, complaint) {
        tracing::warn!("{complaint}");
    }
}

fn tell_losses(lost: u64) {
    tracing::warn!(
        lost,
        "lines of this log were dropped: standard error's reader or disk was too slow, or it could not be written"
    );
}

/// The filter of the user; if it is malformed, the default one, and a message about it.
fn filter(asked: &str) -> (EnvFilter, Option<String>) {
    let asked = if asked.is_empty() { "info" } else { asked };
    match EnvFilter::try_new(format!("{QUIET},{asked}")) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new(format!("{QUIET},info")),
            Some(format!(
                "{FILTER}={asked:?} can't be read ({error}); logging at `info`. Write it like \"debug\" or \
                 \"info,lameduck::probe=debug\""
            )),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pingora_is_quiet_unless_asked_for() {
        let (default, complaint) = filter("");
        assert!(complaint.is_none());
        let text = default.to_string();
        assert!(text.contains("pingora_core=warn"), "{text}");
        assert!(
            text.split(',').any(|directive| directive == "info"),
            "{text}"
        );
        let text = filter("pingora_core=debug").0.to_string();
        assert!(text.contains("pingora_core=debug"), "{text}");
        assert!(!text.contains("pingora_core=warn"), "{text}");
    }

    #[test]
    fn malformed_filter_is_reported_and_replaced_by_the_default() {
        let (filter, complaint) = filter("lameduck=loudly");
        assert!(filter.to_string().contains("info"));
        let complaint = complaint.unwrap_or_default();
        assert!(
            complaint.contains("LAMEDUCK_LOG=\"lameduck=loudly\""),
            "{complaint}"
        );
        assert!(complaint.contains("Write it like"), "{complaint}");
    }
}
