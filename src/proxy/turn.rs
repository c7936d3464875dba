//! Giving way: what could go on lets the thread look what else has come.

use std::future::Future as _;
use std::pin::pin;
use std::task::Context;

/// Wakes this task again when its thread has looked for the readiness of all its sockets. The caller then returns
/// pending; in an async function, [`tokio::task::yield_now`] does both.
pub fn give_way(cx: &mut Context<'_>) {
    // The first poll does it, and is never ready.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
