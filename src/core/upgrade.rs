//! One lameduck takes over from another: who does what when, on both ends.
//!
//! The old process spawns the new one, and both speak over a socket. Each end is a machine here: events in, effects out. Two
//! rules hold at every moment: at least one of the two accepts connections, or will without anybody's help; and whichever dies,
//! the other one goes on. The old one stops accepting only when the new one says that it accepts, on the same listening
//! sockets; the new one begins to accept when the old one says so, or is dead.

use super::Time;

/// The protocol that this lameduck speaks, newest first in what is offered…
pub const NEWEST_PROTOCOL: u32 = 1;
/// …and the oldest that it still understands. Fields and frames may be added to a protocol; its number changes when an end
/// that doesn't know them would do the wrong thing.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Time for the new process to start, read its configuration and say so.
pub const TIME_TO_CHECK: Time = Time::from_secs(30);
/// Time for the new process to build what it was given.
pub const TIME_TO_BUILD: Time = Time::from_secs(30);
/// Time for the new process to begin to accept.
pub const TIME_TO_ACCEPT: Time = Time::from_secs(10);

/// The protocols that one end understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolRange {
    /// From this one…
    pub oldest: u32,
    /// …to this one.
    pub newest: u32,
}

impl ProtocolRange {
    /// What this lameduck understands.
    pub const OWN: Self = Self {
        oldest: OLDEST_PROTOCOL,
        newest: NEWEST_PROTOCOL,
    };

    /// The newest that both understand.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// How far the old process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivingPhase {
    /// The new process starts and reads its configuration.
    Checking,
    /// It has the state, and builds.
    Building,
    /// It was told to accept.
    Starting,
    /// It accepts; this one finishes what it has.
    HandedOver,
    /// It failed; this one goes on.
    WentOn,
}

/// What the old process hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivingEvent {
    /// The new process's first words.
    Greeted(ProtocolRange),
    /// Its configuration is good.
    Checked,
    /// It has built everything.
    Ready,
    /// It accepts.
    Accepting,
    /// It can't, and says why.
    Refused(String),
    /// It has ended, or its end of the socket has.
    Gone(String),
    /// The phase has lasted longer than its limit.
    TimeOver,
    /// This process was told to stop.
    Stopped,
    /// What was to be given can't be.
    Failed(String),
}

/// What the old process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivingEffect {
    /// Answers the greeting.
    Greet,
    /// Holds back changes, and gives state and sockets.
    Give,
    /// Lets the new process accept.
    LetAccept,
    /// Stops accepting, and finishes what it has.
    HandOver,
    /// Ends the new process.
    Kill,
    /// Takes up changes again, as if nothing had been; why.
    GoOn(String),
}

/// The old process's end.
#[derive(Debug, Clone)]
pub struct UpgradeGiver {
    phase: GivingPhase,
    greeted: bool,
    /// No phase may last longer.
    patience: Option<Time>,
}

impl Default for UpgradeGiver {
    fn default() -> Self {
        Self {
            phase: GivingPhase::Checking,
            greeted: false,
            patience: None,
        }
    }
}

impl UpgradeGiver {
    /// The same, with no more patience than this in each phase.
    pub fn with_patience(self, patience: Option<Time>) -> Self {
        Self { patience, ..self }
    }

    /// How far it is.
    pub fn phase(&self) -> GivingPhase {
        self.phase
    }

    /// Whether this process accepts connections.
    pub fn accepts(&self) -> bool {
        self.phase != GivingPhase::HandedOver
    }

