//! The gate, and the count of those who wait at it, under loom: every interleaving, and every reordering that the memory model allows.
//!
//! The sources are the proxy's own files, compiled with loom's atomics in place of the standard ones.

#[path = "../../../src/registry/endpoint/gate.rs"]
pub mod gate;
#[path = "../../../src/registry/endpoint/waiters.rs"]
pub mod room;

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::thread::{self, JoinHandle};

    use super::gate::{Gate, GateLeave, SessionEntry};
    use super::room::CapacityWaiters;

    /// Enters and leaves; what leaving found, if it got in.
    fn visitor(gate: &Arc<Gate>) -> JoinHandle<Option<GateLeave>> {
        let gate = gate.clone();
        thread::spawn(move || gate.try_enter().then(|| gate.leave()))
    }

    fn last_outs(visitors: Vec<JoinHandle<Option<GateLeave>>>) -> usize {
        visitors
            .into_iter()
            .map(|visitor| visitor.join().unwrap())
            .filter(|left| *left == Some(GateLeave::LastOut))
            .count()
    }

    /// The promise that "drained" rests on: a closing that found somebody in flight is told exactly once when
    /// the last one has left; one that found nobody, never.
    #[test]
    fn one_last_out_for_each_closing_of_a_busy_gate() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let visitors = vec![visitor(&gate), visitor(&gate)];
            let busy = gate.close() > 0;
            assert_eq!(last_outs(visitors), usize::from(busy));
            assert_eq!(gate.in_flight(), 0);
            assert!(gate.is_closed());
        });
    }

    #[test]
    fn no_request_enters_after_close_has_returned() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let returned = Arc::new(AtomicBool::new(false));
            let late = thread::spawn({
                let (gate, returned) = (gate.clone(), returned.clone());
                move || {
                    let after = returned.load(Ordering::Acquire);
                    let entered = gate.try_enter();
                    assert!(!(after && entered), "entered a gate that was closed");
                    if entered {
                        gate.leave();
                    }
                }
            });
            let early = visitor(&gate);
            gate.close();
            returned.store(true, Ordering::Release);
            late.join().unwrap();
            early.join().unwrap();
        });
    }

    /// Enters as one who has a session, and leaves.
    fn holder(gate: &Arc<Gate>) -> JoinHandle<Option<GateLeave>> {
        let gate = gate.clone();
        thread::spawn(move || {
            (gate.try_enter_with_session(0) == SessionEntry::Entered).then(|| gate.leave())
        })
    }

    /// A drain that finishes sessions: whoever has one is let in until it ends, and its end is told once if somebody is
    /// in flight then.
    #[test]
    fn holder_enters_a_gate_that_is_closed_to_new_ones_and_is_waited_for() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            gate.close_to_new();
            let (holder, stranger) = (holder(&gate), visitor(&gate));
            let busy = gate.close() > 0;
            let left = holder.join().unwrap();
            assert_eq!(left == Some(GateLeave::LastOut), busy);
            assert_eq!(stranger.join().unwrap(), None, "a new one was let in");
            assert!(gate.is_closed_to_all() && gate.in_flight() == 0);
            assert_eq!(gate.try_enter_with_session(0), SessionEntry::Closed);
        });
    }

    /// Between open and closed to new ones there is no moment in which a holder is turned away.
    #[test]
    fn holder_is_never_turned_away_while_the_gate_closes_to_new_ones() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let holder = holder(&gate);
            gate.close_to_new();
            assert_eq!(holder.join().unwrap(), Some(GateLeave::Busy));
            let holder = self::holder(&gate);
            gate.open();
            assert_eq!(holder.join().unwrap(), Some(GateLeave::Busy));
        });
    }

    /// A drain that is lifted and asked for again: the second one is not left waiting.
    #[test]
    fn closed_opened_and_closed_again() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let visitor = visitor(&gate);
            let first = gate.close();
            gate.open();
            let second = gate.close();
            match visitor.join().unwrap() {
                Some(GateLeave::LastOut) => assert!(first + second > 0),
                // It left while the gate was open: nobody was told, and nobody waits.
                Some(GateLeave::Busy) | None => assert_eq!(second, 0),
            }
        });
    }

    #[test]
    fn a_limit_is_never_passed() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let inside = Arc::new(AtomicUsize::new(0));
            let visitors: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, inside) = (gate.clone(), inside.clone());
                    thread::spawn(move || {
                        if gate.try_enter_below(1) {
                            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                            inside.fetch_sub(1, Ordering::Relaxed);
                            gate.leave();
                        }
                    })
                })
                .collect();
            for visitor in visitors {
                visitor.join().unwrap();
            }
            assert_eq!(gate.in_flight(), 0);
        });
    }

    /// Who is told that everybody has left also sees what they did.
    #[test]
    fn the_last_one_out_sees_what_the_others_did() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            assert!(gate.try_enter() && gate.try_enter());
            gate.close();
            let done = Arc::new(AtomicUsize::new(0));
            let leavers: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, done) = (gate.clone(), done.clone());
                    thread::spawn(move || {
                        done.fetch_add(1, Ordering::Relaxed);
                        let left = gate.leave();
                        if left == GateLeave::LastOut {
                            assert_eq!(done.load(Ordering::Relaxed), 2);
                        }
                        left
                    })
                })
                .collect();
            let told = leavers
                .into_iter()
                .map(|leaver| leaver.join().unwrap())
                .filter(|left| *left == GateLeave::LastOut)
                .count();
            assert_eq!(told, 1);
        });
    }

    /// `fail_open` enters a closed gate: the drain that waits is told when that one has left, too.
    #[test]
    fn who_entered_anyway_is_waited_for() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(true));
            let visitor = visitor(&gate);
            let busy = gate.close() > 0;
            gate.enter_anyway();
            let own = gate.leave();
            let other = visitor.join().unwrap();
            let told = [Some(own), other]
                .into_iter()
                .filter(|left| *left == Some(GateLeave::LastOut))
                .count();
            // Ours and, if it was still inside when the gate closed, possibly the visitor's before ours.
            assert!(
                (1..=1 + usize::from(busy)).contains(&told),
                "told {told} times"
            );
            assert_eq!(gate.in_flight(), 0);
        });
    }

    /// One that waits for room either finds it at once or is told of it, whenever the one inside leaves.
    #[test]
    fn who_waits_for_room_is_never_forgotten() {
        loom::model(|| {
            let (gate, room) = (Arc::new(Gate::new(true)), Arc::new(CapacityWaiters::new()));
            assert!(gate.try_enter_below(1));
            let told = Arc::new(AtomicUsize::new(0));
            let leaver = thread::spawn({
                let (gate, room, told) = (gate.clone(), room.clone(), told.clone());
                move || {
                    gate.leave();
                    if room.is_wanted() {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let entered = gate.try_enter_below(1) || (room.wait() && gate.try_enter_below(1));
            leaver.join().unwrap();
            assert!(
                entered || told.load(Ordering::Relaxed) > 0,
                "it waits for ever"
            );
        });
    }

    /// Two wait: the second need not look, because whoever leaves tells the first, and the first, leaving, tells it.
    #[test]
    fn the_second_one_that_waits_is_told_by_the_first() {
        // Every interleaving takes minutes; those with up to two switches that nobody asked for, a second.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (gate, room) = (Arc::new(Gate::new(true)), Arc::new(CapacityWaiters::new()));
            let told = Arc::new(AtomicUsize::new(0));
            let leave = |gate: &Gate, room: &CapacityWaiters, told: &AtomicUsize| {
                gate.leave();
                if room.is_wanted() {
                    told.fetch_add(1, Ordering::Relaxed);
                }
            };
            assert!(gate.try_enter_below(1));
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, room, told) = (gate.clone(), room.clone(), told.clone());
                    thread::spawn(move || {
                        let entered = room.wait() && gate.try_enter_below(1);
                        if entered {
                            room.leave();
                            leave(&gate, &room, &told);
                        }
                        entered
                    })
                })
                .collect();
            leave(&gate, &room, &told);
            let entered = waiters
                .into_iter()
                .map(|waiter| waiter.join().unwrap())
                .filter(|entered| *entered)
                .count();
            // Each telling lets one in, who tells the next when it leaves: one is enough for all that still wait.
            let waiting = 2 - entered;
            assert!(
                waiting == 0 || told.load(Ordering::Relaxed) > 0,
                "{waiting} wait for ever"
            );
        });
    }
}
