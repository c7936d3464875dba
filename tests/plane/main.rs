//! The HTTP/1 data plane against scripted backends and clients: every byte on both sides is the test's.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod app_servers;
mod authority;
mod bounds;
mod buffering;
mod bulk;
mod circles;
mod clients;
mod death;
mod delivery;
mod doubts;
mod drain;
mod dropped;
mod early;
mod encrypted;
mod evictions;
mod forwarded;
mod framing;
mod headers;
mod health_grpc;
mod hold;
mod http10;
mod interim;
mod introduced;
mod keepalive;
mod kinds;
mod leaving;
mod limits;
mod offers;
mod proxy_protocol;
mod queue;
mod races;
mod rates;
mod reasons;
mod rebound;
mod rig;
mod room;
mod routes;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../shared/setting.rs"]
mod setting;
mod shutdown;
mod threads;
mod timeouts;
mod total;
mod upgrade;
mod vanished;
mod weights;
mod wire;
