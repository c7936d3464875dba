//! Accounts and certificates that the configuration asks for.

use std::path::PathBuf;

use crate::config::{AcmeChallenge, AcmeConfig, Config, ListenerConfig, ManagedCertificate};
use crate::core::renewal::{ChallengeKind, ChallengeListeners, choose_challenge};

/// An account at an authority, and the certificates that are ordered with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPlan {
    /// Directory of the account's files.
    pub dir: PathBuf,
    /// URL of the authority's directory (RFC 8555, section 7.1.1).
    pub url: String,
    /// Settings of the first listener that uses the account.
    pub settings: AcmeConfig,
    /// Certificates, each once even if several listeners use it.
    pub certificates: Vec<CertificatePlan>,
}

/// A certificate that has to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePlan {
    /// Its names and files.
    pub managed: ManagedCertificate,
    /// Profile at the authority, if one is configured.
    pub profile: Option<String>,
    /// Configured type of challenge.
    pub challenge: AcmeChallenge,
    /// Listeners that could answer a challenge.
    pub listeners: ChallengeListeners,
}

impl CertificatePlan {
    /// Type of challenge to use after this many failures.
    pub fn challenge_kind(&self, failures: u32) -> ChallengeKind {
        match self.challenge {
            AcmeChallenge::Auto => choose_challenge(self.listeners, failures),
            AcmeChallenge::Http01 => ChallengeKind::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        }
    }

    /// Its name in messages and in the directory.
    pub fn name(&self) -> &str {
        self.managed.names.first().map_or("", String::as_str)
    }
}

/// All accounts, in the order of the configuration.
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
