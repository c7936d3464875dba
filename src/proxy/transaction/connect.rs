//! An attempt's connection: a kept one if there is one, else a new one; and kept again for the next request.

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

/// Taken off what the app's `Keep-Alive: timeout=` promises: the request has to arrive before it ends.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// An app that doesn't say how long it keeps a connection may close it at any moment: a request that must not be sent
/// twice takes one that was idle for less, or a new one. Apps that keep them for one second exist, for less hardly.
const UNANNOUNCED: Duration = Duration::from_millis(750);

impl Transaction<'_> {
    /// A kept connection of the backend that was entered, if there is one. Where none is left because the backend has
    /// closed them, it may be stopping, and a new one would stay in a listener's queue from which no process accepts
    /// any more: then another backend is better, if there is one.
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

    /// Whether it goes over HTTP/2. There are no upgrades in it (RFC 9113 §8.6).
    fn is_for_session(&self) -> bool {
        self.pool.config.upstream.http2 && self.head.upgrade.is_none()
    }

    /// Watches an attempt, where the pool judges its backends by attempts.
    pub(super) fn watch_attempt<'p>(
        &self,
        permit: &'p Permit,
        began: Time,
    ) -> Option<AttemptWatch<'p>> {
        outcome::watch_attempt(&self.pool, permit, began, self.upload.is_complete())
    }

    /// A new connection to the backend that was entered, for a client that is still there; or how the attempt failed.
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
        // A drain is known already, and a slow backend is not a dead one.
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

    /// A new connection. For a request that must not be sent twice, or whose backend has died once already, it is one
    /// that the backend has accepted, as far as that can be known. A connection that was not accepted uses up none of
    /// the request's attempts. A client that goes meanwhile holds no place on the backend.
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

    /// Keeps a connection for the next request, for as long as the app said it would. `written`: so much was written on
    /// it for this one.
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
            // Its PROXY header names this client, and the backend would take every further request for this client's.
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
