//! Challenges as files in the account's directory. All proxies that share the directory answer the challenges of each,
//! because an authority may reach any of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::store::AccountStore;
use crate::core::renewal::ChallengeKind;
use crate::tls::challenge::{ACME_TLS, OpenChallenges};
use crate::tls::{self, sha256};

/// Directory of challenges, below that of the account.
const DIRECTORY: &str = "challenges";

/// Longest time for which a challenge is answered, in seconds.
const MAX_AGE: i64 = 3600;

/// A challenge that has to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChallengeFile {
    /// Type: `http-01` or `tls-alpn-01`.
    kind: String,
    /// Name that the authority validates.
    name: String,
    /// Token; it is also the file's name.
    token: String,
    /// Answer: the key authorization of RFC 8555, section 8.1.
    answer: String,
    /// End of the challenge, as Unix time in seconds.
    until: i64,
}

impl ChallengeFile {
    /// A challenge for this name; `None`: the token is malformed (RFC 8555, section 8.3: base64url).
    pub(super) fn new(
        kind: ChallengeKind,
        name: &str,
        token: &str,
        answer: &str,
        now: i64,
    ) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_token = (1..=200).contains(&token.len()) && token.bytes().all(fits);
        is_token.then(|| Self {
            kind: kind.as_str().to_owned(),
            name: name.to_ascii_lowercase(),
            token: token.to_owned(),
            answer: answer.to_owned(),
            until: now.saturating_add(MAX_AGE),
        })
    }

    fn file(&self) -> String {
        format!("{}.json", self.token)
    }

    /// Publishes the challenge to all proxies that share the directory.
    pub(super) fn open(&self, account: &AccountStore) -> io::Result<()> {
        let store = account.below(DIRECTORY)?;
        store.write_json(&self.file(), self)
    }
}

/// Removes the challenges for these names.
pub(super) fn close_challenges(account: &AccountStore, names: &[String]) {
    let store = AccountStore::at(&account.path(DIRECTORY));
    for file in store.list() {
        let read = store.read_json::<ChallengeFile>(&file).ok().flatten();
        if read.is_some_and(|challenge| names.contains(&challenge.name)) {
            let _ = store.remove(&file);
        }
    }
}

/// Reader of challenge files, with the certificates that it has made for them.
#[derive(Default)]
pub(super) struct ChallengeReader {
    /// TLS configurations by name and answer, each made once.
    made: HashMap<(String, String), Arc<ServerConfig>>,
}

impl ChallengeReader {
    /// All open challenges in these directories. May wait for the disk.
    pub(super) fn read<'a>(
        &mut self,
        accounts: impl Iterator<Item = &'a AccountStore>,
        now: i64,
    ) -> OpenChallenges {
        let mut open = OpenChallenges::default();
        let mut still = HashMap::new();
        for account in accounts {
            let store = AccountStore::at(&account.path(DIRECTORY));
            for file in store.list() {
                if !file.ends_with(".json") {
                    continue;
                }
                let read = store.read_json::<ChallengeFile>(&file);
                let Ok(Some(challenge)) = read else {
                    continue;
                };
                if challenge.until < now {
                    let _ = store.remove(&file);
                    continue;
                }
                if challenge.kind == ChallengeKind::Http01.as_str() {
                    open.http.insert(challenge.token, challenge.answer);
                    continue;
                }
                let key = (challenge.name, challenge.answer);
                let made = match self.made.get(&key) {
                    Some(made) => made.clone(),
                    None => match challenge_config(&key.0, &key.1) {
                        Ok(made) => Arc::new(made),
                        Err(why) => {
                            warn!(name = key.0, "no certificate for a challenge: {why}");
                            continue;
                        }
                    },
                };
                open.tls.insert(key.0.clone(), made.clone());
                still.insert(key, made);
            }
        }
        self.made = still;
        open
    }
}

/// The TLS configuration for an authority's validation handshake (RFC 8737, section 3).
fn challenge_config(name: &str, answer: &str) -> Result<ServerConfig, String> {
    let told = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(told)?;
    params.distinguished_name = DistinguishedName::new();
    let digest = sha256(answer.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate().map_err(told)?;
    let certificate = params.self_signed(&key).map_err(told)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = tls::provider();
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    // `with_single_cert` would not work: it checks the certificate as a client does, and rejects its critical
    // extension.
    let shown = CertifiedKey::new(vec![certificate.der().clone()], key);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    // The certificate is for a single handshake, so no session is kept.
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_answered_by_all_until_they_are_closed_or_old() {
        let dir = tempfile::tempdir().unwrap();
        let account = AccountStore::open(dir.path()).unwrap();
        let make = |kind, name, token| ChallengeFile::new(kind, name, token, "x.y", 1000).unwrap();
        let http = make(ChallengeKind::Http01, "A.example", "t-1");
        http.open(&account).unwrap();
        make(ChallengeKind::TlsAlpn01, "b.example", "t_2")
            .open(&account)
            .unwrap();
        let mut reader = ChallengeReader::default();
        let mut read = |now| reader.read(std::iter::once(&account), now);
        let open = read(1001);
        assert_eq!(open.http["t-1"], "x.y");
        let made = open.tls["b.example"].clone();
        assert!(Arc::ptr_eq(&made, &read(1002).tls["b.example"]));
        close_challenges(&account, &["a.example".to_owned()]);
        let open = read(1003);
        assert!(open.http.is_empty() && open.tls.len() == 1);
        assert!(read(1001 + MAX_AGE).tls.is_empty());
        assert!(AccountStore::at(&account.path(DIRECTORY)).list().is_empty());
        for token in ["", "../x", "a/b", "a b"] {
            let kind = ChallengeKind::Http01;
            assert_eq!(ChallengeFile::new(kind, "a", token, "x", 0), None);
        }
    }
}
