//! State of the routes' guards that outlives a request: request counts by client, passwords that were verified, and
//! connections to authentication servers. A reload keeps it.

use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

use super::buffer::LARGE;
use super::per_client::{ClientKey, CountedKey, KeyCounts};
use crate::auth::{ChecksUnderWay, PasswordChecker, VerifiedCredentials};
use crate::core::Time;
use crate::core::rate::table::{OpenBucket, RateTable};
use crate::core::rate::{RateRule, RateVerdict};

/// Number of locks over which keys are distributed: a power of two.
const SHARDS: usize = 64;

/// Rows of keys for each lock: 262,144 keys in total, 6 MiB. Memory pages without any key take no memory.
const ROWS: usize = 512;

/// Maximum number of concurrent password checks for one client.
const CHECKS_OF_A_CLIENT: usize = 4;

/// Maximum number of idle connections to one authentication server.
const KEPT_TO_A_SERVER: usize = 64;

/// The HTTP client for authentication servers.
pub type AuthClient = Client<HttpConnector, Empty<Bytes>>;

/// The secret for hashing keys, so that nobody can choose two values that are counted as one. A process that takes
/// over gets it too: it needs it to find its clients' buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingSecret(pub [u64; 2]);

impl CountingSecret {
    /// Generates a random secret.
    fn random() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(1), random.hash_one(2)])
    }
}

/// State of all guards, kept across requests and reloads.
pub struct GuardState {
    secret: CountingSecret,
    /// A hasher that starts with the secret.
    hasher: DefaultHasher,
    rates: OnceLock<Box<[Mutex<RateTable>]>>,
    connections: Arc<KeyCounts<u64>>,
    checks: Arc<KeyCounts<Option<ClientKey>>>,
    /// Passwords that were verified a moment ago.
    pub verified: VerifiedCredentials,
    /// Password checks in progress, whose result other requests can wait for.
    pub under_way: ChecksUnderWay,
    /// Checks passwords.
    pub checker: PasswordChecker,
    auth_client: OnceLock<AuthClient>,
}

impl Default for GuardState {
    fn default() -> Self {
        Self::counting_by(CountingSecret::random())
    }
}

impl GuardState {
    /// Creates state whose keys equal those of every process with this secret.
    pub fn counting_by(secret: CountingSecret) -> Self {
        let mut hasher = DefaultHasher::new();
        secret.0.hash(&mut hasher);
        Self {
            secret,
            hasher,
            rates: OnceLock::new(),
            connections: Arc::default(),
            checks: Arc::default(),
            verified: VerifiedCredentials::default(),
            under_way: ChecksUnderWay::default(),
            checker: PasswordChecker::default(),
            auth_client: OnceLock::new(),
        }
    }

    /// Returns the secret for hashing keys.
    pub fn secret(&self) -> CountingSecret {
        self.secret
    }

    /// Returns the number under which something is counted. It depends on the secret: nobody can choose two values
    /// that are counted as one, however long they are.
    pub fn key(&self, of: impl Hash) -> u64 {
        let mut hasher = self.hasher.clone();
        of.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns a value that differs if another process hashes in another way, as another release may.
    pub fn hash_witness(&self) -> u64 {
        self.key(("witness", 1_u64))
    }

    /// Returns the buckets that are not full now, some thousands at a time.
    pub fn open_buckets(&self, now: Time) -> impl Iterator<Item = Vec<OpenBucket>> + '_ {
        let tables = self.rates.get().into_iter().flatten();
        tables.map(move |table| table.lock().open(now).collect())
    }

    /// Adds what another process has counted.
    pub fn take_buckets(&self, buckets: impl IntoIterator<Item = OpenBucket>, now: Time) {
        let tables = self.rate_tables();
        for bucket in buckets {
            let mut table = tables[bucket.key as usize % SHARDS].lock();
            table.add(bucket, now);
        }
    }

    fn rate_tables(&self) -> &[Mutex<RateTable>] {
        self.rates.get_or_init(|| {
            let tables = (0..SHARDS).map(|_| Mutex::new(RateTable::new(ROWS)));
            tables.collect()
        })
    }

    /// Takes a request out of the bucket of this key; also returns whether another key was dropped for it.
    pub fn take(&self, key: u64, rule: &RateRule, now: Time) -> (RateVerdict, bool) {
        let mut table = self.rate_tables()[key as usize % SHARDS].lock();
        let forgotten = table.forgotten();
        let verdict = table.take(key, rule, now);
        (verdict, table.forgotten() > forgotten)
    }

    /// Counts a request; `None`: the maximum for this key is being served already.
    pub fn enter(&self, key: u64, limit: u32) -> Option<CountedKey<u64>> {
        KeyCounts::count(&self.connections, key, limit as usize)
    }

    /// Counts a password check; `None`: this client has the maximum of them in progress.
    pub fn enter_check(&self, client: Option<ClientKey>) -> Option<CountedKey<Option<ClientKey>>> {
        KeyCounts::count(&self.checks, client, CHECKS_OF_A_CLIENT)
    }

    /// Returns the HTTP client for authentication servers.
    pub fn auth_client(&self) -> &AuthClient {
        self.auth_client.get_or_init(|| {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            // The data plane's threads have no Tokio timers; the caller has its own timeout.
            connector.set_connect_timeout(None);
            connector.set_happy_eyeballs_timeout(None);
            Client::builder(TokioExecutor::new())
                // The largest head, and what is read of a body at a time; by default it is 400 KiB for each connection.
                .http1_max_buf_size(LARGE)
                .pool_idle_timeout(None)
                .pool_max_idle_per_host(KEPT_TO_A_SERVER)
                .build(connector)
        })
    }
}
