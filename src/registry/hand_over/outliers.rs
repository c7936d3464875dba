//! Conversion of outlier state that is handed over to another registry.

use crate::core::Time;
use crate::core::outlier::{AttemptError, Ejection, OutlierReason, OutlierRecord};
use crate::registry::handed::{HandedEjection, HandedOutlier};
use crate::rt::clock;

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts a record for the wire.
pub(super) fn handed(record: OutlierRecord) -> HandedOutlier {
    HandedOutlier {
        times: record.times,
        returned: clock::to_machine(record.returned),
        ejection: record.ejection.map(handed_ejection),
    }
}

fn handed_ejection(ejection: Ejection) -> HandedEjection {
    let handed = HandedEjection {
        since: clock::to_machine(ejection.since),
        until: clock::to_machine(ejection.until),
        cause: ejection.reason.as_str().to_owned(),
        times: ejection.times,
        ..HandedEjection::default()
    };
    let number = |last: Option<AttemptError>| last.map_or(0, AttemptError::number);
    match ejection.reason {
        OutlierReason::Errors { row, last } => HandedEjection {
            errors: row,
            last: number(last),
            ..handed
        },
        OutlierReason::ErrorRate {
            failed,
            of,
            window,
            last,
        } => HandedEjection {
            errors: failed,
            of,
            window: nanos(window),
            last: number(last),
            ..handed
        },
        OutlierReason::Latency { median, pool } => HandedEjection {
            median: nanos(median),
            pool: nanos(pool),
            ..handed
        },
    }
}

/// Converts a record from the wire. A backend that was ejected for a reason unknown to this release takes requests.
pub(super) fn taken(handed: &HandedOutlier) -> OutlierRecord {
    OutlierRecord {
        times: handed.times,
        returned: clock::from_machine(handed.returned),
        ejection: handed.ejection.as_ref().and_then(taken_ejection),
    }
}

fn taken_ejection(handed: &HandedEjection) -> Option<Ejection> {
    let last = AttemptError::from_number(handed.last);
    let [errors, error_rate, latency] = OutlierReason::NAMES;
    let reason = match handed.cause.as_str() {
        cause if cause == errors => OutlierReason::Errors {
            row: handed.errors,
            last,
        },
        cause if cause == error_rate => OutlierReason::ErrorRate {
            failed: handed.errors,
            of: handed.of,
            window: Time::from_nanos(handed.window),
            last,
        },
        cause if cause == latency => OutlierReason::Latency {
            median: Time::from_nanos(handed.median),
            pool: Time::from_nanos(handed.pool),
        },
        _ => return None,
    };
    Some(Ejection {
        since: clock::from_machine(handed.since),
        until: clock::from_machine(handed.until),
        reason,
        times: handed.times,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlier_record_is_unchanged_after_a_hand_over_for_every_reason() {
        let (since, until) = (Time::from_secs(3), Time::from_secs(33));
        let last = Some(AttemptError::Status(503));
        for reason in [
            OutlierReason::Errors { row: 5, last },
            OutlierReason::Errors { row: 1, last: None },
            OutlierReason::ErrorRate {
                failed: 7,
                of: 10,
                window: Time::from_secs(10),
                last: Some(AttemptError::CallStatus(14)),
            },
            OutlierReason::Latency {
                median: Time::from_millis(250),
                pool: Time::from_millis(3),
            },
        ] {
            let record = OutlierRecord {
                ejection: Some(Ejection {
                    since,
                    until,
                    reason,
                    times: 2,
                }),
                times: 2,
                returned: Time::from_secs(1),
            };
            let text = serde_json::to_string(&handed(record)).unwrap();
            let read: HandedOutlier = serde_json::from_str(&text).unwrap();
            assert_eq!(taken(&read), record, "{text}");
        }
    }

    #[test]
    fn reason_of_another_release_ejects_nobody() {
        let text =
            r#"{"times":3,"returned":0,"ejection":{"cause":"boredom","until":99999999999999}}"#;
        let record = taken(&serde_json::from_str(text).unwrap());
        assert_eq!((record.ejection, record.times), (None, 3));
    }
}
