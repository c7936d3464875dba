//! A case: what the client sends, how the backend answers, what must come of it.

/// What the client does, one after the other.
#[derive(Debug, Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// Waits until the backend has the head of a request (or nothing comes for a while).
    UntilForwarded,
    /// Waits until bytes of an answer are here (or nothing comes for a while).
    UntilAnswered,
    /// Ends its direction.
    HalfClose,
    /// Goes away, with a reset.
    Reset,
}

/// What the backend does once it has the head of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Reads the request's body.
    Body,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends this, with the `Sec-WebSocket-Accept` that the request asks for in the place of `{accept}`.
    Accept(&'static str),
    /// Sends 200 with a body that names the request.
    Echo,
    Close,
    Reset,
    /// Reads and keeps whatever comes until the end.
    Tunnel,
}

/// What the backend must have got of the case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Nothing,
    /// These bytes, without the lines that lameduck adds to every request.
    Bytes(Vec<u8>),
    /// The start of these bytes, or nothing: how much depends on how they arrive.
    Part(Vec<u8>),
}

/// What the client must have got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downstream {
    /// An answer of lameduck's own with this status.
    Own(u16),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then an answer of lameduck's own with this status.
    Then(Vec<u8>, u16),
}

/// What must have become of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The next request on it got its own answer.
    Kept,
    /// Closed in good order.
    Closed,
    /// Reset, so that the client can tell that its answer isn't whole.
    Cut,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file that it is in, as a heading.
    pub theme: &'static str,
    pub name: &'static str,
    /// The section that decides it.
    pub rule: &'static str,
    pub client: Vec<Act>,
    /// Whether the client asks for `/after` behind the rest.
    pub goes_on: bool,
    pub backend: Vec<Reply>,
    pub upstream: Upstream,
    pub downstream: Downstream,
    pub end: End,
    /// Whether the upstream connection must, or must not, have been used for the next request.
    pub reused: Option<bool>,
    /// Why nginx or HAProxy does something else.
    pub differs: &'static str,
}

/// A case in the making: the client gets the backend's echo and goes on.
pub fn case(name: &'static str, rule: &'static str) -> Case {
    Case {
        theme: "",
        name,
        rule,
        client: Vec::new(),
        goes_on: true,
        backend: vec![Reply::Body, Reply::Echo],
        upstream: Upstream::Nothing,
        downstream: Downstream::Bytes(Vec::new()),
        end: End::Kept,
        reused: None,
        differs: "",
    }
}

impl Case {
    // ---- what happens

    /// The client sends this.
    pub fn sends(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.client.push(Act::Send(bytes.as_ref().to_vec()));
        self
    }

    /// A GET with these field lines, each with its CR LF.
    pub fn get(self, fields: &str) -> Self {
        self.sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    /// A POST with these field lines, each with its CR LF, and this body.
    pub fn post(self, fields: &str, body: &str) -> Self {
        self.sends(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"))
    }

    /// A POST with this chunked body.
    pub fn chunks(self, body: &str) -> Self {
        self.post("Transfer-Encoding: chunked\r\n", body)
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

    /// The client has nothing more to say, and says so.
    pub fn half_closes(mut self) -> Self {
        self.client.push(Act::HalfClose);
        self.goes_on = false;
        self
    }

    /// The client goes away, with a reset.
    pub fn resets(mut self) -> Self {
        self.client.push(Act::Reset);
        self.goes_on = false;
        self
    }

    /// The client sends no further request.
    pub fn and_no_more(mut self) -> Self {
        self.goes_on = false;
        self
    }

    /// The backend answers each request of the case so, once it has its body.
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

    /// The backend does this with each request of the case.
    pub fn replies(mut self, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.backend = replies.into_iter().collect();
        self
    }

    // ---- what must come of it

    /// Nothing reaches the backend; lameduck says this status and closes.
    pub fn refused(mut self, status: u16) -> Self {
        self.upstream = Upstream::Nothing;
        self.downstream = Downstream::Own(status);
        self.end = End::Closed;
        self
    }

    /// lameduck says this status and closes, when a part of what was sent may have reached the backend.
    pub fn refused_late(mut self, status: u16) -> Self {
        self.upstream = Upstream::Part(self.sent());
        self.downstream = Downstream::Own(status);
        self.end = End::Closed;
        self.discards()
    }

    /// The backend gets these bytes; the client gets its echo.
    pub fn forwarded(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let line = String::from_utf8_lossy(bytes);
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        self.downstream = Downstream::Bytes(echo(method, target, "").into_bytes());
        self.upstream = Upstream::Bytes(bytes.to_vec());
        self
    }

    /// The backend gets what the client sent, byte for byte.
    pub fn verbatim(self) -> Self {
        let sent = self.sent();
        self.forwarded(sent)
    }

    /// Everything that the client sends before it asks for `/after`.
    pub fn sent(&self) -> Vec<u8> {
        let sends = self.client.iter().filter_map(|act| match act {
            Act::Send(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        sends.collect::<Vec<_>>().concat()
    }

    /// Whether the last thing that the client does is to end its direction.
    pub fn half_closes_last(&self) -> bool {
        matches!(self.client.last(), Some(Act::HalfClose))
    }

    /// The client gets these bytes instead.
    pub fn gets(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.downstream = Downstream::Bytes(bytes.as_ref().to_vec());
        self
    }

    /// The client gets an answer of lameduck's own instead, and goes on.
    pub fn told(mut self, status: u16) -> Self {
        self.downstream = Downstream::Own(status);
        self
    }

    /// The client gets these bytes, and then an answer of lameduck's own.
    pub fn then_told(mut self, first: &str, status: u16) -> Self {
        self.downstream = Downstream::Then(first.as_bytes().to_vec(), status);
        self
    }

    /// The backend gets `head` and behind it `sent`; the client gets `got`, and its connection ends in good order.
    pub fn tunnelled(mut self, head: &str, sent: &[u8], got: &str) -> Self {
        self.upstream = Upstream::Bytes([head.as_bytes(), sent].concat());
        self.downstream = Downstream::Bytes(got.as_bytes().to_vec());
        self.end = End::Closed;
        self
    }

    /// Then its connection is closed.
    pub fn closes(mut self) -> Self {
        self.end = End::Closed;
        if let Downstream::Bytes(bytes) = &mut self.downstream
            && let Some(status) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            bytes.splice(status..status, *b"\r\nConnection: close");
        }
        self
    }

    /// Then its connection is closed, though nothing in what it got has announced it; or lameduck's own answer has.
    pub fn end_closed(mut self) -> Self {
        self.end = End::Closed;
        self
    }

    /// Then its connection is cut.
    pub fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }

    /// The upstream connection is used again.
    pub fn reuses(mut self) -> Self {
        self.reused = Some(true);
        self
    }

    /// The upstream connection isn't used again.
    pub fn discards(mut self) -> Self {
        self.reused = Some(false);
        self
    }
}

/// The backend's echo, with these field lines in it.
pub fn echo(method: &str, target: &str, fields: &str) -> String {
    let body = format!("answer to {method} {target}");
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}
