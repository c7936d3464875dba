//! `GET /v1/events`: every state change, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, future, stream};
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::AdminState;
use super::body::QueryParams;
use super::problem::ProblemDocument;
use crate::registry::view::EventView;

/// Interval of comments on a silent stream: below the 30 s after which common middleboxes close connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Query of `GET /v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventFilter {
    pool: Option<String>,
}

/// `GET /v1/events[?pool=]`: sends events from now on, without history. To miss nothing, read `/v1/pools` after
/// subscribing.
pub(super) async fn stream(
    State(admin): State<AdminState>,
    QueryParams(filter): QueryParams<EventFilter>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ProblemDocument> {
    let changes = BroadcastStream::new(admin.registry.subscribe());
    if let Some(pool) = &filter.pool {
        admin.registry.pool(pool).await?;
    }
    // The first bytes are sent immediately, so that the client knows that it is subscribed.
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
    filter: &EventFilter,
) -> Option<Result<Event, Infallible>> {
    let change = match change {
        Ok(change) => change,
        // The reader was too slow: it has to read `/v1/pools` again.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::response::IntoResponse;
    use http_body_util::BodyExt;

    use super::*;
    use crate::registry::event_kind::EventKind;

    fn change(pool: Option<&str>) -> Arc<EventView> {
        Arc::new(EventView {
            kind: EventKind::Config.as_str().into(),
            time: "2025-01-01T00:00:00.000Z".into(),
            pool: pool.map(str::to_owned),
            backend: None,
            from: None,
            to: None,
            reason: "line one\nline two".into(),
        })
    }

    async fn streamed(filter: EventFilter) -> String {
        let changes = vec![
            Ok(change(Some("app"))),
            Err(BroadcastStreamRecvError::Lagged(3)),
            Ok(change(Some("other"))),
            Ok(change(None)),
        ];
        let events: Vec<_> = changes
            .into_iter()
            .filter_map(|change| event(change, &filter))
            .collect();
        let body = Sse::new(stream::iter(events)).into_response().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed() {
        let text = streamed(EventFilter { pool: None }).await;
        assert!(
            text.contains("event: lagged\ndata: {\"missed\":3}\n\n"),
            "{text}"
        );
        assert_eq!(text.matches("event: config\ndata: {").count(), 3, "{text}");
        // A line break in a reason doesn't break the stream's lines.
        assert!(text.contains(r"line one\nline two"), "{text}");
    }

    #[tokio::test]
    async fn other_pools_are_left_out_on_demand() {
        let pool = Some("app".to_owned());
        let text = streamed(EventFilter { pool }).await;
        assert_eq!(text.matches("event: config").count(), 2, "{text}");
        assert!(!text.contains("other"), "{text}");
    }
}
