//! Follows one source of one pool: judges its answers, and hands them to the registry.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::backoff::GrowingPause;
use super::{SourceError, SourceReport, SourceReporter, open_source};
use crate::config::{Address, DiscoveryConfig};
use crate::core::Time;
use crate::core::discovery::{AnswerJudge, DiscoveredSet, DoubtPolicy, SourceAnswer};
use crate::registry::live_figures::SourceStatus;
use crate::registry::{AppliedSet, RegistryError, RegistryHandle};
use crate::rt::{clock, panics};

/// Most backends that one source may name. Real pools have fewer, and a broken file must not fill the memory.
pub(super) const MOST_BACKENDS: usize = 20_000;

/// Time between two checks whether a new backend is ready, while an old one waits for that.
const SUCCESSOR_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Time until a refused name is tried again, because it may be free by then.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two saves of an answer that changes nothing. Its age matters if a later run has to continue with it.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// A source that worked this long before it failed is asked again soon.
const STABLE_TIME: Duration = Duration::from_secs(60);

/// Judge with the answer in force; it outlives a change of the source's section.
pub(super) type SharedJudge = Arc<Mutex<AnswerJudge<Address>>>;

/// A source with its state.
pub(super) struct FollowedSource {
    registry: RegistryHandle,
    pool: String,
    label: Arc<str>,
    config: DiscoveryConfig,
    policy: DoubtPolicy,
    judge: SharedJudge,
    /// Last answer; it is valid until the source fails.
    answer: Option<SourceAnswer<Address>>,
    fails: bool,
    /// Reasons for failures since the last answer, as far as they were logged.
    told: ToldReasons,
    /// Set that was handed to the registry last…
    handed: Option<Arc<DiscoveredSet<Address>>>,
    /// …and the registry's result.
    applied: AppliedSet,
    /// Time since when backends wait for a successor.
    waits_since: Option<Time>,
    /// Time at which the last answer was saved for the next run.
    kept: Option<Time>,
}

impl FollowedSource {
    /// A source that has not answered yet; `judge` may have answers from before its section was changed.
    pub(super) fn new(
        registry: RegistryHandle,
        pool: String,
        config: DiscoveryConfig,
        judge: SharedJudge,
    ) -> Self {
        let label: Arc<str> = config.label().into();
        let mut remembered = None;
        registry
            .live_figures()
            .note_source(&pool, &label, |status| {
                remembered = status.remembered.as_ref().map(|one| one.set.clone());
            });
        let applied = AppliedSet {
            backends: remembered.as_ref().map_or(0, |set| set.len()),
            ..AppliedSet::default()
        };
        if let Some(set) = remembered {
            let mut judge = judge.lock();
            if judge.in_force().is_empty() {
                *judge = AnswerJudge::resume((*set).clone());
            }
        }
        Self {
            policy: DoubtPolicy {
                min_healthy: config.min_healthy as usize,
                confirm_after: config.confirm_after,
            },
            registry,
            pool,
            label,
            config,
            judge,
            answer: None,
            fails: false,
            told: ToldReasons::default(),
            handed: None,
            applied,
            waits_since: None,
            kept: None,
        }
    }

