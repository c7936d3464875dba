//! The strict reading: HTTP/1 as RFC 9112 and RFC 9110 have its grammar, and nothing else.
//!
//! Written to be obviously right, not fast, and without a line from the product or from `httparse`: what lameduck
//! takes for a message, this must take for the same message.

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither field says anything.
    Unframed,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The start line in three parts.
    pub start: [&'a [u8]; 3],
    /// 0 or 1.
    pub minor: u8,
    /// Names in lower case, values trimmed.
    pub fields: Vec<(Vec<u8>, &'a [u8])>,
    /// What the fields say of the body.
    pub framing: Framing,
    /// RFC 9112 §9.3.
    pub keep_alive: bool,
    /// Bytes of the head.
    pub len: usize,
}

impl Head<'_> {
    /// The values of all fields of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |(known, _)| known == name.as_bytes())
            .map(|(_, value)| *value)
    }
}

/// The request's head that `bytes` start with, after at most two empty lines.
pub fn request(bytes: &[u8]) -> Option<Head<'_>> {
    let mut skipped = 0;
    while skipped < 4 && bytes[skipped..].starts_with(b"\r\n") {
        skipped += 2;
    }
    let (lines, len) = head_lines(&bytes[skipped..])?;
    let mut parts = lines.first()?.split(|byte| *byte == b' ');
    let start = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some()
        || !is_token(start[0])
        || start[1].is_empty()
        || start[1].iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
    {
        return None;
    }
    let head = rest(start, minor(start[2])?, &lines[1..], len + skipped)?;
    match (head.values("host").count(), head.minor) {
        (1, _) | (0, 0) => Some(head),
        _ => None,
    }
}

/// The response's head that `bytes` start with. The space after the status may be missing with the reason.
pub fn response(bytes: &[u8]) -> Option<Head<'_>> {
    let (lines, len) = head_lines(bytes)?;
    let line = *lines.first()?;
    let (version, status) = (line.get(..8)?, line.get(9..12)?);
    let reason = match (line.get(8)?, line.get(12..)?) {
        (b' ', []) => &[][..],
        (b' ', [b' ', reason @ ..]) => reason,
        _ => return None,
    };
    if !status.iter().all(u8::is_ascii_digit) || status[0] == b'0' || !is_text(reason) {
        return None;
    }
    rest([version, status, reason], minor(version)?, &lines[1..], len)
}

/// The content of a chunked body, and the body's length.
pub fn chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        let (size, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(semicolon) => (trim_end(&line[..semicolon]), &line[semicolon..]),
            None => (line, &[][..]),
        };
        if !matches!(size.len(), 1..=16)
            || !size.iter().all(u8::is_ascii_hexdigit)
            || !is_text(extension)
        {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        content.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    loop {
        let trailer = line(&bytes[at..])?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some((content, at));
        }
        field(trailer)?;
    }
}

fn rest<'a>(start: [&'a [u8]; 3], minor: u8, lines: &[&'a [u8]], len: usize) -> Option<Head<'a>> {
    let fields = lines
        .iter()
        .map(|line| field(line))
        .collect::<Option<Vec<_>>>()?;
    let mut head = Head {
        start,
        minor,
        fields,
        framing: Framing::Unframed,
        keep_alive: false,
        len,
    };
    head.framing = framing(&head)?;
    let says = |option: &str| {
        head.values("connection")
            .flat_map(list)
            .any(|said| said.eq_ignore_ascii_case(option.as_bytes()))
    };
    head.keep_alive = !says("close") && (minor == 1 || says("keep-alive"));
    Some(head)
}

/// RFC 9112 §6.3, refusing where it lets one choose.
fn framing(head: &Head<'_>) -> Option<Framing> {
    let mut length = None;
    for number in head.values("content-length").flat_map(list) {
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        if i64::try_from(number).is_err() || length.is_some_and(|known| known != number) {
            return None;
        }
        length = Some(number);
    }
    let codings: Vec<_> = head.values("transfer-encoding").flat_map(list).collect();
    match (&codings[..], length) {
        ([], None) => Some(Framing::Unframed),
        ([], Some(length)) => Some(Framing::Length(length)),
        ([coding], None) if head.minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Some(Framing::Chunked)
        }
        _ => None,
    }
}

fn minor(version: &[u8]) -> Option<u8> {
    match version {
        b"HTTP/1.0" => Some(0),
        b"HTTP/1.1" => Some(1),
        _ => None,
    }
}

/// The lines up to the empty one, and the bytes up to after it.
fn head_lines(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((lines, at));
        }
        lines.push(line);
    }
}

/// A line ended by CR LF, with neither of them in it.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))?;
    bytes[end..].starts_with(b"\r\n").then(|| &bytes[..end])
}

fn field(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    (is_token(name) && is_text(value)).then(|| (name.to_ascii_lowercase(), trim(value)))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(bytes.len());
    trim_end(&bytes[start..])
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(0, |last| last + 1);
    &bytes[..end]
}
