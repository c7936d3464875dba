//! Combines the events of a launcher's proxies into those that [`AppLaunch`](super::AppLaunch) takes.
//!
//! With one proxy, all events are passed on. With several, an instance is ready when all reachable proxies have
//! reported so, and its drain is over when it has ended in all proxies that could be asked. A proxy that can't be
//! reached is named in a message, and never waited for; a proxy that connects late is asked for the same lame duck or
//! drain as the others.

use super::LaunchEvent;
use crate::core::drain::DrainOutcome;

/// An event of one proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyEvent {
    /// The lease has been granted.
    Registered,
    /// An attempt to get a lease has failed.
    Unreachable,
    /// The proxy sends requests to the instance, or no longer does.
    Ready(bool),
    /// No new requests come to the proxy any more.
    Quiet,
    /// The proxy's drain of the lease has ended.
    Drained(DrainOutcome),
    /// The drain request to the proxy failed.
    DrainRefused(String),
    /// The connection of the lease is closed.
    LeaseLost,
}

/// An outcome of such an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyOutcome {
    /// Pass this event to the launcher.
    Tell(LaunchEvent),
    /// Ask this proxy, by its number, to be a lame duck, as the others have been.
    AskLameDuck(usize),
    /// Ask this proxy for the drain, as the others have been.
    AskDrain(usize),
    /// Write a message to standard error.
    Say(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// The first answer has not come yet.
    Trying,
    Away,
    Held,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draining {
    No,
    Asked,
    Ended(DrainOutcome),
    /// The proxy could not be asked, or no longer answers.
    Unknown,
}

#[derive(Debug, Clone)]
struct LaunchProxy {
    name: String,
    lease: Holding,
    is_ready: bool,
    is_quiet: bool,
    drain: Draining,
}

/// All proxies of a launcher.
#[derive(Debug)]
pub struct LaunchProxies {
    proxies: Vec<LaunchProxy>,
    is_lame: bool,
    is_draining: bool,
}

impl LaunchProxies {
    /// Creates proxies with these names, of which nothing has been requested.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let proxies = names.into_iter().map(|name| LaunchProxy {
            name,
            lease: Holding::Trying,
            is_ready: false,
            is_quiet: false,
            drain: Draining::No,
        });
        Self {
            proxies: proxies.collect(),
            is_lame: false,
            is_draining: false,
        }
    }

    /// Returns the proxies that have to be asked to be a lame duck.
    pub fn begin_lame_duck(&mut self) -> Vec<usize> {
        self.is_lame = true;
        self.numbers(|proxy| proxy.lease == Holding::Held)
    }

    /// Returns the proxies that have to be asked for a drain, and messages about the others.
    pub fn begin_drain(&mut self) -> (Vec<usize>, Vec<ProxyOutcome>) {
        let mut said = Vec::new();
        let is_first = !std::mem::replace(&mut self.is_draining, true);
        let asked =
            self.numbers(|proxy| proxy.lease == Holding::Held && proxy.drain == Draining::No);
        for proxy in &mut self.proxies {
            match (proxy.lease, proxy.drain) {
                (Holding::Held, Draining::No) => proxy.drain = Draining::Asked,
                (Holding::Held, _) => {}
                (lease, _) if is_first => {
                    proxy.drain = Draining::Unknown;
                    if lease == Holding::Lost {
                        said.push(ProxyOutcome::Say(format!(
                            "the proxy at {} can't be reached: it is not asked for the drain, and not waited for",
                            proxy.name
                        )));
                    }
                }
                _ => {}
            }
        }
        (asked, said)
    }

    fn numbers(&self, of: impl Fn(&LaunchProxy) -> bool) -> Vec<usize> {
        let numbered = self.proxies.iter().enumerate();
        let meant = numbered.filter(|(_, proxy)| of(proxy));
        meant.map(|(number, _)| number).collect()
    }

    /// Processes an event of the proxy with this number.
    pub fn step(&mut self, number: usize, event: ProxyEvent) -> Vec<ProxyOutcome> {
        let mut outcomes = Vec::new();
        let Some(proxy) = self.proxies.get_mut(number) else {
            return outcomes;
        };
        match event {
            ProxyEvent::Registered => {
                (proxy.lease, proxy.is_quiet) = (Holding::Held, false);
                outcomes.push(ProxyOutcome::Tell(LaunchEvent::Registered));
                if self.is_draining {
                    proxy.drain = Draining::Asked;
                    outcomes.push(ProxyOutcome::AskDrain(number));
                } else if self.is_lame {
                    outcomes.push(ProxyOutcome::AskLameDuck(number));
                }
            }
            ProxyEvent::Unreachable => {
                if proxy.lease == Holding::Trying {
                    proxy.lease = Holding::Away;
                    self.tell_ready(&mut outcomes);
                }
            }
            ProxyEvent::Ready(ready) => {
                proxy.is_ready = ready;
                self.tell_ready(&mut outcomes);
            }
            ProxyEvent::Quiet => {
                proxy.is_quiet = true;
                self.tell_quiet(&mut outcomes);
            }
            ProxyEvent::Drained(DrainOutcome::Resumed) => {
                proxy.drain = Draining::No;
                outcomes.push(ProxyOutcome::Tell(LaunchEvent::Drained(
                    DrainOutcome::Resumed,
                )));
            }
            // A drain that this launcher did not order has ended. Its own is still to come.
            ProxyEvent::Drained(_) if proxy.drain != Draining::Asked => {}
            ProxyEvent::Drained(end) => {
                proxy.drain = Draining::Ended(end);
                self.tell_drained(None, &mut outcomes);
            }
            ProxyEvent::DrainRefused(why) => {
                proxy.drain = Draining::Unknown;
                self.tell_drained(Some((number, why)), &mut outcomes);
            }
            ProxyEvent::LeaseLost => self.lose(number, &mut outcomes),
        }
        outcomes
    }

    fn lose(&mut self, number: usize, outcomes: &mut Vec<ProxyOutcome>) {
        let proxy = &mut self.proxies[number];
        (proxy.lease, proxy.is_ready) = (Holding::Lost, false);
        let was_asked = proxy.drain == Draining::Asked;
        if was_asked {
            proxy.drain = Draining::Unknown;
        }
        let is_held = self.proxies.iter().any(|one| one.lease == Holding::Held);
        let is_counted = self.is_draining && self.ends().next().is_some();
        match (was_asked, is_held || is_counted) {
            (true, true) => {
                let name = &self.proxies[number].name;
                outcomes.push(ProxyOutcome::Say(format!(
                    "the proxy at {name} is gone in mid-drain: it is not waited for"
                )));
                self.tell_drained(None, outcomes);
            }
            (_, false) => outcomes.push(ProxyOutcome::Tell(LaunchEvent::LeaseLost)),
            (false, true) => {
                self.tell_ready(outcomes);
                if self.is_lame {
                    self.tell_quiet(outcomes);
                }
            }
        }
    }

    /// Reports whether all reachable proxies are ready. A proxy whose first answer has not come yet is waited for.
    fn tell_ready(&self, outcomes: &mut Vec<ProxyOutcome>) {
        let counts = |proxy: &&LaunchProxy| matches!(proxy.lease, Holding::Held | Holding::Trying);
        let mut counted = self.proxies.iter().filter(counts);
        let is_ready = counted.all(|proxy| proxy.lease == Holding::Held && proxy.is_ready);
        let some = self.proxies.iter().any(|proxy| proxy.is_ready);
        outcomes.push(ProxyOutcome::Tell(LaunchEvent::Ready(is_ready && some)));
    }

    fn tell_quiet(&self, outcomes: &mut Vec<ProxyOutcome>) {
        let mut held = self
            .proxies
            .iter()
            .filter(|proxy| proxy.lease == Holding::Held);
        if held.all(|proxy| proxy.is_quiet) {
            outcomes.push(ProxyOutcome::Tell(LaunchEvent::Quiet));
        }
    }

    fn ends(&self) -> impl Iterator<Item = DrainOutcome> {
        self.proxies.iter().filter_map(|proxy| match proxy.drain {
            Draining::Ended(end) => Some(end),
            _ => None,
        })
    }

    /// Reports how the drain ended, once all proxies that were asked have reported it. `refused`: one could not be
    /// asked.
    fn tell_drained(&self, refused: Option<(usize, String)>, outcomes: &mut Vec<ProxyOutcome>) {
        let is_waiting = self
            .proxies
            .iter()
            .any(|proxy| proxy.drain == Draining::Asked);
        let (mut lost, mut cut, mut ended, mut died, mut late) =
            (0_u32, 0_u32, false, false, false);
        for end in self.ends() {
            ended = true;
            match end {
                DrainOutcome::Died { lost: more } => {
                    (died, lost) = (true, lost.saturating_add(more))
                }
                DrainOutcome::TimedOut { cut: more } => {
                    (late, cut) = (true, cut.saturating_add(more))
                }
                DrainOutcome::Drained | DrainOutcome::Resumed => {}
            }
        }
        match refused {
            Some((_, why)) if !is_waiting && !ended => {
                outcomes.push(ProxyOutcome::Tell(LaunchEvent::DrainRefused(why)));
                return;
            }
            Some((number, why)) => outcomes.push(ProxyOutcome::Say(format!(
                "the proxy at {} could not be asked for the drain ({why}): it is not waited for",
                self.proxies[number].name
            ))),
            None => {}
        }
        if is_waiting || !ended {
            return;
        }
        let end = match (died, late) {
            (true, _) => DrainOutcome::Died { lost },
            (false, true) => DrainOutcome::TimedOut { cut },
            (false, false) => DrainOutcome::Drained,
        };
        outcomes.push(ProxyOutcome::Tell(LaunchEvent::Drained(end)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(count: usize) -> LaunchProxies {
        LaunchProxies::new((0..count).map(|n| format!("p{n}")))
    }

    /// Returns this number of proxies, all holding the lease and ready.
    fn held(count: usize) -> LaunchProxies {
        let mut all = proxies(count);
        for n in 0..count {
            all.step(n, ProxyEvent::Registered);
            all.step(n, ProxyEvent::Ready(true));
        }
        all
    }

    fn told(outcomes: &[ProxyOutcome]) -> Vec<LaunchEvent> {
        let told = outcomes.iter().filter_map(|outcome| match outcome {
            ProxyOutcome::Tell(event) => Some(event.clone()),
            _ => None,
        });
        told.collect()
    }

    fn said(outcomes: &[ProxyOutcome], name: &str) -> bool {
        let of = |outcome: &ProxyOutcome| matches!(outcome, ProxyOutcome::Say(text) if text.contains(name));
        outcomes.iter().any(of)
    }

    #[test]
    fn events_of_a_single_proxy_are_passed_on_unchanged() {
        let mut one = proxies(1);
        assert_eq!(
            told(&one.step(0, ProxyEvent::Registered)),
            [LaunchEvent::Registered]
        );
        assert_eq!(
            told(&one.step(0, ProxyEvent::Ready(true))),
            [LaunchEvent::Ready(true)]
        );
        assert_eq!(one.begin_drain(), (vec![0], vec![]));
        let refused = one.step(0, ProxyEvent::DrainRefused("why".into()));
        assert_eq!(
            refused,
            [ProxyOutcome::Tell(LaunchEvent::DrainRefused("why".into()))]
        );
        let lost = one.step(0, ProxyEvent::LeaseLost);
        assert_eq!(lost, [ProxyOutcome::Tell(LaunchEvent::LeaseLost)]);
        let mut one = held(1);
        one.begin_drain();
        let cut = DrainOutcome::TimedOut { cut: 2 };
        assert_eq!(
            told(&one.step(0, ProxyEvent::Drained(cut))),
            [LaunchEvent::Drained(cut)]
        );
    }

    #[test]
    fn end_of_somebody_else_s_drain_is_no_answer_to_ours() {
        let mut one = held(1);
        assert_eq!(
            told(&one.step(0, ProxyEvent::Drained(DrainOutcome::Drained))),
            []
        );
        assert_eq!(one.begin_drain(), (vec![0], vec![]));
        let ended = told(&one.step(0, ProxyEvent::Drained(DrainOutcome::Drained)));
        assert_eq!(ended, [LaunchEvent::Drained(DrainOutcome::Drained)]);
    }

    #[test]
    fn instance_is_ready_when_all_say_so_that_can_be_reached() {
        let mut two = proxies(2);
        two.step(0, ProxyEvent::Registered);
        let first = two.step(0, ProxyEvent::Ready(true));
        assert_eq!(
            told(&first),
            [LaunchEvent::Ready(false)],
            "the other may be about to answer"
        );
        let away = two.step(1, ProxyEvent::Unreachable);
        assert_eq!(told(&away), [LaunchEvent::Ready(true)]);
    }

    #[test]
    fn drain_is_over_when_all_have_ended_it_and_counts_what_each_has_cut() {
        let mut two = held(2);
        assert_eq!(two.begin_drain().0, [0, 1]);
        let first = two.step(0, ProxyEvent::Drained(DrainOutcome::TimedOut { cut: 1 }));
        assert_eq!(told(&first), []);
        let second = two.step(1, ProxyEvent::Drained(DrainOutcome::TimedOut { cut: 2 }));
        let whole = DrainOutcome::TimedOut { cut: 3 };
        assert_eq!(told(&second), [LaunchEvent::Drained(whole)]);
    }

    #[test]
    fn unreachable_proxy_is_named_and_not_waited_for() {
        for gone in [
            ProxyEvent::LeaseLost,
            ProxyEvent::DrainRefused("no answer".into()),
        ] {
            // Before the other has ended, and after it.
            let mut two = held(2);
            two.begin_drain();
            let lost = two.step(1, gone.clone());
            assert!(said(&lost, "p1") && told(&lost).is_empty(), "{lost:?}");
            let end = two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
            assert_eq!(told(&end), [LaunchEvent::Drained(DrainOutcome::Drained)]);
            let mut two = held(2);
            two.begin_drain();
            two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
            let lost = two.step(1, gone.clone());
            assert!(said(&lost, "p1"), "{lost:?}");
            assert_eq!(told(&lost), [LaunchEvent::Drained(DrainOutcome::Drained)]);
        }
    }

    #[test]
    fn lease_that_breaks_matters_when_it_was_the_last() {
        let mut two = held(2);
        assert_eq!(
            told(&two.step(0, ProxyEvent::LeaseLost)),
            [LaunchEvent::Ready(true)]
        );
        let (asked, said) = two.begin_drain();
        assert_eq!(asked, [1]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(
            told(&two.step(1, ProxyEvent::LeaseLost)),
            [LaunchEvent::LeaseLost]
        );
    }

    #[test]
    fn proxy_that_comes_late_learns_what_was_asked_of_the_others() {
        let mut two = held(2);
        two.step(1, ProxyEvent::LeaseLost);
        assert_eq!(two.begin_lame_duck(), [0]);
        let late = two.step(1, ProxyEvent::Registered);
        assert!(late.contains(&ProxyOutcome::AskLameDuck(1)), "{late:?}");
        two.step(1, ProxyEvent::LeaseLost);
        two.begin_drain();
        let late = two.step(1, ProxyEvent::Registered);
        assert!(late.contains(&ProxyOutcome::AskDrain(1)), "{late:?}");
        let first = two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
        assert_eq!(told(&first), [], "the late one has to end, too");
    }

    #[test]
    fn launcher_is_quiet_when_all_remaining_proxies_are() {
        let mut two = held(2);
        two.begin_lame_duck();
        assert_eq!(told(&two.step(0, ProxyEvent::Quiet)), []);
        let lost = two.step(1, ProxyEvent::LeaseLost);
        assert!(told(&lost).contains(&LaunchEvent::Quiet), "{lost:?}");
    }

    #[test]
    fn lifted_drain_is_requested_again_from_the_proxy_that_lifted_it() {
        let mut two = held(2);
        two.begin_drain();
        two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
        let lifted = two.step(1, ProxyEvent::Drained(DrainOutcome::Resumed));
        assert_eq!(told(&lifted), [LaunchEvent::Drained(DrainOutcome::Resumed)]);
        assert_eq!(two.begin_drain().0, [1]);
    }
}
