//! placeholder
#![allow(missing_docs)]
use std::time::Duration;
#[derive(Debug, Default)]
pub struct PoolCounters;
impl PoolCounters {
    pub fn held(&self, _held: Duration) {}
    pub fn retried(&self, _reason: &'static str, _done: bool) {}
    pub fn finished(&self, _duration: Duration, _ours: Option<u16>) {}
}
#[derive(Debug, Default)]
pub struct PlaneCounters;
impl PlaneCounters {
    pub fn refused(&self, _reason: &'static str) {}
}
#[derive(Clone)]
pub struct Metrics(std::sync::Arc<PlaneCounters>);
impl Metrics {
    pub fn new(_h: crate::registry::Handle) -> Self {
        Metrics(Default::default())
    }
    pub fn plane(&self) -> std::sync::Arc<PlaneCounters> {
        self.0.clone()
    }
    pub fn drain_ended(&self, _p: &str, _r: &crate::registry::view::DrainResponse) {}
    pub fn reloaded(&self, _ok: bool) {}
    pub fn encode(&self) -> String {
        String::new()
    }
}
