//! Drains and resumes backends.

use hyper::Method;

use super::screen::{AskedChange, BackendChange};
use crate::client::error::ClientError;
use crate::client::http::{AdminClient, AnswerWait};
use crate::client::names::BackendName;
use crate::registry::view::{BackendView, DrainRequest, DrainResponse, ResumeRequest};
use crate::rt::output::printable;

/// Makes a confirmed change at each of these proxies; returns a line with the results.
pub(super) async fn change_backend(clients: Vec<AdminClient>, asked: AskedChange) -> String {
    let (pool, name) = asked.backend;
    let backend = BackendName { pool, name };
    let several = clients.len() > 1;
    let told = clients.iter().map(async |client| {
        let told = match asked.change {
            BackendChange::Drain => drain(client, &backend).await,
            BackendChange::Resume => resume(client, &backend).await,
        };
        let told = told.unwrap_or_else(|error| error.message);
        match several {
            true => format!("{}: {told}", client.name()),
            false => told,
        }
    });
    let told = futures_util::future::join_all(told).await;
    printable(&told.join("; "))
}

async fn drain(client: &AdminClient, backend: &BackendName) -> Result<String, ClientError> {
    let request = DrainRequest {
        reason: Some("lameduck top".to_owned()),
        wait: Some(false),
        ..DrainRequest::default()
    };
    let path = format!("{}/drain", backend.path());
    let answer: DrainResponse = client
        .call(Method::POST, &path, Some(&request), AnswerWait::Short)
        .await?;
    let warning = answer
        .warning
        .map_or_else(String::new, |why| format!("; {why}"));
    Ok(format!("{backend} drains{warning}"))
}

async fn resume(client: &AdminClient, backend: &BackendName) -> Result<String, ClientError> {
    let path = format!("{}/resume", backend.path());
    let request = ResumeRequest::default();
    let answer: BackendView = client
        .call(Method::POST, &path, Some(&request), AnswerWait::Short)
        .await?;
    Ok(match answer.drains.first() {
        None => format!("{backend} is resumed"),
        Some(drain) => format!(
            "{backend} is still drained by {}: `lameduck resume {backend} --all` lifts that, too",
            drain.actor
        ),
    })
}
