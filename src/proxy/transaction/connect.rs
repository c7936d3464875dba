//! The backend connection of an attempt: an idle connection if one is kept, otherwise a new one; and keeping it for
//! the next request.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::Transaction;
use super::judge::FailedAttempt;
use crate::config::ProxyProtocol;
use crate::core::{Time, retry};
use crate::net::socket::local_address;
use crate::proxy::upstream::connect::{ConnectError, open_connection, wait_for_acceptance};
use crate::proxy::upstream::{
    ProxiedAddrs, h2_session, note_shortage, note_written, outcome, pick, reuse,
};
use crate::registry::endpoint::outcomes::AttemptWatch;
use crate::registry::endpoint::{Endpoint, IdleConnection, Permit};

/// Safety margin below the app's `Keep-Alive: timeout=`: the request has to arrive before that time ends.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// Maximum idle time of a connection for a request that must not be sent twice, if the app doesn't announce its
/// keep-alive timeout and so may close the connection at any moment. After this time a new connection is made. Some
/// apps close idle connections after one second; hardly any do so earlier.
const UNANNOUNCED: Duration = Duration::from_millis(750);

impl Transaction<'_> {
    /// Returns an idle connection of the chosen backend, if there is one. If none is left because the backend has
    /// closed them, the backend may be stopping, and a new connection could stay in an accept queue that no process
    /// serves any more. Another backend is then preferred, if there is one.
    pub(super) fn reuse_connection(
        &self,
        permit: &mut Permit,
        now: Time,
    ) -> Option<Box<IdleConnection>> {
        if self.fresh {
            return None;
        }
        for _ in 0..self.pool.ready.len() {
            let once = || !self.may_be_repeated();
            let reused = match self.is_for_session() {
                true => h2_session::reuse(permit),
                false => reuse::take_kept(permit.endpoint(), now, once),
            };
            if reused.is_some() || !permit.endpoint().suspicion.is_raised() {
                return reused;
            }
            if self.excluded.stays_with(&self.pool, permit.endpoint()) {
                break;
            }
            match pick::admit_unsuspected(&self.pool, &self.excluded) {
                Some(other) => *permit = other,
                None => break,
            }
        }
        None
    }

    /// Returns whether the request goes over HTTP/2, which has no upgrades (RFC 9113 §8.6).
    fn is_for_session(&self) -> bool {
        self.pool.config.upstream.http2 && self.head.upgrade.is_none()
    }

    /// Starts to watch an attempt, if the pool judges its backends by attempts.
    pub(super) fn watch_attempt<'p>(
        &self,
        permit: &'p Permit,
        began: Time,
    ) -> Option<AttemptWatch<'p>> {
        outcome::watch_attempt(&self.pool, permit, began, self.upload.is_complete())
    }

    /// Makes a new connection to the chosen backend, as long as the client stays connected; or returns how the
    /// attempt failed.
    pub(super) async fn open_connection(
        &mut self,
        permit: &Permit,
        watch: Option<AttemptWatch<'_>>,
    ) -> Result<Box<IdleConnection>, FailedAttempt> {
        let endpoint = permit.endpoint();
        if self.client.followed.is_some() {
            self.follow_connect(endpoint);
        }
        let error = match self.connect(permit).await {
            Ok(_) if self.client.has_reset(&mut self.upload).await => ConnectError::Unwanted,
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if let Some(watch) = watch {
            outcome::note_connect_error(&watch, &error);
        }
        if matches!(error, ConnectError::Unwanted) {
            return Err(FailedAttempt::Over(self.client_gone()));
        }
        // A draining backend is already known to be going, and a slow backend is not a failed one.
        let fault = error.fault();
        self.pool.shared.counters.connect_failed(fault);
        if fault.is_own_shortage() {
            note_shortage(&error, endpoint);
        } else if !matches!(error, ConnectError::Moved | ConnectError::Ignored) {
            endpoint.suspicion.raise();
            endpoint.hint();
            endpoint.address_doubts.notify_one();
        }
        tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, %error, "connect failed");
        self.last_fault = Some(fault);
        Err(FailedAttempt::Failed(retry::AttemptFailure::ConnectFailed))
    }

    /// Makes a new connection. If the request must not be sent twice, or a backend has already failed during it, the
    /// connection is one that the backend is known to have accepted, as far as that can be known. A connection that
    /// was not accepted doesn't count as one of the request's attempts. If the client disconnects meanwhile, its
    /// place on the backend is released.
    async fn connect(&mut self, permit: &Permit) -> Result<Box<IdleConnection>, ConnectError> {
        let is_for_session = self.is_for_session();
        let is_delicate = self.tried.unproven > 0 || !self.may_be_repeated();
        let others = is_delicate && self.excluded.leaves_any_but(&self.pool, permit.endpoint());
        let settings = &self.pool.config.upstream;
        let plane = self.plane;
        let wanted = settings.proxy_protocol != ProxyProtocol::Off;
        let behalf = ProxiedAddrs {
            client: (self.client.origin.known)
                .then_some(self.client.origin.address)
                .flatten(),
            local: wanted.then(|| local_address(&self.client.stream)).flatten(),
        };
        let mut connecting = pin!(async move {
            if is_for_session {
                return h2_session::connect(plane, permit, settings).await;
            }
            let mut connection = open_connection(plane, permit, settings, behalf).await?;
            if is_delicate {
                let patience = settings.connect_timeout;
                wait_for_acceptance(&mut connection, permit, patience, others).await?;
            }
            Ok(connection)
        });
        let (client, upload) = (&mut *self.client, &mut self.upload);
        poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Pending if client.poll_gone_unread(cx, upload) => {
                Poll::Ready(Err(ConnectError::Unwanted))
            }
            other => other,
        })
        .await
    }

    /// Keeps a connection for the next request, for as long as the app announced. `written`: number of bytes written
    /// on it for this request.
    pub(super) fn keep_connection(
        &self,
        endpoint: &Endpoint,
        mut connection: Box<IdleConnection>,
        promised: Option<u32>,
        written: u64,
    ) {
        note_written(&mut connection, written);
        let settings = &self.pool.config.upstream;
        if settings.proxy_protocol != ProxyProtocol::Off {
            // Its PROXY header names this client, and the backend would attribute all further requests to it.
            return;
        }
        let mut idle = settings.idle_timeout;
        if let Some(seconds) = promised {
            idle =
                idle.min(Duration::from_secs(u64::from(seconds)).saturating_sub(KEEP_ALIVE_MARGIN));
        }
        let since = self.account.answered();
        connection.expires = since.saturating_add(idle);
        let safe = if promised.is_some() {
            idle
        } else {
            UNANNOUNCED
        };
        connection.safe_until = since.saturating_add(safe);
        endpoint.release(connection);
    }
}
