//! The nine bytes before each frame (RFC 9113 §4.1), and the header blocks that frames carry.

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 9;

/// What a frame may carry at most: neither side of ours asks for more (RFC 9113 §4.2).
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// HEADERS.
pub const HEADERS: u8 = 1;
/// PUSH_PROMISE.
pub const PUSH_PROMISE: u8 = 5;
/// CONTINUATION.
pub const CONTINUATION: u8 = 9;

/// Flags of HEADERS, and of DATA.
pub const END_STREAM: u8 = 0x1;
/// As above, and of CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// As END_STREAM.
pub const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of its payload.
    pub length: usize,
    /// What it is.
    pub kind: u8,
    /// What these mean depends on the kind.
    pub flags: u8,
    /// Whose it is.
    pub stream: u32,
}

impl FrameHeader {
    /// The header at the beginning of `bytes`; `None`: not all of it is here.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s, t, u, v] = bytes.first_chunk::<FRAME_HEADER>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
        })
    }

    /// With its header.
    pub fn size(&self) -> usize {
        FRAME_HEADER + self.length
    }

    /// Whether it has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a whole HEADERS or CONTINUATION frame has of its block; `None`: it is malformed.
    pub fn fragment<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let mut payload = frame.get(FRAME_HEADER..self.size())?;
        if self.kind != HEADERS {
            return Some(payload);
        }
        let mut padding = 0;
        if self.has(PADDED) {
            let (first, rest) = payload.split_first()?;
            (padding, payload) = (usize::from(*first), rest);
        }
        if self.has(PRIORITY) {
            payload = payload.get(5..)?;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// The header block that begins with a HEADERS frame at the beginning of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockExtent {
    /// So many bytes, and it is all of it.
    Whole(usize),
    /// There is more to come.
    Partial,
    /// It is none: another frame stands in it, or one is too large.
    Broken,
}

/// How far a header block goes.
pub fn block_extent(bytes: &[u8]) -> BlockExtent {
    let mut at = 0;
    let mut stream = None;
    loop {
        let Some(header) = FrameHeader::parse(&bytes[at..]) else {
            return BlockExtent::Partial;
        };
        let wanted = if at == 0 { HEADERS } else { CONTINUATION };
        let fits = header.kind == wanted
            && *stream.get_or_insert(header.stream) == header.stream
            && header.length <= MAX_PAYLOAD;
        if !fits {
            return BlockExtent::Broken;
        }
        at += header.size();
        if at > bytes.len() {
            return BlockExtent::Partial;
        }
        if header.has(END_HEADERS) {
            return BlockExtent::Whole(at);
        }
    }
}

/// The block that several frames carry; `None`: one is malformed.
pub fn gather(frames: &[u8]) -> Option<Vec<u8>> {
    let (mut block, mut at) = (Vec::with_capacity(frames.len()), 0);
    while let Some(header) = FrameHeader::parse(&frames[at..]) {
        block.extend_from_slice(header.fragment(&frames[at..])?);
        at += header.size();
    }
    Some(block)
}

/// Appends a header block as HEADERS and, where it is too long for one frame, CONTINUATION.
pub fn put_block(out: &mut Vec<u8>, stream: u32, is_last: bool, block: &[u8]) {
    let mut rest = block;
    let mut kind = HEADERS;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        rest = behind;
        let mut flags = if rest.is_empty() { END_HEADERS } else { 0 };
        if kind == HEADERS && is_last {
            flags |= END_STREAM;
        }
        out.extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(piece);
        if rest.is_empty() {
            return;
        }
        kind = CONTINUATION;
    }
}
