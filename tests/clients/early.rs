//! Answers that come while the client is in the middle of its body (413, 401) reach clients that throw an answer away when
//! the connection or the stream breaks behind it: Debian 12's curl, and Python's httpx.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::WAYS;
use super::command::{Talking, has, output, venv};
use super::stand::Stand;

/// More than the sockets on the way hold before their readers are seen to be fast.
const BODY: usize = 8 << 20;

/// What an app does behind its answer, by the name in the target:
///
/// - `closes`: with most of the body unread, which resets the connection;
/// - `waits`: never reads on, and leaves the connection open;
/// - `reads`: takes the rest of the body.
const BEHIND: [&str; 3] = ["closes", "waits", "reads"];

/// An app that answers `POST /STATUS/BEHIND` as soon as it has the head.
struct HastyApp {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for HastyApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HastyApp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The proxy may end it at any point.
                tokio::spawn(serve(stream));
            }
        });
        Self { address, task }
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut parts = head.split(['/', ' ']).skip(2);
    let (status, behind) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    if behind == "takes" {
        // Its own answer would come once it has all of it.
        let mut piece = vec![0; 65536];
        while stream.read(&mut piece).await? > 0 {}
        return Ok(());
    }
    if !BEHIND.contains(&behind) {
        // The health check.
        let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(fine).await;
    }
    // No other request is answered on the connection.
    let answer =
        format!("HTTP/1.1 {status} No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
    stream.write_all(answer.as_bytes()).await?;
    match behind {
        "waits" => tokio::time::sleep(Duration::from_secs(60)).await,
        "reads" => {
            let mut piece = vec![0; 65536];
            while stream.read(&mut piece).await? > 0 {}
        }
        _ => {}
    }
    Ok(())
}

/// How the body is framed, the target, and the status that must come.
type EarlyQuestion = (&'static str, String, u16);

/// Asks in each way with each client: each has the answer, and the log its line.
async fn ask(stand: &Stand, questions: &[EarlyQuestion], text: &str) {
    let python = venv("clients-venv");
    let body = format!("@{}", stand.file("body", &"x".repeat(BODY)));
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (scheme, flag, version) in WAYS {
        let url = |path: &str| format!("{}{path}", stand.url(scheme));
        let mut httpx = Vec::new();
        for (form, path, status) in questions {
            let coding = match *form {
                "chunked" => "Transfer-Encoding: chunked",
                _ => "X-Form: length",
            };
            let url = url(path);
            let told = "%{http_version} %{http_code} %{exitcode}\\n";
            let words = ["curl", "-sk", "--max-time", "20", flag, "-H", coding];
            // Else it would ask first whether the body is wanted.
            let more = ["-H", "Expect:", "--data-binary", &body, "-w", told, &url];
            let curl = Talking::start(&[&words[..], &more].concat());
            let (told, _) = curl.rest().await;
            if told.replace('\n', "") != format!("{text}{version} {status} 0") {
                wrong.push(format!("curl {flag} {url} {form}: {told:?}"));
            }
            httpx.extend([(*form).to_owned(), url]);
            asked += 1;
        }
        let Some(python) = &python else { continue };
        let words = httpx.iter().map(String::as_str);
        let words = ["tests/clients/early.py", version].into_iter().chain(words);
        let words: Vec<_> = [python.as_str()].into_iter().chain(words).collect();
        let told = output(&words).await;
        let expected = questions
            .iter()
            .map(|(_, _, status)| format!("{version} {status} {text}"));
        for ((told, expected), (form, path, _)) in told.lines().zip(expected).zip(questions) {
            if told != expected {
                wrong.push(format!("httpx {} {form}: {told}", url(path)));
            }
        }
        assert_eq!(told.lines().count(), questions.len(), "{told}");
        asked += questions.len();
    }
    let (count, list) = (wrong.len(), wrong.join("\n"));
    assert!(wrong.is_empty(), "{count} of {asked}:\n{list}");
    assert_eq!(stand.rig.access_log(asked).await.len(), asked);
}

#[lameduck_rig::test]
async fn answer_of_an_app_in_mid_body_reaches_every_client() {
    if !has("curl") {
        return;
    }
    let app = HastyApp::start().await;
    let stand = Stand::before(&app.address.to_string(), "").await;
    let questions = [("length", 413), ("chunked", 401)].into_iter();
    let questions = questions.flat_map(|(form, status)| {
        BEHIND.map(|behind| (form, format!("{status}/{behind}"), status))
    });
    ask(&stand, &questions.collect::<Vec<_>>(), "early").await;
}

/// lameduck's own, by what was announced or by what has come.
#[lameduck_rig::test]
async fn own_answer_in_mid_body_reaches_every_client() {
    if !has("curl") {
        return;
    }
    let app = HastyApp::start().await;
    let stand = Stand::before(&app.address.to_string(), "max_body = \"1MiB\"\n").await;
    let questions = ["length", "chunked"].map(|form| (form, "any/takes".to_owned(), 413));
    ask(&stand, &questions, "the request's body is too large").await;
}
