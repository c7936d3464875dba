//! A route's `files` action: finds the requested file, and sends it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::changes::MessageChanges;
use super::super::compressed_answer::choose_own_coding;
use super::super::local_response::{LocalResponse, answer_locally};
use super::super::record::{RequestEnd, RequestRecord};
use crate::config::{CompressionAlgorithm, Config, FilesAction};
use crate::core::files::path::{PathError, ServedPath};
use crate::core::hold::RETRY_AFTER;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::compression::{BodyEncoder, is_worthwhile};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::error_response::reason_phrase;
use crate::proxy::files::body::{FileBody, SendFileError, send_file};
use crate::proxy::files::disk::run_on_disk;
use crate::proxy::files::find::{FoundFile, OpenedFile, WantedFile, find_file};
use crate::proxy::files::head::{
    AskedOfFile, FileAnswer, FileCompression, answer_with, media_type,
};
use crate::proxy::forward::headers::{HSTS, hsts};
use crate::proxy::h1::method::{HttpVersion, Method};
use crate::proxy::h1::request::RequestHead;
use crate::registry::routes::RouteRule;
use crate::rt::clock;
use crate::rt::rooted::DiskWait;

/// The methods that are allowed for files.
const ALLOW: &str = "Allow: GET, HEAD\r\n";

/// Timeout for finding a file; a slower disk counts as broken.
const DISK_PATIENCE: Duration = Duration::from_secs(30);

/// One request for a file.
struct FileRequest<'a> {
    plane: &'a DataPlane,
    client: &'a mut ClientConnection,
    head: &'a RequestHead,
    account: &'a mut RequestRecord,
    config: &'a Config,
    rule: &'a Arc<RouteRule>,
    /// Whether the request's body has been read completely.
    is_whole: bool,
    /// Whether the connection stays open after the response.
    keeps: bool,
}

/// Answers a request on a route with `files` and a pool, if its path leads to a file. `None`: the pool answers.
pub(in crate::proxy::transaction) async fn answer_if_file(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    config: &Config,
    rule: &Arc<RouteRule>,
) -> Option<AfterRequest> {
    let files = rule.route.files.as_ref()?;
    if !rule.route.has_files_before_pool() || !matches!(head.method, Method::Get | Method::Head) {
        return None;
    }
    let is_whole = head.body.is_empty();
    let mut request = FileRequest::new(plane, client, head, account, config, rule, is_whole);
    // Boxed, as is the future of a route with files only.
    Box::pin(async move {
        match request.find(files).await {
            Ok(SoughtFile::Found(found)) => Some(request.answer_found(found, files).await),
            Ok(SoughtFile::Directory) => Some(request.redirect().await),
            // With any other error, the pool gets the request, as it would without `files`.
            Ok(SoughtFile::Nothing(403)) => Some(request.answer_nothing(403).await),
            Ok(SoughtFile::Nothing(_) | SoughtFile::Refused(_)) => None,
            Err(cause) => Some(request.refuse_busy(cause).await),
        }
    })
    .await
}

/// The result of looking up a request's path.
enum SoughtFile {
    Found(OpenedFile),
    /// A directory, requested without the slash at the end.
    Directory,
    /// No file, with the status of the response.
    Nothing(u16),
    /// The path can't be a file's, with the response that says so.
    Refused(LocalResponse),
}

/// Answers a request on a route with `files`.
pub(super) async fn answer_with_file(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    config: &Config,
    rule: &Arc<RouteRule>,
    is_whole: bool,
) -> AfterRequest {
    let mut request = FileRequest::new(plane, client, head, account, config, rule, is_whole);
    match rule.route.files.as_ref() {
        Some(files) => request.answer(files).await,
        None => request.refuse(LocalResponse::NO_ROUTE).await,
    }
}

impl<'a> FileRequest<'a> {
    fn new(
        plane: &'a DataPlane,
        client: &'a mut ClientConnection,
        head: &'a RequestHead,
        account: &'a mut RequestRecord,
        config: &'a Config,
        rule: &'a Arc<RouteRule>,
        is_whole: bool,
    ) -> Self {
        let keeps = head.keep_alive && is_whole && !client.finished && !plane.is_lame();
        Self {
            plane,
            client,
            head,
            account,
            config,
            rule,
            is_whole,
            keeps,
        }
    }
}

