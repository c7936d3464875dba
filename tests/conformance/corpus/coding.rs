//! `Transfer-Encoding`: `chunked`, once, alone; and never beside a length.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §6.1";
const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";
const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

fn accepted(name: &'static str, line: &str) -> Case {
    case(name, RULE)
        .post(&format!("{line}\r\n"), BODY)
        .forwarded(CHUNKED)
}

fn refused(name: &'static str, lines: &str, status: u16) -> Case {
    case(name, RULE)
        .post(&format!("{lines}\r\n"), BODY)
        .refused(status)
}

pub fn cases() -> Vec<Case> {
    vec![
        accepted("chunked", "Transfer-Encoding: chunked").reuses(),
        accepted("chunked in capitals", "Transfer-Encoding: CHUNKED"),
        accepted("chunked in a field in capitals", "TRANSFER-ENCODING: Chunked"),
        accepted("chunked without a space before it", "Transfer-Encoding:chunked"),
        accepted("chunked with tabs around it", "Transfer-Encoding:\tchunked\t"),
        accepted("chunked with spaces behind it", "Transfer-Encoding: chunked   "),
        case("chunks in a GET", RULE)
            .sends(format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}"))
            .verbatim(),
        refused("chunked twice in a list", "Transfer-Encoding: chunked, chunked", 400),
        refused("chunked in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        refused("chunked, identity", "Transfer-Encoding: chunked, identity", 400),
        refused("identity, chunked", "Transfer-Encoding: identity, chunked", 501),
        refused("identity", "Transfer-Encoding: identity", 400),
        refused("gzip, chunked", "Transfer-Encoding: gzip, chunked", 501),
        refused("gzip and chunked in two fields", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        refused("chunked, gzip", "Transfer-Encoding: chunked, gzip", 400),
        refused("chunked and another in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", 400),
        refused("another and chunked in two fields", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked", 501),
        refused("xchunked", "Transfer-Encoding: xchunked", 400),
        refused("chunkedx", "Transfer-Encoding: chunkedx", 400),
        refused("x chunked", "Transfer-Encoding: x chunked", 400),
        refused("chunked with a parameter", "Transfer-Encoding: chunked;q=1", 400),
        refused("chunked in quotes", "Transfer-Encoding: \"chunked\"", 400),
        refused("an empty coding", "Transfer-Encoding:", 400),
        refused("a comma before chunked", "Transfer-Encoding: , chunked", 400),
        refused("a comma behind chunked", "Transfer-Encoding: chunked,", 400),
        refused("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked", 400),
        refused("a form feed behind chunked", "Transfer-Encoding: chunked\x0c", 400),
        refused("a NUL behind chunked", "Transfer-Encoding: chunked\0", 400),
        refused("chunked with a dotless sharp s", "Transfer-Encoding: chun\u{212a}ed", 400),
        refused("chunked on a folded line", "Transfer-Encoding:\r\n chunked", 400),
        refused("a coding that is folded behind a comma", "Transfer-Encoding: x,\r\n\tchunked", 400),
        refused("a space before the coding's colon", "Transfer-Encoding : chunked", 400),
        refused("a tab before the coding's colon", "Transfer-Encoding\t: chunked", 400),
        refused("a space before the coding's name", "X: y\r\n Transfer-Encoding: chunked", 400),
        refused("a coding behind a bare LF", "X: y\nTransfer-Encoding: chunked", 400),
        refused("a coding behind a bare CR", "X: y\rTransfer-Encoding: chunked", 400),
        refused("Transfer_Encoding", "Transfer_Encoding: chunked", 400),
        refused("length and chunks (CL.TE)", "Content-Length: 15\r\nTransfer-Encoding: chunked", 400),
        refused("chunks and length (TE.CL)", "Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        refused("length zero and chunks", "Content-Length: 0\r\nTransfer-Encoding: chunked", 400),
        refused("length and an unknown coding", "Content-Length: 15\r\nTransfer-Encoding: x", 400),
        refused("length and identity", "Content-Length: 15\r\nTransfer-Encoding: identity", 400),
        refused("length and an empty coding", "Content-Length: 15\r\nTransfer-Encoding:", 400),
        refused("a bad length and chunks", "Content-Length: x\r\nTransfer-Encoding: chunked", 400),
        case("chunks in HTTP/1.0", RULE)
            .sends(format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}"))
            .refused(400),
        case("length and chunks in HTTP/1.0", RULE)
            .sends(format!("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}"))
            .refused(400),
    ]
}
