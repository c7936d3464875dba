//! The leases with all proxies, handled as one: [`LaunchProxies`] combines their events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lease::{LeaseLink, LeasedInstance};
use super::mailbox::EventSender;
use crate::client::blocking::AdminRemote;
use crate::core::launch::LaunchEvent;
use crate::core::launch::proxies::{LaunchProxies, ProxyEvent, ProxyOutcome};
use crate::rt::output::complain;

/// A link to each proxy.
#[derive(Debug)]
pub(super) struct LeaseLinks {
    links: Vec<LeaseLink>,
    proxies: LaunchProxies,
    /// Requested lame duck, for proxies that connect later.
    lame_duck: Option<(String, bool)>,
    drain: Option<(Instant, String)>,
}

impl LeaseLinks {
    /// Links to these proxies; nothing is requested yet.
    pub(super) fn new(
        remotes: &[AdminRemote],
        instance: &LeasedInstance,
        post: &EventSender,
    ) -> Self {
        let names: Vec<_> = remotes.iter().map(AdminRemote::name).collect();
        let is_alone = remotes.len() < 2;
        let links = remotes.iter().enumerate().map(|(number, remote)| {
            LeaseLink::new(remote.clone(), instance.clone(), post.of(number), is_alone)
        });
        Self {
            links: links.collect(),
            proxies: LaunchProxies::new(names),
            lame_duck: None,
            drain: None,
        }
    }

    /// Requests a lease from each proxy, and again whenever it breaks.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn keep(&self, address: SocketAddr) -> std::io::Result<()> {
        self.links.iter().try_for_each(|link| link.keep(address))
    }

    /// Does not request leases again when they break from now on.
    pub(super) fn stop(&self) {
        self.links.iter().for_each(LeaseLink::stop);
    }

    /// Ends the leases.
    pub(super) fn hang_up(&self) {
        self.links.iter().for_each(LeaseLink::hang_up);
    }

    /// Last messages of the proxies, or why there is no lease.
    pub(super) fn status(&self) -> String {
        match self.links.as_slice() {
            [only] => only.status(),
            several => {
                let each = several.iter();
                let each = each.map(|link| format!("{}: {}", link.name(), link.status()));
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// Requests the drain from all proxies; its outcome is reported when all have answered.
    pub(super) fn drain(&mut self, timeout: Duration, reason: &str) {
        let (asked, said) = self.proxies.begin_drain();
        self.drain = Some((Instant::now() + timeout, reason.to_owned()));
        asked.into_iter().for_each(|number| self.ask_drain(number));
        drop(self.carry_out(said));
    }

    /// Makes all proxies lame duck. With `until_quiet`, they report when no new requests arrive at any of them.
    pub(super) fn lame_duck(&mut self, reason: &str, until_quiet: bool) {
        let asked = self.proxies.begin_lame_duck();
        self.lame_duck = Some((reason.to_owned(), until_quiet));
        asked
            .into_iter()
            .for_each(|number| self.ask_lame_duck(number));
    }

    fn ask_drain(&self, number: usize) {
        if let (Some(link), Some((deadline, reason))) = (self.links.get(number), &self.drain) {
            link.drain(*deadline, reason);
        }
    }

    fn ask_lame_duck(&self, number: usize) {
        if let (Some(link), Some((reason, until_quiet))) = (self.links.get(number), &self.lame_duck)
        {
            link.lame_duck(reason, *until_quiet);
        }
    }

    /// Handles an event of one proxy; returns the resulting events for the launcher.
    pub(super) fn handle_proxy_event(
        &mut self,
        number: usize,
        event: ProxyEvent,
    ) -> Vec<LaunchEvent> {
        let outcomes = self.proxies.step(number, event);
        self.carry_out(outcomes)
    }

    fn carry_out(&self, outcomes: Vec<ProxyOutcome>) -> Vec<LaunchEvent> {
        let mut told = Vec::new();
        for outcome in outcomes {
            match outcome {
                ProxyOutcome::Tell(event) => told.push(event),
                ProxyOutcome::AskLameDuck(number) => self.ask_lame_duck(number),
                ProxyOutcome::AskDrain(number) => self.ask_drain(number),
                ProxyOutcome::Say(text) => complain(&format!("exec: {text}")),
            }
        }
        told
    }
}