    /// Follows the source for ever. `again` is notified when the registry may handle the same answer differently.
    /// `heard` is notified after each answer or failure, once its effect is in force.
    pub(super) async fn follow(mut self, again: Arc<Notify>, heard: Arc<Notify>) {
        let (reporter, mut reports) = SourceReporter::new();
        let (pool, config) = (self.pool.clone(), self.config.clone());
        let mut source = pin!(keep_following(&pool, &config, &reporter));
        loop {
            let due = self.next_look();
            let look = async {
                match due {
                    Some(at) => clock::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                report = reports.recv() => match report {
                    Some(SourceReport::Answer(answer)) => self.take_answer(answer).await,
                    Some(SourceReport::Failure(error)) => self.take_failure(&error).await,
                    None => {}
                },
                () = again.notified() => self.hand_over().await,
                () = look => self.look_again().await,
                () = &mut source => {}
            }
            if self.answer.is_some() || self.fails {
                heard.notify_one();
            }
        }
    }

    /// Time of the next check even without an answer.
    fn next_look(&self) -> Option<Time> {
        let now = clock::now();
        let judge = self.judge.lock();
        let doubt = judge.doubt().filter(|_| !self.fails);
        let confirmed = doubt.and_then(|doubt| doubt.until);
        drop(judge);
        let successor = (self.applied.waiting > 0).then(|| now + SUCCESSOR_CHECK_INTERVAL);
        let refused = (!self.applied.refused.is_empty()).then(|| now + REFUSED_RETRY_INTERVAL);
        let not_handed = self.answer.is_some() && self.handed.is_none();
        let failed = not_handed.then(|| now + REFUSED_RETRY_INTERVAL);
        let due = [confirmed, successor, refused, failed]
            .into_iter()
            .flatten();
        due.min()
    }

    /// Judges the last answer again: it is still valid, because the source would have reported a change.
    async fn look_again(&mut self) {
        if let Some(answer) = self.answer.clone().filter(|_| !self.fails) {
            let mut judge = self.judge.lock();
            judge.take_answer(answer, &self.policy, clock::now());
        }
        self.hand_over().await;
    }

    async fn take_answer(&mut self, answer: SourceAnswer<Address>) {
        let named = answer.set.len();
        if named > MOST_BACKENDS {
            let why = format!("it names {named} backends, and {MOST_BACKENDS} are the most");
            return self.take_failure(&SourceError::new(why)).await;
        }
        if std::mem::take(&mut self.fails) {
            self.told.forget();
            info!(
                pool = self.pool,
                source = &*self.label,
                "the source answers again"
            );
        }
        let (was_doubted, doubt) = {
            let mut judge = self.judge.lock();
            let was_doubted = judge.doubt().is_some();
            judge.take_answer(answer.clone(), &self.policy, clock::now());
            (was_doubted, judge.doubt().cloned())
        };
        self.answer = Some(answer);
        self.note(|status, is_doubted| {
            status.failing = None;
            status.remembered = None;
            status.answered = Some(clock::now());
            match is_doubted {
                true => status.counts.doubted += 1,
                false => status.counts.taken += 1,
            }
        });
        match doubt {
            Some(doubt) if !was_doubted => {
                let then = match doubt.until {
                    Some(_) => format!(
                        "they go when all answers have lacked them for {}",
                        humantime::format_duration(self.policy.confirm_after)
                    ),
                    None => format!(
                        "fewer than `min_healthy` ({}) are left only where the source says itself that they stop",
                        self.policy.min_healthy
                    ),
                };
                warn!(
                    pool = self.pool,
                    source = &*self.label,
                    "an answer is doubted: {doubt}; these are kept, and {then}"
                );
            }
            None if was_doubted => {
                info!(
                    pool = self.pool,
                    source = &*self.label,
                    "the source's answer is no longer doubted"
                );
            }
            _ => {}
        }
        // Most answers are the same as before; the registry need not handle them again.
        let is_open = self.applied.waiting > 0 || !self.applied.refused.is_empty();
        let is_same = |set: &Arc<DiscoveredSet<Address>>| **set == *self.judge.lock().in_force();
        if is_open || !self.handed.as_ref().is_some_and(is_same) {
            self.hand_over().await;
        }
        let now = clock::now();
        if self.kept.is_none_or(|at| at + SAVE_INTERVAL <= now) {
            self.kept = Some(now);
            self.registry.save_again();
        }
    }

    /// Handles a failure: the known backends stay.
    async fn take_failure(&mut self, error: &SourceError) {
        let is_first = !std::mem::replace(&mut self.fails, true);
        let is_told = self.told.is_news(&error.to_string());
        if is_first {
            let kept = self.judge.lock().in_force().len();
            warn!(
                pool = self.pool,
                source = &*self.label,
                kept,
                "the source can't be asked, what is known stays: {error}"
            );
        } else if is_told {
            warn!(
                pool = self.pool,
                source = &*self.label,
                "the source still can't be asked, now for another reason: {error}"
            );
        }
        self.note(|status, _| {
            let since = status.failing.as_ref().map(|(since, _)| *since);
            status.failing = Some((since.unwrap_or_else(clock::now), error.to_string()));
            status.counts.failed += 1;
        });
        // The end of the first round of probes may wait for the source's answer.
        let _ = self.registry.answers().await;
    }

    /// Hands the set in force to the registry.
    async fn hand_over(&mut self) {
        if self.answer.is_none() {
            return;
        }
        let now = clock::now();
        let waits_since = self.waits_since.unwrap_or(now);
        let is_patient = now.saturating_sub(waits_since) < self.policy.confirm_after;
        self.handed = None;
        let set = Arc::new(self.judge.lock().in_force().clone());
        let outcome = self
            .registry
            .discovered(&self.pool, &self.label, set.clone(), is_patient)
            .await;
        let applied = match outcome {
            Ok(applied) => applied,
            // This task is about to be dropped: the source is not configured any more, or the process ends.
            Err(RegistryError::Conflict(_) | RegistryError::UnknownPool { .. }) => return,
            Err(RegistryError::ShuttingDown | RegistryError::HandedOver) => return,
            Err(error) => {
                warn!(pool = self.pool, source = &*self.label, %error, "the source's backends were not taken");
                return;
            }
        };
        self.waits_since = (applied.waiting > 0).then_some(waits_since);
        let news = |(name, _): &&(String, String)| {
            !self.applied.refused.iter().any(|(known, _)| known == name)
        };
        let refused: Vec<_> = applied.refused.iter().filter(news).collect();
        for (name, why) in refused.iter().take(MAX_LOGGED_NAMES) {
            warn!(
                pool = self.pool,
                source = &*self.label,
                backend = name,
                "a backend of the source is not taken: {why}"
            );
        }
        if refused.len() > MAX_LOGGED_NAMES {
            warn!(
                pool = self.pool,
                source = &*self.label,
                all = refused.len(),
                "further backends of the source are not taken"
            );
        }
        self.applied = applied;
        self.handed = Some(set);
        self.note(|_, _| {});
        // The end of the first round of probes may have waited for this.
        let _ = self.registry.answers().await;
    }

    /// Updates the status that the API shows.
    fn note(&self, note: impl FnOnce(&mut SourceStatus, bool)) {
        let figures = self.registry.live_figures();
        let doubt = self.judge.lock().doubt().cloned();
        figures.note_source(&self.pool, &self.label, |status| {
            note(status, doubt.is_some());
            status.backends = self.applied.backends;
            status.refused.clone_from(&self.applied.refused);
            status.doubt = doubt;
        });
    }
}

/// Most refused names in one log message.
const MAX_LOGGED_NAMES: usize = 10;

/// Most reasons that are logged between two answers, so that a reason that differs each time does not fill the log.
const MAX_REASONS: usize = 8;

/// Reasons for failures since the last answer. A user who has fixed the first one has to learn of the second.
#[derive(Debug, Default)]
struct ToldReasons(Vec<String>);

impl ToldReasons {
    /// Whether this reason should be logged.
    fn is_news(&mut self, why: &str) -> bool {
        let is_news = self.0.len() < MAX_REASONS && !self.0.iter().any(|told| told == why);
        if is_news {
            self.0.push(why.to_owned());
        }
        is_news
    }

