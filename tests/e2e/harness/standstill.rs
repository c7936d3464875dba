//! What is run again, and what is not.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lameduck_rig::standstill::{longest_since, run_judged};

/// How often a test was run that fails this many times, and whether it failed in the end.
fn runs(failures: u32, stood_still: Option<Duration>) -> (u32, bool) {
    let (count, told) = (Cell::new(0), Cell::new(0));
    let test = || {
        count.set(count.get() + 1);
        assert!(count.get() > failures, "as planned");
    };
    let whole = catch_unwind(AssertUnwindSafe(|| {
        run_judged(test, |_| stood_still, |_| told.set(told.get() + 1))
    }));
    assert_eq!(told.get() + 1, count.get(), "each further run is told");
    (count.get(), whole.is_err())
}

#[test]
fn failure_counts_unless_the_machine_stood_still() {
    let second = Some(Duration::from_secs(1));
    assert_eq!(runs(0, None), (1, false));
    assert_eq!(runs(0, second), (1, false));
    assert_eq!(runs(1, None), (1, true));
    assert_eq!(runs(1, second), (2, false));
    assert_eq!(runs(2, second), (3, false));
    assert_eq!(runs(9, second), (3, true));
}

#[test]
fn time_to_come_has_no_standstill() {
    assert_eq!(
        longest_since(Instant::now() + Duration::from_secs(3600)),
        None
    );
}
