//! When a certificate is ordered, and what follows a failure at its authority. Times are Unix seconds, because they
//! outlive the process; `random` is a number from 0 up to 1.

/// Seconds of a minute, an hour and a day.
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A shorter life is renewed at its half and not with a third left: what is left has to be enough for several tries.
const SHORT_LIFE: i64 = 10 * DAY;

/// Orders are counted over so long.
pub const ORDER_PERIOD: i64 = HOUR;

/// A wait that an authority asks for is believed up to here.
const LONGEST_WAIT: i64 = 7 * DAY;

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateLife {
    /// From then on.
    pub not_before: i64,
    /// Up to then.
    pub not_after: i64,
}

impl CertificateLife {
    /// The length of that time, in seconds.
    pub fn length(&self) -> i64 {
        self.not_after.saturating_sub(self.not_before).max(0)
    }

    /// When to renew it, if the authority has no advice: with a third of its life left, or a half of a short one, and a
    /// little earlier by chance, so that certificates of one hour are not all renewed in one hour again.
    fn own_renewal(&self, random: f64) -> i64 {
        let length = self.length();
        let left = match length < SHORT_LIFE {
            true => length / 2,
            false => length / 3,
        };
        let earlier = share(length / 24, random);
        self.not_after.saturating_sub(left).saturating_sub(earlier)
    }

    /// The last moment at which a renewal may begin, whatever an authority advises.
    fn last_renewal(&self) -> i64 {
        self.not_after.saturating_sub(self.length() / 20)
    }
}

/// When an authority wants a certificate to be renewed (ARI, RFC 9773, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalWindow {
    /// From then on.
    pub start: i64,
    /// Up to then.
    pub end: i64,
}

/// When to renew a certificate: a moment of the authority's window by chance, so that it is not asked by all at once; a
/// window that ends before it begins counts for nothing (RFC 9773, section 4.2).
pub fn plan_renewal(life: CertificateLife, window: Option<RenewalWindow>, random: f64) -> i64 {
    match window.filter(|window| window.start < window.end) {
        Some(window) => {
            let length = window.end.saturating_sub(window.start);
            let chosen = window.start.saturating_add(share(length, random));
            chosen.min(life.last_renewal())
        }
        None => life.own_renewal(random),
    }
}

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Of the one that is there; `None`: there is none that could be served.
    pub life: Option<CertificateLife>,
    /// It is there, and not for every name that is configured.
    pub lacks_names: bool,
    /// When it is to be renewed, as it was planned.
    pub renew_at: Option<i64>,
    /// An order was begun and has not ended.
    pub is_ordered: bool,
    /// No sooner: the last try has failed.
    pub retry_at: Option<i64>,
}

/// Why a certificate is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderReason {
    /// There is none.
    Missing,
    /// It lacks a name.
    Names,
    /// Its time has come.
    Due,
    /// An order was begun earlier.
    Unfinished,
}

impl OrderReason {
    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "there is none yet",
            Self::Names => "it lacks a name",
            Self::Due => "it is time to renew it",
            Self::Unfinished => "an order was begun",
        }
    }
}

/// What to do about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateStep {
    /// Order one.
    Order(OrderReason),
    /// Nothing before then.
    Wait(i64),
}

/// What to do about a certificate at this moment.
pub fn next_step(facts: &CertificateFacts, now: i64) -> CertificateStep {
    let reason = match facts.life {
        _ if facts.is_ordered => OrderReason::Unfinished,
        None => OrderReason::Missing,
        Some(_) if facts.lacks_names => OrderReason::Names,
        Some(life) => {
            let due = facts.renew_at.unwrap_or_else(|| life.own_renewal(0.0));
            let due = due.min(life.last_renewal());
            if now < due {
                return CertificateStep::Wait(due);
            }
            OrderReason::Due
        }
    };
    match facts.retry_at {
        Some(retry) if retry > now => CertificateStep::Wait(retry),
        _ => CertificateStep::Order(reason),
    }
}

/// Whether one more order is allowed after those at these times; if not, from when on.
///
/// # Errors
/// When the next one is.
pub fn admit_order(orders: &[i64], most: u32, now: i64) -> Result<(), i64> {
    // A clock that was wrong and has been set must not keep orders away for good.
    let counts = |at: &&i64| now.saturating_sub(**at).abs() < ORDER_PERIOD;
    let mut recent: Vec<i64> = orders.iter().filter(counts).copied().collect();
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    if recent.len() < most {
        return Ok(());
    }
    recent.sort_unstable();
    let oldest = recent[recent.len() - most];
    Err(oldest.saturating_add(ORDER_PERIOD))
}

/// What has failed at an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityFault {
    /// It can't be reached, or says nothing of use.
    Unreachable,
    /// It has asked for patience, or has a fault of its own.
    Busy,
    /// Too much was asked of it.
    RateLimited,
    /// It could not see that the names are ours.
    Validation,
    /// It refuses these names, or this request.
    Refused,
    /// It knows the account no longer.
    AccountGone,
    /// It knows the order no longer, or the order has ended without a certificate.
    OrderGone,
    /// An operator has to act first: accept terms, pay, name another account.
    NeedsOperator,
    /// What it issued is not what was ordered.
    WrongCertificate,
    /// The fault is on this side: the disk, a file.
    Local,
}

