//! State of a certificate on the disk, and what has to be done about it.

use tracing::{debug, info, warn};

use super::AcmeError;
use super::account_plan::CertificatePlan;
use super::record::OrderRecord;
use super::renewal_info::AdvisedWindow;
use super::store::AccountStore;
use crate::config::CertificateFiles;
use crate::core::renewal::{
    CertificateFacts, CertificateLife, RenewalWindow, next_window_at, plan_renewal,
};
use crate::tls::certificate::{Certificate, date};
use crate::tls::fingerprint::FileSet;

/// State of a certificate on the disk.
pub(super) struct CertificateState {
    pub(super) plan: CertificatePlan,
    pub(super) file: FileSet,
    pub(super) certificate: Option<Certificate>,
    pub(super) record: OrderRecord,
    pub(super) window: Option<RenewalWindow>,
    /// Time to ask for the renewal window again, as Unix time in seconds.
    pub(super) ask_at: i64,
    pub(super) orders: (u64, u64),
}

impl CertificateState {
    pub(super) fn new(plan: &CertificatePlan) -> Self {
        Self {
            plan: plan.clone(),
            file: FileSet::new(vec![plan.managed.file.clone()]),
            certificate: None,
            record: OrderRecord::default(),
            window: None,
            ask_at: 0,
            orders: (0, 0),
        }
    }

    /// Reads files that have changed. May wait for the disk.
    pub(super) fn read(&mut self, store: &AccountStore) {
        if let Ok(record) = OrderRecord::load(store, self.plan.name()) {
            self.record = record;
        }
        if !self.file.have_changed() {
            return;
        }
        let digest = |state: &Self| state.certificate.as_ref().map(|one| one.digest);
        let before = digest(self);
        match load_certificate(&self.plan) {
            Ok(certificate) => {
                self.file.are_good();
                self.certificate = certificate;
            }
            Err(why) => {
                self.certificate = None;
                if self.file.are_bad(why.clone()) {
                    warn!(
                        "{why}; the certificate is ordered anew, and what is served goes on being served"
                    );
                }
            }
        }
        if digest(self) != before {
            (self.window, self.ask_at) = (None, 0);
        }
    }

    pub(super) fn facts(&self, now: i64) -> CertificateFacts {
        gather_facts(
            &self.plan,
            self.certificate.as_ref(),
            &self.record,
            self.window,
            now,
        )
    }

    pub(super) fn take_window(&mut self, answer: Result<AdvisedWindow, AcmeError>, now: i64) {
        match answer {
            Ok(advised) => {
                self.ask_at = next_window_at(advised.asked, now);
                if advised.window != self.window
                    && let Some(window) = advised.window
                {
                    info!(
                        name = self.plan.name(),
                        why = advised.explanation.unwrap_or_default(),
                        "the authority wants the certificate to be renewed between {} and {}",
                        date(window.start),
                        date(window.end)
                    );
                }
                self.window = advised.window;
            }
            Err(error) => {
                debug!(name = self.plan.name(), "no renewal window: {}", error.why);
                self.ask_at = next_window_at(error.asked.or(Some(3600)), now);
            }
        }
    }
}

/// Facts about a certificate that decide whether it is due.
pub(super) fn gather_facts(
    plan: &CertificatePlan,
    certificate: Option<&Certificate>,
    record: &OrderRecord,
    window: Option<RenewalWindow>,
    now: i64,
) -> CertificateFacts {
    let life = certificate.map(|certificate| CertificateLife {
        not_before: certificate.not_before,
        not_after: certificate.not_after,
    });
    let lacks = |certificate: &Certificate| {
        let mut names = plan.managed.names.iter();
        names.any(|name| !certificate.names.contains(name))
    };
    // Random, but the same for all proxies that share the certificate, whenever they start.
    let chance = certificate.map_or(0.0, |certificate| {
        let [one, two, three, four, ..] = certificate.digest;
        f64::from(u32::from_be_bytes([one, two, three, four])) / (f64::from(u32::MAX) + 1.0)
    });
    CertificateFacts {
        life,
        lacks_names: certificate.is_some_and(lacks),
        renew_at: life.map(|life| plan_renewal(life, window, chance)),
        is_ordered: record.usable_order(&plan.managed.names, now).is_some(),
        retry_at: record.retry_at,
    }
}

/// The certificate on the disk, even if it has expired; `None`: there is none.
pub(super) fn load_certificate(plan: &CertificatePlan) -> Result<Option<Certificate>, String> {
    let file = &plan.managed.file;
    if !file.exists() {
        return Ok(None);
    }
    let files = CertificateFiles {
        cert: file.clone(),
        key: file.clone(),
    };
    let read = Certificate::load_expired(&files);
    read.map(Some)
        .map_err(|error| format!("{}: {}", error.file.display(), error.why))
}
