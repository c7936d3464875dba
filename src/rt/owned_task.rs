//! A task that ends with its owner.

use tokio::task::JoinHandle;

/// A task that is aborted when this is dropped: keep it for as long as the task is needed.
#[derive(Debug)]
pub struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    /// Starts it on this thread's runtime.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn task_ends_when_its_owner_is_dropped() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = OwnedTask::spawn(async move {
            let _sender = sender;
            std::future::pending().await
        });
        drop(task);
        assert!(receiver.await.is_err());
    }
}
