//! Result of the last probe of a backend, for requests that end without a backend: the data plane reads it only when
//! it answers such a request itself.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::core::Time;
use crate::rt::clock;

/// Longest probe result that clients get, in characters.
const LONGEST: usize = 200;

/// Result of one probe.
#[derive(Debug)]
pub struct SeenProbe {
    /// Time at which the result came in.
    pub at: Time,
    /// Result as text: `503 in 1.2ms`, `connection refused`, …
    pub detail: String,
}

/// Result of the last probe; none before the first probe has ended.
#[derive(Debug, Default)]
pub struct LastProbe(ArcSwapOption<SeenProbe>);

impl LastProbe {
    /// Notes the result of a probe. `drained_by`: the actor whose drain keeps requests away, whatever probes say.
    pub fn note(&self, detail: &str, drained_by: Option<&str>) {
        let mut detail: String = detail.chars().take(LONGEST).collect();
        if let Some(actors) = drained_by {
            detail.push_str(&format!(" (drained by {actors})"));
        }
        let at = clock::now();
        self.0.store(Some(Arc::new(SeenProbe { at, detail })));
    }

    /// Returns the last result.
    pub fn get(&self) -> Option<Arc<SeenProbe>> {
        self.0.load_full()
    }
}
