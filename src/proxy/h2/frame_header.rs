//! The nine-byte header of each frame (RFC 9113 §4.1), and the header blocks that frames carry.

/// Size of a frame header, in bytes.
pub const FRAME_HEADER: usize = 9;

/// Maximum size of a frame's payload, in bytes: neither side of the proxy allows more (RFC 9113 §4.2).
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// HEADERS.
pub const HEADERS: u8 = 1;
/// PUSH_PROMISE.
pub const PUSH_PROMISE: u8 = 5;
/// CONTINUATION.
pub const CONTINUATION: u8 = 9;

/// Flag of HEADERS and DATA.
pub const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// Flag of HEADERS and DATA.
pub const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Size of its payload, in bytes.
    pub length: usize,
    /// The frame type.
    pub kind: u8,
    /// The flags, whose meaning depends on the type.
    pub flags: u8,
    /// The id of its stream.
    pub stream: u32,
}

impl FrameHeader {
    /// Parses the header at the beginning of `bytes`; `None`: it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s, t, u, v] = bytes.first_chunk::<FRAME_HEADER>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
        })
    }

    /// Returns the size of the frame, including its header.
    pub fn size(&self) -> usize {
        FRAME_HEADER + self.length
    }

    /// Returns whether it has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the header block fragment of a complete HEADERS or CONTINUATION frame; `None`: the frame is malformed.
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

/// The extent of the header block that begins with a HEADERS frame at the beginning of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockExtent {
    /// It is complete, with this many bytes.
    Whole(usize),
    /// It is incomplete.
    Partial,
    /// It is broken: another frame is in it, or a frame is too large.
    Broken,
}

/// Returns the extent of a header block.
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

/// Joins the block fragments of several frames; `None`: a frame is malformed.
pub fn gather(frames: &[u8]) -> Option<Vec<u8>> {
    let (mut block, mut at) = (Vec::with_capacity(frames.len()), 0);
    while let Some(header) = FrameHeader::parse(&frames[at..]) {
        block.extend_from_slice(header.fragment(&frames[at..])?);
        at += header.size();
    }
    Some(block)
}

/// Appends a header block as HEADERS and, if it is too long for one frame, CONTINUATION.
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
