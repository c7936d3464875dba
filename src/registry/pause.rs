//! Paused pools: their requests are held, or answered with a page, while their backends are still probed, drained and
//! restarted.
//!
//! The snapshot of a paused pool has no backends to pick from; [`PoolPause`] has the reason.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::bounds::check_reason;
use super::command::RegistryCommand;
use super::handle::{RegistryError, RegistryHandle};
use super::persist::KeptPause;
use super::pool::PoolState;
use super::request::parse_duration;
use super::view::{PauseRequest, PauseResponse, PauseView};
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::pause::{PauseMode, PauseTerm};
use crate::registry::event_kind::EventKind;
use crate::rt::clock::{self, ClockReading};

/// Largest page, in bytes: it is kept in memory and in the state file, and sent in a request to the admin API.
pub const MAX_PAGE: usize = 30 * 1024;

/// Longest media type, in bytes.
const MAX_MEDIA_TYPE: usize = 100;

/// The default media type of a page.
const HTML: &str = "text/html; charset=utf-8";

/// One pool's pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPause {
    /// What happens to requests, and until when.
    pub term: PauseTerm,
    /// Time at which it began.
    pub since: Time,
    /// Reason, as text.
    pub reason: String,
    /// Page that requests are answered with, if they are not held.
    pub page: Option<MaintenancePage>,
}

/// The response to requests to a paused pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenancePage {
    /// Status code.
    pub status: u16,
    /// Value of `Content-Type`.
    pub media_type: String,
    /// Body.
    pub body: String,
}

impl MaintenancePage {
    /// Returns the page of a request; `None` if the request has none.
    fn asked(request: &mut PauseRequest) -> Result<Option<Self>, RegistryError> {
        let invalid = |text: String| Err(RegistryError::Invalid(text));
        let Some(body) = request.page.take() else {
            return match (request.status, &request.media_type) {
                (None, None) => Ok(None),
                _ => invalid(
                    "`status` and `type` are a page's: give the page, too, or leave them out to hold requests"
                        .to_owned(),
                ),
            };
        };
        let page = Self {
            status: request.status.unwrap_or(503),
            media_type: request.media_type.take().unwrap_or_else(|| HTML.to_owned()),
            body,
        };
        match page.fault() {
            Some(fault) => invalid(fault),
            None => Ok(Some(page)),
        }
    }

    /// Returns why the page can't be used as a response, if so.
    fn fault(&self) -> Option<String> {
        let length = self.body.len();
        if length == 0 {
            return Some(
                "the page is empty: write a line for people, or leave it out to hold requests"
                    .to_owned(),
            );
        }
        if length > MAX_PAGE {
            return Some(format!(
                "the page has {length} bytes; use at most {MAX_PAGE} (link to what is large)"
            ));
        }
        if !(200..=599).contains(&self.status) || matches!(self.status, 204 | 205 | 304) {
            return Some(format!(
                "status {} has no page: use 503, or another one from 200 to 599 that may have content",
                self.status
            ));
        }
        let media_type = &self.media_type;
        let plain = media_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !plain || !media_type.contains('/') || media_type.len() > MAX_MEDIA_TYPE {
            return Some(format!(
                "`{}` is no media type: write it like \"text/html; charset=utf-8\"",
                media_type
                    .chars()
                    .take(MAX_MEDIA_TYPE)
                    .collect::<String>()
                    .escape_debug()
            ));
        }
        None
    }
}

impl PoolPause {
    /// Returns the pause as the API shows it.
    pub fn view(&self) -> PauseView {
        let shown = |at: Time| clock::rfc3339(clock::wall(at));
        PauseView {
            mode: self.term.mode.as_str().to_owned(),
            since: shown(self.since),
            until: self.term.until.map(shown),
            status: self.page.as_ref().map(|page| page.status),
            reason: self.reason.clone(),
        }
    }

