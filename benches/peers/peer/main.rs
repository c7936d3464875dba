//! The two ends of a measured proxy: a backend, and a load with an exact number of requests.
//!
//! Plain blocking sockets, a thread for each connection and nothing but `std`: `benches/run` builds this file
//! alone, in a second, and what it costs is never what is measured. `benches/peers/tls` is the same load over TLS.
//!
//! * `peer backend ADDRESS [MANNER…]` answers until it is killed; see [`backend`].
//! * `peer load ADDRESS OPTION=VALUE…` sends requests, fails unless each was answered in full, and prints figures
//!   as a line of JSON; see [`load::Plan`].
//! * `peer sink PATH` reads datagrams from a unix socket and forgets them: a syslog for HAProxy.

use std::error::Error;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::{env, process};

mod backend;
mod http;
mod latency;
mod load;
mod work;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["backend", address, ref manner @ ..] => {
            backend::Manner::parse(manner).and_then(|manner| backend::serve(address, manner))
        }
        ["load", address, ref options @ ..] => load(address, options),
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

fn load(address: &str, options: &[&str]) -> Outcome {
    let plan = load::Plan::parse(options)?;
    let connect = || {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    println!("{}", load::run(&plan, connect)?);
    Ok(())
}

fn sink(path: &str) -> Outcome {
    let socket = UnixDatagram::bind(path)?;
    let mut buffer = [0; 8192];
    loop {
        socket.recv(&mut buffer)?;
    }
}
