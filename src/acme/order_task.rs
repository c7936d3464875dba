//! One attempt to order a certificate: takes the lease, reads the disk again, orders, and records the result.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::account_plan::{AccountPlan, CertificatePlan};
use super::authority::AuthorityClient;
use super::certificate_state::{gather_facts, load_certificate};
use super::challenge_files::close_challenges;
use super::order::OrderRun;
use super::order_lease::OrderLease;
use super::record::{OrderRecord, recent_orders};
use super::store::AccountStore;
use super::{AcmeError, unix_now};
use crate::core::renewal::{
    AuthorityFault, CertificateStep, RenewalWindow, admit_order, next_step, retry_after_failure,
};
use crate::tls::certificate::date;
use crate::tls::server::CertificateInventory;

/// Longest duration of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(180);

/// Time between two extensions of the lease.
const EXTEND_INTERVAL: Duration = Duration::from_secs(15);

/// Result of an attempt.
#[derive(Debug)]
pub(super) enum OrderEnd {
    Issued,
    Failed,
    /// Another proxy has ordered the certificate already.
    NotDue,
    /// Another proxy is ordering.
    Busy,
    /// The account has reached its limit of orders in an hour; with the time of the next one.
    Limited(i64),
    /// The directory can't be used.
    NoDisk(String),
}

/// One attempt to order a certificate.
pub(super) struct OrderTask {
    pub(super) account: AccountPlan,
    pub(super) plan: CertificatePlan,
    pub(super) window: Option<RenewalWindow>,
    pub(super) holder: String,
    pub(super) inventory: Arc<CertificateInventory>,
}

impl OrderTask {
    /// Makes the attempt.
    pub(super) async fn run_order(self) -> OrderEnd {
        let failed = |error: std::io::Error| OrderEnd::NoDisk(crate::config::plain(&error));
        let store = match AccountStore::open(&self.account.dir) {
            Ok(store) => store,
            Err(error) => return failed(error),
        };
        let now = unix_now();
        let mut lease = match OrderLease::take(store.dir(), &self.holder, now) {
            Ok(Some(lease)) => lease,
            Ok(None) => return OrderEnd::Busy,
            Err(error) => return failed(error),
        };
        // Read again under the lease, because another proxy may have ordered meanwhile.
        let name = self.plan.name();
        let mut record = match OrderRecord::load(&store, name) {
            Ok(record) => record,
            Err(error) => return failed(error),
        };
        let before = load_certificate(&self.plan).ok().flatten();
        let facts = gather_facts(&self.plan, before.as_ref(), &record, self.window, now);
        let CertificateStep::Order(reason) = next_step(&facts, now) else {
            return OrderEnd::NotDue;
        };
        if !facts.is_ordered {
            let most = self.account.settings.orders_per_hour;
            let admitted = match recent_orders(&store) {
                Ok(orders) => admit_order(&orders, most, now),
                Err(error) => return failed(error),
            };
            if let Err(until) = admitted {
                return OrderEnd::Limited(until);
            }
        }
        info!(
            name,
            authority = self.account.url,
            why = reason.as_str(),
            "ordering a certificate"
        );
        let client = AuthorityClient::new(self.account.settings.ca.as_deref());
        let client = match client {
            Ok(client) => client,
            Err(error) => return self.note_failure(&store, &mut record, error, false),
        };
        let mut run = OrderRun {
            account: &self.account,
            plan: &self.plan,
            store: &store,
            client: &client,
            answers: &self.inventory.challenges,
            record: &mut record,
            before: before.as_ref(),
        };
        let obtained = hold_lease(&mut lease, run.obtain()).await;
        let Some(obtained) = obtained else {
            warn!(
                name,
                "the order is left to another proxy, which has taken over"
            );
            return OrderEnd::Busy;
        };
        match obtained {
            Ok(()) => {
                let _ = OrderRecord::default().save(&store, name);
                close_challenges(&store, &self.plan.managed.names);
                self.inventory.check_all_files();
                let expires = load_certificate(&self.plan).ok().flatten();
                let expires = expires.map_or_else(String::new, |issued| issued.expires());
                info!(name, expires, "certificate issued");
                OrderEnd::Issued
            }
            Err(error) => {
                let is_gone = error.fault == AuthorityFault::AccountGone;
                if is_gone {
                    run.forget_account();
                }
                self.note_failure(&store, &mut record, error, true)
            }
        }
    }

    fn note_failure(
        &self,
        store: &AccountStore,
        record: &mut OrderRecord,
        error: AcmeError,
        was_asked: bool,
    ) -> OrderEnd {
        let (name, now) = (self.plan.name(), unix_now());
        record.failures = record.failures.saturating_add(1);
        let (fault, asked) = (error.fault, error.asked);
        let retry = retry_after_failure(fault, record.failures, asked, now, fastrand::f64());
        record.retry_at = Some(retry);
        record.last_error = Some(error.why.clone());
        if was_asked && fault.ends_order() {
            record.order = None;
            close_challenges(store, &self.plan.managed.names);
        }
        warn!(
            name,
            authority = self.account.url,
            failures = record.failures,
            "no certificate: {error}; next try at {}",
            date(retry)
        );
        match record.save(store, name) {
            Ok(()) => OrderEnd::Failed,
            Err(error) => OrderEnd::NoDisk(crate::config::plain(&error)),
        }
    }
}

/// Runs `work` while the lease is held; `None`: the lease was lost.
async fn hold_lease(
    lease: &mut OrderLease,
    work: impl Future<Output = Result<(), AcmeError>>,
) -> Option<Result<(), AcmeError>> {
    let mut work = std::pin::pin!(tokio::time::timeout(ATTEMPT_TIMEOUT, work));
    let mut extending = interval(EXTEND_INTERVAL);
    extending.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                let late = || AcmeError::new(
                    AuthorityFault::Busy,
                    format!("it has taken longer than {} s in all", ATTEMPT_TIMEOUT.as_secs()),
                );
                return Some(done.unwrap_or_else(|_| Err(late())));
            }
            _ = extending.tick() => {
                if !lease.extend(unix_now()).unwrap_or(false) {
                    return None;
                }
            }
        }
    }
}
