//! The loop over all certificates: reads the disk, finds what is due, and runs one order at a time for each account.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::account_plan::{AccountPlan, plan_accounts};
use super::authority::AuthorityClient;
use super::certificate_state::CertificateState;
use super::challenge_files::ChallengeReader;
use super::order_task::{OrderEnd, OrderTask};
use super::renewal_info::{AdvisedWindow, CertificateId, ask_window};
use super::store::AccountStore;
use super::{AcmeError, unix_now};
use crate::config::Config;
use crate::core::renewal::{CertificateStep, next_step};
use crate::tls::certificate::date;
use crate::tls::challenge::OpenChallenges;
use crate::tls::managed::{ManagedState, ManagedStatus};
use crate::tls::server::CertificateInventory;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Seconds until an account is checked again with which another proxy orders.
const BUSY_PAUSE: i64 = 2;

/// Seconds until a directory that can't be used is tried again.
const DISK_PAUSE: i64 = 10;

/// An account with its current activity.
struct AccountState {
    plan: AccountPlan,
    certificates: Vec<CertificateState>,
    /// Name of the certificate that is being ordered, and its task.
    running: Option<(String, JoinHandle<OrderEnd>)>,
    /// Name of the certificate whose renewal window is being fetched, and the task.
    asking: Option<(String, JoinHandle<Result<AdvisedWindow, AcmeError>>)>,
    /// Earliest time of the next attempt, as Unix time in seconds.
    not_before: i64,
    /// Earliest time of a new order after too many of them, as Unix time in seconds.
    limited_until: i64,
    /// Reason why the directory can't be used, if it can't.
    disk_fault: Option<String>,
}

/// Orders and renews the certificates of the configuration, for as long as the process runs. `config` has the current
/// one.
pub async fn keep_certificates(
    config: impl Fn() -> Arc<Config>,
    inventory: Arc<CertificateInventory>,
) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut manager = CertificateManager {
        holder,
        inventory,
        accounts: Vec::new(),
        reader: ChallengeReader::default(),
    };
    let mut seen: Option<Arc<Config>> = None;
    let mut round = interval(CHECK_INTERVAL);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        let newest = config();
        if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &newest)) {
            manager.adopt(plan_accounts(&newest));
            seen = Some(newest);
        }
        if !manager.accounts.is_empty() {
            manager.look_round().await;
        }
    }
}

struct CertificateManager {
    /// Identity of this process among those that share a directory.
    holder: String,
    inventory: Arc<CertificateInventory>,
    accounts: Vec<AccountState>,
    reader: ChallengeReader,
}

impl CertificateManager {
    /// Applies another configuration; what it has in common with the old one goes on.
    fn adopt(&mut self, plans: Vec<AccountPlan>) {
        let mut before = std::mem::take(&mut self.accounts);
        for plan in plans {
            let place = before.iter().position(|old| old.plan.dir == plan.dir);
            let mut account = match place {
                Some(place) => before.swap_remove(place),
                None => AccountState {
                    plan: plan.clone(),
                    certificates: Vec::new(),
                    running: None,
                    asking: None,
                    not_before: 0,
                    limited_until: 0,
                    disk_fault: None,
                },
            };
            let mut old = std::mem::take(&mut account.certificates);
            for certificate in &plan.certificates {
                let file = &certificate.managed.file;
                let place = old.iter().position(|old| old.plan.managed.file == *file);
                let mut state = match place {
                    Some(place) => old.swap_remove(place),
                    None => CertificateState::new(certificate),
                };
                state.plan = certificate.clone();
                account.certificates.push(state);
            }
            account.plan = plan;
            self.accounts.push(account);
        }
        self.inventory
            .challenges
            .set_wanted(!self.accounts.is_empty());
        if self.accounts.is_empty() {
            self.inventory.challenges.set(OpenChallenges::default());
            self.inventory.managed.set(Vec::new());
        }
    }

    async fn look_round(&mut self) {
        let now = unix_now();
        for place in 0..self.accounts.len() {
            self.end_order(place, now).await;
        }
        self.read_disk(now).await;
        for place in 0..self.accounts.len() {
            self.begin_order(place, now);
            self.ask_windows(place, now).await;
        }
        self.publish(now);
    }

    /// Reads files that have changed.
    async fn read_disk(&mut self, now: i64) {
        let mut accounts = std::mem::take(&mut self.accounts);
        let mut reader = std::mem::take(&mut self.reader);
        let read = tokio::task::spawn_blocking(move || {
            for account in &mut accounts {
                let store = AccountStore::at(&account.plan.dir);
                for certificate in &mut account.certificates {
                    certificate.read(&store);
                }
            }
            let stores: Vec<_> = accounts
                .iter()
                .map(|one| AccountStore::at(&one.plan.dir))
                .collect();
            let open = reader.read(stores.iter(), now);
            (accounts, reader, open)
        });
        // A panic ends this task, and it is started again.
        #[allow(clippy::expect_used, reason = "what it had is gone with the panic")]
        let (accounts, reader, open) = read.await.expect("the look at the disk has panicked");
        (self.accounts, self.reader) = (accounts, reader);
        self.inventory.challenges.set(open);
    }

