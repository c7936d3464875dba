//! The changes that a route makes to one request and its response. They are computed once, before the first attempt,
//! from what the client sent.

use std::borrow::Cow;
use std::cell::RefCell;

use super::local_response::LocalResponse;
use super::placeholders::{RequestValues, ValueEncoding, encode_target};
use crate::config::TextTemplate;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::forward::changed_fields::{ChangedFields, RequestChanges};
use crate::proxy::h1::request::TargetForm;
use crate::proxy::h1::target::host_length;
use crate::registry::routes::changes::{
    RouteChanges, RouteFieldChanges, RoutePathChange, WrittenLines,
};
use crate::registry::routes::{RoutedRequest as _, compared_path, has_dot_segment, rest_of_path};

/// The changes that a route makes to one request and its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageChanges<'a> {
    changes: &'a RouteChanges,
    made: Option<&'a MadeValues>,
}

impl<'a> MessageChanges<'a> {
    /// `made`: the values computed for this request, if there are any.
    pub(super) fn new(changes: &'a RouteChanges, made: Option<&'a MadeValues>) -> Self {
        Self { changes, made }
    }

    /// Returns the `Host` that the app gets, if the route changes it.
    pub(super) fn host(self) -> Option<&'a str> {
        let made = self.made?;
        (!made.host.is_empty()).then_some(&*made.host)
    }

    /// Returns the target that the app gets, if the route changes it.
    pub(super) fn target(self) -> Option<&'a [u8]> {
        let made = self.made?;
        (!made.target.is_empty()).then_some(&*made.target)
    }

    /// Returns the changes to the request head.
    pub(super) fn request(self) -> RequestChanges<'a> {
        let made = self.made.map(|made| &*made.request);
        RequestChanges {
            target: self.target(),
            fields: changed_fields(self.changes.request.as_ref(), made),
        }
    }

    /// Refuses a body with trailers whose names are removed from the request head.
    pub(super) fn guard_trailers(self, upload: &mut RequestUpload) {
        if let Some(request) = &self.changes.request {
            upload.forbid_trailers(&request.dropped);
        }
    }

    /// Returns the changes to the response head, for responses of backends and of the proxy alike.
    pub(super) fn response(self) -> Option<ChangedFields<'a>> {
        let made = self.made.map(|made| &*made.response);
        changed_fields(self.changes.response.as_ref(), made)
    }
}

#[inline]
fn changed_fields<'a>(
    changes: Option<&'a RouteFieldChanges>,
    made: Option<&'a [u8]>,
) -> Option<ChangedFields<'a>> {
    let changes = changes?;
    Some(ChangedFields {
        dropped: &changes.dropped,
        lines: changes.fixed().or(made).unwrap_or_default(),
    })
}

/// Maximum number of values kept per thread for reuse; requests beyond that allocate.
const SPARE: usize = 64;

/// Values with a text that uses more memory than this, in bytes, are freed instead of kept.
const LARGEST: usize = 16 * 1024;

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes move between a vector and a request: only the pointer is copied")]
    static SPARES: RefCell<Vec<Box<MadeValues>>> = const { RefCell::new(Vec::new()) };
}

/// The texts of a route, with placeholders filled in for one request. The memory is reused for other requests.
#[derive(Debug, Default)]
pub(super) struct MadeValues {
    /// Request target; empty: the client's target is used.
    target: Vec<u8>,
    /// `Host`; empty: the same as without the route.
    host: String,
    /// Lines appended to the request's header fields.
    request: Vec<u8>,
    /// Lines appended to the response's header fields.
    response: Vec<u8>,
}

/// The values of one request, if its route needs any; returned to the thread's spare values on drop.
#[derive(Debug, Default)]
pub(super) struct KeptValues(Option<Box<MadeValues>>);

impl KeptValues {
    /// Returns the values; `None`: none were computed.
    #[inline]
    pub(super) fn get(&self) -> Option<&MadeValues> {
        self.0.as_deref()
    }

    /// Computes the values that a route's changes need.
    ///
    /// # Errors
    /// The response to a request that can't be changed in this way. The changes to the response are computed
    /// nevertheless.
    pub(super) fn make(
        changes: &RouteChanges,
        values: &RequestValues<'_>,
    ) -> (Self, Result<(), LocalResponse>) {
        let mut made = SPARES.with_borrow_mut(Vec::pop).unwrap_or_default();
        let done = made.make(changes, values);
        (Self(Some(made)), done)
    }
}

impl Drop for KeptValues {
    #[inline]
    fn drop(&mut self) {
        if let Some(made) = self.0.take() {
            made.give_back();
        }
    }
}

