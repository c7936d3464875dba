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
    /// The connection of the lease is closed; the next attempt to get a lease follows at once.
    LeaseLost,
}

/// An outcome of such an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyOutcome {
    /// Pass this event to the launcher.
    Tell(LaunchEvent),
    /// Ask this proxy, by its number, to be a lame duck, as the others have been.
    AskLameDuck(usize),
    /// Ask this proxy for the drain, as the others have been, as soon as it has granted the lease again.
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
    /// The connection is closed, and no attempt to get the lease again has failed: if another process has taken over
    /// from the proxy, it grants the lease, and goes on with what was asked for.
    Interrupted,
    /// The connection is closed, and the lease was not granted again.
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

impl LaunchProxy {
    /// Whether the proxy has granted the lease, as far as is known.
    fn has_lease(&self) -> bool {
        matches!(self.lease, Holding::Held | Holding::Interrupted)
    }
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
        let asked = self.numbers(|proxy| proxy.has_lease() && proxy.drain == Draining::No);
        for proxy in &mut self.proxies {
            match (proxy.lease, proxy.drain) {
                (Holding::Held | Holding::Interrupted, Draining::No) => {
                    proxy.drain = Draining::Asked;
                }
                (Holding::Held | Holding::Interrupted, _) => {}
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
                    if proxy.drain != Draining::Asked {
                        proxy.drain = Draining::Asked;
                        outcomes.push(ProxyOutcome::AskDrain(number));
                    }
                } else if self.is_lame {
                    outcomes.push(ProxyOutcome::AskLameDuck(number));
                }
            }
            ProxyEvent::Unreachable => match proxy.lease {
                Holding::Trying => {
                    proxy.lease = Holding::Away;
                    self.tell_ready(&mut outcomes);
                }
                Holding::Interrupted => self.lose(number, &mut outcomes),
                Holding::Away | Holding::Held | Holding::Lost => {}
            },
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
            // The proxy is gone, or has ended the drain meanwhile.
            ProxyEvent::DrainRefused(_) if proxy.drain != Draining::Asked => {}
            ProxyEvent::DrainRefused(why) => {
                proxy.drain = Draining::Unknown;
                self.tell_drained(Some((number, why)), &mut outcomes);
            }
            ProxyEvent::LeaseLost => {
                (proxy.lease, proxy.is_ready) = (Holding::Interrupted, false);
                if proxy.drain == Draining::Asked {
                    // The answer may have been lost with the process that gave it.
                    outcomes.push(ProxyOutcome::AskDrain(number));
                }
            }
        }
        outcomes
    }

    fn lose(&mut self, number: usize, outcomes: &mut Vec<ProxyOutcome>) {
        let proxy = &mut self.proxies[number];
        proxy.lease = Holding::Lost;
        let was_asked = proxy.drain == Draining::Asked;
        if was_asked {
            proxy.drain = Draining::Unknown;
        }
        let is_held = self.proxies.iter().any(LaunchProxy::has_lease);
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
        let counts = |proxy: &&LaunchProxy| proxy.has_lease() || proxy.lease == Holding::Trying;
        let mut counted = self.proxies.iter().filter(counts);
        let is_ready = counted.all(|proxy| proxy.lease == Holding::Held && proxy.is_ready);
        let some = self.proxies.iter().any(|proxy| proxy.is_ready);
        outcomes.push(ProxyOutcome::Tell(LaunchEvent::Ready(is_ready && some)));
    }

    fn tell_quiet(&self, outcomes: &mut Vec<ProxyOutcome>) {
        let mut held = self.proxies.iter().filter(|proxy| proxy.has_lease());
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
mod tests;
