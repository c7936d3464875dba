//! A decoder for HPACK (RFC 7541) that follows what a peer's encoder writes.
//!
//! The `h2` crate decodes heads itself, into types of the `http` crate, and ends the connection at a byte that these
//! can't hold. The content of a head must be known before that, see [`super::sieve`]. No maintained crate reads a
//! block field by field without an allocation for each; this module does, and keeps the same table as the `h2` crate.

mod huffman;
mod static_table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use static_table::STATIC_TABLE;

/// Maximum table size of a peer unless SETTINGS change it, which the proxy's don't (RFC 9113 §6.5.2), in bytes.
const TABLE_SIZE: usize = 4096;

/// Size of a field besides its name and value, in bytes (RFC 7541 §4.1).
pub const FIELD_OVERHEAD: usize = 32;

/// Why a block can't be decoded. After that, no further head of the connection can be decoded either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HpackError {
    /// The block ends within a field.
    Incomplete,
    /// The block violates RFC 7541.
    Malformed,
}

/// A field of the dynamic table.
#[derive(Debug)]
struct TableField {
    name: usize,
    bytes: Box<[u8]>,
}

/// The static and the dynamic table (RFC 7541 §2.3).
#[derive(Debug)]
pub struct FieldTable {
    fields: VecDeque<TableField>,
    size: usize,
    most: usize,
}

impl Default for FieldTable {
    fn default() -> Self {
        Self {
            fields: VecDeque::new(),
            size: 0,
            most: TABLE_SIZE,
        }
    }
}

impl FieldTable {
    /// Returns the field with this index.
    ///
    /// # Errors
    /// If there is no such field.
    pub fn get(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let dynamic = match index.checked_sub(1).ok_or(HpackError::Malformed)? {
            at if at < STATIC_TABLE.len() => return Ok(STATIC_TABLE[at]),
            at => at - STATIC_TABLE.len(),
        };
        let field = self.fields.get(dynamic).ok_or(HpackError::Malformed)?;
        Ok(field.bytes.split_at(field.name))
    }

    fn insert(&mut self, field: &FieldBuffer) {
        let cost = field.bytes.len() + FIELD_OVERHEAD;
        self.evict(self.most.saturating_sub(cost));
        if cost <= self.most {
            self.size += cost;
            self.fields.push_front(TableField {
                name: field.name,
                bytes: field.bytes.as_slice().into(),
            });
        }
    }

    fn resize(&mut self, most: usize) -> Result<(), HpackError> {
        if most > TABLE_SIZE {
            return Err(HpackError::Malformed);
        }
        self.most = most;
        self.evict(most);
        Ok(())
    }

    fn evict(&mut self, room: usize) {
        while self.size > room
            && let Some(field) = self.fields.pop_back()
        {
            self.size -= field.bytes.len() + FIELD_OVERHEAD;
        }
    }
}

/// A literal field.
#[derive(Debug, Default)]
pub struct FieldBuffer {
    bytes: Vec<u8>,
    name: usize,
}

impl FieldBuffer {
    /// Returns its name and its value.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.name)
    }
}

/// One step through a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockPiece {
    /// A field of the table, by its index.
    Indexed(usize),
    /// A literal field, which the [`FieldBuffer`] contains now.
    Literal,
    /// The size of the dynamic table was updated.
    Resize,
}

