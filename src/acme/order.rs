//! One order, from the account to the certificate on the disk. Everything that the next step needs (the account's key,
//! the order's URL, the challenges, the certificate's key) is on the disk before that step, so that after a crash any
//! process can continue.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeStatus,
    ChallengeType, ExternalAccountKey, Identifier, Key, NewAccount, NewOrder, Order, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{Der, PrivateKeyDer, PrivatePkcs8KeyDer};

use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::account_plan::{AccountPlan, CertificatePlan};
use super::authority::{AuthorityClient, describe_problem};
use super::challenge_files::ChallengeFile;
use super::record::{BegunOrder, OrderRecord, note_order};
use super::renewal_info::{AuthorityDirectory, CertificateId};
use super::store::AccountStore;
use super::{AcmeError, unix_now};
use crate::config::CertificateFiles;
use crate::core::renewal::{AuthorityFault, ChallengeKind};
use crate::tls::certificate::Certificate;
use crate::tls::challenge::ChallengeAnswers;

/// File with the account's key (DER in base64), and file with the authority's data of the account.
const ACCOUNT_KEY: &str = "account.key";
const ACCOUNT: &str = "account.json";

/// Longest wait of an attempt for the authority to validate or to sign. The order continues with the next attempt.
const AUTHORITY_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause between two requests for an order's state: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// Time until other proxies that share the directory have read a challenge, which they do once a second.
const SHARING_TIME: Duration = Duration::from_millis(1500);

/// One attempt at an order.
pub(super) struct OrderRun<'a> {
    pub(super) account: &'a AccountPlan,
    pub(super) plan: &'a CertificatePlan,
    pub(super) store: &'a AccountStore,
    pub(super) client: &'a AuthorityClient,
    /// Challenges that this process answers.
    pub(super) answers: &'a ChallengeAnswers,
    pub(super) record: &'a mut OrderRecord,
    /// Certificate that is served now, and will be replaced.
    pub(super) before: Option<&'a Certificate>,
}

