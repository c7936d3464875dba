//! Rolls in progress: at most one for each pool, held by the client that runs it for as long as it is connected.

use std::time::Duration;

use tracing::info;

use super::bounds;
use super::command::RegistryCommand;
use super::handle::{RegistryError, RegistryHandle};
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::backend::BackendEvent;
use crate::core::drain::{DrainActor, DrainSpec};
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

/// Prefix of the IDs of rolls and of their drains.
const PREFIX: &str = "roll-";

/// Time after which drains that a roll has left behind expire. They don't expire at once because a command that it
/// started may still be running.
pub(super) const LEFT_BEHIND: Duration = Duration::from_secs(10);

/// A roll in progress.
#[derive(Debug)]
pub(super) struct RollUnderWay {
    id: String,
    /// User who runs it, as text.
    by: String,
    since: Time,
}

/// The right to roll a pool. Released on drop; drains of the roll expire soon after.
pub struct RollPermit {
    handle: RegistryHandle,
    pool: String,
    id: String,
}

impl RollPermit {
    /// Returns the ID of this roll's drains (with the actor `operator`).
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for RollPermit {
    fn drop(&mut self) {
        let (pool, id) = (std::mem::take(&mut self.pool), std::mem::take(&mut self.id));
        let _ = self
            .handle
            .commands
            .send(RegistryCommand::EndRoll { pool, id });
    }
}

/// Whether a drain belongs to a roll.
pub(super) fn is_of_a_roll(order: &DrainSpec) -> bool {
    is_id(order.actor, &order.id)
}

/// Whether a drain of this actor with this ID belongs to a roll.
pub(super) fn is_id(actor: DrainActor, id: &str) -> bool {
    actor == DrainActor::Operator && id.starts_with(PREFIX)
}

impl RegistryHandle {
    /// Takes the right to roll a pool. `by`: the user who runs it, for the error that a second one gets.
    ///
    /// # Errors
    /// There is no such pool, or it is being rolled: by whom, and since when.
    pub async fn begin_roll(&self, pool: &str, by: &str) -> Result<RollPermit, RegistryError> {
        let (pool, by) = (pool.to_owned(), by.to_owned());
        let asked = pool.clone();
        let id = self.ask(|reply| RegistryCommand::BeginRoll { pool, by, reply });
        Ok(RollPermit {
            id: id.await??,
            pool: asked,
            handle: self.clone(),
        })
    }
}

impl RegistryWriter {
    pub(super) fn begin_roll(&mut self, pool: &str, by: &str) -> Result<String, RegistryError> {
        self.index(pool)?;
        bounds::check_reason(Some(by))?;
        let now = clock::now();
        if let Some(rolling) = self.rolls.get(pool) {
            let age = now.saturating_sub(rolling.since).as_secs();
            return Err(RegistryError::Conflict(format!(
                "`{pool}` is being rolled by {}, since {age} s: wait for its end, or interrupt it (Ctrl-C)",
                rolling.by
            )));
        }
        // By the wall clock: drains may outlive this process, and the IDs of another run must differ.
        let since = clock::since_1970(clock::wall(now));
        let id = format!("{PREFIX}{}", since.as_micros());
        info!(pool, by, id, "roll begins");
        let rolling = RollUnderWay {
            id: id.clone(),
            by: by.to_owned(),
            since: now,
        };
        self.rolls.insert(pool.to_owned(), rolling);
        self.event(
            EventKind::Roll,
            Some((pool, "")),
            None,
            Some("begun"),
            by.to_owned(),
        );
        Ok(id)
    }

    /// Ends a roll whose client has gone and won't lift its remaining drains.
    pub(super) fn end_roll(&mut self, pool: &str, id: &str) {
        if self.rolls.get(pool).is_none_or(|rolling| rolling.id != id) {
            return;
        }
        let Some(rolling) = self.rolls.remove(pool) else {
            return;
        };
        info!(pool, by = rolling.by, id, "roll ends");
        let expires = clock::now() + LEFT_BEHIND;
        let keys = self.index(pool).map(|index| self.pools[index].keys());
        for key in keys.unwrap_or_default() {
            let (actor, id) = (DrainActor::Operator, id.to_owned());
            self.step(key, BackendEvent::Orphaned { actor, id, expires });
        }
        self.event(
            EventKind::Roll,
            Some((pool, "")),
            None,
            Some("ended"),
            rolling.by,
        );
    }
}
