//! A reader of messages of the test's own: plain, and independent of the codec that it judges.

/// A head, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The three words of the first line.
    pub line: [String; 3],
    pub fields: Vec<(String, String)>,
    /// Its bytes, with the blank line.
    pub len: usize,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    Length(usize),
    Chunks,
    ToTheEnd,
}

/// A body that is all there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    pub content: Vec<u8>,
    pub trailers: String,
    /// Its bytes on the wire.
    pub len: usize,
}

impl Head {
    /// The head at the start of these bytes, if it is all there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..len - 4]);
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ').map(str::to_owned);
        let line = std::array::from_fn(|_| words.next().unwrap_or_default());
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Some(Self {
            line,
            fields: fields.collect(),
            len,
        })
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }

    fn framed(&self) -> Option<Framing> {
        if self.field("transfer-encoding").is_some() {
            return Some(Framing::Chunks);
        }
        self.field("content-length")
            .map(|value| Framing::Length(value.parse().unwrap_or(0)))
    }

    /// What follows a request's head.
    pub fn of_request(&self) -> Framing {
        self.framed().unwrap_or(Framing::Nothing)
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.line[1].parse().unwrap_or(0)
    }

    /// What follows the head of a response to a request with this method.
    pub fn of_response(&self, method: &str) -> Framing {
        match self.status() {
            100..=199 | 204 | 304 => Framing::Nothing,
            _ if method == "HEAD" => Framing::Nothing,
            _ => self.framed().unwrap_or(Framing::ToTheEnd),
        }
    }
}

impl Body {
    /// The body at the start of these bytes, if it is all there. One that goes on to the end is all that is here.
    pub fn read(framing: Framing, bytes: &[u8]) -> Option<Self> {
        let plain = |len: usize| Self {
            content: bytes[..len].to_vec(),
            trailers: String::new(),
            len,
        };
        match framing {
            Framing::Nothing => Some(Self::default()),
            Framing::Length(length) => (bytes.len() >= length).then(|| plain(length)),
            Framing::ToTheEnd => Some(plain(bytes.len())),
            Framing::Chunks => Self::chunks(bytes),
        }
    }

    fn chunks(bytes: &[u8]) -> Option<Self> {
        let mut body = Self::default();
        loop {
            let (size, len) = line(&bytes[body.len..])?;
            body.len += len;
            let digits = size.split([';', ' ', '\t']).next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16).ok()?;
            if size == 0 {
                break;
            }
            let end = body.len.checked_add(size)?.checked_add(2)?;
            let content = bytes.get(body.len..end)?;
            body.content.extend_from_slice(&content[..size]);
            body.len = end;
        }
        loop {
            let (trailer, len) = line(&bytes[body.len..])?;
            body.len += len;
            if trailer.is_empty() {
                return Some(body);
            }
            body.trailers += &trailer;
            body.trailers.push(';');
        }
    }
}

fn line(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 2))
}

/// Bytes as they may be shown: controls escaped.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| match c {
            '\r' => "\\r".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c.is_control() => format!("\\x{:02x}", c as u32),
            c => c.to_string(),
        })
        .collect()
}
