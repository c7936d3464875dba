//! How processes start, fall ill, stop and die.

use lameduck::core::Time;

use crate::process::{Manners, Phase};
use crate::world::{Next, World};

impl World {
    pub fn start(&mut self, slot: usize) {
        let boot = self.rng.millis(150, 2000);
        // On the same host a restart may be faster than any probe.
        let boot = if self.sees_listeners && self.rng.percent(30) {
            self.rng.millis(1, 20)
        } else {
            boot
        };
        let process = &mut self.slots[slot].process;
        process.generation += 1;
        process.phase = Phase::Booting;
        process.ailment = None;
        let generation = process.generation;
        self.after(boot, Next::Grow { slot, generation });
    }

    pub fn grow(&mut self, slot: usize) {
        let phase = self.slots[slot].process.phase;
        let generation = self.slots[slot].process.generation;
        let slowly = phase == Phase::Booting && self.rng.percent(30);
        self.slots[slot].process.phase = match phase {
            Phase::Booting if slowly => Phase::NotYet,
            Phase::Booting | Phase::NotYet => Phase::Serving,
            other => other,
        };
        if slowly {
            let delay = self.rng.millis(10, 1000);
            self.after(delay, Next::Grow { slot, generation });
        }
    }

    pub fn terminate(&mut self, slot: usize) {
        let process = &mut self.slots[slot].process;
        if self.settings.manners == Manners::None || process.phase == Phase::Booting {
            return self.die(slot);
        }
        if !matches!(process.phase, Phase::NotYet | Phase::Serving) {
            return;
        }
        process.phase = Phase::Lame;
        let generation = process.generation;
        let lame = if self.rng.percent(50) {
            Time::ZERO
        } else {
            self.rng.millis(0, 3000)
        };
        self.after(lame, Next::Close { slot, generation });
        self.after(Time::from_secs(30), Next::Exit { slot, generation });
    }

    /// A process that has closed its listener ends with its last request.
    pub fn exit_if_done(&mut self, slot: usize) {
        if self.slots[slot].process.phase == Phase::Finishing && self.slots[slot].flying.is_empty()
        {
            self.die(slot);
        }
    }

    pub fn die(&mut self, slot: usize) {
        let process = &mut self.slots[slot].process;
        if process.phase == Phase::Dead {
            return;
        }
        process.phase = Phase::Dead;
        let generation = process.generation;
        for request in self.slots[slot].flying.clone() {
            let attempt = self.requests[request].attempt;
            let notice = self.rng.micros(50, 1500);
            self.after(notice, Next::Broken { request, attempt });
        }
        self.drop_idle(slot);
        let away = if self.rng.percent(5) {
            self.rng.millis(20_000, 45_000)
        } else {
            self.rng.millis(0, 1000)
        };
        // A scripted stop is no time for a long absence.
        let away = if self.now < self.chaos_until {
            away
        } else {
            away.min(Time::from_millis(300))
        };
        self.after(away, Next::Start { slot, generation });
    }

    /// The process closes its idle connections; the proxy notices a little later.
    pub fn drop_idle(&mut self, slot: usize) {
        let generation = self.slots[slot].process.generation;
        if self.slots[slot].close_by_peer(generation) {
            let notice = self.rng.micros(50, 1500);
            self.after(notice, Next::PeerClosed { slot });
        }
    }
}
