//! Compression of answers: which ones, how their heads change, and that nothing waits in an encoder.

mod bodies;
mod heads;
mod own;
mod streams;

use std::io::Read as _;

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Message, Wire};

/// The codings, the preferred one first.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// With `[compression]`, everything as by default.
async fn rig() -> Rig {
    rig_with("[compression]\n").await
}

async fn rig_with(tables: &'static str) -> Rig {
    Rig::new(Setup {
        tables,
        ..Setup::default()
    })
    .await
}

/// A request of a client that reads this coding.
fn get(coding: &str) -> String {
    format!("GET /page HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n")
}

/// Text that a page could have, of this length.
fn page(length: usize) -> String {
    let mut text = String::new();
    for line in 0.. {
        if text.len() >= length {
            break;
        }
        text += &format!(
            "<li class=\"item\">line {} of {line}</li>\n",
            line * 7919 % 1000
        );
    }
    text.truncate(length);
    text
}

/// An answer with a length, and these fields besides.
fn answer(fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request and its answer, on connections of their own.
async fn exchange(rig: &Rig, request: &str, answer: &str) -> Message {
    let mut client = rig.ask(request).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(answer).await;
    if !answer.contains("Content-Length") && !answer.contains("chunked") {
        drop(backend);
        return client.response().await;
    }
    let response = match request.starts_with("HEAD") {
        true => Message {
            head: client.head().await,
            body: Vec::new(),
            trailers: String::new(),
        },
        false => client.response().await,
    };
    drop((client, backend));
    response
}

/// A whole body, decoded; an error for one that is cut.
fn decoded(coding: &str, body: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text)?,
        "zstd" => zstd::stream::read::Decoder::new(body)?.read_to_string(&mut text)?,
        _ => brotli::Decompressor::new(body, 4096).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// What a client can read of the beginning of a body.
fn decoded_so_far(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut decoder: Box<dyn std::io::Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(body)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body).unwrap()),
        _ => Box::new(brotli::Decompressor::new(body, 4096)),
    };
    let (mut seen, mut piece) = (Vec::new(), [0; 1000]);
    while let Ok(count @ 1..) = decoder.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
    }
    seen
}

/// The next chunk of a body; `None`: it was the last one, which is read with its blank line.
async fn chunk(client: &mut Wire) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.exactly(1).await);
    }
    let size = std::str::from_utf8(&line).unwrap().trim_end();
    let size = usize::from_str_radix(size, 16).unwrap();
    let data = client.exactly(size).await;
    client.expect("\r\n").await;
    (size > 0).then_some(data)
}
