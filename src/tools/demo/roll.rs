//! The rolling restart: drain → SIGTERM → exit → start → ready, one instance after the other.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::instance::DemoInstance;
use super::proxy::DemoProxy;
use crate::core::drain::DrainOutcome;

/// Longest duration of each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A step of one instance's restart.
#[derive(Debug, Clone, PartialEq)]
pub enum DemoStep {
    /// The drain has begun: no new requests, and those in flight are finished.
    Draining,
    /// Nothing is in flight any more, after this time.
    Drained(Duration),
    /// SIGTERM has been sent.
    Stopping,
    /// The process has exited, this long after the signal.
    Stopped(Duration),
    /// The next process listens; it takes no requests until its probes have passed.
    Started,
    /// The instance takes requests again, this long after its process was started.
    Ready(Duration),
}

/// Restarts one instance behind lameduck without a lost request, and reports each step. `deadline` is that of the
/// drain: streams are ended by then, and longer requests would be cut.
///
/// # Errors
/// A step fails or takes more than 30 s, or the drain had to cut requests.
pub async fn restart(
    instance: &mut DemoInstance,
    proxy: &DemoProxy,
    deadline: Duration,
    tell: &dyn Fn(&str, DemoStep),
) -> Result<()> {
    let name = instance.name().to_owned();
    tell(&name, DemoStep::Draining);
    let drained = proxy.drain(&name, deadline).await?;
    ensure!(
        drained.ending() == Some(DrainOutcome::Drained),
        "the drain of {name} ended as {:?} with {} in flight, {} cut and {} lost",
        drained.outcome,
        drained.in_flight,
        drained.cut,
        drained.lost
    );
    tell(
        &name,
        DemoStep::Drained(Duration::from_millis(drained.waited_ms)),
    );
    stop_and_start(instance, tell).await?;
    let begun = Instant::now();
    proxy.resume(&name, STEP_TIMEOUT).await?;
    tell(&name, DemoStep::Ready(begun.elapsed()));
    Ok(())
}

/// Restarts one process, with any proxy before it, or none.
///
/// # Errors
/// The process doesn't stop or start within 30 s.
pub async fn stop_and_start(
    instance: &mut DemoInstance,
    tell: &dyn Fn(&str, DemoStep),
) -> Result<()> {
    let name = instance.name().to_owned();
    instance.terminate()?;
    tell(&name, DemoStep::Stopping);
    let took = instance.exited(STEP_TIMEOUT).await?;
    tell(&name, DemoStep::Stopped(took));
    instance.start_again().await?;
    tell(&name, DemoStep::Started);
    Ok(())
}
