//! Records changes for operators: keeps them, logs them, and sends them to subscribers.

use super::endpoint::BackendKey;
use super::live_figures::MOST_LINES;
use super::view::{ChangeView, ChangedValue};
use super::writer::RegistryWriter;
use crate::config::ConfigChange;
use crate::config::diff::ChangeOutline;
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

/// Author of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeAuthor {
    /// A reload of the configuration.
    Reload,
    /// A discovery source.
    Discovery,
    /// The `register` or `deregister` command, or the API.
    Api,
    /// A launcher's lease.
    Launcher,
}

impl ChangeAuthor {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Discovery => "discovery",
            Self::Api => "api",
            Self::Launcher => "launcher",
        }
    }
}

/// Returns a backend's name and address, for a line of a change.
pub(super) fn place(pool: &str, name: &str, address: &impl std::fmt::Display) -> String {
    format!("{pool}/{name} at {address}")
}

impl RegistryWriter {
    /// Records a change; it is shown once the snapshot is published.
    pub(super) fn remember_change(&mut self, by: ChangeAuthor, mut change: ChangeView) {
        if change.is_empty() {
            return;
        }
        by.as_str().clone_into(&mut change.by);
        change.time = clock::rfc3339(clock::wall(clock::now()));
        let figures = self.handle.live.clone();
        self.outbox.push(Box::new(move || {
            figures.note_change(change);
        }));
    }

    /// Records that `by` has added a backend.
    pub(super) fn remember_added(&mut self, by: ChangeAuthor, pool: &str, line: String) {
        let change = ChangeView {
            pool: Some(pool.to_owned()),
            added: vec![line],
            ..ChangeView::default()
        };
        self.remember_change(by, change);
    }

    /// Records that `by` has removed a backend.
    pub(super) fn remember_removed(&mut self, by: ChangeAuthor, pool: &str, line: String) {
        let change = ChangeView {
            pool: Some(pool.to_owned()),
            removed: vec![line],
            ..ChangeView::default()
        };
        self.remember_change(by, change);
    }

    /// Records that `by` removes a backend that still drains; does nothing if that was recorded already.
    pub(super) fn remember_leaving(&mut self, by: ChangeAuthor, key: BackendKey) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let Some(member) = pool.members.get(&key).filter(|one| !one.leaving) else {
            return;
        };
        let name = pool.name.clone();
        let line = place(&name, &member.endpoint.name, &member.endpoint.address);
        self.remember_removed(by, &name, line);
    }

    /// Records that `by` has changed a value.
    pub(super) fn remember_value(&mut self, by: ChangeAuthor, pool: &str, value: ChangedValue) {
        if value.from == value.to {
            return;
        }
        let change = ChangeView {
            pool: Some(pool.to_owned()),
            changed: vec![value],
            ..ChangeView::default()
        };
        self.remember_change(by, change);
    }

    /// Reports that a source has changed its backends.
    pub(super) fn tell_discovered(&mut self, pool: &str, source: &str, mut change: ChangeView) {
        if change.is_empty() {
            return;
        }
        change.source = Some(source.to_owned());
        change.pool = Some(pool.to_owned());
        let summary = change.summary();
        tracing::info!(pool, source, "the source has changed the pool: {summary}");
        let reason = format!("{source}: {summary}");
        self.event(EventKind::Discovery, Some((pool, "")), None, None, reason);
        self.remember_change(ChangeAuthor::Discovery, change);
    }

    /// Reports the changes of a reload.
    pub(super) fn tell_reloaded(&mut self, changes: &[ConfigChange]) {
        let mut change = ChangeView::default();
        for (place, one) in changes.iter().enumerate() {
            match place {
                place if place < MOST_LINES => tracing::info!("reload: {one}"),
                MOST_LINES => tracing::info!("reload: and {} more", changes.len() - place),
                _ => {}
            }
            match one.outline() {
                ChangeOutline::Added(line) => change.added.push(line),
                ChangeOutline::Removed(line) => change.removed.push(line),
                ChangeOutline::Changed { what, from, to } => {
                    change.changed.push(ChangedValue { what, from, to });
                }
            }
        }
        let reason = match change.is_empty() {
            true => format!("{} changes", changes.len()),
            false => format!("{} changes: {}", changes.len(), change.summary()),
        };
        self.event(EventKind::Config, None, None, None, reason);
        self.remember_change(ChangeAuthor::Reload, change);
    }
}
