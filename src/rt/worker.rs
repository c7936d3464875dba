//! Which data thread this is: what each of them has for itself is found by this number.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(1);

thread_local!(static OWN: Cell<usize> = const { Cell::new(0) });

/// How many there are.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Says how many there will be, before the first one starts.
pub fn set_count(count: usize) {
    COUNT.store(count.max(1), Ordering::Relaxed);
}

/// This thread's number; 0 on those that are no data threads.
pub fn index() -> usize {
    OWN.get()
}

/// Gives this thread its number.
pub fn enter(number: usize) {
    OWN.set(number);
}
