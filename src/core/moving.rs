//! Decides which process continues with an open connection that one hands to another, when either may die at any
//! step.
//!
//! The rule: the giver stops reading and writing before it offers a connection, and neither process uses it from then
//! on. The giver owns it until it has written a message, *the word* ("go"), and the taker from the moment when it has
//! read that. A written word stays readable when the giver dies; a word that was not written is never read. So
//! exactly one of the two continues with a connection, unless the owner dies, and then neither does.

/// The giver's side of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GivenConnection {
    /// The connection is served here.
    #[default]
    Served,
    /// The connection is paused, and has been offered.
    Offered,
    /// The word was written: the taker owns the connection.
    Given,
}

impl GivenConnection {
    /// Whether this process may read from the connection or write to it.
    pub fn may_be_touched(self) -> bool {
        self == Self::Served
    }

    /// Marks the connection, which is paused now, as offered.
    pub fn offer(&mut self) {
        if *self == Self::Served {
            *self = Self::Offered;
        }
    }

    /// Marks the connection as given, after the word was written completely. Returns whether it had been offered.
    pub fn give(&mut self) -> bool {
        let is_offered = *self == Self::Offered;
        if is_offered {
            *self = Self::Given;
        }
        is_offered
    }

    /// Takes back an offer, because the taker refuses it or can't be reached: the connection is served here again,
    /// unless the word was written.
    pub fn withdraw(&mut self) {
        if *self == Self::Offered {
            *self = Self::Served;
        }
    }
}

/// The taker's side of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TakenConnection {
    /// The connection has arrived, and is paused.
    #[default]
    Held,
    /// The word was read: the connection is served here.
    Served,
    /// The word never came: the descriptors are closed, and nothing was written to them.
    Dropped,
}

impl TakenConnection {
    /// Whether this process may read from the connection or write to it.
    pub fn may_be_touched(self) -> bool {
        self == Self::Served
    }

    /// Marks the word as read; returns whether the connection is served here from now on.
    pub fn take(&mut self) -> bool {
        let is_held = *self == Self::Held;
        if is_held {
            *self = Self::Served;
        }
        is_held
    }

    /// Drops the connection, because the giver has gone or has withdrawn it before the word was read.
    pub fn drop_held(&mut self) {
        if *self == Self::Held {
            *self = Self::Dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A step in the hand-over of one connection.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Offer,
        /// The giver writes the word, unless it knows of a refusal.
        WriteWord,
        /// The taker's refusal reaches the giver.
        Refuse,
        /// The taker reads the next message.
        Read,
        GiverDies,
        TakerDies,
        /// The giver sees that the other end is closed, or its wait times out.
        GiverGivesUp,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Message {
        Connection,
        Word,
        Withdrawn,
    }

    #[derive(Debug, Default)]
    struct HandOver {
        giver: Option<GivenConnection>,
        taker: Option<TakenConnection>,
        is_giver_dead: bool,
        is_taker_dead: bool,
        wire: VecDeque<Message>,
        is_refused: bool,
    }

    impl HandOver {
        fn step(&mut self, step: Step) {
            match step {
                Step::Offer if !self.is_giver_dead => {
                    if let Some(giver) = &mut self.giver
                        && giver.may_be_touched()
                        && !self.is_taker_dead
                        && self.taker.is_none()
                        && self.wire.is_empty()
                    {
                        giver.offer();
                        self.wire.push_back(Message::Connection);
                    }
                }
                Step::WriteWord if !self.is_giver_dead && !self.is_refused => {
                    if let Some(giver) = &mut self.giver {
                        // A write to a dead taker fails.
                        match self.is_taker_dead {
                            true => giver.withdraw(),
                            false if giver.give() => self.wire.push_back(Message::Word),
                            false => {}
                        }
                    }
                }
                Step::Refuse
                    if self.taker == Some(TakenConnection::Held) && !self.is_taker_dead =>
                {
                    // Sent before the word was read; the word may be under way already.
                    self.is_refused = true;
                    if let Some(giver) = &mut self.giver
                        && !self.is_giver_dead
                        && *giver == GivenConnection::Offered
                    {
                        giver.withdraw();
                        self.wire.push_back(Message::Withdrawn);
                    }
                }
                Step::Read if !self.is_taker_dead => match self.wire.pop_front() {
                    Some(Message::Connection) => self.taker = Some(TakenConnection::default()),
                    Some(Message::Word) => {
                        if let Some(taker) = &mut self.taker {
                            taker.take();
                        }
                    }
                    Some(Message::Withdrawn) => {
                        if let Some(taker) = &mut self.taker {
                            taker.drop_held();
                        }
                    }
                    None if self.is_giver_dead => {
                        if let Some(taker) = &mut self.taker {
                            taker.drop_held();
                        }
                    }
                    None => {}
                },
                Step::GiverDies => self.is_giver_dead = true,
                Step::TakerDies => self.is_taker_dead = true,
                Step::GiverGivesUp if !self.is_giver_dead => {
                    if let Some(giver) = &mut self.giver
                        && *giver == GivenConnection::Offered
                    {
                        giver.withdraw();
                        self.wire.push_back(Message::Withdrawn);
                    }
                }
                _ => {}
            }
        }

        fn touches(&self) -> (bool, bool) {
            let giver = self.giver.is_some_and(GivenConnection::may_be_touched);
            let taker = self.taker.is_some_and(TakenConnection::may_be_touched);
            (giver && !self.is_giver_dead, taker && !self.is_taker_dead)
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Offer),
            3 => Just(Step::WriteWord),
            1 => Just(Step::Refuse),
            6 => Just(Step::Read),
            1 => Just(Step::GiverDies),
            1 => Just(Step::TakerDies),
            1 => Just(Step::GiverGivesUp),
        ]
    }

    proptest! {
        #[test]
        fn connection_is_touched_by_one_process_and_by_one_that_lives(
            steps in proptest::collection::vec(step(), 0..40)
        ) {
            let mut over = HandOver { giver: Some(GivenConnection::Served), ..HandOver::default() };
            for step in steps {
                over.step(step);
                let (giver, taker) = over.touches();
                prop_assert!(!(giver && taker), "both: {over:?}");
            }
            // Each end finishes: the taker reads what there is, and the giver gives up pending offers.
            for _ in 0..8 {
                over.step(Step::Read);
            }
            over.step(Step::GiverGivesUp);
            for _ in 0..8 {
                over.step(Step::Read);
            }
            let (giver, taker) = over.touches();
            prop_assert!(!(giver && taker), "both: {over:?}");
            if !over.is_giver_dead && !over.is_taker_dead {
                prop_assert!(giver || taker, "neither: {over:?}");
            }
            // The owner is alive, so the connection is served.
            if !over.is_giver_dead && over.giver != Some(GivenConnection::Given) {
                prop_assert!(giver, "{over:?}");
            }
            if !over.is_taker_dead && over.giver == Some(GivenConnection::Given) {
                prop_assert!(taker, "{over:?}");
            }
        }
    }

    #[test]
    fn word_that_was_written_is_not_taken_back() {
        let mut giver = GivenConnection::default();
        assert!(!giver.give(), "it was not offered");
        giver.offer();
        assert!(giver.give());
        giver.withdraw();
        giver.offer();
        assert_eq!(giver, GivenConnection::Given);
        let mut taker = TakenConnection::default();
        taker.drop_held();
        assert!(!taker.take(), "it was withdrawn");
    }
}