impl FileRequest<'_> {
    async fn answer(&mut self, files: &FilesAction) -> AfterRequest {
        if !matches!(self.head.method, Method::Get | Method::Head) {
            let cause = "files are for GET and HEAD";
            return self
                .refuse(LocalResponse {
                    fields: Some(ALLOW.into()),
                    ..LocalResponse::new(405, cause)
                })
                .await;
        }
        match self.find(files).await {
            Ok(SoughtFile::Found(found)) => self.answer_found(found, files).await,
            Ok(SoughtFile::Directory) => self.redirect().await,
            Ok(SoughtFile::Nothing(status)) => self.answer_nothing(status).await,
            Ok(SoughtFile::Refused(answer)) => self.refuse(answer).await,
            Err(cause) => self.refuse_busy(cause).await,
        }
    }

    /// Looks the file up.
    ///
    /// # Errors
    /// Why the lookup is not possible at the moment.
    async fn find(&self, files: &FilesAction) -> Result<SoughtFile, &'static str> {
        let buffer = self.client.buffer.bytes();
        let changes = self.account.changes();
        let path = match changes.and_then(MessageChanges::target) {
            // The path that the app would get, without its query.
            Some(target) => target
                .split(|byte| *byte == b'?')
                .next()
                .unwrap_or_default(),
            None => self.head.path.of(buffer),
        };
        let path = match ServedPath::decode(path) {
            Ok(path) => path,
            Err(PathError::Malformed) => {
                let cause = "the path is malformed, or leads out of the files";
                return Ok(SoughtFile::Refused(LocalResponse::new(400, cause)));
            }
            Err(PathError::Unnamable) => {
                let cause = "no file can have this name";
                return Ok(SoughtFile::Refused(LocalResponse::new(404, cause)));
            }
        };
        let asked = AskedOfFile::read(buffer, self.head);
        let wanted = WantedFile {
            files,
            path: &path,
            accepted: asked.accepted,
            has_pool: self.rule.route.has_files_before_pool(),
            wait: DiskWait::Never,
        };
        let found = match find_file(&self.rule.root, &wanted) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let accepted = asked.accepted.map(<[u8]>::to_vec);
                let (rule, path, has_pool) = (self.rule.clone(), path.clone(), wanted.has_pool);
                let looking = run_on_disk(move || {
                    let files = rule.route.files.as_ref();
                    let wanted = WantedFile {
                        files: files.ok_or(io::ErrorKind::NotFound)?,
                        path: &path,
                        accepted: accepted.as_deref(),
                        has_pool,
                        wait: DiskWait::Allowed,
                    };
                    find_file(&rule.root, &wanted)
                });
                match clock::timeout(DISK_PATIENCE, looking).await {
                    Ok(Ok(found)) => found,
                    Ok(Err(_)) => return Err("too many wait for the disk"),
                    Err(clock::TimeoutError) => return Err("the disk took too long"),
                }
            }
            found => found,
        };
        match found {
            Ok(FoundFile::File(found)) => Ok(SoughtFile::Found(found)),
            Ok(FoundFile::Directory) => Ok(SoughtFile::Directory),
            Ok(FoundFile::Nothing(status)) => Ok(SoughtFile::Nothing(status)),
            // Before an app's first release, its files do not exist yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.has_pool => {
                Ok(SoughtFile::Nothing(404))
            }
            Err(_) => Err("the directory of the files can't be opened"),
        }
    }

    async fn answer_found(&mut self, found: OpenedFile, files: &FilesAction) -> AfterRequest {
        let buffer = self.client.buffer.bytes();
        let asked = AskedOfFile::read(buffer, self.head);
        let mut compression = self.choose_compression(&found);
        let mut answer = answer_with(&found, files, &asked, compression);
        let mut encoder = None;
        if let Some(coding) = answer.coding
            && self.head.method != Method::Head
        {
            encoder = self.begin_encoder(coding, found.state.size);
            if encoder.is_none() {
                compression.coding = None;
                answer = answer_with(&found, files, &asked, compression);
            }
        }
        match answer.status {
            412 | 416 => self.refuse_condition(answer).await,
            _ => self.send(found, answer, encoder).await,
        }
    }

    /// Returns whether and how the file is compressed while it is sent.
    fn choose_compression(&self, found: &OpenedFile) -> FileCompression {
        let none = FileCompression::default();
        let config = self.config.compression.as_ref();
        let Some(config) = config.filter(|_| self.rule.route.compression) else {
            return none;
        };
        let media_type = media_type(&found.relative);
        if found.coding.is_some()
            || !is_worthwhile(config, media_type.as_bytes(), Some(found.state.size))
        {
            return none;
        }
        let buffer = self.client.buffer.bytes();
        FileCompression {
            varies: true,
            coding: choose_own_coding(config, buffer, self.head, self.account),
        }
    }

    fn begin_encoder(&self, coding: CompressionAlgorithm, size: u64) -> Option<BodyEncoder> {
        let config = self.config.compression.as_ref()?;
        BodyEncoder::begin(config, coding, Some(size), false, &self.plane.counters)
    }

    async fn answer_nothing(&mut self, status: u16) -> AfterRequest {
        let cause = match status {
            403 => "this may not be read",
            404 => "there is no such file",
            _ => "",
        };
        self.refuse(LocalResponse::new(status, cause)).await
    }

    /// Sends 412 or 416: a generated response, with the header fields that the file's state adds.
    async fn refuse_condition(&mut self, answer: FileAnswer) -> AfterRequest {
        let cause = match answer.status {
            412 => "the file is not in the state that was asked for",
            _ => "the file has none of these bytes",
        };
        let fields = String::from_utf8(answer.fields).unwrap_or_default();
        let kept = fields
            .lines()
            .filter(|line| line.starts_with("Content-Range:"));
        let fields: String = kept.map(|line| format!("{line}\r\n")).collect();
        self.refuse(LocalResponse {
            fields: Some(fields),
            ..LocalResponse::new(answer.status, cause)
        })
        .await
    }

    async fn refuse_busy(&mut self, cause: &'static str) -> AfterRequest {
        self.refuse(LocalResponse {
            retry_after: Some(RETRY_AFTER),
            ..LocalResponse::new(503, cause)
        })
        .await
    }

    async fn refuse(&mut self, answer: LocalResponse) -> AfterRequest {
        let is_whole = self.is_whole;
        answer_locally(
            self.plane,
            self.client,
            self.head,
            self.account,
            answer,
            is_whole,
        )
        .await
    }

    /// Redirects to the same path with a slash at the end, on the same host: relative links in the directory's index
    /// need it. The location is the normalized path, so it can't lead to another host.
    async fn redirect(&mut self) -> AfterRequest {
        let buffer = self.client.buffer.bytes();
        let origin = self.head.origin.of(buffer);
        let Ok(mut path) = ServedPath::decode(self.head.path.of(buffer)) else {
            return self
                .refuse(LocalResponse::new(404, "there is no such file"))
                .await;
        };
        path.is_directory = true;
        let mut fields = b"Location: ".to_vec();
        path.encode(&mut fields);
        if let Some(query) = memchr::memchr(b'?', origin) {
            fields.extend_from_slice(&origin[query..]);
        }
        fields.extend_from_slice(b"\r\nContent-Length: 0\r\n");
        let answer = FileAnswer {
            status: 301,
            fields,
            parts: Vec::new(),
            after: Vec::new(),
            coding: None,
        };
        let head = self.write_head(&answer);
        let deadline = clock::now().saturating_add(self.config.server.body_timeout);
        let sent = self.client.write_all(&head, deadline).await;
        let sent = sent.map_err(|_| SendFileError::ClientGone);
        self.finish(301, 0, sent)
    }

    async fn send(
        &mut self,
        found: OpenedFile,
        answer: FileAnswer,
        encoder: Option<BodyEncoder>,
    ) -> AfterRequest {
        let head = self.write_head(&answer);
        let head_length = head.len() as u64;
        let has_body = self.head.method != Method::Head && answer.status != 304;
        let body = FileBody {
            file: found.file,
            identity: found.state.identity,
            size: found.state.size,
            head,
            parts: if has_body { answer.parts } else { Vec::new() },
            after: if has_body { answer.after } else { Vec::new() },
            encoder,
        };
        let server = &self.config.server;
        let ends = server
            .total_timeout
            .map(|total| self.account.complete.saturating_add(total));
        let (written, sent) = send_file(self.client, body, server, ends).await;
        self.finish(answer.status, written.saturating_sub(head_length), sent)
    }

    /// Writes a response head: status, header fields, and `Connection`.
    fn write_head(&self, answer: &FileAnswer) -> Vec<u8> {
        let mut out = Vec::with_capacity(answer.fields.len() + 128);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(answer.status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason_phrase(answer.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&answer.fields);
        match (self.keeps, self.head.version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            // RFC 9112, section 9.3: without the field, an HTTP/1.0 client expects the connection to be closed.
            (true, HttpVersion::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, HttpVersion::Http11) => {}
        }
        let changes = self.account.response_changes();
        if self.client.origin.hsts > 0 && !changes.is_some_and(|changes| changes.dropped.has(HSTS))
        {
            hsts(&mut out, self.client.origin.hsts);
        }
        out.extend_from_slice(b"\r\n");
        let Some(changes) = changes else {
            return out;
        };
        let mut changed = Vec::with_capacity(out.len() + changes.lines.len());
        changes.apply(&out, &mut changed);
        changed
    }

    /// Records how the response ended, and returns what happens to the connection.
    fn finish(&mut self, status: u16, bytes: u64, sent: Result<(), SendFileError>) -> AfterRequest {
        self.account.local(status, Cow::Borrowed(""));
        self.account.local_bytes(bytes);
        let Err(failure) = sent else {
            return match (self.keeps, self.is_whole) {
                (true, _) => AfterRequest::KeepAlive,
                (false, true) => AfterRequest::Close,
                (false, false) => AfterRequest::Linger,
            };
        };
        self.account.cause = Cow::Borrowed(failure.as_str());
        self.account.end = match failure {
            SendFileError::ClientGone => RequestEnd::ClientClosed,
            SendFileError::Limited(limit) => {
                self.plane.counters.limited(limit);
                RequestEnd::Limited(limit)
            }
            SendFileError::CutByShutdown
            | SendFileError::Shortened
            | SendFileError::Unreadable
            | SendFileError::Unencodable
            | SendFileError::Slow => RequestEnd::Truncated,
        };
        AfterRequest::Abort
    }
}
