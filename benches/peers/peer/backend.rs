//! The app behind the proxies. What it answers is in the path:
//!
//! * `/bytes/N`: N bytes with a length; `/stream/N`: N bytes in chunks;
//! * `/json/N`: N bytes of JSON with a length;
//! * `/slow/MS`: the small answer, so many milliseconds later;
//! * `/ws`: an upgrade; each message comes back;
//! * anything else, `/health` too: the small answer. A request's body is read first.
//!
//! It may be given a manner: `takes=MS` before each answer, `fails=N` answers of a hundred with 500, `hangs=1` for none at
//! all. `/health` is answered well at once all the same: health checks don't see what clients do.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::http::Reader;
use crate::work::HELLO;

const UPGRADE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Written as they are: a multiple of them is a large body.
static BLOCK: [u8; 65536] = [b'x'; 65536];

/// All the JSON that there is, in bytes.
const MOST_JSON: usize = 1 << 20;

/// A connection's thread needs little; there may be thousands.
const STACK: usize = 128 * 1024;

/// How an app is not as it should be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    takes: Duration,
    fails: u64,
    hangs: bool,
}

impl Manner {
    pub fn parse(options: &[&str]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut manner = Self::default();
        for option in options {
            match option.split_once('=') {
                Some(("takes", time)) => manner.takes = Duration::from_millis(time.parse()?),
                Some(("fails", share)) => manner.fails = share.parse()?,
                Some(("hangs", "1")) => manner.hangs = true,
                _ => return Err(format!("no manner is called {option}").into()),
            }
        }
        Ok(manner)
    }
}

const FAILURE: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nOops\n";

/// Prints its address, and answers.
pub fn serve(address: &str, manner: Manner) -> Outcome {
    let listener = TcpListener::bind(address)?;
    lengthen_queue(&listener)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || answer(stream, manner))?;
    }
    Ok(())
}

/// A thousand backends behind one socket are connected to at once: with `std`'s queue of 128, the kernel would drop
/// some of them, and they would come a second later.
#[allow(unsafe_code, reason = "std has no way to say it")]
fn lengthen_queue(listener: &TcpListener) -> io::Result<()> {
    unsafe extern "C" {
        fn listen(descriptor: i32, backlog: i32) -> i32;
    }
    // SAFETY: the descriptor is open, for the listener is borrowed; listening again only changes the length.
    match unsafe { listen(listener.as_raw_fd(), 4096) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A connection that breaks is its proxy's business.
fn answer(mut stream: TcpStream, manner: Manner) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    stream.set_nodelay(true)?;
    let mut reader = Reader::new();
    while let Some(request) = reader.message(&mut stream)? {
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        if path != "/health" {
            if manner.hangs {
                // Until the proxy has had enough of it.
                return reader.more(&mut stream).map(|_| ());
            }
            thread::sleep(manner.takes);
            if manner.fails > 0 && COUNT.fetch_add(37, Ordering::Relaxed) % 100 < manner.fails {
                stream.write_all(FAILURE)?;
                continue;
            }
        }
        let mut words = path.splitn(3, '/').skip(1);
        let (kind, number) = (words.next().unwrap_or_default(), words.next());
        let number = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        match kind {
            "bytes" => bytes(&mut stream, number)?,
            "stream" => chunks(&mut stream, number)?,
            "json" => json(&mut stream, number)?,
            "slow" => {
                thread::sleep(Duration::from_millis(number as u64));
                stream.write_all(HELLO)?;
            }
            "ws" => return echo(stream, reader),
            _ => stream.write_all(HELLO)?,
        }
    }
    Ok(())
}

fn bytes(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )?;
    for part in blocks(length) {
        stream.write_all(part)?;
    }
    Ok(())
}

/// A list of people, as an API would give it.
fn json(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let (mut text, mut number) = (String::from("["), 1_u32);
        while text.len() < MOST_JSON {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (id, person) = (number >> 8, (number >> 16) % 977);
            text += &format!(
                "{{\"id\":{id},\"name\":\"user-{person}\",\"email\":\"user{person}@example.org\",\"active\":{},\"tags\":[\"t{}\"]}},",
                id % 2 == 0,
                id % 13,
            );
        }
        text.into_bytes()
    });
    let length = length.min(text.len());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(&text[..length])
}

fn chunks(stream: &mut TcpStream, length: usize) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    write_chunks(stream, length)
}

/// A chunked body of 16 KiB chunks.
pub fn write_chunks(stream: &mut impl Write, length: usize) -> io::Result<()> {
    const CHUNK: usize = 16384;
    let mut framed = Vec::with_capacity(CHUNK + 16);
    let mut left = length;
    while left > 0 {
        let take = left.min(CHUNK);
        framed.clear();
        write!(framed, "{take:x}\r\n")?;
        framed.extend_from_slice(&BLOCK[..take]);
        framed.extend_from_slice(b"\r\n");
        stream.write_all(&framed)?;
        left -= take;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// That many bytes, in pieces.
pub fn blocks(length: usize) -> impl Iterator<Item = &'static [u8]> {
    let whole = std::iter::repeat_n(&BLOCK[..], length / BLOCK.len());
    whole.chain([&BLOCK[..length % BLOCK.len()]])
}

/// Sends each message back, unmasked; messages are short.
fn echo(mut stream: TcpStream, mut reader: Reader) -> io::Result<()> {
    stream.write_all(UPGRADE)?;
    let mut answer = Vec::new();
    while let Some(head) = reader.exactly_or_end(&mut stream, 6)? {
        let (first, length) = (head[0], usize::from(head[1] & 0x7f));
        let mask: [u8; 4] = [head[2], head[3], head[4], head[5]];
        if length > 125 || first & 0x0f == 8 {
            return Ok(());
        }
        let text = reader.exactly(&mut stream, length)?;
        answer.clear();
        answer.extend([first, length as u8]);
        answer.extend(text.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        stream.write_all(&answer)?;
    }
    Ok(())
}
