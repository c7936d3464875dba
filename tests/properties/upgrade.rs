//! Both ends of an upgrade, a socket between them, and either dying at any moment.

use std::collections::VecDeque;

use lameduck::core::upgrade::{
    GivingEffect, GivingEvent, GivingPhase, ProtocolRange, TakingEffect, TakingEvent, TakingPhase,
    UpgradeGiver, UpgradeTaker,
};
use proptest::prelude::*;

/// What the next moment brings.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The old one hears the next word.
    OldHears,
    /// The new one hears the next word, or that nobody is there any more.
    NewHears,
    /// The new one is done with what it is at.
    NewWorks,
    /// The old one's patience is over.
    TimeOver,
    /// The old one is told to stop.
    Stopped,
    OldDies,
    NewDies,
    /// The new one finds that something can't be had.
    NewFails,
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        12 => Just(Moment::OldHears),
        12 => Just(Moment::NewHears),
        12 => Just(Moment::NewWorks),
        1 => Just(Moment::TimeOver),
        1 => Just(Moment::Stopped),
        1 => Just(Moment::OldDies),
        1 => Just(Moment::NewDies),
        1 => Just(Moment::NewFails),
    ];
    proptest::collection::vec(moment, 0..60)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Hello,
    Checked,
    State,
    Ready,
    Accept,
    Accepting,
    HandedOver,
    Refused,
}

/// What the new one is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Building,
    Opening,
}

struct World {
    old: UpgradeGiver,
    new: UpgradeTaker,
    old_lives: bool,
    new_lives: bool,
    to_old: VecDeque<Word>,
    to_new: VecDeque<Word>,
    work: Option<Work>,
    range: ProtocolRange,
    opened: bool,
    stopped: bool,
}

impl World {
    fn new(range: ProtocolRange) -> Self {
        Self {
            old: UpgradeGiver::default(),
            new: UpgradeTaker::default(),
            old_lives: true,
            new_lives: true,
            to_old: VecDeque::from([Word::Hello]),
            to_new: VecDeque::new(),
            work: None,
            range,
            opened: false,
            stopped: false,
        }
    }

    fn old_steps(&mut self, event: GivingEvent) {
        for effect in self.old.step(event) {
            match effect {
                GivingEffect::Greet => self.to_new.push_back(Word::Hello),
                GivingEffect::Give => self.to_new.push_back(Word::State),
                GivingEffect::LetAccept => self.to_new.push_back(Word::Accept),
                GivingEffect::HandOver => {
                    assert!(self.opened, "handed over to one that does not accept");
                    self.to_new.push_back(Word::HandedOver);
                }
                GivingEffect::Kill => self.new_lives = false,
                GivingEffect::GoOn(why) => assert!(!why.is_empty()),
            }
        }
    }

    fn new_steps(&mut self, event: TakingEvent) {
        for effect in self.new.step(event) {
            match effect {
                TakingEffect::SayChecked => self.to_old.push_back(Word::Checked),
                TakingEffect::Build { .. } => self.work = Some(Work::Building),
                TakingEffect::SayReady => self.to_old.push_back(Word::Ready),
                TakingEffect::Accept => self.work = Some(Work::Opening),
                TakingEffect::SayAccepting => self.to_old.push_back(Word::Accepting),
                TakingEffect::Serve => {}
                TakingEffect::Refuse(why) => {
                    assert!(!why.is_empty());
                    self.to_old.push_back(Word::Refused);
                    self.new_lives = false;
                }
            }
        }
    }

