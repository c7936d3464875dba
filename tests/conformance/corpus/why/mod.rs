//! Why nginx or HAProxy does something else with a case than lameduck does.

mod flow;
mod framing;
mod head;

/// A sentence, and the names of the cases that it explains. One that no difference needs any more may stay: other
/// versions of nginx and HAProxy differ in other cases.
pub type Why = (&'static str, &'static [&'static str]);

/// All sentences.
pub fn all() -> impl Iterator<Item = &'static Why> {
    [framing::WHY, head::WHY, flow::WHY].into_iter().flatten()
}
