//! The buffers of lines, and the thread that writes them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use super::format;
use super::layout::LineLayout;
use super::record::AccessRecord;
use super::sink::AccessLogSink;
use super::timestamp::TimestampText;

/// Most bytes in all buffers together (apart from the lines that cross this limit).
const MAX_BUFFERED: usize = 8 << 20;
/// Capacity of a buffer at the start. Only what was ever used of it is resident memory.
const ROOM: usize = 256 << 10;
/// Longest time that a line waits for others.
const LINGER: Duration = Duration::from_millis(100);
/// Passes without a line before the writer sleeps until it is woken.
const IDLE_PASSES: u32 = 20;
/// Least time between two warnings about lost lines.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A buffer of lines. The vector's length is always its capacity; its first `used` bytes are lines.
#[derive(Debug)]
struct Shard {
    room: Vec<u8>,
    used: usize,
    count: u64,
    stamp: TimestampText,
}

impl Shard {
    fn new() -> Self {
        Self {
            room: vec![0; ROOM],
            used: 0,
            count: 0,
            stamp: TimestampText::default(),
        }
    }

    fn add(&mut self, layout: &LineLayout, record: &AccessRecord<'_>) -> bool {
        let Some(length) = self.write(layout, record).or_else(|| {
            // Rare: the writer is behind, or the line is very long. The upper bound of a line's length is computed only
            // here, because that takes longer than a check that there is enough space.
            let needed = self.used + format::room(record);
            let size = needed.next_power_of_two().max(self.room.len());
            self.room.resize(size, 0);
            self.write(layout, record)
        }) else {
            return false;
        };
        self.used += length;
        self.count += 1;
        true
    }

    fn write(&mut self, layout: &LineLayout, record: &AccessRecord<'_>) -> Option<usize> {
        let room = self.room.get_mut(self.used..)?;
        format::line(room, layout, &mut self.stamp, record)
    }
}

/// State that the data plane and the writer share.
#[derive(Debug)]
pub(super) struct WriterShared {
    layout: LineLayout,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// Most bytes in one buffer.
    limit: usize,
    /// Number of bytes from which a buffer is written at once.
    wake_at: usize,
    dropped: AtomicU64,
    /// Whether the writer sleeps without a timer, so that the next line must wake it.
    asleep: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
    flush_asked: AtomicU64,
    flush_done: Mutex<u64>,
    flushed: Condvar,
}

impl WriterShared {
    /// Buffers that are written when they have `lot` bytes, or half of what they may hold.
    pub(super) fn new(layout: LineLayout, lot: usize) -> Self {
        // Twice as many as recording threads, so that one that is held by a preempted thread leaves a free one.
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        let count = (cores * 2).clamp(4, 64).next_power_of_two();
        let limit = MAX_BUFFERED / count;
        Self {
            layout,
            shards: (0..count)
                .map(|_| CachePadded::new(Mutex::new(Shard::new())))
                .collect(),
            limit,
            wake_at: lot.min(limit / 2),
            dropped: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            flush_asked: AtomicU64::new(0),
            flush_done: Mutex::new(0),
            flushed: Condvar::new(),
        }
    }

    /// Whether this request gets a line.
    pub(super) fn takes(&self, record: &AccessRecord<'_>) -> bool {
        !self.layout.is_sampling() || self.layout.takes(record)
    }

