//! A call of the admin API over its unix socket, for the demo; any status counts as an answer.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use crate::client::http::{AdminClient, AnswerWait};

/// Calls `method path` with a JSON body (or none), and returns status and body, however long that takes.
///
/// # Errors
/// The proxy can't be reached, or closes the connection without an answer.
pub async fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Bytes)> {
    let method = Method::from_bytes(method.as_bytes())?;
    let client = AdminClient::at_socket(socket);
    let answer = client
        .raw(method.clone(), path, body, AnswerWait::Ever)
        .await;
    let (status, bytes) = answer.with_context(|| format!("no answer to {method} {path}"))?;
    Ok((status.as_u16(), bytes))
}

/// Makes a call with a JSON answer; any status but 2xx is an error with the problem's text.
///
/// # Errors
/// As for [`request`]; or the proxy refuses, or the answer isn't JSON.
pub async fn call(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, bytes) = request(socket, method, path, body).await?;
    let text = String::from_utf8_lossy(&bytes);
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status} {text}");
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).with_context(|| format!("{method} {path}: not JSON: {text}"))
}

/// Sum of all series of one metric in Prometheus text.
pub fn metric(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once('}')?.1,
            None => rest,
        };
        // Another metric whose name begins with this one has no space here.
        rest.strip_prefix(' ')?
            .split(' ')
            .next()?
            .parse::<f64>()
            .ok()
    };
    let values: Vec<f64> = text.lines().filter_map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series() {
        let text = "# TYPE a counter\na{pool=\"x\"} 2\na{pool=\"y\"} 3\nab 7\nb 1.0\n";
        assert_eq!(metric(text, "a"), Some(5));
        assert_eq!(metric(text, "b"), Some(1));
        assert_eq!(metric(text, "c"), None);
    }

    #[tokio::test]
    async fn speaks_http_over_a_unix_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let echo =
            axum::Router::new().route("/x", axum::routing::post(|body: String| async { body }));
        let server = tokio::spawn(async move { axum::serve(listener, echo).await });
        let body = serde_json::json!({"a": 1});
        assert_eq!(call(&path, "POST", "/x", Some(&body)).await.unwrap(), body);
        let error = call(&path, "GET", "/nowhere", None)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("GET /nowhere: 404"), "{error}");
        server.abort();
    }

    #[tokio::test]
    async fn an_unreachable_proxy_is_named() {
        let error = call(Path::new("/nonexistent/sock"), "GET", "/", None)
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("can't reach the proxy: tried /nonexistent/sock"),
            "{error}"
        );
    }
}