impl OrderRun<'_> {
    /// Obtains the certificate, and writes it to the disk.
    pub(super) async fn obtain(&mut self) -> Result<(), AcmeError> {
        let account = self.sign_in().await?;
        let mut order = self.begin_or_resume(&account).await?;
        if order.state().status == OrderStatus::Pending {
            self.answer_challenges(&mut order).await?;
            self.wait_until(&mut order, |status| status != OrderStatus::Pending)
                .await?;
        }
        let key = self.certificate_key()?;
        if order.state().status == OrderStatus::Ready {
            let request = self.request(&key)?;
            let finalized = order.finalize_csr(&request).await;
            finalized.map_err(|error| self.client.judge(error))?;
        }
        self.wait_until(&mut order, |status| status == OrderStatus::Valid)
            .await?;
        let chain = order.certificate().await;
        let chain = chain.map_err(|error| self.client.judge(error))?;
        let chain = chain.ok_or_else(|| {
            AcmeError::new(AuthorityFault::Busy, "the certificate is not there yet")
        })?;
        self.keep_certificate(&chain, &key)
    }

    fn name(&self) -> &str {
        self.plan.name()
    }

    fn names(&self) -> &[String] {
        &self.plan.managed.names
    }

    fn key_file(&self) -> String {
        format!("{}.key", self.name())
    }

    /// The existing account, or a new one.
    async fn sign_in(&self) -> Result<Account, AcmeError> {
        let failed = |error| self.client.judge(error);
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let local = |error: std::io::Error| AcmeError::local("the account", &error);
        let known: Option<AccountCredentials> = self.store.read_json(ACCOUNT).map_err(local)?;
        if let Some(known) = known {
            return builder().from_credentials(known).await.map_err(failed);
        }
        let settings = &self.account.settings;
        let contact = settings
            .email
            .as_ref()
            .map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let url = self.account.url.clone();
        let (account, credentials) = match (&settings.eab_kid, &settings.eab_key) {
            (Some(kid), Some(key)) => {
                let key = BASE64_URL_SAFE_NO_PAD.decode(key).map_err(|error| {
                    AcmeError::new(AuthorityFault::NeedsOperator, format!("`eab_key`: {error}"))
                })?;
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let key = ExternalAccountKey::new(kid.clone(), &key);
                builder()
                    .create(&new, url, Some(&key))
                    .await
                    .map_err(failed)?
            }
            _ => {
                let key = self.account_key()?;
                let made = builder().create_from_key(key, url).await;
                let (account, credentials) = made.map_err(failed)?;
                if !contact.is_empty()
                    && let Err(error) = account.update_contacts(&contact).await
                {
                    warn!(
                        "{}: the account has no mail address: {}",
                        self.account.url,
                        self.client.judge(error).why
                    );
                }
                (account, credentials)
            }
        };
        self.store
            .write_json(ACCOUNT, &credentials)
            .map_err(local)?;
        info!(authority = %self.account.url, account = account.id(), "ACME account made");
        Ok(account)
    }

    /// Key of the account. It is written to the disk first: if an account was created but not recorded, the authority
    /// finds it by this key.
    fn account_key(&self) -> Result<(Key, PrivateKeyDer<'static>), AcmeError> {
        let local = |error: std::io::Error| AcmeError::local("the account's key", &error);
        let broken = || AcmeError::new(AuthorityFault::Local, "no key can be made for the account");
        if let Some(text) = self.store.read(ACCOUNT_KEY).map_err(local)? {
            let der = BASE64_URL_SAFE_NO_PAD.decode(text.trim_ascii());
            let key = der.ok().and_then(|der| {
                let der = PrivatePkcs8KeyDer::from(der);
                let key = Key::from_pkcs8_der(der.clone_key()).ok()?;
                Some((key, PrivateKeyDer::Pkcs8(der)))
            });
            match key {
                Some(key) => return Ok(key),
                None => self.store.set_aside(ACCOUNT_KEY, "it is not a key"),
            }
        }
        let (key, der) = Key::generate_pkcs8().map_err(|_| broken())?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(der.secret_pkcs8_der());
        let written = self.store.write(ACCOUNT_KEY, &[text.as_bytes()]);
        written.map_err(local)?;
        Ok((key, PrivateKeyDer::Pkcs8(der)))
    }

    /// Deletes the data of an account that can't be used any more.
    pub(super) fn forget_account(&self) {
        self.store
            .set_aside(ACCOUNT, "the authority knows the account no longer");
        if matches!(self.store.read(ACCOUNT_KEY), Ok(Some(_))) {
            self.store.set_aside(ACCOUNT_KEY, "its account is gone");
        }
    }

    async fn begin_or_resume(&mut self, account: &Account) -> Result<Order, AcmeError> {
        let names = self.names().to_vec();
        if let Some(begun) = self.record.usable_order(&names, unix_now()) {
            let url = begun.url.clone();
            match account.order(url.clone()).await {
                Ok(mut order) => {
                    let status = order.state().status;
                    let needs_key = matches!(status, OrderStatus::Processing | OrderStatus::Valid);
                    let has_key = matches!(self.store.read(&self.key_file()), Ok(Some(_)));
                    if status != OrderStatus::Invalid && (has_key || !needs_key) {
                        debug!(order = url, ?status, "an order goes on");
                        return Ok(order);
                    }
                }
                Err(error) => {
                    let error = self.client.judge(error);
                    if !error.fault.ends_order() || error.fault == AuthorityFault::AccountGone {
                        return Err(error);
                    }
                    debug!(order = url, "an order is gone: {}", error.why);
                }
            }
        }
        self.begin(account, &names).await
    }

    async fn begin(&mut self, account: &Account, names: &[String]) -> Result<Order, AcmeError> {
        let local = |error: std::io::Error| AcmeError::local("the order", &error);
        // Data of an earlier order is useless now; each certificate gets a key of its own.
        self.record.order = None;
        self.store.remove(&self.key_file()).map_err(local)?;
        self.record.save(self.store, self.name()).map_err(local)?;
        // Counted before it is sent, so that a crash counts, too.
        note_order(self.store, unix_now()).map_err(local)?;
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let replaced = match self.before.and_then(CertificateId::of) {
            Some(id) if self.has_renewal_info().await => Some(id),
            _ => None,
        };
        let mut order = self
            .send_order(account, &identifiers, replaced.as_ref())
            .await;
        if replaced.is_some()
            && let Err(error) = &order
            && error.fault.ends_order()
        {
            // The certificate was replaced already, for example by a proxy that crashed before it had the new one.
            debug!(
                "an order that says what it replaces was refused: {}",
                error.why
            );
            order = self.send_order(account, &identifiers, None).await;
        }
        let order = order.map_err(|error| match error.fault {
            // Names are validated later, so this can only be about the account.
            AuthorityFault::Validation => AcmeError {
                fault: AuthorityFault::AccountGone,
                ..error
            },
            _ => error,
        })?;
        self.record.order = Some(BegunOrder {
            url: order.url().to_owned(),
            names: names.to_vec(),
            began: unix_now(),
        });
        self.record.save(self.store, self.name()).map_err(local)?;
        Ok(order)
    }

    async fn has_renewal_info(&self) -> bool {
        let directory = self
            .client
            .get::<AuthorityDirectory>(&self.account.url)
            .await;
        directory.is_ok_and(|directory| directory.renewal_info.is_some())
    }

    async fn send_order(
        &self,
        account: &Account,
        identifiers: &[Identifier],
        replaced: Option<&CertificateId>,
    ) -> Result<Order, AcmeError> {
        let mut order = NewOrder::new(identifiers);
        if let Some(profile) = &self.plan.profile {
            order = order.profile(profile);
        }
        if let Some(id) = replaced {
            let (signer, serial) = (Der::from_slice(&id.signer), Der::from_slice(&id.serial));
            order = order.replaces(CertificateIdentifier::new(signer, serial));
        }
        let made = account.new_order(&order).await;
        made.map_err(|error| self.client.judge(error))
    }

    /// Opens a challenge for each name that the authority has to validate, and notifies the authority.
    async fn answer_challenges(&self, order: &mut Order) -> Result<(), AcmeError> {
        let failed = |error| self.client.judge(error);
        let local = |error: std::io::Error| AcmeError::local("a challenge", &error);
        let kind = self.plan.challenge_kind(self.record.failures);
        let mut opened = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let challenge = authorization.challenge(challenge_type(kind));
            let challenge = challenge.ok_or_else(|| {
                let why = format!("the authority does not offer {} for {name}", kind.as_str());
                AcmeError::new(AuthorityFault::Refused, why)
            })?;
            let answer = challenge.key_authorization();
            let file =
                ChallengeFile::new(kind, &name, &challenge.token, answer.as_str(), unix_now());
            let file = file.ok_or_else(|| {
                let why = format!("the authority's token for {name} is none");
                AcmeError::new(AuthorityFault::Refused, why)
            })?;
            file.open(self.store).map_err(local)?;
            opened.push((challenge.token.clone(), name.to_ascii_lowercase()));
        }
        if opened.is_empty() {
            return Ok(());
        }
        sleep(SHARING_TIME).await;
        self.see_answers(kind, &opened).await;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(challenge_type(kind))
                && challenge.status == ChallengeStatus::Pending
            {
                challenge.set_ready().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Waits until this proxy answers the challenges; with a slow disk that takes longer than usual.
    async fn see_answers(&self, kind: ChallengeKind, opened: &[(String, String)]) {
        let ends = Instant::now() + AUTHORITY_TIMEOUT;
        while Instant::now() < ends {
            let open = self.answers.open();
            let mut waited_for = opened.iter();
            let are_open = waited_for.all(|(token, name)| match kind {
                ChallengeKind::Http01 => open.http.contains_key(token),
                ChallengeKind::TlsAlpn01 => open.tls.contains_key(name),
            });
            if are_open {
                return;
            }
            sleep(FIRST_PAUSE).await;
        }
    }

    /// Waits until the order has reached this state.
    async fn wait_until(
        &self,
        order: &mut Order,
        has_come: impl Fn(OrderStatus) -> bool,
    ) -> Result<(), AcmeError> {
        let ends = Instant::now() + AUTHORITY_TIMEOUT;
        let mut pause = FIRST_PAUSE;
        loop {
            let status = order.state().status;
            if status == OrderStatus::Invalid {
                return Err(self.explain_invalid(order).await);
            }
            if has_come(status) {
                return Ok(());
            }
            let asked = self.client.take_asked();
            let wanted = asked.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
            let wait = wanted.unwrap_or(pause).max(FIRST_PAUSE);
            if Instant::now() + wait > ends {
                return Err(AcmeError {
                    fault: AuthorityFault::Busy,
                    why: format!(
                        "the authority has not come further than `{}` in {} s",
                        status_word(status),
                        AUTHORITY_TIMEOUT.as_secs()
                    ),
                    asked,
                });
            }
            sleep(wait).await;
            pause = (pause * 2).min(LAST_PAUSE);
            let looked = order.refresh().await.map(|_| ());
            looked.map_err(|error| self.client.judge(error))?;
        }
    }

    /// Reason why an order has failed: the authority's errors for its names.
    async fn explain_invalid(&self, order: &mut Order) -> AcmeError {
        let mut reasons = Vec::new();
        if let Some(problem) = &order.state().error {
            reasons.push(describe_problem(problem));
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else {
                break;
            };
            if authorization.refresh().await.is_err() {
                break;
            }
            let name = authorization.identifier().to_string();
            for challenge in &authorization.challenges {
                if let Some(problem) = &challenge.error {
                    reasons.push(format!("{name}: {}", describe_problem(problem)));
                }
            }
        }
        let why = match reasons.is_empty() {
            true => "the authority gives no reason".to_owned(),
            false => reasons.join("; "),
        };
        AcmeError::new(AuthorityFault::Validation, why)
    }

    /// Key of the new certificate, which is on the disk before it is used.
    fn certificate_key(&self) -> Result<KeyPair, AcmeError> {
        let local = |error: std::io::Error| AcmeError::local("the certificate's key", &error);
        let file = self.key_file();
        if let Some(text) = self.store.read(&file).map_err(local)? {
            match KeyPair::from_pem(&String::from_utf8_lossy(&text)) {
                Ok(key) => return Ok(key),
                Err(error) => self.store.set_aside(&file, &error.to_string()),
            }
        }
        let key = KeyPair::generate()
            .map_err(|error| AcmeError::new(AuthorityFault::Local, error.to_string()))?;
        let written = self.store.write(&file, &[key.serialize_pem().as_bytes()]);
        written.map_err(local)?;
        Ok(key)
    }

    fn request(&self, key: &KeyPair) -> Result<Vec<u8>, AcmeError> {
        let failed = |error: rcgen::Error| AcmeError::new(AuthorityFault::Local, error.to_string());
        let mut params = CertificateParams::new(self.names().to_vec()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(key).map_err(failed)?;
        Ok(request.der().to_vec())
    }

    /// Replaces the served chain and key in one step, if the new ones are as ordered.
    fn keep_certificate(&self, chain: &str, key: &KeyPair) -> Result<(), AcmeError> {
        let key = key.serialize_pem();
        let pieces: [&[u8]; 3] = [chain.trim_end().as_bytes(), b"\n", key.as_bytes()];
        let name = format!("{}.pem", self.name());
        let written = self.store.write_as(&name, &pieces, |path| {
            let files = CertificateFiles {
                cert: path.to_owned(),
                key: path.to_owned(),
            };
            let wrong = |why: String| {
                let why = format!("the authority has issued what was not ordered: {why}");
                KeepError::Judged(AcmeError::new(AuthorityFault::WrongCertificate, why))
            };
            let read = Certificate::load(&files, SystemTime::now());
            let read = read.map_err(|error| wrong(error.why))?;
            match self.names().iter().find(|name| !read.names.contains(name)) {
                Some(name) => Err(wrong(format!("{name} is not in it"))),
                None => Ok(()),
            }
        });
        written.map_err(|error| match error {
            KeepError::Judged(error) => error,
            KeepError::Disk(error) => AcmeError::local(&name, &error),
        })?;
        let _ = self.store.remove(&self.key_file());
        Ok(())
    }
}

/// Reason why a certificate is not stored.
enum KeepError {
    Judged(AcmeError),
    Disk(std::io::Error),
}

impl From<std::io::Error> for KeepError {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

fn challenge_type(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "pending",
        OrderStatus::Ready => "ready",
        OrderStatus::Processing => "processing",
        OrderStatus::Valid => "valid",
        OrderStatus::Invalid => "invalid",
    }
}
