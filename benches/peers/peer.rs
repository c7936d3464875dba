//! The two ends of a measured proxy: a backend with one fixed answer, and a load with an exact number of requests.
//!
//! Plain blocking sockets, a thread for each connection and nothing but `std`: `benches/run` builds this file
//! alone, in a second, and what it costs is never what is measured.
//!
//! * `peer backend ADDRESS` answers every request, `/health` too, until it is killed.
//! * `peer load ADDRESS CONNECTIONS REQUESTS` sends REQUESTS over CONNECTIONS kept-alive connections, each the next
//!   request as soon as it has read the last answer, and fails unless each was answered 200 in full.
//! * `peer sink PATH` reads datagrams from a unix socket and forgets them: a syslog for HAProxy.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;
use std::{env, process, str, thread};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const REQUEST: &[u8] =
    b"GET /hello HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n";

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Length: 13\r\n\r\nHello, world\n";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["backend", address] => backend(address),
        ["load", address, connections, requests] => load(address, connections, requests),
        ["sink", path] => sink(path),
        // `cargo bench` starts every bench there is.
        _ => {
            println!("peer: one end of `make bench`; alone it measures nothing");
            Ok(())
        }
    };
    if let Err(error) = outcome {
        eprintln!("peer {}: {error}", args.join(" "));
        process::exit(1);
    }
}

fn backend(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

/// Answers each request head; requests with a body are not for this backend.
fn answer(mut stream: TcpStream) -> Outcome {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Some(end) = head_end(&buffer[..filled]) {
            stream.write_all(RESPONSE)?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
}

fn load(address: &str, connections: &str, requests: &str) -> Outcome {
    let (connections, requests): (usize, usize) = (connections.parse()?, requests.parse()?);
    let started = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|index| {
            let share = requests / connections + usize::from(index < requests % connections);
            let stream = TcpStream::connect(address)?;
            Ok(thread::spawn(move || ask(stream, share)))
        })
        .collect::<Result<_, std::io::Error>>()?;
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    println!("{:.6}", started.elapsed().as_secs_f64());
    Ok(())
}

fn ask(mut stream: TcpStream, requests: usize) -> Outcome {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8192];
    for number in 0..requests {
        stream.write_all(REQUEST)?;
        let mut filled = 0;
        while !complete(&buffer[..filled])? {
            let read = stream.read(&mut buffer[filled..])?;
            if read == 0 {
                return Err(format!("the connection was closed at request {number}").into());
            }
            filled += read;
        }
    }
    Ok(())
}

/// Whether a whole answer is here; an error if it isn't the backend's.
fn complete(answer: &[u8]) -> Result<bool, Box<dyn Error + Send + Sync>> {
    let Some(end) = head_end(answer) else {
        return Ok(false);
    };
    let (head, body) = answer.split_at(end);
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(answer).into());
    }
    let expected = &RESPONSE[RESPONSE.len() - 13..];
    if !expected.starts_with(body) {
        return Err(format!("strange body: {:?}", str::from_utf8(body)).into());
    }
    Ok(body.len() == expected.len())
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

fn sink(path: &str) -> Outcome {
    let socket = UnixDatagram::bind(path)?;
    let mut buffer = [0; 8192];
    loop {
        socket.recv(&mut buffer)?;
    }
}
