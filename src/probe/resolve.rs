//! Repeated resolution of a backend's host name, because instances move to other addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::jitter::jittered;
use crate::config::Address;
use crate::registry::Endpoint;
use crate::registry::endpoint::ResolvedAddress;
use crate::registry::own_listeners::OwnListeners;
use crate::rt::panics;

/// Time between two lookups. The system's resolver does not tell how long a record is valid; other proxies use this
/// value in that case.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);

/// A failed connect starts a new lookup if the last one is older than this.
const MIN_LOOKUP_AGE: Duration = Duration::from_secs(1);

/// Keeps an endpoint's address up to date until it is dropped. Does nothing for literal addresses and unix sockets.
#[derive(Debug, Default)]
pub(super) struct AddressResolver {
    state: Arc<Mutex<Lookups>>,
    own: OwnListeners,
    task: Option<JoinHandle<()>>,
}

/// Result of the last lookup, and when it began.
#[derive(Debug, Default)]
struct Lookups {
    found: Vec<SocketAddr>,
    asked: Option<Instant>,
    #[cfg(test)]
    scripted: Option<Vec<SocketAddr>>,
}

impl AddressResolver {
    /// Starts the lookups. Must be called on a tokio runtime.
    pub(super) fn start(endpoint: &Arc<Endpoint>, own: &OwnListeners) -> Self {
        Self::over(endpoint, own, Arc::default())
    }

    fn over(endpoint: &Arc<Endpoint>, own: &OwnListeners, state: Arc<Mutex<Lookups>>) -> Self {
        if !matches!(endpoint.address, Address::Name(..)) {
            return Self::default();
        }
        let (asked, answers, own_listeners) = (endpoint.clone(), state.clone(), own.clone());
        let start = move || keep_looking(asked.clone(), answers.clone(), own_listeners.clone());
        let task = tokio::spawn(panics::restart("resolver", start));
        Self {
            state,
            own: own.clone(),
            task: Some(task),
        }
    }

    /// Waits until the name was resolved once.
    ///
    /// # Errors
    /// Why it can't be resolved, in the resolver's words.
    pub(super) async fn first_answer(&self, endpoint: &Endpoint) -> Result<(), String> {
        match endpoint.resolved() {
            Some(_) => Ok(()),
            None => look_up(endpoint, &self.state, &self.own).await,
        }
    }

    /// Starts a lookup after a refused connect, unless one was made just now.
    pub(super) async fn ask_again(&self, endpoint: &Endpoint) {
        if self.task.is_some()
            && age(&self.state).is_none_or(|age| age >= MIN_LOOKUP_AGE)
            && let Err(error) = look_up(endpoint, &self.state, &self.own).await
        {
            tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, "{error}");
        }
    }

    /// All addresses of the last lookup.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.state.lock().found.clone()
    }
}

async fn keep_looking(endpoint: Arc<Endpoint>, state: Arc<Mutex<Lookups>>, own: OwnListeners) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(LOOKUP_INTERVAL)) => {}
            () = endpoint.address_doubts.notified() => until_stale(&state).await,
        }
        if let Err(error) = look_up(&endpoint, &state, &own).await {
            // The last known address stays in use: a resolver that is down is no reason to stop.
            tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, "{error}");
        }
    }
}

impl Drop for AddressResolver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Time since the last lookup began.
fn age(state: &Mutex<Lookups>) -> Option<Duration> {
    let asked = state.lock().asked;
    asked.map(|at| at.elapsed())
}

/// Waits until the last lookup is old enough for another one.
async fn until_stale(state: &Mutex<Lookups>) {
    if let Some(age) = age(state) {
        tokio::time::sleep(MIN_LOOKUP_AGE.saturating_sub(age)).await;
    }
}

