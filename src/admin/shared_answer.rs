//! Responses that take a while to write: all concurrent requests share one, which is freed after the last of them has
//! received it.

use std::sync::{Arc, Weak};

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::problem::ProblemDocument;
use crate::registry::RegistryError;

/// The last response and when its writing began: requests that arrived before that may have it too.
type LastAnswer = Option<(Instant, Weak<Vec<u8>>)>;

/// A shared response of one kind. A flood of requests costs no more than writing one response after the other, and
/// keeps no separate text for each.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedAnswer(Arc<Mutex<LastAnswer>>);

impl SharedAnswer {
    /// Returns the response, written by `write` unless it has been written for another request since this one
    /// arrived.
    ///
    /// # Errors
    /// The errors of `write`.
    pub(super) async fn get(
        &self,
        write: impl Future<Output = Result<Vec<u8>, ProblemDocument>> + Send + 'static,
    ) -> Result<Bytes, ProblemDocument> {
        let asked = Instant::now();
        let mut last = self.0.clone().lock_owned().await;
        if let Some((begun, answer)) = &*last
            && *begun >= asked
            && let Some(answer) = answer.upgrade()
        {
            return Ok(shared(answer));
        }
        // The lock moves into the task: if this client disconnects meanwhile, the next request doesn't start a second
        // write.
        let writing = tokio::spawn(async move {
            let begun = Instant::now();
            let answer = Arc::new(write.await?);
            *last = Some((begun, Arc::downgrade(&answer)));
            Ok(answer)
        });
        let answer = writing.await.map_err(|_| RegistryError::Failed)?;
        answer.map(shared)
    }
}

/// Wraps the text as bytes, without a copy.
fn shared(answer: Arc<Vec<u8>>) -> Bytes {
    struct SharedText(Arc<Vec<u8>>);

    impl AsRef<[u8]> for SharedText {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(SharedText(answer))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn answer_is_written_once_for_concurrent_requests_and_not_kept() {
        let answers = SharedAnswer::default();
        let written = Arc::new(AtomicU32::new(0));
        let write = || {
            let written = written.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(written
                    .fetch_add(1, Ordering::Relaxed)
                    .to_string()
                    .into_bytes())
            }
        };
        let first = answers.get(write());
        let others = async {
            let all = (0..20).map(|_| answers.get(write()));
            futures_util::future::join_all(all).await
        };
        let (first, others) = tokio::join!(first, others);
        let texts: Vec<_> = others.into_iter().map(Result::unwrap).collect();
        let first = first.unwrap();
        assert_eq!(first, "0");
        assert!(texts.iter().all(|text| text == "0"), "{texts:?}");
        drop((first, texts));
        let kept = answers.0.lock().await;
        assert!(kept.as_ref().unwrap().1.upgrade().is_none());
        drop(kept);
        assert_eq!(answers.get(write()).await.unwrap(), "1");
    }
}
