//! Basic authentication (RFC 7617).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::{GuardedRequest, Refusal, same_name};
use crate::auth::{CheckOutcome, CheckTurn, UserFile};
use crate::config::{BuiltClient, RouteAuth};
use crate::metrics::RouteRefusal;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::per_client::ClientKey;
use crate::rt::clock;

/// Longest wait for a password to be checked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Maximum length of credentials, in bytes of base64.
const LONGEST: usize = 4096;

/// Base64 with or without padding: clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl GuardedRequest<'_> {
    /// Admits requests with a valid password, and returns the header fields that the app gets.
    pub(super) async fn check_password(&mut self, auth: &RouteAuth) -> Result<Vec<u8>, Refusal> {
        let user = self.find_user(auth).await?;
        let mut lines = Vec::new();
        if let Some(name) = &auth.user_header {
            for part in [name.as_bytes(), b": ", user.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        self.account.user = Some(user);
        Ok(lines)
    }

    async fn find_user(&mut self, auth: &RouteAuth) -> Result<Arc<str>, Refusal> {
        // Present in every configuration that was checked.
        let Some(file) = auth.users.as_ref().and_then(BuiltClient::get::<UserFile>) else {
            let cause = "the users of this route are not known";
            return Err(Refusal::new(RouteRefusal::AuthDown, 503, cause));
        };
        let Some((user, password)) = self.credentials() else {
            return Err(unauthorized(auth, "a user and a password are needed here"));
        };
        let verified = &self.plane.guards.verified;
        let Some(tag) = verified.tag(&file, &user, &password) else {
            let found = self.check_credentials(file, user, password).await?;
            return found.ok_or_else(|| is_wrong(auth));
        };
        loop {
            if let Some(user) = verified.find(&tag, clock::now()) {
                return Ok(user);
            }
            match self.plane.guards.under_way.join(tag) {
                CheckTurn::Own(check) => {
                    let found = self.check_credentials(file, user, password).await?;
                    if let Some(user) = &found {
                        verified.remember(tag, user.clone(), clock::now());
                    }
                    check.publish_outcome(found.clone());
                    return found.ok_or_else(|| is_wrong(auth));
                }
                CheckTurn::Others(check) => match clock::timeout(PATIENCE, check.wait()).await {
                    Ok(Some(found)) => return found.ok_or_else(|| is_wrong(auth)),
                    // The client for which it was checked has disconnected, or has too many other checks in progress.
                    Ok(None) => {}
                    Err(clock::TimeoutError) => return Err(is_busy(503)),
                },
            }
        }
    }

    /// Returns the user whose credentials these are; `None`: they are not valid.
    async fn check_credentials(
        &self,
        file: Arc<UserFile>,
        user: Vec<u8>,
        password: Vec<u8>,
    ) -> Result<CheckOutcome, Refusal> {
        let state = &self.plane.guards;
        let client = self.address.map(ClientKey::from);
        let Some(_place) = state.enter_check(client) else {
            return Err(is_busy(429));
        };
        let checked = state.checker.check(file, user, password);
        let Ok(checked) = checked else {
            return Err(is_busy(503));
        };
        match clock::timeout(PATIENCE, checked).await {
            Ok(Ok(found)) => Ok(found),
            // The check took too long, or its thread is gone.
            Ok(Err(_)) | Err(_) => Err(is_busy(503)),
        }
    }

    /// Returns the user and the password. Two `Authorization` header fields count as none, since it is unknown which
    /// one the app would use.
    fn credentials(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let buffer = self.client.buffer.bytes();
        let mut fields = self.head.fields.iter().filter(|field| {
            field.kind == FieldKind::Other && same_name(field.name.of(buffer), b"authorization")
        });
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        decode(field.value.of(buffer))
    }
}

fn decode(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked(5)?;
    let encoded = rest.strip_prefix(b" ")?.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic") || encoded.len() > LONGEST {
        return None;
    }
    let mut user = BASE64.decode(encoded).ok()?;
    let at = memchr::memchr(b':', &user)?;
    let password = user.split_off(at + 1);
    user.truncate(at);
    Some((user, password))
}

fn is_busy(status: u16) -> Refusal {
    let cause = "too many passwords are being checked";
    Refusal::new(RouteRefusal::AuthBusy, status, cause).after(1)
}

fn is_wrong(auth: &RouteAuth) -> Refusal {
    unauthorized(auth, "the user or the password is wrong")
}

fn unauthorized(auth: &RouteAuth, cause: &'static str) -> Refusal {
    let mut refusal = Refusal::new(RouteRefusal::Unauthorized, 401, cause);
    refusal.answer.fields = Some(format!(
        "WWW-Authenticate: Basic realm=\"{}\", charset=\"UTF-8\"\r\n",
        auth.realm
    ));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_rfc_7617_says() {
        let is = |text: &str| {
            let (user, password) = decode(text.as_bytes())?;
            Some(format!(
                "{}|{}",
                String::from_utf8(user).ok()?,
                String::from_utf8(password).ok()?
            ))
        };
        assert_eq!(is("Basic YTpi").as_deref(), Some("a|b"));
        assert_eq!(is("basic  YTpi ").as_deref(), Some("a|b"));
        assert_eq!(is("BASIC YTpiOmM=").as_deref(), Some("a|b:c"));
        assert_eq!(is("Basic YTpiOmM").as_deref(), Some("a|b:c"));
        assert_eq!(is("Basic Og==").as_deref(), Some("|"));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "BasicYTpi",
            "Bearer YTpi",
            "Basic YQ==",
            "Basic YTpi=x",
            "Basic YTpi, Basic YTpi",
            "Basic\tYTpi",
            "Basic YTp\u{e9}",
        ] {
            assert_eq!(is(bad), None, "{bad}");
        }
        assert_eq!(is(&format!("Basic {}", "YTpi".repeat(1025))), None);
    }
}