    fn forget(&mut self) {
        self.0.clear();
    }
}

/// Follows a source for ever, with a pause after each failure.
async fn keep_following(pool: &str, config: &DiscoveryConfig, reporter: &SourceReporter) {
    let mut pause = GrowingPause::default();
    // The source object is kept after a failure, because it may know what can't be asked again.
    let mut open = None;
    loop {
        let began = clock::now();
        let source = match open.take() {
            Some(source) => Ok(source),
            None => open_source(pool, config),
        };
        let error = match source {
            Ok(source) => {
                let followed = {
                    let following = pin!(source.follow(reporter));
                    panics::catch(following).await
                };
                match followed {
                    Ok(error) => {
                        open = Some(source);
                        error
                    }
                    Err(panics::PanicError) => {
                        SourceError::new("a mistake in lameduck (a panic: its log names the place)")
                    }
                }
            }
            Err(error) => error,
        };
        reporter.fail(error).await;
        if clock::now().saturating_sub(began) > STABLE_TIME {
            pause.reset();
        }
        clock::sleep(pause.next(fastrand::f64())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_a_failure_is_told_once_until_the_source_answers() {
        let mut told = ToldReasons::default();
        assert!(told.is_news("no connection") && told.is_news("401"));
        assert!(!told.is_news("no connection") && !told.is_news("401"));
        for number in 0..100 {
            told.is_news(&format!("attempt {number} failed"));
        }
        assert_eq!(told.0.len(), MAX_REASONS);
        told.forget();
        assert!(told.is_news("no connection"));
    }
}
