//! A case: which frames the client sends, how the backend answers (in HTTP/1.1), what must come of it.

use crate::case::{Act, Reply};
use lameduck_rig::frames::*;
use lameduck_rig::hpack;

/// The stream of a case's request, unless it says otherwise.
pub const STREAM: u32 = 1;

/// What must come of the case's stream, or of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This answer, as [`super::client::Answer`] is written.
    Answer(String),
    /// The message is refused: a status of 4xx or 501, or the stream is reset with one of these codes.
    /// The connection goes on.
    Refused(Vec<u32>),
    /// The connection ends, with one of these codes where there is a GOAWAY.
    Ended(Vec<u32>),
    /// The answer comes, or was on its way; what is behind it ends the stream, or the connection with one of these codes.
    Late(Vec<u32>),
    /// The start of an answer that is seen to be cut, or 502.
    Cut,
    /// Answered or refused.
    Either,
    /// There is no stream to look at; the connection goes on.
    Nothing,
}

/// What the backend must have got of the case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Nothing,
    /// These requests, as [`crate::table::request`] writes them.
    Requests(String),
    /// Nothing, or a request that never became whole.
    Unfinished,
    /// Whatever is a proper request.
    Any,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file that it is in, as a heading.
    pub theme: &'static str,
    pub name: &'static str,
    /// The section that decides it.
    pub rule: &'static str,
    /// What the client says first.
    pub hello: Vec<u8>,
    pub client: Vec<Act>,
    /// The stream that is looked at; `None` if the case opens none.
    pub stream: Option<u32>,
    /// Whether the client gives the proxy room to send once its window is used up.
    pub reads: bool,
    pub backend: Vec<Reply>,
    pub upstream: Upstream,
    pub outcome: Outcome,
    /// Whether the proxy may end the connection in good order before the next request.
    pub may_end: bool,
    /// Whether requests of it may still be on their way when it is over: what comes next has a proxy of its own.
    pub straggles: bool,
    /// Whether the upstream connection must not have been used for the next request.
    pub discards: bool,
    /// Why nginx or HAProxy does something else.
    pub differs: &'static str,
}

/// A case in the making: the backend gives its echo.
pub fn case(name: &'static str, rule: &'static str) -> Case {
    Case {
        theme: "",
        name,
        rule,
        // No dynamic table, see `hpack`.
        hello: [PREFACE.to_vec(), settings(&[(1, 0)])].concat(),
        client: Vec::new(),
        stream: None,
        reads: true,
        backend: vec![Reply::Body, Reply::Echo],
        upstream: Upstream::Nothing,
        outcome: Outcome::Nothing,
        may_end: false,
        straggles: false,
        discards: false,
        differs: "",
    }
}

/// The pseudo-header fields of a plain request.
pub const PLAIN: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/"),
];

/// A plain request's block, with these fields behind it.
pub fn plain(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all = PLAIN.to_vec();
    all[0].1 = method;
    all.extend(fields);
    hpack::block(&all)
}

impl Case {
    // ---- what happens

    /// The client says this instead of a preface and SETTINGS.
    pub fn hello(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.hello = bytes.as_ref().to_vec();
        self
    }

    /// The client sends these bytes.
    pub fn sends(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.client.push(Act::Send(bytes.as_ref().to_vec()));
        self
    }

    /// The client sends a frame.
    pub fn frame(self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        self.sends(frame(kind, flags, stream, payload.as_ref()))
    }

    /// A whole HEADERS frame with this block, on the case's stream; `flags` beside END_HEADERS.
    pub fn headers(mut self, flags: u8, block: impl AsRef<[u8]>) -> Self {
        self.stream = Some(STREAM);
        self.frame(HEADERS, END_HEADERS | flags, STREAM, block)
    }

    /// A request without a body, in a HEADERS frame and as many CONTINUATIONs as it takes.
    pub fn long(mut self, block: &[u8]) -> Self {
        self.stream = Some(STREAM);
        let pieces = block.chunks(16_000).count();
        for (at, piece) in block.chunks(16_000).enumerate() {
            let end = if at + 1 == pieces { END_HEADERS } else { 0 };
            let (kind, flags) = match at {
                0 => (HEADERS, END_STREAM | end),
                _ => (CONTINUATION, end),
            };
            self = self.frame(kind, flags, STREAM, piece);
        }
        self
    }

    /// A request without a body that has these fields and no others.
    pub fn raw(self, fields: &[(&str, &str)]) -> Self {
        self.headers(END_STREAM, hpack::block(fields))
    }

    /// A GET with these fields.
    pub fn get(self, fields: &[(&str, &str)]) -> Self {
        self.headers(END_STREAM, plain("GET", fields))
    }