    fn moment(&mut self, moment: Moment) {
        match moment {
            Moment::OldHears if self.old_lives => match self.to_old.pop_front() {
                Some(Word::Hello) => self.old_steps(GivingEvent::Greeted(self.range)),
                Some(Word::Checked) => self.old_steps(GivingEvent::Checked),
                Some(Word::Ready) => self.old_steps(GivingEvent::Ready),
                Some(Word::Accepting) => self.old_steps(GivingEvent::Accepting),
                Some(Word::Refused) => self.old_steps(GivingEvent::Refused("no".into())),
                Some(word) => panic!("the new one said {word:?}"),
                None if !self.new_lives => self.old_steps(GivingEvent::Gone("gone".into())),
                None => {}
            },
            Moment::NewHears if self.new_lives => match self.to_new.pop_front() {
                Some(Word::Hello) => self.new_steps(TakingEvent::Greeted(ProtocolRange::OWN)),
                Some(Word::State) => self.new_steps(TakingEvent::Given),
                Some(Word::Accept) => self.new_steps(TakingEvent::MayAccept),
                Some(Word::HandedOver) => self.new_steps(TakingEvent::HandedOver),
                Some(word) => panic!("the old one said {word:?}"),
                // It looks for the old one only where it waits for a word.
                None if !self.old_lives && self.work.is_none() => {
                    self.new_steps(TakingEvent::Gone);
                }
                None => {}
            },
            Moment::NewWorks if self.new_lives => match self.work.take() {
                Some(Work::Building) => self.new_steps(TakingEvent::Built),
                Some(Work::Opening) => {
                    self.opened = true;
                    self.new_steps(TakingEvent::Accepts);
                }
                None => {}
            },
            Moment::TimeOver if self.old_lives && self.old.limit().is_some() => {
                self.old_steps(GivingEvent::TimeOver);
            }
            Moment::Stopped if self.old_lives && !self.old.is_over() => {
                self.stopped = true;
                self.old_steps(GivingEvent::Stopped);
            }
            Moment::OldDies => self.old_lives = false,
            Moment::NewDies => self.new_lives = false,
            Moment::NewFails if self.new_lives && self.work == Some(Work::Building) => {
                self.new_steps(TakingEvent::Failed("no descriptor".into()));
            }
            _ => {}
        }
        self.check();
    }

    /// At every moment: somebody accepts, or somebody lives who will without anybody's help.
    fn check(&self) {
        let old_accepts = self.old_lives && self.old.accepts();
        let new_accepts = self.new_lives && self.opened;
        if self.old_lives && self.new_lives {
            assert!(old_accepts || new_accepts, "nobody accepts");
        }
        if self.old_lives && !self.new_lives && !self.opened {
            assert!(old_accepts, "the old one let go of nothing");
        }
        if old_accepts && self.old.phase() == GivingPhase::WentOn {
            assert!(!self.new_lives, "both go on");
        }
    }

    /// Nothing more happens but what has to.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.moment(Moment::OldHears);
            self.moment(Moment::NewHears);
            self.moment(Moment::NewWorks);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn one_of_the_two_goes_on_whichever_dies_when(moments in moments()) {
        let mut world = World::new(ProtocolRange::OWN);
        for moment in moments {
            world.moment(moment);
        }
        world.settle();
        if world.old_lives && world.old.phase() != GivingPhase::HandedOver {
            // It goes on, or is still to give; then the other one lives.
            prop_assert!(world.old.accepts());
            prop_assert!(!world.new_lives || world.old.phase() == GivingPhase::WentOn || !world.old.is_over());
        }
        if world.new_lives {
            let phase = world.new.phase();
            prop_assert_eq!(phase, TakingPhase::Serving, "it lives and does not serve");
            prop_assert!(world.opened);
        } else if world.old_lives && !world.opened {
            prop_assert_eq!(world.old.phase(), GivingPhase::WentOn);
        }
    }

    #[test]
    fn protocols_without_one_in_common_leave_the_old_one_as_it_was(oldest in 2..9_u32, more in 0..4_u32) {
        let mut world = World::new(ProtocolRange { oldest, newest: oldest + more });
        world.settle();
        prop_assert!(world.old.accepts() && !world.opened);
        prop_assert_eq!(world.old.phase(), GivingPhase::WentOn);
    }
}
