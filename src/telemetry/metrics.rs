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
impl PlaneCounters { pub fn refused(&self, _reason: &'static str) {} }
