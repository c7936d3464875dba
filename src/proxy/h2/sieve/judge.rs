//! Decides about a field: whether the `h2` crate can accept it, and RFC 9113 allows it.

use super::HeadSender;
use crate::proxy::h1::fields::is_value_byte;
use crate::proxy::h2::carrier;

/// The kind of block that a field is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockPlace {
    pub(super) sender: HeadSender,
    /// Whether nothing follows the block.
    pub(super) ends_stream: bool,
}

/// What happens to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldFate {
    /// It is passed on unchanged.
    Kept,
    /// The whole block is malformed (RFC 9113 §8.1.1).
    Malformed,
    /// A `:path` that the `http` crate can't hold.
    CarriedPath,
    /// An `:authority` that the `http` crate can't hold.
    CarriedAuthority,
}

/// Returns whether a field of the tables is certain to be kept, judging by its index: a field is checked when it is
/// added to the dynamic table.
pub(super) fn is_surely_kept(index: usize, place: BlockPlace) -> bool {
    match place.sender {
        HeadSender::Client => !(8..=14).contains(&index),
        HeadSender::Backend => !place.ends_stream && index > 7,
    }
}

/// Decides about a field.
pub(super) fn judge_field(place: BlockPlace, name: &[u8], value: &[u8]) -> FieldFate {
    let kept_if = |good| match good {
        true => FieldFate::Kept,
        false => FieldFate::Malformed,
    };
    if name.first() != Some(&b':') {
        return kept_if(is_name(name) && value.iter().copied().all(is_value_byte));
    }
    match (place.sender, name) {
        (HeadSender::Backend, b":status") => kept_if(is_status(value, place.ends_stream)),
        (HeadSender::Backend, _) => FieldFate::Malformed,
        // The crate refuses `:status` in a request head.
        (_, b":status") => kept_if(is_status(value, false)),
        (_, b":method") => kept_if(!value.is_empty() && value.iter().all(|b| is_token(*b))),
        (_, b":scheme" | b":protocol") => kept_if(value.is_ascii()),
        // With a control character, a target would be more than a target in HTTP/1.
        (_, b":path" | b":authority") if value.iter().any(u8::is_ascii_control) => {
            FieldFate::Malformed
        }
        (_, b":path") if !carrier::can_hold_path(value) => FieldFate::CarriedPath,
        (_, b":authority") if !carrier::can_hold_authority(value) => FieldFate::CarriedAuthority,
        (_, b":path" | b":authority") => FieldFate::Kept,
        _ => FieldFate::Malformed,
    }
}

/// Returns whether this is a valid field name in HTTP/2: a token without upper-case letters (RFC 9113 §8.2.1).
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_token(*b) && !b.is_ascii_uppercase())
}

fn is_token(byte: u8) -> bool {
    crate::proxy::h1::fields::is_tchar(byte)
}

/// Returns whether this is a valid status: three digits; not 101, which HTTP/2 doesn't have (RFC 9113 §8.6); and an
/// interim status doesn't end the stream (§8.1).
fn is_status(value: &[u8], ends_stream: bool) -> bool {
    match value {
        b"101" => false,
        [b'1', ..] if ends_stream => false,
        [b'1'..=b'9', b, c] => b.is_ascii_digit() && c.is_ascii_digit(),
        _ => false,
    }
}
