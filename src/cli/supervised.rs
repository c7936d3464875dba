//! What `lameduck status` shows of a pool's supervisor.

use crate::registry::supervised::SupervisorView;
use crate::rt::output::printable;

/// Most processes without a sign of life that are named.
const MAX_NAMED: usize = 5;

/// Lines of the output; the first one says whether the supervisor can be reached.
pub(super) fn lines(supervisor: &SupervisorView) -> Vec<String> {
    let kind = printable(&supervisor.kind);
    let mut lines = vec![match &supervisor.why {
        None => format!("supervisor {kind}: heard"),
        Some(why) => format!(
            "supervisor {kind}: away since {}: {}; stops are noticed by health checks only",
            printable(&supervisor.since),
            printable(why)
        ),
    }];
    let unheard = supervisor.unheard.iter().take(MAX_NAMED);
    lines.extend(unheard.map(|(process, why)| {
        format!(
            "   - {} is not heard of: {}",
            printable(process),
            printable(why)
        )
    }));
    if supervisor.unheard.len() > MAX_NAMED {
        lines.push(format!(
            "   - nor of {} more",
            supervisor.unheard.len() - MAX_NAMED
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_supervisor_is_shown_with_the_reason() {
        let mut supervisor = SupervisorView {
            kind: "runit".into(),
            state: "listening".into(),
            since: "2026-11-29T16:00:00Z".into(),
            why: None,
            unheard: [("app-1".to_owned(), "no runsv runs for it".to_owned())].into(),
        };
        assert_eq!(
            lines(&supervisor),
            [
                "supervisor runit: heard",
                "   - app-1 is not heard of: no runsv runs for it"
            ]
        );
        supervisor.why = Some("/etc/service: no such directory".into());
        supervisor.unheard.clear();
        let away = "supervisor runit: away since 2026-11-29T16:00:00Z: /etc/service: no such directory; stops are noticed by \
                    health checks only";
        assert_eq!(lines(&supervisor), [away]);
    }
}
