//! Authorization, by the listener of the admin API ("door") that a request came through, and by its bearer token (RFC
//! 6750).
//!
//! | door | probes `/-/*` | reading | changes |
//! |---|---|---|---|
//! | unix socket | yes | yes | yes |
//! | `http` on loopback | yes | yes | token |
//! | `http` off loopback | yes | token | token |
//! | `probes` | yes | `/metrics` only | no |
//! | `apps_socket` | yes | own instances | own instances |
//!
//! The dashboard's page needs no token, like `/-/*`; neither does `/v1/access`. Both reveal nothing about the proxy.
//!
//! With `[admin.tls] client_ca`, a client certificate replaces the token. If a token is needed and none is
//! configured, the response is 403 and says how to configure one.

use std::io;
use std::path::{Path, PathBuf};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::encrypted::ShownCertificate;
use super::problem::{ProblemDocument, ProblemKind};
use super::{AdminDoor, AdminState, dashboard};
use crate::config::plain_file::{LONGEST_TOKEN, read_lasting_file};

/// The path of the caller's access rights.
const ACCESS: &str = "/v1/access";

/// The bearer token, in a file. It is read at each use, so a new one is valid from the next request on.
#[derive(Debug)]
pub struct AdminToken {
    path: PathBuf,
}

impl AdminToken {
    /// Returns the token in this file.
    ///
    /// # Errors
    /// If the file can't be read or is empty: the cause and the remedy, for people.
    pub fn load(path: &Path) -> Result<Self, String> {
        let token = Self {
            path: path.to_owned(),
        };
        let shown = path.display();
        match read_lasting_file(path, LONGEST_TOKEN) {
            Ok(secret) if !secret.trim_ascii().is_empty() => Ok(token),
            Ok(_) => Err(format!(
                "the token file {shown} is empty; put a long random word into it \
                 (`openssl rand -hex 32 > {shown}`)"
            )),
            Err(error) => Err(format!(
                "can't read the token file {shown}: {error}; set [admin] token_file to a file that \
                 this user may read"
            )),
        }
    }

    /// Returns whether `given` is the token that the file contains now.
    async fn matches(&self, given: &[u8]) -> io::Result<bool> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_lasting_file(&path, LONGEST_TOKEN));
        let secret = read.await.map_err(io::Error::other)??;
        let secret = secret.trim_ascii();
        // An empty file must not make an empty token valid.
        Ok(!secret.is_empty() && bool::from(secret.ct_eq(given)))
    }
}

/// Layer that refuses unauthorized requests.
pub(super) async fn guard(
    State(admin): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(hosts) = &admin.hosts {
        let (method, version) = (request.method(), request.version());
        let judged = hosts.judge(method, version, request.uri(), request.headers());
        if let Err(problem) = judged {
            return problem.into_response();
        }
    }
    if let AdminDoor::Http { loopback } = admin.door {
        let free = is_free(request.method(), request.uri().path(), loopback);
        // A client certificate issued by `client_ca` replaces the token.
        let shown = request.extensions().get::<ShownCertificate>().is_some();
        if !free
            && !shown
            && let Err(problem) = authorize(&admin, request.headers()).await
        {
            return problem.into_response();
        }
    }
    next.run(request).await
}

fn is_free(method: &Method, path: &str, loopback: bool) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let tells_nothing = path.starts_with("/-/") || path == ACCESS || dashboard::is_page(path);
    reads && (loopback || tells_nothing)
}

/// The state of a request's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessToken {
    /// No token is needed for anything.
    NotNeeded,
    /// The request has no token, and changes need one.
    Missing,
    /// The token is valid.
    Accepted,
    /// The token is not valid.
    Wrong,
    /// No token is configured, so no caller can have one.
    NoneConfigured,
}

impl AccessToken {
    /// Returns the name in the API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Missing => "missing",
            Self::Accepted => "accepted",
            Self::Wrong => "wrong",
            Self::NoneConfigured => "none_configured",
        }
    }
}

