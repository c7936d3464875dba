//! `GET /v1/events`: every state change, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, future, stream};
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::Admin;
use super::body::Params;
use super::problem::Problem;
use crate::registry::view::EventView;

/// Between two comments on a silent stream: below the 30 s after which the usual middleboxes hang up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Query of `GET /v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pool: Option<String>,
}

/// `GET /v1/events[?pool=]`: from now on, no history. Read `/v1/pools` after subscribing to miss nothing.
pub(super) async fn stream(
    State(admin): State<Admin>,
    Params(filter): Params<Filter>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let changes = BroadcastStream::new(admin.registry.subscribe());
    if let Some(pool) = &filter.pool {
        admin.registry.pool(pool).await?;
    }
    // The first bytes go out at once, so that the client knows that it is subscribed.
    let hello = stream::once(future::ready(Ok(Event::default().comment("subscribed"))));
    let changes = changes.filter_map(move |change| future::ready(event(change, &filter)));
    let mut stop = admin.stop.clone();
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let all = hello.chain(changes).take_until(Box::pin(stopped));
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")))
}

fn event(
    change: Result<std::sync::Arc<EventView>, BroadcastStreamRecvError>,
    filter: &Filter,
) -> Option<Result<Event, Infallible>> {
    let change = match change {
        Ok(change) => change,
        // The reader was too slow: it has to look at `/v1/pools` again.
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            let data = serde_json::json!({ "missed": missed }).to_string();
            return Some(Ok(Event::default().event("lagged").data(data)));
        }
    };
    let elsewhere = match (&filter.pool, &change.pool) {
        (Some(wanted), Some(pool)) => wanted != pool,
        _ => false,
    };
    if elsewhere {
        return None;
    }
    let data = serde_json::to_string(&*change).ok()?;
    Some(Ok(Event::default().event(&change.kind).data(data)))
}