    /// Returns the pause as it is kept for a restart of the proxy.
    pub(super) fn kept(&self, pool: &str, clock: &ClockReading) -> KeptPause {
        KeptPause {
            pool: pool.to_owned(),
            reason: self.reason.clone(),
            since: clock.to_wall(self.since),
            until: self.term.until.map(|at| clock.to_wall(at)),
            page: self.page.clone(),
        }
    }

    fn restored(kept: KeptPause) -> Self {
        let clock = ClockReading::take();
        Self {
            term: PauseTerm {
                mode: match kept.page {
                    Some(_) => PauseMode::Page,
                    None => PauseMode::Hold,
                },
                until: kept.until.map(|at| clock.due_from_wall(at, kept.since)),
            },
            since: clock.from_wall(kept.since),
            reason: kept.reason,
            page: kept.page,
        }
    }
}

impl PoolState {
    /// Returns when the pause ends by itself.
    pub(super) fn pause_end(&self) -> Option<Time> {
        self.pause.as_ref()?.term.until
    }

    /// Pauses the pool or ends its pause; returns whether anything has changed.
    fn set_pause(&mut self, pause: Option<PoolPause>) -> bool {
        if self.pause.as_deref() == pause.as_ref() {
            return false;
        }
        self.pause = pause.map(Arc::new);
        (self.dirty, self.unsaved, self.pause_changed) = (true, true, true);
        true
    }

    fn pause_response(&self, was_paused: bool) -> PauseResponse {
        let view = self.view();
        PauseResponse {
            was_paused,
            pause: view.pause,
            held: view.held,
            warning: None,
        }
    }
}

impl RegistryWriter {
    /// Pauses a pool, or extends its pause.
    pub(super) fn pause(
        &mut self,
        pool: &str,
        mut request: PauseRequest,
    ) -> Result<PauseResponse, RegistryError> {
        let index = self.index(pool)?;
        check_reason(request.reason.as_deref())?;
        let length = request.length.as_deref().map(parse_duration).transpose()?;
        if length.is_some_and(|length| length.is_zero()) {
            return Err(RegistryError::Invalid(
                "a pause of no time is none: write it like \"5m\", or end a pause with `lameduck resume`"
                    .to_owned(),
            ));
        }
        let page = MaintenancePage::asked(&mut request)?;
        let mode = match page {
            Some(_) => PauseMode::Page,
            None => PauseMode::Hold,
        };
        let now = clock::now();
        let term = PauseTerm::asked(mode, length, now).map_err(|longest| {
            RegistryError::Invalid(format!(
                "requests can be held for {} at most; answer with a page (`--page`) for what takes longer",
                humantime::format_duration(longest)
            ))
        })?;
        let state = &mut self.pools[index];
        let former = state.pause.clone();
        let pause = PoolPause {
            term: term.extending(former.as_ref().map(|former| former.term)),
            since: former.as_ref().map_or(now, |former| former.since),
            reason: match (request.reason, &former) {
                (Some(reason), _) => reason,
                (None, Some(former)) => former.reason.clone(),
                (None, None) => "asked by operator".to_owned(),
            },
            page,
        };
        let (reason, until) = (pause.reason.clone(), pause.view().until);
        if state.set_pause(Some(pause)) {
            let name = state.name.clone();
            let until = until.as_deref().unwrap_or("resumed");
            warn!(pool = %name, mode = mode.as_str(), until, reason, "the pool is paused");
            self.event(
                EventKind::Pause,
                Some((&name, "")),
                None,
                Some(mode.as_str()),
                reason,
            );
            self.tell_pause(index);
        }
        Ok(self.pools[index].pause_response(former.is_some()))
    }

    /// Ends a pool's pause, if it has one.
    pub(super) fn end_pause(&mut self, pool: &str) -> Result<PauseResponse, RegistryError> {
        let index = self.index(pool)?;
        let was_paused = self.pools[index].pause.is_some();
        self.lift_pause(index, "resumed");
        Ok(self.pools[index].pause_response(was_paused))
    }

