//! A backend's host name, resolved again and again: instances move.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::jitter::jittered;
use crate::config::Address;
use crate::panics;
use crate::registry::Endpoint;
use crate::registry::endpoint::Resolved;
use crate::registry::own_listeners::OwnListeners;

/// Between two look-ups. The system's resolver tells nothing of a record's lifetime; this is what others take
/// where they know none.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps an endpoint's address fresh until dropped; does nothing for literal addresses and unix sockets.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    found: Arc<Mutex<Vec<SocketAddr>>>,
    own: OwnListeners,
    task: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts it. Must be called on a tokio runtime.
    pub(super) fn start(endpoint: &Arc<Endpoint>, own: &OwnListeners) -> Self {
        if !matches!(endpoint.address, Address::Name(..)) {
            return Self::default();
        }
        let found = Arc::new(Mutex::new(Vec::new()));
        let (asked, answers, own_listeners) = (endpoint.clone(), found.clone(), own.clone());
        let start = move || keep_looking(asked.clone(), answers.clone(), own_listeners.clone());
        let task = tokio::spawn(panics::restart("resolver", start));
        Self {
            found,
            own: own.clone(),
            task: Some(task),
        }
    }

    /// Makes sure that the name was resolved once.
    ///
    /// # Errors
    /// Why it leads nowhere, in the resolver's words.
    pub(super) async fn first_answer(&self, endpoint: &Endpoint) -> Result<(), String> {
        match endpoint.resolved() {
            Some(_) => Ok(()),
            None => look_up(endpoint, &self.found, &self.own).await,
        }
    }

    /// All that the name led to the last time.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.found.lock().clone()
    }
}

async fn keep_looking(
    endpoint: Arc<Endpoint>,
    found: Arc<Mutex<Vec<SocketAddr>>>,
    own: OwnListeners,
) {
    loop {
        tokio::time::sleep(jittered(EVERY)).await;
        if let Err(error) = look_up(&endpoint, &found, &own).await {
            // The last known address stays: a resolver that is down is no reason to stop.
            tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, "{error}");
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn look_up(
    endpoint: &Endpoint,
    found: &Mutex<Vec<SocketAddr>>,
    own: &OwnListeners,
) -> Result<(), String> {
    let Address::Name(host, port) = &endpoint.address else {
        return Ok(());
    };
    let unresolved = |why: String| {
        // The runtime's own words say in six what the rest of the line says.
        let why = why.trim_start_matches("failed to lookup address information: ");
        format!("`{host}` can't be resolved: {why}")
    };
    let mut addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port))
        .await
        .map_err(|error| unresolved(error.to_string()))?
        .collect();
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
    if current.as_deref() != Some(&Resolved::Socket(chosen)) {
        tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, "{host} is now {chosen}");
        endpoint.set_resolved(Resolved::Socket(chosen));
    }
    *found.lock() = addresses;
    Ok(())
}

/// The current address while the name still leads there, else the first.
fn choose(current: Option<&Resolved>, addresses: &[SocketAddr]) -> Option<SocketAddr> {
    match current {
        Some(Resolved::Socket(current)) if addresses.contains(current) => Some(*current),
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
        let current = Resolved::Socket(two);
        assert_eq!(choose(None, &[one, two]), Some(one));
        assert_eq!(choose(Some(&current), &[one, two]), Some(two));
        assert_eq!(choose(Some(&current), &[one]), Some(one));
        assert_eq!(choose(Some(&current), &[]), None);
    }
}