/// The word before a problem's name (RFC 8555, section 6.7).
const ACME_ERROR: &str = "urn:ietf:params:acme:error:";

impl AuthorityFault {
    /// What a problem document says, by its type and its status.
    pub fn of_problem(kind: Option<&str>, status: u16) -> Self {
        let name = kind.and_then(|kind| kind.strip_prefix(ACME_ERROR));
        match name {
            Some("rateLimited") => Self::RateLimited,
            Some("serverInternal" | "badNonce" | "orderNotReady") => Self::Busy,
            Some("accountDoesNotExist") => Self::AccountGone,
            Some("externalAccountRequired" | "userActionRequired") => Self::NeedsOperator,
            Some("caa" | "connection" | "dns" | "incorrectResponse" | "tls" | "unauthorized") => {
                Self::Validation
            }
            Some(_) => Self::Refused,
            None => match status {
                429 => Self::RateLimited,
                404 => Self::OrderGone,
                500..=599 => Self::Busy,
                _ => Self::Refused,
            },
        }
    }

    /// What to do about it, for people.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "see whether this machine reaches the authority; it is tried again"
            }
            Self::Busy => "it is tried again",
            Self::RateLimited => {
                "fewer orders are needed: use `directory = \"staging\"` while you try things out"
            }
            Self::Validation => {
                "the authority connects to the name's address, port 80 or 443, and must find this proxy there"
            }
            Self::Refused => "read what the authority says, and correct [listener.acme]",
            Self::AccountGone => "a new account is made",
            Self::OrderGone => "a new order is made",
            Self::NeedsOperator => "do what the authority says; it is tried again",
            Self::WrongCertificate => "ask the authority; it is tried again",
            Self::Local => "see the reason; it is tried again",
        }
    }

    /// The first pause after it, and the longest.
    fn pauses(self) -> (i64, i64) {
        match self {
            // Nothing was asked of an authority that could count it.
            Self::Unreachable | Self::Busy | Self::Local => (5, HOUR),
            Self::AccountGone | Self::OrderGone => (5, 6 * HOUR),
            // Five tries in the first hour: as many as the best known authority has patience for.
            Self::Validation | Self::Refused | Self::WrongCertificate => (2 * MINUTE, 6 * HOUR),
            Self::RateLimited | Self::NeedsOperator => (HOUR, 12 * HOUR),
        }
    }

    /// Whether the order that was begun is of no more use.
    pub fn ends_order(self) -> bool {
        !matches!(
            self,
            Self::Unreachable | Self::Busy | Self::RateLimited | Self::Local
        )
    }
}

/// When to try again after this many failures in a row. `asked`: the authority's own wish (`Retry-After`), in seconds.
pub fn retry_after_failure(
    fault: AuthorityFault,
    failures: u32,
    asked: Option<i64>,
    now: i64,
    random: f64,
) -> i64 {
    let (first, most) = match (fault, asked) {
        // It has said how long it takes, which is better than any guess.
        (AuthorityFault::RateLimited, Some(_)) => AuthorityFault::Busy.pauses(),
        _ => fault.pauses(),
    };
    let doublings = failures.saturating_sub(1).min(30);
    let pause = first.saturating_mul(1 << doublings).min(most);
    let pause = pause.max(asked.unwrap_or(0).clamp(0, LONGEST_WAIT));
    // Later by up to a fifth, and never sooner than it was asked for.
    now.saturating_add(pause)
        .saturating_add(share(pause / 5, random))
}

/// When to ask for a renewal window again, by what the authority said of that.
pub fn next_window_at(asked: Option<i64>, now: i64) -> i64 {
    // Between a minute and a day (RFC 9773, section 4.3.2), and every six hours where it says nothing.
    let pause = asked.unwrap_or(6 * HOUR).clamp(MINUTE, DAY);
    now.saturating_add(pause)
}

/// How an authority sees that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A file over HTTP (RFC 8555, section 8.3).
    Http01,
    /// A certificate in a handshake (RFC 8737).
    TlsAlpn01,
}

impl ChallengeKind {
    /// As RFC 8555 and 8737 write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// Which listeners there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChallengeListeners {
    /// One without TLS.
    pub is_plain: bool,
    /// One without TLS on port 80.
    pub is_on_80: bool,
    /// One with TLS on port 443.
    pub is_on_443: bool,
}

/// Which challenge to use where the configuration leaves it open: one whose port this host listens on, and after a
/// failure the other one.
pub fn choose_challenge(listeners: ChallengeListeners, failures: u32) -> ChallengeKind {
    if !listeners.is_plain {
        return ChallengeKind::TlsAlpn01;
    }
    let first_is_http = listeners.is_on_80 && !listeners.is_on_443;
    match first_is_http ^ (failures % 2 == 1) {
        true => ChallengeKind::Http01,
        false => ChallengeKind::TlsAlpn01,
    }
}

/// That share of a number of seconds.
fn share(seconds: i64, random: f64) -> i64 {
    // Seconds of some years fit into a float without loss.
    (seconds as f64 * random.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests;
