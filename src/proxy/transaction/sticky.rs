//! A request's session: the token that the client sent, the backend that the session belongs to, and the header lines
//! that the client gets.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Transaction;
use crate::config::{SameSite, StickyConfig};
use crate::core::cookies::remove_cookie;
use crate::core::sticky::token::{BelievedToken, TOKEN_LENGTH};
use crate::proxy::forward::session_lines::SessionAnswer;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::h1::response::ResponseHead;
use crate::proxy::upstream::pick::SessionHome;
use crate::registry::endpoint::Endpoint;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// The session of one request.
#[derive(Debug)]
pub(super) struct StickySession {
    /// The pool whose session settings apply.
    pool: Arc<PoolSnapshot>,
    /// The token that the client sent, if it is valid.
    believed: Option<BelievedToken>,
    /// The session's id: from the token, or a new one.
    session: u64,
    /// Whether the client sent a cookie or field with the token's name, valid or not.
    is_in_head: bool,
    /// Header lines for the client's response.
    lines: Vec<u8>,
    /// The backend at which the session is counted.
    counted: Option<Arc<Endpoint>>,
}

/// What a request contains under the token's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentToken<'a> {
    Nothing,
    One(&'a [u8]),
    /// Several tokens: no well-behaved browser sends two.
    Several,
}

impl<'a> SentToken<'a> {
    fn find(config: &StickyConfig, head: &RequestHead, buffer: &'a [u8]) -> Self {
        match &config.header {
            None => Self::only(head.cookies(buffer, &config.cookie)),
            Some(name) => {
                let fields = head.fields.iter().filter(|field| {
                    let other = field.name.of(buffer);
                    other.eq_ignore_ascii_case(name.as_bytes())
                });
                Self::only(fields.map(|field| field.value.of(buffer).trim_ascii()))
            }
        }
    }

    fn only(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

impl Transaction<'_> {
    /// Finds the session that the request belongs to, if the pool has sticky sessions. Anything that is not a token
    /// of this proxy is ignored.
    #[cold]
    pub(super) fn begin_session(&mut self) {
        self.excluded.stay_with(None);
        self.session = None;
        self.account.session = "";
        let pool = self.pool.clone();
        let (Some(config), Some(backends)) = (&pool.config.sticky, &pool.sticky) else {
            return;
        };
        let sent = SentToken::find(config, self.head, self.client.buffer.bytes());
        let believed = match sent {
            SentToken::One(text) => backends.read(&pool.name, config, text, unix_time()),
            SentToken::Nothing | SentToken::Several => None,
        };
        let session = match believed {
            Some(believed) => believed.token.session,
            None => fastrand::u64(..),
        };
        self.excluded
            .stay_with(believed.map(|believed| SessionHome {
                backend: believed.token.backend,
                session,
            }));
        self.session = Some(Box::new(StickySession {
            believed,
            session,
            is_in_head: sent != SentToken::Nothing,
            lines: Vec::new(),
            counted: None,
            pool: pool.clone(),
        }));
    }

    /// Binds the session to the backend that the request is about to be sent to, and tells the client if that is new.
    #[cold]
    pub(super) fn enter_session(&mut self, endpoint: &Arc<Endpoint>) {
        let is_secure = self.client.origin.scheme == "https";
        let Some(session) = &mut self.session else {
            return;
        };
        self.account.session = session.enter(&self.pool, endpoint, is_secure);
    }

    /// Records that the backend answered. `is_ended`: its response ended the session.
    #[cold]
    pub(super) fn note_session(&mut self, is_ended: bool) {
        let Some(session) = &self.session else {
            return;
        };
        let counters = &self.pool.shared.counters;
        counters.sessions.add(self.account.session);
        if is_ended {
            session.forget();
        }
    }

    /// Returns the session's header lines for an error page that replaces the app's response: the same that the
    /// response would have had.
    #[cold]
    pub(super) fn session_lines(&self, response: &ResponseHead, buffer: &[u8]) -> String {
        let Some(session) = &self.session else {
            return String::new();
        };
        let (lines, is_ended) = session.answer().lines_beside(response, buffer);
        if is_ended {
            session.forget();
        }
        lines
    }
}

impl Drop for StickySession {
    /// Ends the request's hold on the session, which can become idle from now on.
    fn drop(&mut self) {
        if let Some(endpoint) = &self.counted {
            endpoint.holders.leave(self.session, clock::now());
        }
    }
}

impl StickySession {
    /// Forgets a session that its app has ended.
    fn forget(&self) {
        if let Some(endpoint) = &self.counted {
            endpoint.holders.forget(self.session);
        }
    }

