//! What a route changes of one request and its answer: made once, before the first attempt, from what the client sent.

use std::borrow::Cow;
use std::sync::Arc;

use super::local_response::LocalResponse;
use super::placeholders::{RequestValues, ValueEncoding, encode_target};
use crate::config::TextTemplate;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::forward::changed_fields::{ChangedFields, RequestChanges};
use crate::proxy::h1::request::TargetForm;
use crate::proxy::h1::target::host_length;
use crate::registry::routes::changes::{FieldChanges, PathChange, RouteChanges};
use crate::registry::routes::{
    RouteRule, RoutedRequest as _, compared_path, has_dot_segment, rest_of_path,
};

/// The changes of one request.
#[derive(Debug)]
pub struct PreparedChanges {
    rule: Arc<RouteRule>,
    target: Option<Vec<u8>>,
    host: Option<String>,
    /// Lines behind the request's fields, unless they are the same for every request.
    request: Vec<u8>,
    /// The same of the answer.
    response: Vec<u8>,
}

impl PreparedChanges {
    /// For a request that goes by this rule; `None`: the rule changes nothing. The second value is the answer to a
    /// request that can't be changed so; what the rule changes of answers is in the first all the same.
    pub(super) fn new(
        rule: &Arc<RouteRule>,
        values: &RequestValues<'_>,
    ) -> (Option<Box<Self>>, Result<(), LocalResponse>) {
        let Some(changes) = &rule.changes else {
            return (None, Ok(()));
        };
        let mut prepared = Box::new(Self {
            rule: rule.clone(),
            target: None,
            host: None,
            request: Vec::new(),
            response: Vec::new(),
        });
        let done = write_lines(&mut prepared.response, changes.response.as_ref(), values)
            .and_then(|()| prepared.prepare_request(changes, values));
        (Some(prepared), done)
    }

    fn prepare_request(
        &mut self,
        changes: &RouteChanges,
        values: &RequestValues<'_>,
    ) -> Result<(), LocalResponse> {
        // `OPTIONS *` has no path.
        if let Some(path) = &changes.path
            && values.request.head.form != TargetForm::Asterisk
        {
            self.target = changed_target(path, values)?;
        }
        if let Some(host) = &changes.host {
            self.host = Some(changed_host(host, values)?);
        }
        write_lines(&mut self.request, changes.request.as_ref(), values)
    }

    /// `Host` for the app, if that is changed.
    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// What changes of the request's head.
    pub(super) fn request(&self) -> Option<RequestChanges<'_>> {
        let fields = self.fields(|changes| changes.request.as_ref(), &self.request);
        let target = self.target.as_deref();
        (fields.is_some() || target.is_some()).then_some(RequestChanges { target, fields })
    }

    /// What the app is not to get in the head, it does not get in the trailers either.
    pub(super) fn guard_trailers(&self, upload: &mut RequestUpload) {
        let changes = self.rule.changes.as_ref();
        if let Some(request) = changes.and_then(|changes| changes.request.as_ref()) {
            upload.forbid_trailers(&request.dropped);
        }
    }

    /// What changes of the answer's head, whoever makes it.
    pub(super) fn response(&self) -> Option<ChangedFields<'_>> {
        self.fields(|changes| changes.response.as_ref(), &self.response)
    }

    fn fields<'a>(
        &'a self,
        side: impl Fn(&'a RouteChanges) -> Option<&'a FieldChanges>,
        lines: &'a [u8],
    ) -> Option<ChangedFields<'a>> {
        let changes = side(self.rule.changes.as_ref()?)?;
        Some(ChangedFields {
            dropped: &changes.dropped,
            lines: changes.fixed.as_deref().unwrap_or(lines),
        })
    }
}

/// Appends the lines that differ from request to request.
fn write_lines(
    out: &mut Vec<u8>,
    changes: Option<&FieldChanges>,
    values: &RequestValues<'_>,
) -> Result<(), LocalResponse> {
    let Some(changes) = changes.filter(|changes| changes.fixed.is_none()) else {
        return Ok(());
    };
    out.reserve(64 * changes.written.len());
    for field in &changes.written {
        let line = out.len();
        out.extend_from_slice(&field.start);
        let value = out.len();
        values.expand(out, &field.value, ValueEncoding::Field)?;
        // A field without a value says nothing, and some apps take it for something.
        match out.len() == value {
            true => out.truncate(line),
            false => out.extend_from_slice(b"\r\n"),
        }
    }
    Ok(())
}

/// The app's path and query; `None`: as they came.
fn changed_target(
    change: &PathChange,
    values: &RequestValues<'_>,
) -> Result<Option<Vec<u8>>, LocalResponse> {
    let path = values.request.path();
    let mut target = Vec::with_capacity(path.len() + 64);
    let mut has_query = false;
    match change {
        PathChange::Strip(prefix) => match rest_of_path(path, prefix) {
            Some(rest) => target.extend_from_slice(rest),
            None => return Ok(None),
        },
        PathChange::Whole(to) => {
            values.expand(&mut target, to, ValueEncoding::Path)?;
            has_query = to.names_query();
        }
        PathChange::Match { regex, to } => {
            let compared: Cow<'_, [u8]> = compared_path(path);
            let Some(groups) = regex.captures(&compared) else {
                return Ok(None);
            };
            let Some(whole) = groups.get(0) else {
                return Ok(None);
            };
            encode_target(&mut target, &compared[..whole.start()]);
            values.expand_with(&mut target, to, ValueEncoding::Path, Some(&groups))?;
            has_query = to.names_query();
            let rest = &compared[whole.end()..];
            if !rest.is_empty() && target.contains(&b'?') {
                return Err(LocalResponse::new(400, BEHIND_QUERY));
            }
            encode_target(&mut target, rest);
        }
    }
    lead_with_one_slash(&mut target);
    if has_dot_segment(&target) {
        return Err(LocalResponse::new(400, DOTS));
    }
    if !has_query {
        append_query(&mut target, values);
    }
    Ok(Some(target))
}

/// An app would resolve it to a path that no route was asked about.
const DOTS: &str = "the path has `.` or `..` in it once the route has changed it";

const BEHIND_QUERY: &str = "the route puts a query before the end of the path";

/// Makes it a path that begins with one slash: with two it would be read as a host.
pub(super) fn lead_with_one_slash(target: &mut Vec<u8>) {
    let slashes = target.iter().take_while(|byte| **byte == b'/').count();
    match slashes {
        0 => target.insert(0, b'/'),
        1 => {}
        more => {
            target.drain(1..more);
        }
    }
}

/// The request's query with its question mark, if it has one.
pub(super) fn append_query(target: &mut Vec<u8>, values: &RequestValues<'_>) {
    let origin = values.request.head.origin.of(values.request.buffer);
    if let Some(at) = memchr::memchr(b'?', origin) {
        target.extend_from_slice(&origin[at..]);
    }
}

fn changed_host(
    template: &TextTemplate,
    values: &RequestValues<'_>,
) -> Result<String, LocalResponse> {
    let mut host = Vec::new();
    values.expand(&mut host, template, ValueEncoding::Host)?;
    let is_host = host_length(&host).is_ok_and(|length| length > 0);
    match String::from_utf8(host) {
        Ok(host) if is_host => Ok(host),
        _ => Err(LocalResponse::new(
            400,
            "what the route makes of this request is no host",
        )),
    }
}
