//! Idle upstream connections of one backend: a fixed set of slots for each data thread, without a lock.
//!
//! Low slots are filled and emptied first, so connections that are used often stay in low slots, and those that
//! aren't needed age in high slots, where the reaper finds them. A thread takes its own connections first, because
//! their readiness is reported to it directly.

use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::rt::worker;

/// Fewest slots of a thread, however many threads share the capacity.
const LEAST: usize = 64;

/// A set of boxed idle connections.
#[derive(Debug)]
pub struct IdleConnections<T>(Box<[IdleLane<T>]>);

/// The slots of one thread.
#[derive(Debug)]
struct IdleLane<T> {
    slots: Box<[AtomicPtr<T>]>,
    /// One above the highest slot that may be filled: limits the scan.
    high: AtomicUsize,
    /// A connection that one thread puts in is taken out by another, and never accessed by two at once. So this type
    /// is `Send` and `Sync` under a mutex's conditions, whereas a raw pointer alone would be so for any `T`.
    connections: PhantomData<Mutex<T>>,
}

impl<T> IdleConnections<T> {
    /// Creates slots for `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        let threads = worker::count();
        let each = (capacity / threads).max(capacity.min(LEAST));
        Self((0..threads).map(|_| IdleLane::new(each)).collect())
    }

    /// Takes a connection that this thread has put in, if there is one.
    pub fn take_own(&self) -> Option<Box<T>> {
        self.own_lane().take()
    }

    /// Takes a connection, if there is one.
    pub fn take(&self) -> Option<Box<T>> {
        self.take_own()
            .or_else(|| self.0.iter().find_map(IdleLane::take))
    }

    /// Puts a connection in.
    ///
    /// # Errors
    /// Returns the connection if this thread's slots are full.
    pub fn put(&self, connection: Box<T>) -> Result<(), Box<T>> {
        self.own_lane().put(connection)
    }

    /// Takes out and drops each connection that `keep` refuses.
    pub fn retain(&self, mut keep: impl FnMut(&mut T) -> bool) {
        for lane in &self.0 {
            lane.retain(&mut keep);
        }
    }

    /// Returns the number of idle connections (may be out of date).
    pub fn len(&self) -> usize {
        self.0.iter().map(IdleLane::len).sum()
    }

    /// Whether there are no idle connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn own_lane(&self) -> &IdleLane<T> {
        &self.0[worker::index() % self.0.len()]
    }
}

impl<T> IdleLane<T> {
    fn new(capacity: usize) -> Self {
        Self {
            slots: (0..capacity)
                .map(|_| AtomicPtr::new(ptr::null_mut()))
                .collect(),
            high: AtomicUsize::new(0),
            connections: PhantomData,
        }
    }

    fn take(&self) -> Option<Box<T>> {
        let high = self.high.load(Ordering::Acquire);
        self.slots[..high].iter().find_map(Self::empty)
    }

    fn put(&self, connection: Box<T>) -> Result<(), Box<T>> {
        let raw = Box::into_raw(connection);
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.load(Ordering::Relaxed).is_null()
                && slot
                    .compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
            {
                self.high.fetch_max(index + 1, Ordering::AcqRel);
                return Ok(());
            }
        }
        Err(Self::box_of_raw(raw))
    }

    fn retain(&self, mut keep: impl FnMut(&mut T) -> bool) {
        let high = self.high.load(Ordering::Acquire);
        for slot in &self.slots[..high] {
            if let Some(mut connection) = Self::empty(slot)
                && keep(&mut connection)
            {
                // If the slots are full, the connection is dropped: it was idle.
                let _ = self.put(connection);
            }
        }
    }

    fn len(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| !slot.load(Ordering::Relaxed).is_null())
            .count()
    }

    fn empty(slot: &AtomicPtr<T>) -> Option<Box<T>> {
        if slot.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let raw = slot.swap(ptr::null_mut(), Ordering::Acquire);
        (!raw.is_null()).then(|| Self::box_of_raw(raw))
    }

    #[allow(unsafe_code, reason = "std has no atomic box")]
    fn box_of_raw(raw: *mut T) -> Box<T> {
        // SAFETY: a pointer gets here either straight from `Box::into_raw` or out of a slot by an atomic swap with
        // null, so exactly one caller ever owns it.
        unsafe { Box::from_raw(raw) }
    }
}

impl<T> Drop for IdleLane<T> {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    /// Calls to `holds` are ambiguous, and don't compile, if the type is `Send` or `Sync`.
    #[test]
    fn idle_set_of_what_must_stay_with_its_thread_stays_with_it() {
        trait UnlessSend<A> {
            fn holds() {}
        }
        impl<T> UnlessSend<()> for T {}
        impl<T: Send> UnlessSend<u8> for T {}
        trait UnlessSync<A> {
            fn holds() {}
        }
        impl<T> UnlessSync<()> for T {}
        impl<T: Sync> UnlessSync<u8> for T {}
        <IdleConnections<std::rc::Rc<()>> as UnlessSend<_>>::holds();
        <IdleConnections<std::rc::Rc<()>> as UnlessSync<_>>::holds();
        fn is_shared<T: Send + Sync>() {}
        // One thread at a time takes the value, so the value itself need not be `Sync`.
        is_shared::<IdleConnections<std::cell::Cell<u8>>>();
    }

    #[test]
    fn gives_back_what_does_not_fit() {
        let idle = IdleConnections::new(1);
        assert!(idle.put(Box::new(1)).is_ok());
        assert_eq!(idle.put(Box::new(2)), Err(Box::new(2)));
        assert_eq!(idle.take(), Some(Box::new(1)));
        assert_eq!(idle.take(), None);
    }

    #[test]
    fn retain_drops_the_refused() {
        let idle = IdleConnections::new(8);
        for value in 0..6 {
            assert!(idle.put(Box::new(value)).is_ok());
        }
        idle.retain(|value| *value % 2 == 0);
        assert_eq!(idle.len(), 3);
    }

    #[test]
    fn no_connection_is_lost_or_doubled_between_threads() {
        struct Counted(Arc<AtomicI64>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        // Under Miri, each round takes a thousand times as long.
        let rounds = if cfg!(miri) { 100 } else { 10_000 };
        let live = Arc::new(AtomicI64::new(0));
        let idle = Arc::new(IdleConnections::new(16));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (idle, live) = (idle.clone(), live.clone());
                scope.spawn(move || {
                    for round in 0..rounds {
                        match idle.take() {
                            Some(held) if round % 7 != 0 => drop(idle.put(held)),
                            Some(dropped) => drop(dropped),
                            None => {
                                live.fetch_add(1, Ordering::SeqCst);
                                drop(idle.put(Box::new(Counted(live.clone()))));
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(live.load(Ordering::SeqCst), idle.len() as i64);
        drop(idle);
        assert_eq!(live.load(Ordering::SeqCst), 0);
    }
}
