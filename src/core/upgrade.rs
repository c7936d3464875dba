//! Upgrade, in which one lameduck takes over from another: the steps of both processes.
//!
//! The old process spawns the new one, and both communicate over a socket. Each side is a state machine here: events
//! in, effects out. Two rules hold at every moment: at least one of the two accepts connections, or will without
//! outside help; and whichever dies, the other one continues. The old process stops accepting only when the new one
//! reports that it accepts, on the same listening sockets; the new process begins to accept when the old one says so,
//! or is dead.

use super::Time;

/// Newest protocol version that this lameduck understands.
pub const NEWEST_PROTOCOL: u32 = 1;
/// Oldest protocol version that it understands. Fields and frames may be added to a version; its number changes when
/// a process that doesn't know them would do the wrong thing.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Timeout for the new process to start, read its configuration and report so.
pub const TIME_TO_CHECK: Time = Time::from_secs(30);
/// Timeout for the new process to build everything from the state that it got.
pub const TIME_TO_BUILD: Time = Time::from_secs(30);
/// Timeout for the new process to begin to accept.
pub const TIME_TO_ACCEPT: Time = Time::from_secs(10);

/// The protocol versions that one process understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolRange {
    /// Oldest version.
    pub oldest: u32,
    /// Newest version.
    pub newest: u32,
}

impl ProtocolRange {
    /// The versions that this lameduck understands.
    pub const OWN: Self = Self {
        oldest: OLDEST_PROTOCOL,
        newest: NEWEST_PROTOCOL,
    };

    /// Returns the newest version that both understand.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// Phase of the old process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivingPhase {
    /// The new process starts and reads its configuration.
    Checking,
    /// The new process has the state, and builds.
    Building,
    /// The new process was told to accept.
    Starting,
    /// The new process accepts; this one finishes its requests.
    HandedOver,
    /// The upgrade failed; this process continues.
    WentOn,
}

/// An event of the old process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivingEvent {
    /// The new process's greeting.
    Greeted(ProtocolRange),
    /// The new process reports that its configuration is valid.
    Checked,
    /// The new process has built everything.
    Ready,
    /// The new process accepts.
    Accepting,
    /// The new process can't take over, and says why.
    Refused(String),
    /// The new process has ended, or has closed its socket.
    Gone(String),
    /// The phase has timed out.
    TimeOver,
    /// This process was told to stop.
    Stopped,
    /// The state can't be given.
    Failed(String),
}

/// An effect for the old process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivingEffect {
    /// Answer the greeting.
    Greet,
    /// Hold back changes, and give state and sockets.
    Give,
    /// Let the new process accept.
    LetAccept,
    /// Stop accepting, and finish the requests.
    HandOver,
    /// End the new process.
    Kill,
    /// Accept changes again, as before the upgrade, for this reason.
    GoOn(String),
}

/// State machine of the old process.
#[derive(Debug, Clone)]
pub struct UpgradeGiver {
    phase: GivingPhase,
    greeted: bool,
    /// Limit on the length of each phase.
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
    /// Limits the length of each phase.
    pub fn with_patience(self, patience: Option<Time>) -> Self {
        Self { patience, ..self }
    }

    /// Returns the phase.
    pub fn phase(&self) -> GivingPhase {
        self.phase
    }

    /// Whether this process accepts connections.
    pub fn accepts(&self) -> bool {
        self.phase != GivingPhase::HandedOver
    }

    /// Whether the upgrade is over, successful or not.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, GivingPhase::HandedOver | GivingPhase::WentOn)
    }

    /// Returns how long the phase may last.
    pub fn limit(&self) -> Option<Time> {
        let limit = match self.phase {
            GivingPhase::Checking => TIME_TO_CHECK,
            GivingPhase::Building => TIME_TO_BUILD,
            GivingPhase::Starting => TIME_TO_ACCEPT,
            GivingPhase::HandedOver | GivingPhase::WentOn => return None,
        };
        Some(self.patience.map_or(limit, |patience| patience.min(limit)))
    }

    /// Processes one event; returns the effects to carry out, in this order.
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
            // Out of order: a process that sends this can't be trusted with connections.
            (event, _) => self.give_up(format!("it spoke out of turn ({event:?})"), true),
        }
    }

    fn give_up(&mut self, why: String, kill: bool) -> Vec<GivingEffect> {
        self.phase = GivingPhase::WentOn;
        let kill = kill.then_some(GivingEffect::Kill);
        kill.into_iter().chain([GivingEffect::GoOn(why)]).collect()
    }
}

/// Phase of the new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakingPhase {
    /// It has sent its greeting, and waits for the answer.
    Greeting,
    /// It has reported that its configuration is valid, and waits for the state.
    Waiting,
    /// It builds everything.
    Building,
    /// It has built everything, and waits until it may accept.
    Ready,
    /// It accepts, and waits for the old process's last message.
    Accepting,
    /// It serves.
    Serving,
    /// It has ended.
    Ended,
}

/// An event of the new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakingEvent {
    /// The old process's answer.
    Greeted(ProtocolRange),
    /// State and sockets.
    Given,
    /// Everything is built.
    Built,
    /// The old process lets it accept.
    MayAccept,
    /// It accepts.
    Accepts,
    /// The old process has stopped accepting.
    HandedOver,
    /// The old process is dead.
    Gone,
    /// Something is not available here, or the old process withdraws: the reason.
    Failed(String),
}

/// An effect for the new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakingEffect {
    /// Report that its configuration is valid.
    SayChecked,
    /// Build everything from the state that it got; without any, as at any start.
    Build {
        /// Whether the old process has given state.
        given: bool,
    },
    /// Report that everything is built.
    SayReady,
    /// Begin to accept.
    Accept,
    /// Report that it accepts.
    SayAccepting,
    /// Serve as this machine's lameduck from now on.
    Serve,
    /// Report why it can't take over, and end.
    Refuse(String),
}

/// State machine of the new process.
#[derive(Debug, Clone)]
pub struct UpgradeTaker {
    phase: TakingPhase,
    /// Whether the old process is dead.
    alone: bool,
    /// Whether a supervisor starts another process when the old one dies, and learns of this one only when the old
    /// one lets go.
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
    /// Sets whether a supervisor starts another process in place of the old one when that dies.
    pub fn set_supervised(&mut self, is_supervised: bool) {
        self.is_supervised = is_supervised;
    }

    /// Returns the phase.
    pub fn phase(&self) -> TakingPhase {
        self.phase
    }

    /// Whether this process accepts connections.
    pub fn accepts(&self) -> bool {
        matches!(self.phase, TakingPhase::Accepting | TakingPhase::Serving)
    }

    /// Whether the old process is dead.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Processes one event; returns the effects to carry out, in this order.
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
                // No connections are accepted here yet, and two processes would serve: this one, and the one that is
                // started now. Once this process accepts, it continues: the supervisor may know of it.
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
            // Late events change nothing.
            assert!(giving.step(GivingEvent::Accepting).is_empty());
        }
    }
}