/// Reads a header block step by step.
#[derive(Debug)]
pub struct BlockReader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> BlockReader<'a> {
    /// Starts at the beginning of a block.
    pub fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    /// Returns the number of bytes read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next piece; returns `None` at the end.
    ///
    /// # Errors
    /// If the piece is invalid or incomplete; position and table are then unchanged.
    pub fn next_piece(
        &mut self,
        table: &mut FieldTable,
        field: &mut FieldBuffer,
    ) -> Result<Option<BlockPiece>, HpackError> {
        let Some(first) = self.block.get(self.at).copied() else {
            return Ok(None);
        };
        let begin = self.at;
        let piece = match first {
            0x80.. => self.integer(7).and_then(|index| {
                table.get(index)?;
                Ok(BlockPiece::Indexed(index))
            }),
            0x40.. => self.literal(6, table, field).map(|()| {
                table.insert(field);
                BlockPiece::Literal
            }),
            // A size update applies to the fields after it, and so must precede the first field.
            0x20.. if begin > 0 && !self.follows_resize(begin) => Err(HpackError::Malformed),
            0x20.. => self.integer(5).and_then(|most| {
                table.resize(most)?;
                Ok(BlockPiece::Resize)
            }),
            _ => self.literal(4, table, field).map(|()| BlockPiece::Literal),
        };
        match piece {
            Ok(piece) => Ok(Some(piece)),
            Err(error) => {
                self.at = begin;
                Err(error)
            }
        }
    }

    /// Skips the next piece, of which only the length is checked.
    ///
    /// # Errors
    /// If the piece is invalid or incomplete.
    pub fn skip_piece(&mut self) -> Result<(), HpackError> {
        let first = self.block.get(self.at).copied();
        let prefix = match first.ok_or(HpackError::Incomplete)? {
            0x80.. => return self.integer(7).map(|_| ()),
            0x40.. => 6,
            0x20.. => return self.integer(5).map(|_| ()),
            _ => 4,
        };
        if self.integer(prefix)? == 0 {
            self.skip_string()?;
        }
        self.skip_string()
    }

    fn skip_string(&mut self) -> Result<(), HpackError> {
        let length = self.integer(7)?;
        self.at = self.at.saturating_add(length);
        match self.at <= self.block.len() {
            true => Ok(()),
            false => Err(HpackError::Incomplete),
        }
    }

    /// Returns whether only size updates precede `end`.
    fn follows_resize(&self, end: usize) -> bool {
        let mut before = BlockReader::new(&self.block[..end]);
        while before.at < end {
            if before.block[before.at] & 0xe0 != 0x20 || before.integer(5).is_err() {
                return false;
            }
        }
        true
    }

    fn literal(
        &mut self,
        prefix: u32,
        table: &FieldTable,
        field: &mut FieldBuffer,
    ) -> Result<(), HpackError> {
        field.bytes.clear();
        match self.integer(prefix)? {
            0 => self.string(&mut field.bytes)?,
            index => field.bytes.extend_from_slice(table.get(index)?.0),
        }
        field.name = field.bytes.len();
        self.string(&mut field.bytes)
    }

    /// Reads an integer (RFC 7541 §5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        let mut byte = || {
            let byte = self.block.get(self.at).copied();
            self.at += usize::from(byte.is_some());
            byte.ok_or(HpackError::Incomplete)
        };
        let most = (1usize << prefix) - 1;
        let mut value = usize::from(byte()?) & most;
        if value < most {
            return Ok(value);
        }
        // At most four more bytes, as in the crate: 2^28 is more than any length or index.
        for shift in [0, 7, 14, 21] {
            let more = byte()?;
            value += usize::from(more & 0x7f) << shift;
            if more & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::Malformed)
    }

    /// Reads a string (RFC 7541 §5.2).
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), HpackError> {
        let first = self.block.get(self.at).copied();
        let is_coded = first.ok_or(HpackError::Incomplete)? & 0x80 != 0;
        let length = self.integer(7)?;
        let end = self.at + length;
        let source = self.block.get(self.at..end).ok_or(HpackError::Incomplete)?;
        self.at = end;
        if is_coded {
            huffman::decode(source, out)
        } else {
            out.extend_from_slice(source);
            Ok(())
        }
    }
}

/// Returns the length of a string in Huffman code, in bytes, without its length prefix.
pub fn coded_length(text: &[u8]) -> usize {
    huffman::coded_length(text)
}

/// Appends a literal field that is not added to any table.
pub fn put_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    put_string(out, name);
    put_string(out, value);
}

/// Appends a string without Huffman code.
pub fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if rest < 0x7f {
        out.push(rest as u8);
    } else {
        out.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
}
