//! The rolling restart: drain → SIGTERM → exit → start → ready, one instance after the other.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::instance::DemoInstance;
use super::proxy::DemoProxy;
use crate::core::drain::DrainOutcome;

/// How long each step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A step of one instance's restart, told as it begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub enum DemoStep {
    /// No new requests from now on; those in flight are finished.
    Draining,
    /// Nothing in flight any more, after this long.
    Drained(Duration),
    /// SIGTERM has been sent.
    Stopping,
    /// The process exited, this long after the signal.
    Stopped(Duration),
    /// The next process listens; it takes no requests before it has passed its probes.
    Started,
    /// It takes requests again, this long after its process was started.
    Ready(Duration),
}

/// Restarts one instance behind lameduck without a lost request, telling each step. `deadline` is the
/// drain's: streams are ended by then, and requests that take longer would be cut.
///
/// # Errors
/// When a step fails or takes more than 30 s, or the drain ended with requests cut.
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

/// Restarts one process, whatever is in front of it.
///
/// # Errors
/// When it doesn't stop or start within 30 s.
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
