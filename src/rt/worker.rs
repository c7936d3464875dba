//! The number of a data thread. State that each data thread has for itself is found by it.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(1);

thread_local!(static INDEX: Cell<usize> = const { Cell::new(0) });

/// Number of data threads.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Sets the number of data threads, before the first one starts.
pub fn set_count(count: usize) {
    COUNT.store(count.max(1), Ordering::Relaxed);
}

/// Number of this thread; 0 on threads that are no data threads.
pub fn index() -> usize {
    INDEX.get()
}

/// Gives this thread its number.
pub fn enter(number: usize) {
    INDEX.set(number);
}
