//! The configuration as accounts and certificates.

use std::path::PathBuf;

use crate::config::{AcmeChallenge, AcmeConfig, Config, ListenerConfig, ManagedCertificate};
use crate::core::renewal::{ChallengeKind, ChallengeListeners, choose_challenge};

/// An account at an authority, and what is ordered with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPlan {
    /// Its directory.
    pub dir: PathBuf,
    /// The URL of the authority's directory.
    pub url: String,
    /// As configured; the first listener's.
    pub settings: AcmeConfig,
    /// Each once, however many listeners have it.
    pub certificates: Vec<CertificatePlan>,
}

/// A certificate that is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePlan {
    /// Names and place.
    pub managed: ManagedCertificate,
    /// The authority's profile.
    pub profile: Option<String>,
    /// As configured.
    pub challenge: AcmeChallenge,
    /// What could answer.
    pub listeners: ChallengeListeners,
}

impl CertificatePlan {
    /// How to answer after so many failures.
    pub fn challenge_kind(&self, failures: u32) -> ChallengeKind {
        match self.challenge {
            AcmeChallenge::Auto => choose_challenge(self.listeners, failures),
            AcmeChallenge::Http01 => ChallengeKind::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        }
    }

    /// Its name for people, and in the directory.
    pub fn name(&self) -> &str {
        self.managed.names.first().map_or("", String::as_str)
    }
}

/// All accounts, in the order of the file.
pub fn plan_accounts(config: &Config) -> Vec<AccountPlan> {
    let port = |listener: &ListenerConfig| listener.address.tcp().map(|address| address.port());
    let plain = || {
        config
            .listeners
            .iter()
            .filter(|listener| listener.tls.is_none())
    };
    let listeners = ChallengeListeners {
        is_plain: plain().next().is_some(),
        is_on_80: plain().any(|listener| port(listener) == Some(80)),
        is_on_443: false,
    };
    let state_dir = config.server.state_dir.as_deref();
    let mut accounts: Vec<AccountPlan> = Vec::new();
    for listener in &config.listeners {
        let Some(acme) = &listener.acme else {
            continue;
        };
        let Some(dir) = acme.account_dir(state_dir) else {
            continue;
        };
        let place = accounts.iter().position(|account| account.dir == dir);
        let place = place.unwrap_or_else(|| {
            accounts.push(AccountPlan {
                dir,
                url: acme.directory_url().to_owned(),
                settings: acme.clone(),
                certificates: Vec::new(),
            });
            accounts.len() - 1
        });
        let certificates = &mut accounts[place].certificates;
        for managed in acme.managed(state_dir) {
            if certificates
                .iter()
                .all(|other| other.managed.file != managed.file)
            {
                certificates.push(CertificatePlan {
                    managed,
                    profile: acme.profile.clone(),
                    challenge: acme.challenge,
                    listeners: ChallengeListeners {
                        is_on_443: port(listener) == Some(443),
                        ..listeners
                    },
                });
            }
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_with_one_account_share_it_and_a_certificate_is_ordered_once() {
        let text = "[server]\nstate_dir = \"/s\"\n[[listener]]\naddress = \"0.0.0.0:443\"\n\
                    acme = { domains = [\"a.example\", \"b.example\"] }\n\
                    [[listener.acme.certificates]]\ndomains = [\"c.example\"]\n\
                    [[listener]]\naddress = \"0.0.0.0:8443\"\nacme = { domains = [\"a.example\", \"b.example\"] }\n\
                    [[listener]]\naddress = \"0.0.0.0:9443\"\nacme = { domains = [\"a.example\"], directory = \"staging\" }\n\
                    [[listener]]\naddress = \"0.0.0.0:80\"\n[[pool]]\nname = \"app\"\n";
        let text = text.replace(
            "acme = { domains = [\"a.example\", \"b.example\"] }\n[[listener.acme",
            "[listener.acme]\ndomains = [\"a.example\", \"b.example\"]\n[[listener.acme",
        );
        let config = crate::config::parse("test", &text).unwrap().config;
        let accounts = plan_accounts(&config);
        let names = |account: &AccountPlan| {
            let names = account.certificates.iter().map(CertificatePlan::name);
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(accounts.len(), 2);
        assert_eq!(names(&accounts[0]), ["a.example", "c.example"]);
        assert_eq!(names(&accounts[1]), ["a.example"]);
        assert!(accounts[1].dir.starts_with("/s/acme"));
        let first = &accounts[0].certificates[0];
        assert_eq!(first.challenge_kind(0), ChallengeKind::TlsAlpn01);
        assert_eq!(first.challenge_kind(1), ChallengeKind::Http01);
        assert!(config.listeners[0].tls.is_some() && config.listeners[0].http2);
    }
}