    /// Whether it is over, well or not.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, GivingPhase::HandedOver | GivingPhase::WentOn)
    }

    /// How long the phase may last.
    pub fn limit(&self) -> Option<Time> {
        let limit = match self.phase {
            GivingPhase::Checking => TIME_TO_CHECK,
            GivingPhase::Building => TIME_TO_BUILD,
            GivingPhase::Starting => TIME_TO_ACCEPT,
            GivingPhase::HandedOver | GivingPhase::WentOn => return None,
        };
        Some(self.patience.map_or(limit, |patience| patience.min(limit)))
    }

    /// Takes in one event; says what has to be done, in this order.
    pub fn step(&mut self, event: GivingEvent) -> Vec<GivingEffect> {
        if self.is_over() {
            return Vec::new();
        }
        match (event, self.phase) {
            (GivingEvent::Greeted(range), GivingPhase::Checking) if !self.greeted => {
                if range.common(ProtocolRange::OWN).is_none() {
                    let why = format!(
                        "it speaks protocol {} to {} for this, and the running one {OLDEST_PROTOCOL} to \
                         {NEWEST_PROTOCOL}: upgrade by a release in between, or restart",
                        range.oldest, range.newest
                    );
                    return self.give_up(why, true);
                }
                self.greeted = true;
                vec![GivingEffect::Greet]
            }
            (GivingEvent::Checked, GivingPhase::Checking) if self.greeted => {
                self.phase = GivingPhase::Building;
                vec![GivingEffect::Give]
            }
            (GivingEvent::Ready, GivingPhase::Building) => {
                self.phase = GivingPhase::Starting;
                vec![GivingEffect::LetAccept]
            }
            (GivingEvent::Accepting, GivingPhase::Starting) => {
                self.phase = GivingPhase::HandedOver;
                vec![GivingEffect::HandOver]
            }
            (GivingEvent::Refused(why), _) => self.give_up(why, true),
            (GivingEvent::Gone(why), _) => self.give_up(why, false),
            (GivingEvent::Failed(why), _) => self.give_up(why, true),
            (GivingEvent::Stopped, _) => {
                self.give_up("the running process was told to stop".to_owned(), true)
            }
            (GivingEvent::TimeOver, _) => {
                let limit = self.limit().unwrap_or_default();
                let what = match self.phase {
                    GivingPhase::Checking => "said nothing of its configuration",
                    GivingPhase::Building => "did not get ready",
                    _ => "did not begin to accept",
                };
                self.give_up(format!("it {what} within {limit:?}, and was ended"), true)
            }
            // Out of turn: an end that does this can't be trusted with connections.
            (event, _) => self.give_up(format!("it spoke out of turn ({event:?})"), true),
        }
    }

    fn give_up(&mut self, why: String, kill: bool) -> Vec<GivingEffect> {
        self.phase = GivingPhase::WentOn;
        let kill = kill.then_some(GivingEffect::Kill);
        kill.into_iter().chain([GivingEffect::GoOn(why)]).collect()
    }
}

/// How far the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakingPhase {
    /// It has greeted, and waits for the answer.
    Greeting,
    /// It has said that its configuration is good, and waits for the state.
    Waiting,
    /// It builds.
    Building,
    /// It has built, and waits until it may accept.
    Ready,
    /// It accepts, and waits for the old one's last word.
    Accepting,
    /// It serves.
    Serving,
    /// It has ended.
    Ended,
}

/// What the new process hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakingEvent {
    /// The old one's answer.
    Greeted(ProtocolRange),
    /// State and sockets.
    Given,
    /// Everything is built.
    Built,
    /// The old one lets it accept.
    MayAccept,
    /// It accepts.
    Accepts,
    /// The old one has stopped accepting.
    HandedOver,
    /// The old one is dead.
    Gone,
    /// Something can't be had here, or the old one takes it back: why.
    Failed(String),
}

/// What the new process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakingEffect {
    /// Says that its configuration is good.
    SayChecked,
    /// Builds from what it was given; with nothing, as at any start.
    Build {
        /// From what the old one gave.
        given: bool,
    },
    /// Says that it has built.
    SayReady,
    /// Begins to accept.
    Accept,
    /// Says that it accepts.
    SayAccepting,
    /// Is the lameduck of this machine from now on.
    Serve,
    /// Says why it can't, and ends.
    Refuse(String),
}

/// The new process's end.
#[derive(Debug, Clone)]
pub struct UpgradeTaker {
    phase: TakingPhase,
    /// The old one is dead.
    alone: bool,
    /// Somebody starts another process when the old one dies, and has not heard of this one before the old one let go.
    is_supervised: bool,
}

impl Default for UpgradeTaker {
    fn default() -> Self {
        Self {
            phase: TakingPhase::Greeting,
            alone: false,
            is_supervised: false,
        }
    }
}

impl UpgradeTaker {
    /// A supervisor starts another process in the place of the old one when that dies, or nobody does.
    pub fn set_supervised(&mut self, is_supervised: bool) {
        self.is_supervised = is_supervised;
    }

    /// How far it is.
    pub fn phase(&self) -> TakingPhase {
        self.phase
    }

    /// Whether this process accepts connections.
    pub fn accepts(&self) -> bool {
        matches!(self.phase, TakingPhase::Accepting | TakingPhase::Serving)
    }

