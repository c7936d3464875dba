//! Sends an exact number of requests, and measures.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::latency::Histogram;
use crate::work::{Asked, Work, Worker};

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// `work=get`, and `size=N` where it has one.
    pub work: Work,
    /// What it asks for.
    pub asked: Asked<'a>,
    /// How many in all: `requests=N`.
    pub requests: usize,
    /// Open connections: `connections=N`.
    pub connections: usize,
    /// Requests at a time: `threads=N` (default: as many as connections). Each has its share of the connections and
    /// uses one after the other.
    pub threads: usize,
    /// Requests a second, begun on time whether or not earlier ones were answered: `rate=N`; 0: as fast as answers
    /// come.
    pub rate: usize,
    /// A new connection for each request: `fresh=1`.
    pub fresh: bool,
    /// Send on all connections before the first answer is read: `burst=1`.
    pub burst: bool,
    /// An open loop, with `rate=N`: a request is sent by whichever thread is free, and its latency is counted from the
    /// instant at which it was due. Failures are counted, and end nothing: `open=1`.
    pub open: bool,
}

/// An answer that took longer was held up by something.
const STALL: Duration = Duration::from_millis(5);

type Failure = Box<dyn Error + Send + Sync>;

impl<'a> Plan<'a> {
    pub fn parse(options: &[&'a str]) -> Result<Self, Failure> {
        let (mut work, mut size) = ("get", 0);
        let mut plan = Self {
            work: Work::Get,
            asked: Asked::default(),
            requests: 1000,
            connections: 16,
            threads: 0,
            rate: 0,
            fresh: false,
            burst: false,
            open: false,
        };
        for option in options {
            let (name, value) = option
                .split_once('=')
                .ok_or("options are written NAME=VALUE")?;
            match name {
                "work" => work = value,
                "size" => size = value.parse()?,
                "path" => plan.asked.path = value,
                "host" => plan.asked.host = value,
                "authorization" => plan.asked.authorization = value,
                "spread" => plan.asked.spread = value.parse()?,
                "requests" => plan.requests = value.parse()?,
                "connections" => plan.connections = value.parse()?,
                "threads" => plan.threads = value.parse()?,
                "rate" => plan.rate = value.parse()?,
                "fresh" => plan.fresh = value == "1",
                "burst" => plan.burst = value == "1",
                "open" => plan.open = value == "1",
                _ => return Err(format!("no option is called {name}").into()),
            }
        }
        plan.work = Work::parse(work, size).ok_or_else(|| format!("no work is called {work}"))?;
        if plan.open && plan.rate == 0 {
            return Err("an open loop has a rate".into());
        }
        if plan.threads == 0 || plan.threads > plan.connections {
            plan.threads = plan.connections;
        }
        Ok(plan)
    }
}

/// This thread's part of `all`.
fn share(all: usize, threads: usize, index: usize) -> usize {
    all / threads + usize::from(index < all % threads)
}

/// Does it; the figures, as JSON.
pub fn run<S, C>(plan: &Plan<'_>, connect: C) -> Result<String, Failure>
where
    S: Read + Write,
    C: Fn() -> io::Result<S> + Sync,
{
    let ready = Barrier::new(plan.threads + 1);
    let openings = plan.work.openings(&plan.asked);
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (seconds, latencies) = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|index| {
                let (connect, openings, ready) = (&connect, &openings[..], &ready);
                let (next, failures) = (&next, &failures);
                thread::Builder::new().stack_size(512 * 1024).spawn_scoped(
                    scope,
                    move || match plan.open {
                        false => one(plan, index, connect, openings, ready),
                        true => {
                            ready.wait();
                            Ok(on_schedule(plan, connect, openings, next, failures))
                        }
                    },
                )
            })
            .collect::<Result<_, _>>()?;
        ready.wait();
        let started = Instant::now();
        let mut all = Histogram::new();
        for thread in threads {
            let latencies = thread.join().map_err(|_| "a thread panicked")??;
            all.merge(&latencies);
        }
        Ok::<_, Failure>((started.elapsed().as_secs_f64(), all))
    })?;
    Ok(format!(
        "{{\"seconds\": {seconds:.6}, \"requests\": {}, \"bytes\": {}, \"p50_us\": {:.1}, \"p90_us\": {:.1}, \
         \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}, \"stalled\": {}, \
         \"failed\": {}}}",
        plan.requests,
        plan.requests * plan.work.bytes(),
        latencies.quantile(0.5),
        latencies.quantile(0.9),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        latencies.longest(),
        latencies.over(STALL),
        failures.into_inner(),
    ))
}

fn one<S: Read + Write>(
    plan: &Plan<'_>,
    index: usize,
    connect: &impl Fn() -> io::Result<S>,
    openings: &[Vec<u8>],
    ready: &Barrier,
) -> io::Result<Histogram> {
    let count = match plan.fresh {
        true => 0,
        false => share(plan.connections, plan.threads, index),
    };
    let new = |next| Ok::<_, io::Error>(Worker::new(connect()?, plan.work, openings, next));
    let workers = (0..count).map(|number| new(index + number * plan.threads));
    let workers: io::Result<Vec<_>> = workers.collect();
    // Even one that failed: the others wait for it.
    ready.wait();
    let mut workers = workers?;
    let mut latencies = Histogram::new();
    let requests = share(plan.requests, plan.threads, index);
    if plan.burst {
        return burst(&mut workers).map(|()| latencies);
    }
    let start = Instant::now();
    for number in 0..requests {
        let mut began = Instant::now();
        if plan.rate > 0 {
            let due = (number * plan.threads + index) as f64 / plan.rate as f64;
            let due = start + Duration::from_secs_f64(due);
            if began < due {
                // How late a sleeper wakes is no fault of the proxy's; an answer that was late is.
                thread::sleep(due - began);
                began = Instant::now();
            } else {
                began = due;
            }
        }
        match plan.fresh {
            true => new(index + number * plan.threads)?.turn()?,
            false => {
                let next = number % count;
                workers[next].turn()?;
            }
        }
        latencies.add(began.elapsed());
    }
    Ok(latencies)
}

/// Whichever request is due next, until all are sent.
fn on_schedule<S: Read + Write>(
    plan: &Plan<'_>,
    connect: &impl Fn() -> io::Result<S>,
    openings: &[Vec<u8>],
    next: &AtomicUsize,
    failures: &AtomicUsize,
) -> Histogram {
    let start = Instant::now();
    let mut latencies = Histogram::new();
    let mut worker = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.requests {
            return latencies;
        }
        let due = start + Duration::from_secs_f64(number as f64 / plan.rate as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let connected = match worker.take() {
            Some(worker) => Ok(worker),
            None => connect().map(|stream| Worker::new(stream, plan.work, openings, number)),
        };
        let turned = connected.and_then(|mut worker| worker.turn().map(|()| worker));
        latencies.add(due.elapsed());
        match turned {
            Ok(turned) => worker = Some(turned),
            Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// All at the same time, once.
fn burst<S: Read + Write>(workers: &mut [Worker<'_, S>]) -> io::Result<()> {
    workers.iter_mut().try_for_each(Worker::send)?;
    workers.iter_mut().try_for_each(Worker::receive)
}
