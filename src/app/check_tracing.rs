//! Checks what `[tracing]` needs: a build with the feature, and the files that it names.

use crate::config::{ConfigFindings, TracingConfig};
use crate::telemetry::spans::{self, TracingError};

/// Checks the `[tracing]` section.
pub(super) fn check(tracing: &TracingConfig, f: &mut ConfigFindings) {
    if !f.sound(&["tracing.endpoint", "tracing.headers_file", "tracing.ca"]) {
        return;
    }
    match spans::check(tracing) {
        Ok(()) => {}
        Err(TracingError::File {
            key,
            path,
            why,
            remedy,
        }) => {
            let place = f.place(&format!("tracing.{key}"));
            f.error(place, format!("`{key}`: {path}: {why}"), remedy);
        }
        Err(TracingError::NotBuilt) => {
            f.error(
                f.place("tracing"),
                "[tracing]: this lameduck was built without the feature `otlp`",
                "build it with `--features otlp`, or remove the section",
            );
        }
        Err(other) => {
            f.error(f.place("tracing"), other.to_string(), "see [tracing]");
        }
    }
}
