//! What the last probe of a backend has seen, for requests that end without one: the data plane reads it where it
//! answers by itself, and nowhere else.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::core::Time;
use crate::rt::clock;

/// Most characters of a probe's result that clients get.
const LONGEST: usize = 200;

/// One probe's result.
#[derive(Debug)]
pub struct SeenProbe {
    /// When it came in.
    pub at: Time,
    /// For people: `503 in 1.2ms`, `connection refused`, …
    pub detail: String,
}

/// The last one; none before the first probe has ended.
#[derive(Debug, Default)]
pub struct LastProbe(ArcSwapOption<SeenProbe>);

impl LastProbe {
    /// Notes the result of a probe; `drained_by`: the actor whose drain keeps requests away whatever probes say.
    pub fn note(&self, detail: &str, drained_by: Option<&str>) {
        let mut detail: String = detail.chars().take(LONGEST).collect();
        if let Some(actors) = drained_by {
            detail.push_str(&format!(" (drained by {actors})"));
        }
        let at = clock::now();
        self.0.store(Some(Arc::new(SeenProbe { at, detail })));
    }

    /// The last one.
    pub fn get(&self) -> Option<Arc<SeenProbe>> {
        self.0.load_full()
    }
}