    /// The start of a POST with these fields; its body follows.
    pub fn post(self, fields: &[(&str, &str)]) -> Self {
        self.headers(0, plain("POST", fields))
    }

    /// A part of a body.
    pub fn part(self, data: &str) -> Self {
        self.frame(DATA, 0, STREAM, data)
    }

    /// The rest of a body.
    pub fn data(self, data: &str) -> Self {
        self.frame(DATA, END_STREAM, STREAM, data)
    }

    /// Trailers, which end the request.
    pub fn trailers(self, fields: &[(&str, &str)]) -> Self {
        self.headers(END_STREAM, hpack::block(fields))
    }

    /// What follows waits until the backend has the head.
    pub fn once_forwarded(mut self) -> Self {
        self.client.push(Act::UntilForwarded);
        self
    }

    /// What follows waits until the client has an answer, or the start of one.
    pub fn once_answered(mut self) -> Self {
        self.client.push(Act::UntilAnswered);
        self
    }

    /// The client never makes its windows larger.
    pub fn reads_nothing(mut self) -> Self {
        self.reads = false;
        self
    }

    /// The stream to look at.
    pub fn on(mut self, stream: u32) -> Self {
        self.stream = Some(stream);
        self
    }

    /// No answer is waited for on the case's stream.
    pub fn on_none(mut self) -> Self {
        self.stream = None;
        self
    }

    /// The backend answers so, once it has the body.
    pub fn answer(self, bytes: impl AsRef<[u8]>) -> Self {
        self.replies([Reply::Body, Reply::Send(bytes.as_ref().to_vec())])
    }

    /// As [`Self::answer`], and closes.
    pub fn answer_and_close(self, bytes: impl AsRef<[u8]>) -> Self {
        self.replies([
            Reply::Body,
            Reply::Send(bytes.as_ref().to_vec()),
            Reply::Close,
        ])
    }

    /// The backend does this.
    pub fn replies(mut self, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.backend = replies.into_iter().collect();
        self
    }

    // ---- what must come of it

    /// The backend gets this request, the client its echo.
    pub fn forwarded(mut self, request: &str) -> Self {
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        self.outcome = Outcome::Answer(match method {
            "HEAD" => "200".to_owned(),
            _ => format!("200 `answer to {method} {target}`"),
        });
        self.upstream = Upstream::Requests(request.to_owned());
        self
    }

    /// The client gets this instead.
    pub fn gets(mut self, answer: &str) -> Self {
        self.outcome = Outcome::Answer(answer.to_owned());
        self
    }

    /// The message is malformed (RFC 9113 §8.1.1): a client error, or a stream error of PROTOCOL_ERROR.
    /// The backend gets nothing of it.
    pub fn malformed(self) -> Self {
        self.refused(&[PROTOCOL])
    }

    /// As [`Self::malformed`], found out when a part of it may be at the backend.
    pub fn malformed_late(mut self) -> Self {
        self = self.malformed();
        self.upstream = Upstream::Unfinished;
        self
    }

    /// The stream alone is refused, with one of these codes or a client error.
    pub fn refused(mut self, codes: &[u32]) -> Self {
        self.outcome = Outcome::Refused(codes.to_vec());
        self
    }

    /// The connection ends, with one of these codes where it says one.
    pub fn ends(mut self, codes: &[u32]) -> Self {
        self.outcome = Outcome::Ended(codes.to_vec());
        self
    }

    /// What is wrong came behind a whole request: it is answered, or its stream or the connection ends.
    pub fn late(mut self, codes: &[u32]) -> Self {
        self.outcome = Outcome::Late(codes.to_vec());
        self
    }

    /// The client has said that it goes, so the connection may end.
    pub fn maybe_last(mut self) -> Self {
        self.may_end = true;
        self
    }

    /// The client sees that the answer isn't whole: the stream is reset, or says 502 where nothing was sent yet.
    pub fn outcome_cut(mut self) -> Self {
        self.outcome = Outcome::Cut;
        self
    }

    /// What is wrong is dropped, or the message is refused. Either way the backend never sees it.
    pub fn dropped_or_refused(mut self) -> Self {
        self.outcome = Outcome::Either;
        self
    }

    /// The backend may have got the start of a request.
    pub fn unfinished(mut self) -> Self {
        self.upstream = Upstream::Unfinished;
        self
    }

    /// Whether the backend has got a request depends on how things arrive.
    pub fn any(mut self) -> Self {
        self.upstream = Upstream::Any;
        self
    }

    /// Requests of it may still be on their way when it is over.
    pub fn straggles(mut self) -> Self {
        self.straggles = true;
        self
    }

    /// The upstream connection isn't used again.
    pub fn discards(mut self) -> Self {
        self.discards = true;
        self
    }
}