impl MadeValues {
    fn make(
        &mut self,
        changes: &RouteChanges,
        values: &RequestValues<'_>,
    ) -> Result<(), LocalResponse> {
        write_lines(&mut self.response, changes.response.as_ref(), values)?;
        // `OPTIONS *` has no path to change.
        if let Some(path) = &changes.path
            && values.request.head.form != TargetForm::Asterisk
        {
            let changed = change_target(&mut self.target, path, values);
            if !matches!(changed, Ok(true)) {
                self.target.clear();
            }
            changed?;
        }
        if let Some(host) = &changes.host {
            self.host = changed_host(std::mem::take(&mut self.host), host, values)?;
        }
        write_lines(&mut self.request, changes.request.as_ref(), values)
    }

    /// Returns the memory to this thread's spare values.
    fn give_back(mut self: Box<Self>) {
        let texts = [&mut self.target, &mut self.request, &mut self.response];
        let mut largest = self.host.capacity();
        for text in texts {
            text.clear();
            largest = largest.max(text.capacity());
        }
        self.host.clear();
        if largest > LARGEST {
            return;
        }
        // While a thread ends, its spare values may already be gone.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                spares.push(self);
            }
        });
    }
}

/// Appends the header lines that contain placeholders, and the fixed lines between them.
fn write_lines(
    out: &mut Vec<u8>,
    changes: Option<&RouteFieldChanges>,
    values: &RequestValues<'_>,
) -> Result<(), LocalResponse> {
    let Some(changes) = changes.filter(|changes| changes.fixed().is_none()) else {
        return Ok(());
    };
    for lines in &changes.written {
        let field = match lines {
            WrittenLines::Fixed(lines) => {
                out.extend_from_slice(lines);
                continue;
            }
            WrittenLines::Made(field) => field,
        };
        let line = out.len();
        out.extend_from_slice(&field.start);
        let value = out.len();
        if let Err(answer) = values.expand(out, &field.value, ValueEncoding::Field) {
            // The error response may still get the lines before this one.
            out.truncate(line);
            return Err(answer);
        }
        // An empty value means nothing, but some apps react to an empty field.
        match out.len() == value {
            true => out.truncate(line),
            false => out.extend_from_slice(b"\r\n"),
        }
    }
    Ok(())
}

/// Writes the path and query for the app; returns `false` if the client's target is unchanged.
fn change_target(
    target: &mut Vec<u8>,
    change: &RoutePathChange,
    values: &RequestValues<'_>,
) -> Result<bool, LocalResponse> {
    let path = values.request.path();
    let mut has_query = false;
    match change {
        RoutePathChange::Strip(prefix) => match rest_of_path(path, prefix) {
            Some(rest) => target.extend_from_slice(rest),
            None => return Ok(false),
        },
        RoutePathChange::Whole(to) => {
            values.expand(target, to, ValueEncoding::Path)?;
            has_query = to.names_query();
        }
        RoutePathChange::Match { regex, to } => {
            let compared: Cow<'_, [u8]> = compared_path(path);
            let Some(groups) = regex.captures(&compared) else {
                return Ok(false);
            };
            let Some(whole) = groups.get(0) else {
                return Ok(false);
            };
            encode_target(target, &compared[..whole.start()]);
            values.expand_with(target, to, ValueEncoding::Path, Some(&groups))?;
            has_query = to.names_query();
            let rest = &compared[whole.end()..];
            if !rest.is_empty() && target.contains(&b'?') {
                return Err(LocalResponse::new(400, BEHIND_QUERY));
            }
            encode_target(target, rest);
        }
    }
    lead_with_one_slash(target);
    if has_dot_segment(target) {
        return Err(LocalResponse::new(400, DOTS));
    }
    if !has_query {
        append_query(target, values);
    }
    Ok(true)
}

/// Such a path is refused: an app would resolve it to a path for which no route was looked up.
const DOTS: &str = "the path has `.` or `..` in it once the route has changed it";

const BEHIND_QUERY: &str = "the route puts a query before the end of the path";

/// Makes the target begin with exactly one slash: with two, it would be read as a host.
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

/// Appends the request's query with its question mark, if it has one.
pub(super) fn append_query(target: &mut Vec<u8>, values: &RequestValues<'_>) {
    let origin = values.request.head.origin.of(values.request.buffer);
    if let Some(at) = memchr::memchr(b'?', origin) {
        target.extend_from_slice(&origin[at..]);
    }
}

/// Returns the host for the app, written into the memory of `host`, which is empty.
fn changed_host(
    host: String,
    template: &TextTemplate,
    values: &RequestValues<'_>,
) -> Result<String, LocalResponse> {
    let mut host = host.into_bytes();
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
