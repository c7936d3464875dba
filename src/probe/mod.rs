//! placeholder
#![allow(missing_docs)]
use crate::core::backend::{Event, Probe};
use crate::registry::{Endpoint, Handle, Key, endpoint::Resolved, probing::Cadence};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
pub struct Target {
    pub endpoint: Arc<Endpoint>,
    pub health: Arc<crate::config::Health>,
}
pub trait Report: Send + Sync + 'static {
    fn report(&self, key: Key, event: Event, detail: String);
}
impl Report for Handle {
    fn report(&self, key: Key, event: Event, detail: String) {
        Handle::report(self, key, event, detail)
    }
}
pub struct Prober(tokio::task::JoinHandle<()>, Arc<Notify>);
impl Prober {
    pub fn probe_now(&self) {
        self.1.notify_one()
    }
}
impl Drop for Prober {
    fn drop(&mut self) {
        self.0.abort()
    }
}
pub fn spawn(t: Target, c: watch::Receiver<Cadence>, r: Arc<dyn Report>) -> Prober {
    let n = Arc::new(Notify::new());
    let n2 = n.clone();
    Prober(
        tokio::spawn(async move {
            loop {
                let began = crate::clock::now();
                let p = one(&t).await;
                r.report(
                    t.endpoint.key,
                    Event::Probed {
                        probe: p,
                        began,
                        listener: None,
                    },
                    format!("{p:?}"),
                );
                let i = c.borrow().interval;
                tokio::select! { _ = n.notified() => {}, _ = tokio::time::sleep(i) => {} }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }),
        n2,
    )
}
async fn one(t: &Target) -> Probe {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(r) = t.endpoint.resolved() else {
        return Probe::Refused;
    };
    let Resolved::Socket(a) = &*r else {
        return Probe::Refused;
    };
    let ticket = t.endpoint.connection_opened();
    let Ok(mut s) = tokio::net::TcpStream::connect(a).await else {
        return Probe::Refused;
    };
    let _ = s
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let mut b = vec![0; 4096];
    let n = s.read(&mut b).await.unwrap_or(0);
    drop(s);
    drop(ticket);
    match b[..n].get(9..12) {
        Some(b"200") => Probe::Pass,
        Some(b"503") => Probe::Unavailable,
        None => Probe::Reset,
        _ => Probe::Status(0),
    }
}
