//! The process's own standard output and standard error.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::stdio;
use serde::Serialize;

use super::queue::{OutputLossReport, OutputQueue};
use super::unblocked::UnblockedOutput;

/// Longest time that the last messages may take at the end of the process.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a launcher, because its supervisor waits for it.
const LAST_UNBLOCKED_OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);

static ERRORS: OnceLock<Outlet> = OnceLock::new();
static PRINTS: OnceLock<Outlet> = OnceLock::new();
static LOSS_TELLER: OnceLock<fn(u64)> = OnceLock::new();
/// Whether the user asked for what was printed on standard output; if so, a failed write is a failure of the command.
static IS_ANSWER: AtomicBool = AtomicBool::new(false);

/// Way of writing to a standard stream.
enum Outlet {
    Queue(OutputQueue),
    Unblocked(UnblockedOutput<BorrowedFd<'static>>),
}

impl Outlet {
    /// With a thread of its own, or without one if the system has no thread or descriptor left.
    fn start(name: &str, stream: BorrowedFd<'static>, report: OutputLossReport) -> Self {
        let started = duplicate(stream).and_then(|file| OutputQueue::start(name, file, report));
        match started {
            Ok(queue) => Self::Queue(queue),
            Err(_) => Self::Unblocked(UnblockedOutput::new(stream)),
        }
    }

    fn push(&self, bytes: &[u8]) {
        match self {
            Self::Queue(queue) => queue.push(bytes),
            Self::Unblocked(output) => output.push(bytes),
        }
    }

    fn dropped(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.dropped(),
            Self::Unblocked(output) => output.dropped(),
        }
    }

    /// Waits a moment for pending messages; returns the error if some could not be written.
    fn finish(&self, until: Instant) -> Option<io::Error> {
        match self {
            Self::Queue(queue) => {
                queue.flush(until);
                queue.take_failure()
            }
            Self::Unblocked(output) => {
                output.flush(until.min(Instant::now() + LAST_UNBLOCKED_OUTPUT_TIMEOUT));
                None
            }
        }
    }
}

fn errors() -> &'static Outlet {
    ERRORS.get_or_init(|| Outlet::start("stderr", stdio::stderr(), Box::new(report_losses)))
}

fn report_losses(lost: u64) {
    match LOSS_TELLER.get() {
        Some(tell) => tell(lost),
        None => say(&super::describe_losses(lost)),
    }
}

fn prints() -> &'static Outlet {
    let report = |lost| say(&super::describe_losses(lost));
    PRINTS.get_or_init(|| Outlet::start("stdout", stdio::stdout(), Box::new(report)))
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// Another descriptor of standard output, for code with a thread of its own to write to it.
///
/// # Errors
/// The system has no descriptor left.
pub fn duplicate_stdout() -> io::Result<File> {
    duplicate(stdio::stdout())
}

/// Makes standard error work without a thread. Must be called before anything is written.
pub fn use_no_thread() {
    let output = UnblockedOutput::new(stdio::stderr());
    let _ = ERRORS.set(Outlet::Unblocked(output));
}

/// Sets how lost lines of standard error are reported once it can be written again; by default, as a plain line.
pub fn tell_losses_by(tell: fn(u64)) {
    let _ = LOSS_TELLER.set(tell);
}

/// Number of lines for standard error that were lost because its reader or disk was too slow or could not be written.
pub fn dropped_errors() -> u64 {
    ERRORS.get().map_or(0, Outlet::dropped)
}

/// Writes text to standard error as it is.
pub fn say(text: &str) {
    push_error(text.as_bytes());
}

fn push_error(bytes: &[u8]) {
    if !bytes.is_empty() {
        errors().push(bytes);
    }
}

/// Writes a message to standard error.
pub fn complain(text: &str) {
    say(&format!("lameduck: {text}\n"));
}

/// Tries again to write messages of a process without a thread; returns whether some are still pending.
pub fn retry_errors() -> bool {
    match ERRORS.get() {
        Some(Outlet::Unblocked(output)) => output.retry(),
        _ => false,
    }
}

/// Prints text and a newline on standard output. A missing reader is ignored: the exit code tells the result of the
/// command.
pub fn print(text: &str) {
    push_print(format!("{text}\n").as_bytes());
}

fn push_print(bytes: &[u8]) {
    prints().push(bytes);
}

/// Prints as [`print()`] does, for output that the user asked for: if it can't be written, a command that was
/// successful otherwise fails.
pub fn print_answer(text: &str) {
    IS_ANSWER.store(true, Ordering::Relaxed);
    print(text);
}

/// Prints as [`print_answer`] does, a value as one line of JSON.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => print_answer(&text),
        Err(error) => complain(&format!("can't print this as JSON: {error}")),
    }
}

/// Prints text and a newline on standard output, and waits until it is written.
///
/// # Errors
/// It can't be written; [`io::ErrorKind::BrokenPipe`] if it has no reader any more.
pub fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints as [`answer`] does, a value as one line of JSON.
///
/// # Errors
/// As for [`answer`].
pub fn answer_json(value: &impl Serialize) -> io::Result<()> {
    answer(&serde_json::to_string(value)?)
}

/// Judges an attempt to write a command's output: a reader that has closed the pipe (`| head`) is no failure.
///
/// # Errors
/// Message for the user.
pub fn answered(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(print_error(&error)),
        _ => Ok(()),
    }
}

/// Message for a standard output that can't be written.
pub fn print_error(error: &io::Error) -> String {
    format!("can't write to standard output: {error}; check the disk, or where it is redirected to")
}

/// Waits a moment until all messages are written. Returns the exit code of the process; `code` is that of the command
/// itself.
pub fn finish(code: u8) -> u8 {
    let until = Instant::now() + LAST_OUTPUT_TIMEOUT;
    let mut code = code;
    let failure = PRINTS.get().and_then(|prints| prints.finish(until));
    let failure = failure.filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    if let Some(error) = failure.filter(|_| IS_ANSWER.load(Ordering::Relaxed)) {
        complain(&print_error(&error));
        code = code.max(1);
    }
    // A failure of standard error can't be reported anywhere.
    let _ = ERRORS.get().and_then(|errors| errors.finish(until));
    code
}

/// Reports panics through the queue from now on. The default hook writes to standard error directly, and would wait for
/// a stopped reader for ever.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("Box<dyn Any>");
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        let place = info
            .location()
            .map_or_else(String::new, ToString::to_string);
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => trace.to_string(),
            _ => "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
                .to_owned(),
        };
        say(&format!(
            "\nthread '{name}' panicked at {place}:\n{text}\n{trace}"
        ));
    }));
}

/// Standard error as a [`Write`]: each write is one message. Never waits, never fails.
#[derive(Debug, Clone, Copy)]
pub struct ErrorWriter;

impl Write for ErrorWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        push_error(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output as a [`Write`], like [`answer`]: waits for the reader, and returns an error if it can't be written.
#[derive(Debug, Clone, Copy)]
pub struct AnswerWriter;

impl Write for AnswerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Standard output as a [`Write`], like [`print()`]. Never waits, never fails.
#[derive(Debug, Clone, Copy)]
pub struct PrintWriter;

impl Write for PrintWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        push_print(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