    /// Counts the session at this backend and at no other, and prepares the client's header lines. Returns what
    /// happened to the session.
    fn enter(
        &mut self,
        newest: &Arc<PoolSnapshot>,
        endpoint: &Arc<Endpoint>,
        is_secure: bool,
    ) -> &'static str {
        self.lines.clear();
        if newest.sticky.is_some() {
            self.pool = newest.clone();
        }
        let pool = self.pool.clone();
        let (Some(config), Some(backends)) = (&pool.config.sticky, &pool.sticky) else {
            return "";
        };
        let token = self.believed.map(|believed| believed.token);
        let is_home = token.is_some_and(|token| backends.means(token.backend, endpoint.key));
        let is_counted = match &self.counted {
            Some(former) if former.key == endpoint.key => true,
            Some(former) => {
                former.holders.forget(self.session);
                false
            }
            None => false,
        };
        if let Some(token) = token {
            let others = backends.named(token.backend);
            for other in others.filter(|other| other.key != endpoint.key) {
                other.holders.forget(self.session);
            }
        }
        if !is_counted {
            (endpoint.holders).enter(self.session, is_home, config.idle, clock::now());
            self.counted = Some(endpoint.clone());
        }
        let is_fresh = self
            .believed
            .is_some_and(|believed| !believed.is_to_be_renewed);
        if !(is_home && is_fresh) {
            let text = backends.write(&pool.name, &endpoint.name, self.session, unix_time());
            self.write_lines(config, &text, is_secure);
        }
        match (token, is_home) {
            (None, _) => "new",
            (Some(_), true) => "kept",
            (Some(_), false) => "moved",
        }
    }

    /// Writes the header lines. They forbid caching: a cache would give one client's token to others.
    fn write_lines(&mut self, config: &StickyConfig, token: &[u8; TOKEN_LENGTH], is_secure: bool) {
        let out = &mut self.lines;
        out.reserve(256);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        match &config.header {
            Some(name) => put(&[name.as_bytes(), b": ", token, b"\r\n"]),
            None => {
                put(&[b"Set-Cookie: ", config.cookie.as_bytes(), b"=", token]);
                put(&[b"; Path=", config.path.as_bytes()]);
                if let Some(domain) = &config.domain {
                    put(&[b"; Domain=", domain.as_bytes()]);
                }
                if !config.max_age.is_zero() {
                    let seconds = config.max_age.as_secs().max(1);
                    let mut digits = itoa::Buffer::new();
                    put(&[b"; Max-Age=", digits.format(seconds).as_bytes()]);
                }
                put(&[b"; HttpOnly"]);
                if config.secure.unwrap_or(is_secure) {
                    put(&[b"; Secure"]);
                }
                put(&[match config.same_site {
                    SameSite::Lax => b"; SameSite=Lax",
                    SameSite::Strict => b"; SameSite=Strict",
                    SameSite::None => b"; SameSite=None",
                    SameSite::Off => b"" as &[u8],
                }]);
                put(&[b"\r\n"]);
            }
        }
        put(&[b"Cache-Control: private\r\n"]);
    }

    /// Returns what the response tells the client about the session.
    pub(super) fn answer(&self) -> SessionAnswer<'_> {
        let config = self.pool.config.sticky.as_ref();
        let header = config.and_then(|config| config.header.as_deref());
        let cookie = config.map_or("", |config| &config.cookie);
        SessionAnswer {
            name: header.unwrap_or(cookie),
            is_header: header.is_some(),
            lines: &self.lines,
        }
    }

    /// Removes the token from the head that the app gets, so that the app can't log it or leak it.
    pub(super) fn edit_head(&self, head: &mut Vec<u8>) {
        let Some(config) = self.pool.config.sticky.as_ref().filter(|_| self.is_in_head) else {
            return;
        };
        let field_name = config.header.as_deref().unwrap_or("cookie").as_bytes();
        let mut edited = Vec::with_capacity(head.len());
        let mut rest = &head[..];
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let (line, after) = rest.split_at(end + 2);
            rest = after;
            let named = memchr::memchr(b':', line)
                .filter(|at| line[..*at].eq_ignore_ascii_case(field_name));
            match named {
                None => edited.extend_from_slice(line),
                Some(_) if config.header.is_some() => {}
                Some(colon) => {
                    let start = edited.len();
                    edited.extend_from_slice(&line[..colon]);
                    edited.extend_from_slice(b": ");
                    let value = edited.len();
                    remove_cookie(&line[colon + 1..end], config.cookie.as_bytes(), &mut edited);
                    match edited.len() == value {
                        true => edited.truncate(start),
                        false => edited.extend_from_slice(b"\r\n"),
                    }
                }
            }
        }
        edited.extend_from_slice(rest);
        *head = edited;
    }
}

/// Returns the Unix time in seconds: tokens outlive the process, and other processes read them.
fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
