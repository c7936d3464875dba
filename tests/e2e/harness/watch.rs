//! What the proxy takes of the machine, looked at once a second.

use std::sync::Arc;
use std::time::Duration;

use lameduck_rig::process;
use parking_lot::Mutex;

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since the watch began.
    pub at: f64,
    /// Which process.
    pub pid: u32,
    /// Resident memory, KiB.
    pub rss: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Resident memory in KiB and open descriptors of a process.
pub fn look(pid: u32) -> Option<(u64, u64)> {
    Some((
        process::status_kib(pid, "VmRSS")?,
        process::descriptors(pid)?,
    ))
}

/// A watch that goes on until it is dropped.
pub struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    pub fn start(pid: impl Fn() -> u32 + Send + 'static) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = samples.clone();
        let task = tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                let pid = pid();
                if let Some((rss, descriptors)) = look(pid) {
                    let at = begun.elapsed().as_secs_f64();
                    kept.lock().push(Sample {
                        at,
                        pid,
                        rss,
                        descriptors,
                    });
                }
            }
        });
        Self { samples, task }
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Median memory of the first process, in KiB: of its second minute (the first one fills what is kept for reuse)
/// and of its last. `None` where it did not live for four.
pub fn early_and_late(samples: &[Sample]) -> Option<(u64, u64)> {
    let first = samples.first()?.pid;
    let of_first: Vec<&Sample> = samples.iter().filter(|s| s.pid == first).collect();
    let end = of_first.last()?.at;
    if end < 240.0 {
        return None;
    }
    let median = |from: f64| {
        let within = |s: &&&Sample| (from..from + 60.0).contains(&s.at);
        let mut all: Vec<u64> = of_first.iter().filter(within).map(|s| s.rss).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    median(60.0).zip(median(end - 60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        assert!(look(std::process::id()).is_some_and(|(rss, fds)| rss > 100 && fds > 2));
    }

    #[test]
    fn this_process_takes_cpu_time() {
        let pid = std::process::id();
        let before = process::cpu_ms_with_children(pid);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while process::cpu_ms_with_children(pid) == before {
            assert!(std::time::Instant::now() < end);
        }
    }

    #[test]
    fn a_leak_shows() {
        let sample = |at: u32| Sample {
            at: f64::from(at),
            pid: 1,
            rss: 1_000 + u64::from(at),
            descriptors: 1,
        };
        let samples: Vec<Sample> = (0..600).map(sample).collect();
        assert_eq!(early_and_late(&samples), Some((1_090, 1_569)));
        assert_eq!(early_and_late(&samples[..200]), None);
    }
}
