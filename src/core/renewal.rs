//! When a certificate is ordered, and how failures of its authority are handled. Times are Unix seconds, because they
//! outlive the process; `random` is a number from 0 up to 1.

/// Seconds per minute, hour and day.
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Certificates with a shorter life are renewed at its half, and not with a third left: the rest has to be enough for
/// several tries.
const SHORT_LIFE: i64 = 10 * DAY;

/// Period over which orders are counted.
pub const ORDER_PERIOD: i64 = HOUR;

/// Longest wait that is accepted from an authority.
const LONGEST_WAIT: i64 = 7 * DAY;

/// Validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateLife {
    /// Begin.
    pub not_before: i64,
    /// End.
    pub not_after: i64,
}

impl CertificateLife {
    /// Returns its length, in seconds.
    pub fn length(&self) -> i64 {
        self.not_after.saturating_sub(self.not_before).max(0)
    }

    /// Returns when to renew the certificate without advice of the authority: with a third of its life left, or a
    /// half of a short one, and a random time earlier, so that certificates that were issued in the same hour are not
    /// renewed in the same hour.
    fn own_renewal(&self, random: f64) -> i64 {
        let length = self.length();
        let left = match length < SHORT_LIFE {
            true => length / 2,
            false => length / 3,
        };
        let earlier = share(length / 24, random);
        self.not_after.saturating_sub(left).saturating_sub(earlier)
    }

    /// Returns the latest time at which a renewal may begin, whatever an authority advises.
    fn last_renewal(&self) -> i64 {
        self.not_after.saturating_sub(self.length() / 20)
    }
}

/// The period in which an authority wants a certificate to be renewed (ARI, RFC 9773, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalWindow {
    /// Begin.
    pub start: i64,
    /// End.
    pub end: i64,
}

/// Returns when to renew a certificate: a random time in the authority's window, so that not all clients come at
/// once; a window that ends before it begins is ignored (RFC 9773, section 4.2).
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

/// Status of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Validity of the present certificate; `None`: there is none that could be served.
    pub life: Option<CertificateLife>,
    /// Whether the present certificate lacks a configured name.
    pub lacks_names: bool,
    /// Planned time of its renewal.
    pub renew_at: Option<i64>,
    /// Whether an order was begun and has not ended.
    pub is_ordered: bool,
    /// Earliest time of the next try, after a failure.
    pub retry_at: Option<i64>,
}

/// Why a certificate is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderReason {
    /// There is no certificate.
    Missing,
    /// The certificate lacks a name.
    Names,
    /// It is time to renew it.
    Due,
    /// An order was begun earlier.
    Unfinished,
}

impl OrderReason {
    /// Returns a word for the log.
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
    /// Order a certificate.
    Order(OrderReason),
    /// Do nothing before this time.
    Wait(i64),
}

/// Decides what to do about a certificate now.
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

/// Checks whether another order is allowed after those at the given times.
///
/// # Errors
/// Returns the time of the next permitted order.
pub fn admit_order(orders: &[i64], most: u32, now: i64) -> Result<(), i64> {
    // A clock that was wrong and has been set must not block orders for good.
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

/// A failure at an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityFault {
    /// The authority can't be reached, or its response can't be used.
    Unreachable,
    /// The authority has asked to wait, or has an internal error.
    Busy,
    /// The authority's rate limit was exceeded.
    RateLimited,
    /// The authority could not validate that the names belong to this host.
    Validation,
    /// The authority refuses these names, or this request.
    Refused,
    /// The authority no longer knows the account.
    AccountGone,
    /// The authority no longer knows the order, or the order has ended without a certificate.
    OrderGone,
    /// An operator has to act first: accept terms, pay, configure another account.
    NeedsOperator,
    /// The issued certificate does not match the order.
    WrongCertificate,
    /// The fault is on this side: the disk, a file.
    Local,
}

/// Prefix of a problem's name (RFC 8555, section 6.7).
const ACME_ERROR: &str = "urn:ietf:params:acme:error:";

impl AuthorityFault {
    /// Returns the fault for a problem document, by its type and its status.
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

    /// Returns a remedy, as text for operators.
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

    /// Returns the first and the longest pause after this fault.
    fn pauses(self) -> (i64, i64) {
        match self {
            // No request reached an authority that could count it.
            Self::Unreachable | Self::Busy | Self::Local => (5, HOUR),
            Self::AccountGone | Self::OrderGone => (5, 6 * HOUR),
            // Five tries in the first hour, which is the limit of the best known authority.
            Self::Validation | Self::Refused | Self::WrongCertificate => (2 * MINUTE, 6 * HOUR),
            Self::RateLimited | Self::NeedsOperator => (HOUR, 12 * HOUR),
        }
    }

    /// Whether the order that was begun can't be used any more.
    pub fn ends_order(self) -> bool {
        !matches!(
            self,
            Self::Unreachable | Self::Busy | Self::RateLimited | Self::Local
        )
    }
}

/// Returns when to try again after this number of consecutive failures. `asked`: the time in the authority's
/// `Retry-After`, in seconds.
pub fn retry_after_failure(
    fault: AuthorityFault,
    failures: u32,
    asked: Option<i64>,
    now: i64,
    random: f64,
) -> i64 {
    let (first, most) = match (fault, asked) {
        // The authority has stated the time, which is better than any guess.
        (AuthorityFault::RateLimited, Some(_)) => AuthorityFault::Busy.pauses(),
        _ => fault.pauses(),
    };
    let doublings = failures.saturating_sub(1).min(30);
    let pause = first.saturating_mul(1 << doublings).min(most);
    let pause = pause.max(asked.unwrap_or(0).clamp(0, LONGEST_WAIT));
    // Later by up to a fifth, and never earlier than asked.
    now.saturating_add(pause)
        .saturating_add(share(pause / 5, random))
}

/// Returns when to ask for a renewal window again, by the authority's response.
pub fn next_window_at(asked: Option<i64>, now: i64) -> i64 {
    // Between a minute and a day (RFC 9773, section 4.3.2); without a statement, every six hours.
    let pause = asked.unwrap_or(6 * HOUR).clamp(MINUTE, DAY);
    now.saturating_add(pause)
}

/// How an authority validates a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// A file over HTTP (RFC 8555, section 8.3).
    Http01,
    /// A certificate in a handshake (RFC 8737).
    TlsAlpn01,
}

impl ChallengeKind {
    /// Returns the name in RFC 8555 and RFC 8737.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// The listeners that can be used for challenges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChallengeListeners {
    /// Whether there is one without TLS.
    pub is_plain: bool,
    /// Whether there is one without TLS on port 80.
    pub is_on_80: bool,
    /// Whether there is one with TLS on port 443.
    pub is_on_443: bool,
}

/// Returns the challenge to use if the configuration does not choose: one whose port this host listens on, and after
/// a failure the other one.
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

/// Returns a random part of a number of seconds.
fn share(seconds: i64, random: f64) -> i64 {
    // Seconds of some years fit into a float without loss.
    (seconds as f64 * random.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests;
