//! Blocks that aren't as RFC 7541 says.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;
use lameduck_rig::hpack::{integer, literal};

/// A plain request's block, and this.
fn with(bytes: &[u8]) -> Vec<u8> {
    [plain("GET", &[]).as_slice(), bytes].concat()
}

/// RFC 9113 §4.3: a block that can't be read breaks the connection.
fn broken(name: &'static str, rule: &'static str, block: Vec<u8>) -> Case {
    case(name, rule)
        .headers(END_STREAM, block)
        .ends(&[COMPRESSION, PROTOCOL])
}

fn read(name: &'static str, rule: &'static str, block: Vec<u8>, request: &str) -> Case {
    case(name, rule)
        .headers(END_STREAM, block)
        .forwarded(request)
}

pub fn cases() -> Vec<Case> {
    let plain = plain("GET", &[]);
    vec![
        broken("index 0", "RFC 7541 §6.1", with(&[0x80])),
        broken(
            "an index beyond the tables",
            "RFC 7541 §2.3.3",
            with(&[0x80 | 62]),
        ),
        broken(
            "a name's index beyond the tables",
            "RFC 7541 §2.3.3",
            with(&[0x40 | 62, 1, b'y']),
        ),
        broken(
            "an index of 2^31",
            "RFC 7541 §5.1",
            with(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x08]),
        ),
        broken("an index without end", "RFC 7541 §5.1", with(&[0xff; 12])),
        broken(
            "an integer that stops",
            "RFC 7541 §5.1",
            with(&[0xff, 0x80]),
        ),
        broken(
            "a name longer than the block",
            "RFC 7541 §5.2",
            with(&[0, 10, b'x']),
        ),
        broken(
            "a value longer than the block",
            "RFC 7541 §5.2",
            with(&[0, 1, b'x', 10, b'y']),
        ),
        broken(
            "a literal without a value",
            "RFC 7541 §6.2",
            with(&[0, 1, b'x']),
        ),
        broken(
            "a length of 2^35",
            "RFC 7541 §5.2",
            with(&[0, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x7f]),
        ),
        broken(
            "a table larger than agreed",
            "RFC 7541 §6.3",
            [integer(0x20, 5, 65_537), plain.clone()].concat(),
        ),
        broken(
            "a table's size behind a field",
            "RFC 7541 §4.2",
            with(&integer(0x20, 5, 0)),
        ),
        broken(
            "Huffman padding of zeros",
            "RFC 7541 §5.2",
            with(&[0, 1, b'x', 0x81, 0b1111_0000]),
        ),
        broken(
            "Huffman padding of eight bits",
            "RFC 7541 §5.2",
            with(&[0, 1, b'x', 0x82, 0b0001_1111, 0xff]),
        ),
        broken(
            "Huffman's end of string within a string",
            "RFC 7541 §5.2",
            with(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xfc]),
        ),
        read(
            "the static table",
            "RFC 7541 §6.1",
            [vec![0x82, 0x86, 0x84], literal(b":authority", b"a")].concat(),
            "GET /",
        ),
        read(
            "a field that is indexed and used again",
            "RFC 7541 §6.2.1",
            with(&[0x40, 1, b'x', 1, b'y', 0x80 | 62]),
            "GET / `x: y` `x: y`",
        ),
        read(
            "a field that is never indexed",
            "RFC 7541 §6.2.3",
            with(&[0x10, 1, b'x', 1, b'y']),
            "GET / `x: y`",
        ),
        read(
            "a table of size 0",
            "RFC 7541 §6.3",
            [vec![0x20], plain.clone()].concat(),
            "GET /",
        ),
        read(
            "two sizes of a table",
            "RFC 7541 §4.2",
            [vec![0x20], integer(0x20, 5, 4096), plain.clone()].concat(),
            "GET /",
        ),
        read(
            "a value in Huffman's code",
            "RFC 7541 §5.2",
            with(&[0, 1, b'x', 0x81, 0b1111_0101]),
            "GET / `x: y`",
        )
        .any(),
        read(
            "an integer with zeros behind it",
            "RFC 7541 §5.1",
            with(&[0, 1, b'x', 1, b'y']),
            "GET / `x: y`",
        ),
        case("an entry that was evicted", "RFC 7541 §4.4")
            .headers(END_STREAM, with(&[&[0x40, 1, b'x', 1, b'y'][..]].concat()))
            .frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                3,
                [&[0x20][..], &plain, &[0x80 | 62]].concat(),
            )
            .any()
            .ends(&[COMPRESSION, PROTOCOL]),
        case("an entry of an earlier request", "RFC 7541 §2.2")
            .frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                with(&[0x40, 1, b'x', 1, b'y']),
            )
            .on(1)
            .forwarded("GET / `x: y`"),
        case("a refused request's entries stay", "RFC 9113 §4.3")
            .frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                [
                    with(&[0x40, 1, b'x', 1, b'y']),
                    literal(b"connection", b"close"),
                ]
                .concat(),
            )
            .frame(HEADERS, END_HEADERS | END_STREAM, 3, with(&[0x80 | 62]))
            .on(3)
            .forwarded("GET / `x: y`"),
        case("a reset request's entries stay", "RFC 9113 §4.3")
            .frame(HEADERS, END_HEADERS, 1, with(&[0x40, 1, b'x', 1, b'y']))
            .frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes())
            .frame(HEADERS, END_HEADERS | END_STREAM, 3, with(&[0x80 | 62]))
            .on(3)
            .any()
            .straggles()
            .gets("200 `answer to GET /`"),
    ]
}
