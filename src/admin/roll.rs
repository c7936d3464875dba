//! `POST /v1/pools/{pool}/roll`: the right to roll a pool, held by a connection.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, future, stream};

use super::AdminState;
use super::body::{JsonBody, PathParameters};
use super::problem::ProblemDocument;
use crate::registry::view::RollRequest;

/// Interval of comments: if the client's machine is gone, unacknowledged writes reveal it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Holds the right until the client disconnects; the first event has the roll's id.
pub(super) async fn hold(
    State(admin): State<AdminState>,
    PathParameters(pool): PathParameters<String>,
    JsonBody(request): JsonBody<RollRequest>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ProblemDocument> {
    let by = match request.by.trim() {
        "" => "somebody who gave no name",
        by => by,
    };
    let permit = admin.registry.begin_roll(&pool, by).await?;
    let data = serde_json::json!({ "id": permit.id() }).to_string();
    let held = Event::default().event("held").data(data);
    let mut stop = admin.stop.clone();
    // The permit lives in the stream: both end with the connection.
    let until_the_end = async move {
        let _permit = permit;
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let all = stream::once(future::ready(Ok(held))).chain(
        stream::once(until_the_end)
            .map(|()| Ok(Event::default().event("ended").data("lameduck is stopping"))),
    );
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still held")))
}
