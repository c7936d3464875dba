//! A backend that says what it saw.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What an echo begins with.
pub const ECHO: &str = "seen by ";

/// Starts a backend of this name on a port of its own. It lives as long as the process.
pub fn start_echo(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || serve(stream, &name));
        }
    });
    address
}

fn serve(stream: TcpStream, name: &str) {
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Some(answer) = answer_one(&mut reader, name) {
        if out.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer_one(reader: &mut BufReader<TcpStream>, name: &str) -> Option<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let first = line.trim_end().to_owned();
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let of = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    let mut body = Vec::new();
    if let Some(length) = of("content-length").and_then(|length| length.parse::<u64>().ok()) {
        reader.take(length).read_to_end(&mut body).ok()?;
    } else if of("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = u64::from_str_radix(size.trim(), 16).ok()?;
            reader.by_ref().take(size).read_to_end(&mut body).ok()?;
            let mut end = String::new();
            reader.read_line(&mut end).ok()?;
            if size == 0 {
                break;
            }
        }
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    fields.retain(|(name, _)| {
        ![
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "via",
            "cdn-loop",
        ]
        .contains(&name.as_str())
    });
    fields.sort();
    let mut text = format!("{ECHO}{name}\n{method} {target}\n");
    for (name, value) in &fields {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push_str(&format!(
        "body: {} {}\n",
        body.len(),
        String::from_utf8_lossy(&body[..body.len().min(40)])
    ));
    if target.contains("big") {
        text.push_str(&"lorem ipsum dolor sit amet, ".repeat(200));
    }
    let kind = match target
        .split('?')
        .next()
        .and_then(|path| path.rsplit('.').next())
    {
        Some("js") => "application/javascript",
        Some("css") => "text/css",
        Some("json") => "application/json",
        _ => "text/html; charset=utf-8",
    };
    let status = ["404", "500", "502", "503", "401", "403"]
        .iter()
        .find(|code| target.contains(&format!("s-{code}")));
    let mut head = format!(
        "HTTP/1.1 {} Said\r\nContent-Type: {kind}\r\nX-Powered-By: echo\r\n",
        status.unwrap_or(&"200")
    );
    if target.contains("cached") {
        head.push_str("Cache-Control: no-store\r\nExpires: Thu, 01 Jan 1970 00:00:01 GMT\r\n");
    }
    if target.contains("login") {
        head.push_str("Set-Cookie: session=1; Path=/\r\nSet-Cookie: b=2\r\n");
    }
    if target.contains("framed") {
        head.push_str("X-Frame-Options: SAMEORIGIN\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", text.len()));
    let mut answer = head.into_bytes();
    if method != "HEAD" {
        answer.extend_from_slice(text.as_bytes());
    }
    Some(answer)
}
