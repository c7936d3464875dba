//! What both clients share: header fields of requests, and problem documents (RFC 9457).

use serde_json::Value;

use super::names::AdminEndpoint;

/// Header fields of a request, without its length. A token is sent over TCP only: on a unix socket, the kernel tells
/// the proxy which user asks.
pub(super) fn request_fields(
    endpoint: &AdminEndpoint,
    token: Option<&str>,
    has_body: bool,
) -> Vec<(&'static str, String)> {
    let mut fields = Vec::with_capacity(3);
    match endpoint {
        AdminEndpoint::Unix(_) => fields.push(("host", "lameduck".to_owned())),
        AdminEndpoint::Tcp(authority) | AdminEndpoint::Tls(authority) => {
            fields.push(("host", authority.clone()));
            fields.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
        }
    }
    if has_body {
        fields.push(("content-type", "application/json".to_owned()));
    }
    fields
}

/// A problem document as it was received, not yet escaped for a terminal. Empty if the answer is none.
#[derive(Debug)]
pub(super) struct ReceivedProblem {
    /// The last part of its `type`.
    pub(super) slug: String,
    /// Explanation for users.
    pub(super) detail: String,
}

impl ReceivedProblem {
    /// Parses the body of a refusal.
    pub(super) fn read(body: &[u8]) -> Self {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let member = |name: &str| problem[name].as_str().unwrap_or_default();
        let slug = member("type").rsplit(':').next().unwrap_or_default();
        Self {
            slug: slug.to_owned(),
            detail: member("detail").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_goes_over_tcp_and_not_to_a_socket() {
        let names = |endpoint: &AdminEndpoint| {
            let fields = request_fields(endpoint, Some("x"), false);
            fields.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let tcp = AdminEndpoint::Tcp("127.0.0.1:1".to_owned());
        assert_eq!(names(&tcp), ["host", "authorization"]);
        assert_eq!(names(&AdminEndpoint::Unix("/x".into())), ["host"]);
    }

    #[test]
    fn answer_that_is_no_problem_document_reads_as_empty() {
        let problem = ReceivedProblem::read(b"<html>");
        assert!(problem.slug.is_empty() && problem.detail.is_empty());
    }
}
