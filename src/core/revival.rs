//! When a keeper restarts the proxy, and when it ends together with it.
//!
//! A proxy that has served is restarted, whatever killed it, with pauses that grow while it keeps dying soon after
//! its start. One that exits by itself before it served is not restarted: its configuration is bad, or an address is
//! in use.

use super::Time;
use super::launch::ProcessExit;

/// Age from which a process counts as healthy: its death is unrelated to earlier ones.
const WELL: Time = Time::from_secs(10);
/// First pause after a life shorter than [`WELL`]; there is none before the first restart.
const FIRST_PAUSE: Time = Time::from_millis(100);
/// Longest pause, which clients have to wait: each pause is twice the one before.
const LAST_PAUSE: Time = Time::from_secs(1);
/// Number of consecutive times that the process is killed before it serves, after which it is not started again.
const TRIES: u32 = 5;

/// What to do after the process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterEnd {
    /// Start it again, after this pause.
    StartAgain(Time),
    /// End in the same way.
    EndAlike,
}

/// State of the process that a keeper keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptProcess {
    started: Time,
    serves: bool,
    told_to_stop: bool,
    /// Number of consecutive short lives.
    young: u32,
    /// Number of consecutive lives that ended before the process served.
    unborn: u32,
}

impl KeptProcess {
    /// Notes that the process was started.
    pub fn note_start(&mut self, now: Time) {
        self.started = now;
        self.serves = false;
    }

    /// Notes that the process reports that it serves.
    pub fn note_serving(&mut self) {
        self.serves = true;
        self.unborn = 0;
    }

    /// Notes that the process was told to stop: whatever its exit status, it isn't started again.
    pub fn note_stop(&mut self) {
        self.told_to_stop = true;
    }

    /// Whether the process was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.told_to_stop
    }

    /// Notes that the process has ended; returns what to do.
    pub fn after(&mut self, end: ProcessExit, now: Time) -> AfterEnd {
        let killed = matches!(end, ProcessExit::Signal(_));
        let in_order = end == ProcessExit::Code(0);
        if self.told_to_stop || in_order || (!killed && !self.serves) {
            return AfterEnd::EndAlike;
        }
        if !self.serves {
            self.unborn += 1;
            if self.unborn >= TRIES {
                return AfterEnd::EndAlike;
            }
        }
        if now.saturating_sub(self.started) >= WELL {
            self.young = 0;
        }
        let pause = match self.young {
            0 => Time::ZERO,
            before => FIRST_PAUSE
                .saturating_mul(1 << (before - 1).min(16))
                .min(LAST_PAUSE),
        };
        self.young = self.young.saturating_add(1);
        AfterEnd::StartAgain(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: ProcessExit = ProcessExit::Signal(9);

    fn after_life(
        revival: &mut KeptProcess,
        serves: bool,
        lives: Time,
        end: ProcessExit,
    ) -> AfterEnd {
        revival.note_start(Time::from_secs(100));
        if serves {
            revival.note_serving();
        }
        revival.after(end, Time::from_secs(100) + lives)
    }

    #[test]
    fn process_that_served_and_was_killed_is_started_again_with_growing_pauses() {
        let mut revival = KeptProcess::default();
        let short = Time::from_millis(50);
        let pauses: Vec<_> = (0..10)
            .map(|_| match after_life(&mut revival, true, short, KILLED) {
                AfterEnd::StartAgain(pause) => pause.as_millis(),
                AfterEnd::EndAlike => panic!("it gives up"),
            })
            .collect();
        assert_eq!(
            pauses,
            [0, 100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000]
        );
        // It was healthy for long.
        let again = after_life(&mut revival, true, WELL, KILLED);
        assert_eq!(again, AfterEnd::StartAgain(Time::ZERO));
    }

    #[test]
    fn process_that_served_and_failed_is_started_again() {
        let end = after_life(
            &mut KeptProcess::default(),
            true,
            WELL,
            ProcessExit::Code(101),
        );
        assert_eq!(end, AfterEnd::StartAgain(Time::ZERO));
    }

    #[test]
    fn start_that_fails_by_itself_is_not_tried_again() {
        for code in [1, 2, 101] {
            let mut revival = KeptProcess::default();
            // The first start, and one after a crash.
            for _ in 0..2 {
                let end = after_life(&mut revival, false, Time::ZERO, ProcessExit::Code(code));
                assert_eq!(end, AfterEnd::EndAlike);
                after_life(&mut revival, true, WELL, KILLED);
            }
        }
    }

    #[test]
    fn start_that_is_killed_again_and_again_is_given_up() {
        let mut revival = KeptProcess::default();
        let mut starts = 1;
        while after_life(&mut revival, false, Time::ZERO, KILLED) != AfterEnd::EndAlike {
            starts += 1;
        }
        assert_eq!(starts, TRIES);
    }

    #[test]
    fn orderly_end_of_the_process_ends_the_keeper() {
        let mut revival = KeptProcess::default();
        let end = after_life(&mut revival, true, WELL, ProcessExit::Code(0));
        assert_eq!(end, AfterEnd::EndAlike);
        revival.note_stop();
        // It did not stop in time.
        assert_eq!(
            after_life(&mut revival, true, WELL, KILLED),
            AfterEnd::EndAlike
        );
    }
}