    /// Whether the old one is dead.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Takes in one event; says what has to be done, in this order.
    pub fn step(&mut self, event: TakingEvent) -> Vec<TakingEffect> {
        match (event, self.phase) {
            (_, TakingPhase::Ended | TakingPhase::Serving) => Vec::new(),
            (TakingEvent::Greeted(range), TakingPhase::Greeting) => {
                if range.common(ProtocolRange::OWN).is_none() {
                    return self.fail(format!(
                        "the running lameduck speaks protocol {} to {} for this, and this one {OLDEST_PROTOCOL} to \
                         {NEWEST_PROTOCOL}: upgrade by a release in between, or restart",
                        range.oldest, range.newest
                    ));
                }
                self.phase = TakingPhase::Waiting;
                vec![TakingEffect::SayChecked]
            }
            (TakingEvent::Given, TakingPhase::Waiting) => {
                self.phase = TakingPhase::Building;
                vec![TakingEffect::Build { given: true }]
            }
            (TakingEvent::Built, TakingPhase::Building) if self.alone => self.accept(),
            (TakingEvent::Built, TakingPhase::Building) => {
                self.phase = TakingPhase::Ready;
                vec![TakingEffect::SayReady]
            }
            (TakingEvent::MayAccept, TakingPhase::Ready) => self.accept(),
            (TakingEvent::Accepts, TakingPhase::Accepting) if self.alone => self.serve(),
            (TakingEvent::Accepts, TakingPhase::Accepting) => vec![TakingEffect::SayAccepting],
            (TakingEvent::HandedOver, TakingPhase::Accepting) => self.serve(),
            (TakingEvent::Gone, phase) => {
                self.alone = true;
                // Nobody is accepted here yet, and two would serve: this one, and the one that is started now. Once it accepts,
                // it goes on: the supervisor may know of it.
                if self.is_supervised && phase != TakingPhase::Accepting {
                    let why = "the running lameduck died, and its supervisor starts another one";
                    return self.fail(why.to_owned());
                }
                match phase {
                    TakingPhase::Greeting | TakingPhase::Waiting => {
                        self.phase = TakingPhase::Building;
                        vec![TakingEffect::Build { given: false }]
                    }
                    TakingPhase::Ready => self.accept(),
                    TakingPhase::Accepting => self.serve(),
                    _ => Vec::new(),
                }
            }
            (TakingEvent::Failed(why), _) => self.fail(why),
            (event, _) => self.fail(format!(
                "the running lameduck spoke out of turn ({event:?})"
            )),
        }
    }

    fn accept(&mut self) -> Vec<TakingEffect> {
        self.phase = TakingPhase::Accepting;
        vec![TakingEffect::Accept]
    }

    fn serve(&mut self) -> Vec<TakingEffect> {
        self.phase = TakingPhase::Serving;
        vec![TakingEffect::Serve]
    }

    fn fail(&mut self, why: String) -> Vec<TakingEffect> {
        self.phase = TakingPhase::Ended;
        vec![TakingEffect::Refuse(why)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_a_protocol_in_common_take_the_newest() {
        let range = |oldest, newest| ProtocolRange { oldest, newest };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).common(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 1)), Some(1));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
    }

    #[test]
    fn protocol_that_nobody_shares_is_refused_with_both_numbers() {
        let mut giving = UpgradeGiver::default();
        let effects = giving.step(GivingEvent::Greeted(ProtocolRange {
            oldest: 7,
            newest: 9,
        }));
        assert_eq!(effects[0], GivingEffect::Kill);
        let GivingEffect::GoOn(why) = &effects[1] else {
            panic!("{effects:?}");
        };
        assert!(why.contains("protocol 7 to 9"), "{why}");
        assert!(giving.accepts());
    }

    #[test]
    fn supervised_process_leaves_the_place_of_a_dead_one_to_its_supervisor_until_it_accepts() {
        let well = [
            TakingEvent::Greeted(ProtocolRange::OWN),
            TakingEvent::Given,
            TakingEvent::Built,
            TakingEvent::MayAccept,
        ];
        for steps in 0..=well.len() {
            for is_supervised in [false, true] {
                let mut taking = UpgradeTaker::default();
                taking.set_supervised(is_supervised);
                for event in &well[..steps] {
                    taking.step(event.clone());
                }
                let accepts = taking.accepts();
                let effects = taking.step(TakingEvent::Gone);
                let refuses = matches!(effects.as_slice(), [TakingEffect::Refuse(_)]);
                assert_eq!(refuses, is_supervised && !accepts, "{steps}: {effects:?}");
            }
        }
    }

    #[test]
    fn each_phase_that_hangs_ends_with_the_old_process_going_on() {
        let well = [
            GivingEvent::Greeted(ProtocolRange::OWN),
            GivingEvent::Checked,
            GivingEvent::Ready,
        ];
        for steps in 0..=well.len() {
            let mut giving = UpgradeGiver::default();
            for event in &well[..steps] {
                giving.step(event.clone());
            }
            assert!(giving.limit().is_some());
            let effects = giving.step(GivingEvent::TimeOver);
            assert_eq!(effects[0], GivingEffect::Kill);
            assert!(giving.accepts() && giving.is_over());
            // What comes late changes nothing.
            assert!(giving.step(GivingEvent::Accepting).is_empty());
        }
    }
}