    /// Adds a line to the first buffer that is free and has room; returns whether the writer must be woken.
    pub(super) fn push(&self, first: usize, record: &AccessRecord<'_>) -> bool {
        let mask = self.shards.len() - 1;
        for step in 0..self.shards.len() {
            let Some(mut shard) = self.shards[first.wrapping_add(step) & mask].try_lock() else {
                continue;
            };
            let before = shard.used;
            if before >= self.limit {
                continue;
            }
            if !shard.add(&self.layout, record) {
                break;
            }
            let crossed = before < self.wake_at && shard.used >= self.wake_at;
            // Read under the lock. The writer sets the flag first and checks every buffer after that: either it sees
            // this line, or this thread sees that it sleeps.
            let asleep = self.asleep.load(Ordering::Relaxed);
            drop(shard);
            return crossed || (asleep && self.asleep.swap(false, Ordering::AcqRel));
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn ask_reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    pub(super) fn ask_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn ask_flush(&self) -> u64 {
        self.flush_asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn await_flush(&self, ticket: u64, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut done = self.flush_done.lock();
        while *done < ticket {
            if self.flushed.wait_until(&mut done, until).timed_out() {
                return *done >= ticket;
            }
        }
        true
    }

    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Acquire)
    }

    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().used == 0)
    }

    fn has_order(&self) -> bool {
        self.stop.load(Ordering::Acquire)
            || self.reopen.load(Ordering::Acquire)
            || self.flush_asked.load(Ordering::Acquire) != *self.flush_done.lock()
    }
}

/// Main loop of the writer thread.
pub(super) fn write_lines(shared: &WriterShared, mut sink: AccessLogSink) {
    let mut spare = vec![0; ROOM];
    let mut warning = Warning::default();
    let mut idle = 0;
    loop {
        // Read before the buffers, so that everything recorded before the request is in them.
        let stopping = shared.stop.load(Ordering::Acquire);
        let asked = shared.flush_asked.load(Ordering::Acquire);
        let reopening = shared.reopen.swap(false, Ordering::AcqRel);
        let wrote = write_all(shared, &mut sink, &mut spare, &mut warning);
        if reopening && let Err(error) = sink.reopen() {
            tracing::warn!("{error}; going on with the file that was open");
        }
        *shared.flush_done.lock() = asked;
        shared.flushed.notify_all();
        if stopping {
            return;
        }
        warning.warn_of_drops(shared.dropped());
        idle = if wrote { 0 } else { idle + 1 };
        wait(shared, idle);
    }
}

/// Waits for the next pass: a short time, or, after a quiet time, until it is woken.
fn wait(shared: &WriterShared, idle: u32) {
    if shared.has_order() {
        return;
    }
    if idle < IDLE_PASSES {
        std::thread::park_timeout(LINGER);
        return;
    }
    shared.asleep.store(true, Ordering::SeqCst);
    if shared.is_empty() && !shared.has_order() {
        std::thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}

fn write_all(
    shared: &WriterShared,
    sink: &mut AccessLogSink,
    spare: &mut Vec<u8>,
    warning: &mut Warning,
) -> bool {
    let mut wrote = false;
    for shard in &shared.shards {
        let (used, count) = {
            let mut shard = shard.lock();
            if shard.used == 0 {
                continue;
            }
            std::mem::swap(&mut shard.room, spare);
            (
                std::mem::take(&mut shard.used),
                std::mem::take(&mut shard.count),
            )
        };
        wrote = true;
        let give_up = || shared.stop.load(Ordering::Acquire);
        if let Err(loss) = sink.write(&spare[..used], give_up) {
            let lines = loss.lines.unwrap_or(count);
            shared.dropped.fetch_add(lines, Ordering::Relaxed);
            warning.error = Some(loss.error);
        }
        if spare.len() > ROOM {
            spare.truncate(ROOM);
            spare.shrink_to_fit();
        }
    }
    wrote
}

/// Warns about lost lines, at most once in [`WARN_EVERY`].
#[derive(Debug, Default)]
struct Warning {
    told: u64,
    last: Option<Instant>,
    error: Option<std::io::Error>,
}

impl Warning {
    fn warn_of_drops(&mut self, dropped: u64) {
        if dropped == self.told || self.last.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            return;
        }
        let lost = dropped - self.told;
        match self.error.take() {
            Some(error) => tracing::warn!(
                lost,
                "the access log can't be written: {error}; check the disk and the reader of the log"
            ),
            None => tracing::warn!(
                lost,
                "the access log's reader or disk is too slow, lines were dropped"
            ),
        }
        self.told = dropped;
        self.last = Some(Instant::now());
    }
}
