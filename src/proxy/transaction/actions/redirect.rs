//! The `redirect` action: the location that a request is redirected to.

use super::ActionAnswer;
use crate::config::RedirectAction;
use crate::proxy::h1::target::host_length;
use crate::proxy::transaction::changes::{append_query, lead_with_one_slash};
use crate::proxy::transaction::local_response::LocalResponse;
use crate::proxy::transaction::placeholders::{
    RequestValues, ValueEncoding, default_port, encode_target,
};
use crate::registry::routes::RoutedRequest as _;

const NO_HOST: &str = "without a Host there is nothing to redirect to";
const BAD_HOST: &str = "what the route makes of this request is no host";
const SAME: &str = "the route's redirect leads to where the request was sent already";

/// Returns the redirect response. Its location is always a full URL, so that no path can be taken for a host.
pub(super) fn make_redirect(
    redirect: &RedirectAction,
    values: &RequestValues<'_>,
) -> Result<ActionAnswer, LocalResponse> {
    let request = &values.request;
    let own_scheme = values.scheme();
    let scheme = redirect.scheme.map_or(own_scheme, |scheme| scheme.as_str());
    let own_host = request.host();
    let mut host = Vec::new();
    match &redirect.host {
        Some(template) => values.expand(&mut host, template, ValueEncoding::Host)?,
        None => host.extend_from_slice(own_host),
    }
    if host.is_empty() {
        return Err(LocalResponse::new(400, NO_HOST));
    }
    if host_length(&host) != Ok(host.len()) {
        return Err(LocalResponse::new(400, BAD_HOST));
    }
    let own_port = values.port();
    let port = match (redirect.port, redirect.scheme) {
        (Some(port), _) => port,
        // Another scheme has another port: its default port.
        (None, Some(_)) => default_port(scheme),
        (None, None) => own_port,
    };
    let own_target = request.head.origin.of(request.buffer);
    let mut target = Vec::with_capacity(own_target.len() + 32);
    match &redirect.path {
        Some(path) => {
            values.expand(&mut target, path, ValueEncoding::Path)?;
            lead_with_one_slash(&mut target);
            if !path.names_query() {
                append_query(&mut target, values);
            }
        }
        // `OPTIONS *` addresses the whole server: its root is the nearest URL.
        None if own_target == b"*" => target.push(b'/'),
        None => {
            if own_target.first() != Some(&b'/') {
                target.push(b'/');
            }
            target.extend_from_slice(own_target);
        }
    }
    if scheme == own_scheme
        && port == own_port
        && host.eq_ignore_ascii_case(own_host)
        && target == own_target
    {
        return Err(LocalResponse::new(508, SAME));
    }
    let mut location = format!("{scheme}://").into_bytes();
    location.append(&mut host);
    if port != default_port(scheme) {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    // Encodes what the client sent: a `Location` has no control characters and no backslash.
    encode_target(&mut location, &target);
    Ok(ActionAnswer {
        status: redirect.status,
        location: Some(location),
        ..ActionAnswer::default()
    })
}
