//! Requests byte by byte, and what comes back: as strangers send them, not as a good client would.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::server::PATIENCE;

pub struct Http {
    head: String,
    body: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Checks that it is a good problem document; returns it.
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        let context = format!("{}\n{}", self.head, self.body);
        assert_eq!(self.status, status, "{context}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{context}"
        );
        let document = self.json();
        assert_eq!(
            document["type"],
            format!("urn:lameduck:problem:{slug}"),
            "{context}"
        );
        assert_eq!(document["status"], status, "{context}");
        for member in ["title", "detail", "instance"] {
            assert!(
                document[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member}: {context}"
            );
        }
        document
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }
}

impl Http {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            head: format!("{method} {path} HTTP/1.1\r\nhost: lameduck\r\nconnection: close\r\n"),
            body: Vec::new(),
        }
    }

    /// With this `Host`, over TCP too; `None`: without one.
    pub fn host(mut self, host: Option<&str>) -> Self {
        let field = host.map_or_else(String::new, |host| format!("Host: {host}\r\n"));
        self.head = self.head.replace("host: lameduck\r\n", &field);
        self
    }

    pub fn header(mut self, line: &str) -> Self {
        self.head.push_str(line);
        self.head.push_str("\r\n");
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let line = format!("content-length: {}", self.body.len());
        self.header(&line)
    }

    pub fn json(self, body: &str) -> Self {
        self.header("content-type: application/json").body(body)
    }

    /// The body in chunks of 4 KiB, of unknown length.
    pub fn chunked(mut self, body: &[u8]) -> Self {
        for chunk in body.chunks(4096) {
            self.body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            self.body.extend(chunk);
            self.body.extend(b"\r\n");
        }
        self.body.extend(b"0\r\n\r\n");
        self.header("content-type: application/json")
            .header("transfer-encoding: chunked")
    }

    pub async fn over_unix(self, socket: &Path) -> Answer {
        self.over(UnixStream::connect(socket).await.unwrap()).await
    }

    pub async fn over_tcp(mut self, address: SocketAddr) -> Answer {
        // Over TCP the host counts.
        self.head = self
            .head
            .replace("host: lameduck\r\n", &format!("host: {address}\r\n"));
        self.over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn over(self, stream: impl AsyncRead + AsyncWrite) -> Answer {
        let talk = async {
            let (mut from, mut to) = tokio::io::split(stream);
            let message = [self.head.as_bytes(), b"\r\n", &self.body].concat();
            let mut read = Vec::new();
            // At once: a server may answer before it has read everything.
            let (_, answered) = tokio::join!(to.write_all(&message), from.read_to_end(&mut read));
            answered.expect("the answer arrives whole");
            read
        };
        let read = tokio::time::timeout(PATIENCE, talk)
            .await
            .expect("it answers");
        parse(&String::from_utf8(read).unwrap())
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
