//! HPACK (RFC 7541), as far as it takes to follow what a peer's encoder writes.
//!
//! The `h2` crate decodes heads by itself, into the types of the `http` crate, and takes a byte that these can't hold
//! for the end of the connection. What stands in a head has to be known before that, see [`super::sieve`]. No kept
//! crate reads a block field by field without an allocation for each; this does, and keeps the table that the crate
//! keeps.

mod huffman;
mod static_table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use static_table::STATIC_TABLE;

/// What a peer may use before SETTINGS say otherwise, which ours don't (RFC 9113 §6.5.2).
const TABLE_SIZE: usize = 4096;

/// What a field costs besides its bytes (RFC 7541 §4.1).
pub const FIELD_OVERHEAD: usize = 32;

/// Why a block can't be followed. From here on nobody knows what the connection's heads mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HpackError {
    /// It ends within a field.
    Incomplete,
    /// It breaks RFC 7541.
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
    /// The field with this index.
    ///
    /// # Errors
    /// There is none.
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

/// A literal field, spelled out.
#[derive(Debug, Default)]
pub struct FieldBuffer {
    bytes: Vec<u8>,
    name: usize,
}

impl FieldBuffer {
    /// Its name and its value.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.name)
    }
}

/// One step through a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockPiece {
    /// A field of the table.
    Indexed(usize),
    /// A field that the [`FieldBuffer`] holds now.
    Literal,
    /// The dynamic table has another size now.
    Resize,
}

/// Goes through a header block.
#[derive(Debug)]
pub struct BlockReader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> BlockReader<'a> {
    /// At its beginning.
    pub fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    /// How far it has come, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// It is none, or not all of it is here; the position and the table are then as before.
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
            // A size says something about the fields behind it, and so stands before the first.
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

    /// Goes on to the next piece, of which nothing but its extent is looked at.
    ///
    /// # Errors
    /// It is none, or not all of it is here.
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

    /// Whether nothing but sizes stands before `end`.
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

    /// RFC 7541 §5.1.
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
        // Four more bytes at most, as the crate has it: 2^28 is more than any length or index.
        for shift in [0, 7, 14, 21] {
            let more = byte()?;
            value += usize::from(more & 0x7f) << shift;
            if more & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::Malformed)
    }

    /// RFC 7541 §5.2.
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

/// Bytes that a string takes in Huffman's code, without its length.
pub fn coded_length(text: &[u8]) -> usize {
    huffman::coded_length(text)
}

/// Appends a field that no table has to do with.
pub fn put_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    put_string(out, name);
    put_string(out, value);
}

/// Appends a string as it is.
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