    /// Handles the end of an order.
    async fn end_order(&mut self, place: usize, now: i64) {
        let account = &mut self.accounts[place];
        if !account
            .running
            .as_ref()
            .is_some_and(|(_, task)| task.is_finished())
        {
            return;
        }
        let Some((name, task)) = account.running.take() else {
            return;
        };
        let ended = task.await;
        let ended = ended.unwrap_or_else(|error| OrderEnd::NoDisk(error.to_string()));
        account.disk_fault = None;
        let mut certificates = account.certificates.iter_mut();
        let certificate = certificates.find(|certificate| certificate.plan.name() == name);
        match ended {
            OrderEnd::Issued => {
                if let Some(certificate) = certificate {
                    certificate.orders.0 += 1;
                }
            }
            OrderEnd::Failed => {
                if let Some(certificate) = certificate {
                    certificate.orders.1 += 1;
                }
            }
            OrderEnd::NotDue => {}
            OrderEnd::Busy => account.not_before = now.saturating_add(BUSY_PAUSE),
            OrderEnd::Limited(until) => {
                let most = account.plan.settings.orders_per_hour;
                warn!(
                    authority = account.plan.url,
                    "no order before {}: there were {most} in the last hour (`orders_per_hour`)",
                    date(until)
                );
                account.limited_until = until;
            }
            OrderEnd::NoDisk(why) => {
                let dir = account.plan.dir.display();
                warn!("no certificates can be ordered: {dir}: {why}; it is tried again");
                account.not_before = now.saturating_add(DISK_PAUSE);
                account.disk_fault = Some(format!("{dir}: {why}"));
            }
        }
    }

    /// Starts an order if one is due; certificates that do not exist yet come first.
    fn begin_order(&mut self, place: usize, now: i64) {
        let account = &mut self.accounts[place];
        if account.running.is_some() || now < account.not_before {
            return;
        }
        let certificates = account.certificates.iter();
        let due = certificates.filter(|state| {
            let facts = state.facts(now);
            let is_due = matches!(next_step(&facts, now), CertificateStep::Order(_));
            // An order that was begun is continued, and does not count as new.
            is_due && (facts.is_ordered || now >= account.limited_until)
        });
        let Some(due) = due.min_by_key(|state| state.certificate.is_some()) else {
            return;
        };
        let order = OrderTask {
            account: account.plan.clone(),
            plan: due.plan.clone(),
            window: due.window,
            holder: self.holder.clone(),
            inventory: self.inventory.clone(),
        };
        // The order often waits for the disk, which must not block the control thread.
        let running = move || Handle::current().block_on(order.run_order());
        let name = due.plan.name().to_owned();
        account.running = Some((name, tokio::task::spawn_blocking(running)));
    }

    /// Fetches renewal windows from the authority, one certificate after the other.
    async fn ask_windows(&mut self, place: usize, now: i64) {
        let account = &mut self.accounts[place];
        if let Some((_, task)) = &account.asking
            && task.is_finished()
            && let Some((name, task)) = account.asking.take()
        {
            let mut certificates = account.certificates.iter_mut();
            let certificate = certificates.find(|certificate| certificate.plan.name() == name);
            if let (Some(certificate), Ok(answer)) = (certificate, task.await) {
                certificate.take_window(answer, now);
            }
        }
        if account.asking.is_some() {
            return;
        }
        let mut certificates = account.certificates.iter();
        let due = certificates.find_map(|state| {
            let certificate = state.certificate.as_ref().filter(|_| state.ask_at <= now)?;
            Some((
                state.plan.name().to_owned(),
                CertificateId::of(certificate)?,
            ))
        });
        let Some((name, id)) = due else {
            return;
        };
        let (url, ca) = (account.plan.url.clone(), account.plan.settings.ca.clone());
        let asking = move || {
            let client = AuthorityClient::new(ca.as_deref())?;
            Handle::current().block_on(ask_window(&client, &url, &id))
        };
        account.asking = Some((name, tokio::task::spawn_blocking(asking)));
    }

    /// Publishes the state for the API and the metrics.
    fn publish(&self, now: i64) {
        let mut all = Vec::new();
        for account in &self.accounts {
            for certificate in &account.certificates {
                let running = account.running.as_ref();
                let is_running = running.is_some_and(|(name, _)| name == certificate.plan.name());
                let step = next_step(&certificate.facts(now), now);
                let free_at = account.not_before.max(account.limited_until).max(now);
                let record = &certificate.record;
                let last_error = record.last_error.as_ref().or(account.disk_fault.as_ref());
                let (state, next) = match step {
                    _ if is_running => (ManagedState::Ordering, now),
                    _ if last_error.is_some() => {
                        let next = match step {
                            CertificateStep::Wait(at) => at,
                            CertificateStep::Order(_) => free_at,
                        };
                        (ManagedState::Failing, next)
                    }
                    CertificateStep::Wait(at) => (ManagedState::Good, at),
                    CertificateStep::Order(_) => (ManagedState::Waiting, free_at),
                };
                all.push(ManagedStatus {
                    file: certificate.plan.managed.file.clone(),
                    names: certificate.plan.managed.names.clone(),
                    directory: account.plan.url.clone(),
                    state,
                    next_order: Some(next),
                    last_error: last_error.cloned(),
                    failures: record.failures,
                    orders: certificate.orders,
                });
            }
        }
        self.inventory.managed.set(all);
    }
}