async fn look_up(
    endpoint: &Endpoint,
    state: &Mutex<Lookups>,
    own: &OwnListeners,
) -> Result<(), String> {
    let Address::Name(host, port) = &endpoint.address else {
        return Ok(());
    };
    state.lock().asked = Some(Instant::now());
    let unresolved = |why: String| {
        // tokio's message only repeats what the rest of the line says.
        let why = why.trim_start_matches("failed to lookup address information: ");
        format!("`{host}` can't be resolved: {why}")
    };
    let mut addresses = ask(host, *port, state)
        .await
        .map_err(|error| unresolved(error.to_string()))?;
    let mut here = None;
    addresses.retain(|address| match own.check(*address) {
        Ok(()) => true,
        Err(error) => {
            here = Some(error);
            false
        }
    });
    if let Some(here) = here.filter(|_| addresses.is_empty()) {
        return Err(format!("`{host}`: {here}"));
    }
    let current = endpoint.resolved();
    let chosen =
        choose(current.as_deref(), &addresses).ok_or_else(|| unresolved("no address".into()))?;
    if current.as_deref() != Some(&ResolvedAddress::Socket(chosen)) {
        tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, "{host} is now {chosen}");
        endpoint.set_resolved(ResolvedAddress::Socket(chosen));
        if current.is_some() {
            // The process at the new address is probed at once.
            endpoint.hint();
        }
    }
    state.lock().found = addresses;
    Ok(())
}

async fn ask(host: &str, port: u16, _state: &Mutex<Lookups>) -> io::Result<Vec<SocketAddr>> {
    #[cfg(test)]
    if let Some(scripted) = _state.lock().scripted.clone() {
        return Ok(scripted);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// The current address if the name still resolves to it, or else the first one.
fn choose(current: Option<&ResolvedAddress>, addresses: &[SocketAddr]) -> Option<SocketAddr> {
    match current {
        Some(ResolvedAddress::Socket(current)) if addresses.contains(current) => Some(*current),
        _ => addresses.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_where_it_is_while_the_name_still_leads_there() {
        let one: SocketAddr = ([192, 0, 2, 1], 80).into();
        let two: SocketAddr = ([192, 0, 2, 2], 80).into();
        let current = ResolvedAddress::Socket(two);
        assert_eq!(choose(None, &[one, two]), Some(one));
        assert_eq!(choose(Some(&current), &[one, two]), Some(two));
        assert_eq!(choose(Some(&current), &[one]), Some(one));
        assert_eq!(choose(Some(&current), &[]), None);
    }

    /// The container was replaced: its name leads elsewhere from now on.
    #[tokio::test(start_paused = true)]
    async fn failed_connect_asks_for_the_name_at_most_once_a_second() {
        let one: SocketAddr = ([192, 0, 2, 1], 80).into();
        let two: SocketAddr = ([192, 0, 2, 2], 80).into();
        let (signals, _) = tokio::sync::mpsc::unbounded_channel();
        let endpoint = Arc::new(Endpoint::new(
            crate::registry::BackendKey(1),
            "app".into(),
            "app-1".into(),
            Address::Name("app".into(), 80),
            1,
            signals,
            Arc::default(),
        ));
        let state = Arc::new(Mutex::new(Lookups {
            scripted: Some(vec![one]),
            ..Lookups::default()
        }));
        let resolver = AddressResolver::over(&endpoint, &OwnListeners::default(), state.clone());
        let address = || endpoint.resolved().map(|found| (*found).clone());
        resolver.first_answer(&endpoint).await.unwrap();
        assert_eq!(address(), Some(ResolvedAddress::Socket(one)));
        state.lock().scripted = Some(vec![two]);
        // The prober asks first: too soon, and then late enough.
        resolver.ask_again(&endpoint).await;
        assert_eq!(address(), Some(ResolvedAddress::Socket(one)));
        tokio::time::sleep(MIN_LOOKUP_AGE).await;
        resolver.ask_again(&endpoint).await;
        assert_eq!(address(), Some(ResolvedAddress::Socket(two)));
        // Then a request asks: a lookup is made as soon as the last one is a second old.
        state.lock().scripted = Some(vec![one]);
        endpoint.address_doubts.notify_one();
        tokio::time::sleep(MIN_LOOKUP_AGE / 2).await;
        assert_eq!(address(), Some(ResolvedAddress::Socket(two)));
        tokio::time::sleep(MIN_LOOKUP_AGE).await;
        assert_eq!(address(), Some(ResolvedAddress::Socket(one)));
    }
}