/// Checks a request's token. `shown`: the client has presented a certificate that replaces a token.
pub(super) async fn judge_token(
    admin: &AdminState,
    headers: &HeaderMap,
    shown: bool,
) -> AccessToken {
    if shown || !matches!(admin.door, AdminDoor::Http { .. }) {
        return AccessToken::NotNeeded;
    }
    match authorize(admin, headers).await {
        Ok(()) => AccessToken::Accepted,
        Err(_) if admin.token.is_none() => AccessToken::NoneConfigured,
        Err(_) if bearer(headers).is_some() => AccessToken::Wrong,
        Err(_) => AccessToken::Missing,
    }
}

async fn authorize(admin: &AdminState, headers: &HeaderMap) -> Result<(), ProblemDocument> {
    let Some(token) = &admin.token else {
        return Err(ProblemDocument::new(
            ProblemKind::NoTokenConfigured,
            "This needs a token over TCP, and no token is configured. Set [admin] token_file and restart \
             lameduck, or use the unix socket, which needs none.",
        ));
    };
    let Some(given) = bearer(headers) else {
        let detail = "This needs a token over TCP. Send `Authorization: Bearer TOKEN` with the content of \
                      [admin] token_file, or use the unix socket, which needs none.";
        return Err(unauthorized(detail, "Bearer realm=\"lameduck\""));
    };
    match token.matches(given).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(unauthorized(
            "The token is not the one in [admin] token_file. A changed file counts at once.",
            "Bearer realm=\"lameduck\", error=\"invalid_token\"",
        )),
        Err(error) => {
            // The path is logged, but not sent to an unauthorized client.
            tracing::warn!(path = %token.path.display(), %error, "can't read the admin token file");
            Err(ProblemDocument::new(
                ProblemKind::NoTokenConfigured,
                "The server can't read its token file, so nobody is let in over TCP. Its log says why.",
            ))
        }
    }
}

fn unauthorized(detail: &str, challenge: &'static str) -> ProblemDocument {
    ProblemDocument::new(ProblemKind::TokenRequired, detail).header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changed_token_is_valid_immediately() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = AdminToken::load(&path).unwrap();
        assert!(token.matches(b"one").await.unwrap());
        assert!(!token.matches(b"on").await.unwrap());
        assert!(!token.matches(b"").await.unwrap());
        std::fs::write(&path, "two\n").unwrap();
        assert!(!token.matches(b"one").await.unwrap());
        assert!(token.matches(b"two").await.unwrap());
        std::fs::write(&path, "\n").unwrap();
        assert!(!token.matches(b"").await.unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(token.matches(b"two").await.is_err());
    }

    #[test]
    fn a_missing_or_empty_file_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let error = AdminToken::load(&path).unwrap_err();
        assert!(error.contains("[admin] token_file"), "{error}");
        std::fs::write(&path, " \n").unwrap();
        let error = AdminToken::load(&path).unwrap_err();
        assert!(
            error.contains("is empty") && error.contains("openssl"),
            "{error}"
        );
    }

    #[test]
    fn free_paths_depend_on_the_address() {
        assert!(is_free(&Method::GET, "/v1/pools", true));
        assert!(is_free(&Method::HEAD, "/-/ready", false));
        assert!(!is_free(&Method::GET, "/v1/pools", false));
        assert!(!is_free(&Method::GET, "/metrics", false));
        for page in ["/", "/dashboard/page.js", "/v1/access"] {
            assert!(is_free(&Method::GET, page, false), "{page}");
            assert!(!is_free(&Method::POST, page, true), "{page}");
        }
        assert!(!is_free(&Method::GET, "/dashboard/", false));
        assert!(!is_free(&Method::POST, "/v1/lame-duck", true));
        assert!(!is_free(&Method::POST, "/-/live", false));
    }

    #[test]
    fn the_scheme_is_case_insensitive() {
        let with = |value: &'static str| {
            let headers =
                HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(with("Bearer abc").unwrap(), b"abc");
        assert_eq!(with("bearer  abc").unwrap(), b"abc");
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bea"), None);
    }
}