    /// Ends the pauses whose time is over.
    pub(super) fn end_pauses(&mut self, now: Time) {
        for index in 0..self.pools.len() {
            let pause = self.pools[index].pause.as_ref();
            if pause.is_some_and(|pause| pause.term.is_over(now)) {
                self.lift_pause(index, "its time is over");
            }
        }
    }

    fn lift_pause(&mut self, index: usize, reason: &str) {
        let state = &mut self.pools[index];
        let mode = state.pause.as_ref().map(|pause| pause.term.mode);
        let Some(mode) = mode.filter(|_| state.set_pause(None)) else {
            return;
        };
        let name = state.name.clone();
        info!(pool = %name, mode = mode.as_str(), reason, "the pool's pause has ended");
        let from = Some(mode.as_str());
        self.event(
            EventKind::Pause,
            Some((&name, "")),
            from,
            None,
            reason.to_owned(),
        );
        self.tell_pause(index);
    }

    fn tell_pause(&mut self, index: usize) {
        let state = &self.pools[index];
        let name = state.name.clone();
        let reading = ClockReading::take();
        let pause = state.pause.as_ref();
        let pause = pause.map(|pause| pause.kept(&name, &reading));
        self.pause_for_predecessor(&name, pause);
    }

    /// Applies a pause of the process that has taken over to the requests that wait here.
    pub(super) fn pause_as_successor(&mut self, pool: &str, pause: Option<KeptPause>) {
        let Ok(index) = self.index(pool) else {
            return;
        };
        match pause {
            Some(kept) => drop(self.pools[index].set_pause(Some(PoolPause::restored(kept)))),
            None => self.lift_pause(index, "the process that has taken over has ended it"),
        }
    }

    /// Pauses again the pools that were paused in the last run.
    pub(super) fn pause_again(&mut self, pauses: Vec<KeptPause>) {
        for kept in pauses {
            let Ok(index) = self.index(&kept.pool) else {
                warn!(
                    pool = kept.pool,
                    "a pause is forgotten: its pool is no longer in the configuration"
                );
                continue;
            };
            let fault = kept.page.as_ref().and_then(MaintenancePage::fault);
            let pause = PoolPause::restored(kept);
            let endless = pause.page.is_none() && pause.term.until.is_none();
            if fault.is_none() && !endless && !pause.term.is_over(clock::now()) {
                let name = &self.pools[index].name;
                warn!(pool = %name, mode = pause.term.mode.as_str(), reason = pause.reason,
                      "the pool is still paused, as in the last run");
                self.pools[index].set_pause(Some(pause));
            }
        }
    }
}

impl RegistryHandle {
    /// Pauses a pool: its requests are held, or answered with a page. A second call extends the pause.
    ///
    /// # Errors
    /// [`RegistryError::UnknownPool`]; [`RegistryError::Invalid`] for a value that is not valid; the errors of
    /// [`RegistryHandle::pools`].
    pub async fn pause(
        &self,
        pool: &str,
        request: PauseRequest,
    ) -> Result<PauseResponse, RegistryError> {
        let pool = pool.to_owned();
        let asked = self.ask(|reply| RegistryCommand::Pause {
            pool,
            request,
            reply,
        });
        let mut response = asked.await??;
        response.warning = self.unsaved().await;
        Ok(response)
    }

    /// Ends a pool's pause, if it has one.
    ///
    /// # Errors
    /// [`RegistryError::UnknownPool`]; the errors of [`RegistryHandle::pools`].
    pub async fn end_pause(&self, pool: &str) -> Result<PauseResponse, RegistryError> {
        let pool = pool.to_owned();
        let asked = self.ask(|reply| RegistryCommand::EndPause { pool, reply });
        let mut response = asked.await??;
        response.warning = self.unsaved().await;
        Ok(response)
    }
}
