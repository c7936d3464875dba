//! The API server's HTTP: lists in pages, watches in chunks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::{ApiRefusal, ApiShared, GoneAs, WatchEnd};
use crate::wire::Bytes as _;
use crate::wire::field;

/// The one resource that there is.
const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// How many more items a continue token stands for, and of which version: `VERSION:FIRST`.
fn read_token(token: &str) -> Option<(u64, usize)> {
    let (version, first) = token.split_once(':')?;
    Some((version.parse().ok()?, first.parse().ok()?))
}

/// Serves one connection until its end.
pub(super) async fn serve(mut stream: TcpStream, shared: Arc<ApiShared>) {
    if shared.state.lock().faults.away {
        stream.make_reset();
        return;
    }
    while let Ok(Some(head)) = read_head(&mut stream).await {
        if !answer(&mut stream, &shared, &head).await.unwrap_or(false) {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// Answers one request; says whether the connection goes on.
async fn answer(stream: &mut TcpStream, shared: &ApiShared, head: &str) -> io::Result<bool> {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = read_query(query);
    let faults = shared.state.lock().faults.clone();
    if faults.mute {
        std::future::pending::<()>().await;
    }
    if faults.away {
        stream.make_reset();
        return Ok(false);
    }
    let bearer = field(head, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    let is_known = faults.tokens.as_ref().is_none_or(|tokens| {
        bearer.is_some_and(|bearer| tokens.iter().any(|token| token == bearer.trim()))
    });
    if !is_known {
        shared.state.lock().asked.unauthorized += 1;
        return refuse(
            stream,
            ApiRefusal {
                code: 401,
                retry_after: 0,
            },
        )
        .await;
    }
    if path != PATH {
        return refuse(
            stream,
            ApiRefusal {
                code: 404,
                retry_after: 0,
            },
        )
        .await;
    }
    if let Some(selector) = query.get("labelSelector") {
        shared.state.lock().asked.selector.clone_from(selector);
    }
    let is_watch = query
        .get("watch")
        .is_some_and(|value| value == "true" || value == "1");
    match is_watch {
        true => watch(stream, shared, &query).await,
        false => list(stream, shared, &query).await,
    }
}

async fn list(
    stream: &mut TcpStream,
    shared: &ApiShared,
    query: &HashMap<String, String>,
) -> io::Result<bool> {
    let token = query.get("continue").filter(|token| !token.is_empty());
    let faults = {
        let mut state = shared.state.lock();
        state.asked.pages += 1;
        state.asked.lists += usize::from(token.is_none());
        state.faults.clone()
    };
    if let Some(refusal) = faults.refuse_lists {
        return refuse(stream, refusal).await;
    }
    sleep(faults.slow_lists).await;
    let page = {
        let state = shared.state.lock();
        let place = match token.map(|token| read_token(token)) {
            None => Some((faults.lag.unwrap_or(state.version), 0)),
            // The rest of a list whose version has been forgotten can't be had.
            Some(place) => place.filter(|(version, _)| *version >= state.forgotten),
        };
        place.map(|(version, first)| {
            let selector = query.get("labelSelector").map_or("", String::as_str);
            let all: Vec<_> = state
                .at(version)
                .into_values()
                .filter(|slice| fits(slice, selector))
                .collect();
            let limit = query
                .get("limit")
                .and_then(|limit| limit.parse().ok())
                .unwrap_or(usize::MAX);
            let items: Vec<_> = all
                .iter()
                .skip(first)
                .take(limit)
                .map(|slice| (**slice).clone())
                .collect();
            let next = first + items.len();
            let mut metadata = json!({ "resourceVersion": version.to_string() });
            if next < all.len() {
                metadata["continue"] = format!("{version}:{next}").into();
                metadata["remainingItemCount"] = (all.len() - next).into();
            }
            json!({
                "kind": "EndpointSliceList",
                "apiVersion": "discovery.k8s.io/v1",
                "metadata": metadata,
                "items": items,
            })
        })
    };
    match page {
        Some(page) => respond(stream, 200, &page).await,
        None => {
            refuse(
                stream,
                ApiRefusal {
                    code: 410,
                    retry_after: 0,
                },
            )
            .await
        }
    }
}

/// A watch's own part of what is open.
struct OpenWatch<'a>(&'a ApiShared);

impl Drop for OpenWatch<'_> {
    fn drop(&mut self) {
        self.0.state.lock().asked.open_watches -= 1;
    }
}

async fn watch(
    stream: &mut TcpStream,
    shared: &ApiShared,
    query: &HashMap<String, String>,
) -> io::Result<bool> {
    let from = query.get("resourceVersion").cloned().unwrap_or_default();
    let mut ticks = shared.ticks.subscribe();
    let (refusal, forgotten, cut, gone_as, hangs) = {
        let mut state = shared.state.lock();
        state.asked.watched_from.push(from.clone());
        let faults = &state.faults;
        let (refusal, gone_as, hangs) =
            (faults.refuse_watches, faults.gone_as, faults.hang_watches);
        (refusal, state.forgotten, state.cut.0, gone_as, hangs)
    };
    if let Some(refusal) = refusal {
        return refuse(stream, refusal).await;
    }
    let mut position: u64 = from.parse().unwrap_or_default();
    let is_gone = position < forgotten;
    if is_gone && gone_as == GoneAs::Status {
        return refuse(
            stream,
            ApiRefusal {
                code: 410,
                retry_after: 0,
            },
        )
        .await;
    }
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    if is_gone {
        let object = status(410, 0);
        write_chunk(stream, &json!({ "type": "ERROR", "object": object })).await?;
        stream.write_all(b"0\r\n\r\n").await?;
        return Ok(true);
    }
    {
        let mut state = shared.state.lock();
        state.asked.watches += 1;
        state.asked.open_watches += 1;
    }
    let _open = OpenWatch(shared);
    let seconds = query
        .get("timeoutSeconds")
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(300);
    let end = Instant::now() + Duration::from_secs(seconds);
    let selector = query.get("labelSelector").cloned().unwrap_or_default();
    let bookmarks = query
        .get("allowWatchBookmarks")
        .is_some_and(|value| value == "true");
    loop {
        if hangs {
            return hang(stream).await;
        }
        let (events, ended) = {
            let state = shared.state.lock();
            let news = state
                .history
                .iter()
                .filter(|event| event.version > position);
            let events: Vec<_> = news.cloned().collect();
            let cut = state.cut.1.filter(|_| state.cut.0 > cut);
            // What was forgotten before it was sent can't be left out: who watches has to ask anew, and is refused then.
            match position + 1 < state.forgotten {
                true => (Vec::new(), cut.or(Some(WatchEnd::Clean))),
                false => (events, cut),
            }
        };
        if ended != Some(WatchEnd::Hang) {
            for event in events {
                position = event.version;
                let is_bookmark = event.kind == "BOOKMARK";
                if if is_bookmark {
                    bookmarks
                } else {
                    fits(&event.object, &selector)
                } {
                    write_chunk(
                        stream,
                        &json!({ "type": event.kind, "object": *event.object }),
                    )
                    .await?;
                }
            }
        }
        match ended {
            None => {}
            Some(WatchEnd::Clean) => {
                stream.write_all(b"0\r\n\r\n").await?;
                return Ok(true);
            }
            Some(WatchEnd::Reset) => {
                stream.make_reset();
                return Ok(false);
            }
            Some(WatchEnd::MidEvent) => {
                stream
                    .write_all(b"40\r\n{\"type\":\"MODIFIED\",\"object\":{\"meta")
                    .await?;
                return Ok(false);
            }
            Some(WatchEnd::Hang) => return hang(stream).await,
        }
        let mut byte = [0];
        tokio::select! {
            changed = ticks.changed() => if changed.is_err() { return Ok(false) },
            () = sleep_until(end) => {
                stream.write_all(b"0\r\n\r\n").await?;
                return Ok(true);
            }
            // The client says nothing more while it watches: whatever comes is its end.
            _ = stream.peek(&mut byte) => return Ok(false),
        }
    }
}

/// Says nothing more, until the client goes.
async fn hang(stream: &mut TcpStream) -> io::Result<bool> {
    stream.peek(&mut [0]).await?;
    Ok(false)
}

async fn write_chunk(stream: &mut TcpStream, event: &Value) -> io::Result<()> {
    let line = format!("{event}\n");
    stream
        .write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())
        .await
}

async fn refuse(stream: &mut TcpStream, refusal: ApiRefusal) -> io::Result<bool> {
    respond(
        stream,
        refusal.code,
        &status(refusal.code, refusal.retry_after),
    )
    .await
}

async fn respond(stream: &mut TcpStream, code: u16, body: &Value) -> io::Result<bool> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} Whatever\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    Ok(true)
}

/// A Status object, in Kubernetes' words.
fn status(code: u16, retry_after: u32) -> Value {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => (
            "Forbidden",
            "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:shop:default\" cannot list \
             resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"shop\"",
        ),
        404 => (
            "NotFound",
            "the server could not find the requested resource",
        ),
        410 => ("Expired", "too old resource version"),
        429 => (
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        _ => ("InternalError", "etcdserver: leader changed"),
    };
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    if retry_after > 0 {
        status["details"] = json!({ "retryAfterSeconds": retry_after });
    }
    status
}

/// Whether the labels of a slice fit `key=value,key!=value`.
fn fits(slice: &Value, selector: &str) -> bool {
    let label = |key: &str| slice["metadata"]["labels"][key].as_str().map(str::to_owned);
    selector
        .split(',')
        .filter(|term| !term.is_empty())
        .all(|term| {
            if let Some((key, value)) = term.split_once("!=") {
                return label(key).as_deref() != Some(value);
            }
            term.split_once('=')
                .is_some_and(|(key, value)| label(key).as_deref() == Some(value))
        })
}

fn read_query(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
