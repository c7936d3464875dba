//! One thread of the proxy stands still (a debugger holds it): the others go on, and TERM ends the process.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, skip, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A thread that stands still for as long as this is there.
struct Frozen(i32);

impl Frozen {
    /// Stops the first thread of this name; `None` where processes may not be traced.
    #[allow(unsafe_code, reason = "std has no ptrace")]
    fn new(process: u32, name: &str) -> Option<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        let named = tasks.filter(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let ids = named.map(|task| task.file_name().unwrap().to_str().unwrap().parse().unwrap());
        let thread: i32 = ids.min().unwrap();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the calls touch no memory of ours.
        unsafe {
            if libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) != 0 {
                return None;
            }
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none), 0);
            let stopped = libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL);
            assert_eq!(stopped, thread, "{}", io::Error::last_os_error());
        }
        Some(Self(thread))
    }

    /// Takes the exit status of a thread that was killed: its process does not end before.
    #[allow(unsafe_code, reason = "std waits for processes only")]
    fn reap(&self) {
        // SAFETY: as above.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    }
}

impl Drop for Frozen {
    #[allow(unsafe_code, reason = "std has no ptrace")]
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above. A thread that is gone is an error, nothing else.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

async fn start(bench: &Bench, name: &str, server: &str) -> (DemoProxy, PathBuf) {
    let settings = ProxySettings {
        server: server.into(),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path();
    let mut proxy = DemoProxy::start(exe(), name, dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let log = dir.join(format!("{name}.log"));
    (proxy, log)
}

fn said(log: &PathBuf) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

async fn ended(proxy: &mut DemoProxy, frozen: &Frozen) -> ExitStatus {
    let begun = Instant::now();
    loop {
        frozen.reap();
        let waited = proxy.process().wait(Duration::from_millis(20)).await;
        if let Ok((status, _)) = waited {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it still runs");
    }
}

#[lameduck_rig::test]
async fn term_ends_in_order_while_the_control_thread_stands_still() {
    let bench = Bench::start("stuck", App::BuiltIn, 1).await.unwrap();
    let server = "lame_duck = \"2s\"\ndeadline = \"20s\"";
    let (mut proxy, log) = start(&bench, "control", server).await;
    let slow = tokio::spawn(get(proxy.address(), "/slow?ms=2000"));
    until("the request is in flight", PATIENCE, async || {
        proxy.pool().await.unwrap().backends[0].in_flight == 1
    })
    .await;
    let Some(frozen) = Frozen::new(proxy.process().pid(), "control") else {
        return skip("stuck", "the right to trace a process");
    };
    proxy.process().signal(libc::SIGTERM).unwrap();
    let begun = Instant::now();
    // Accepted for a while, as ever.
    assert_eq!(get(proxy.address(), "/").await.unwrap().0, 200);
    let status = ended(&mut proxy, &frozen).await;
    assert!(status.success(), "{status}: {}", said(&log));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
    assert!(said(&log).contains("bye"), "{}", said(&log));
}

#[lameduck_rig::test]
async fn stall_of_the_control_thread_is_told_counted_and_over_when_it_turns() {
    let bench = Bench::start("stuck", App::BuiltIn, 1).await.unwrap();
    let (mut proxy, log) = start(&bench, "stall", "lame_duck = \"0s\"").await;
    let Some(frozen) = Frozen::new(proxy.process().pid(), "control") else {
        return skip("stuck", "the right to trace a process");
    };
    until("the stall is told", PATIENCE, async || {
        said(&log).contains("the control thread does not turn")
    })
    .await;
    // Requests don't need it.
    assert_eq!(get(proxy.address(), "/").await.unwrap().0, 200);
    let socket = proxy.socket().to_owned();
    let asked = tokio::spawn(async move { admin::request(&socket, "GET", "/-/live", None).await });
    // Time for the question to be there when the thread turns again.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(frozen);
    let (status, problem) = asked.await.unwrap().unwrap();
    if status != 503 {
        // It had turned long enough before it took the question.
        assert_eq!(status, 200);
    } else {
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["type"], "urn:lameduck:problem:not-alive");
    }
    until("it is alive again", PATIENCE, async || {
        let live = admin::request(proxy.socket(), "GET", "/-/live", None).await;
        live.unwrap().0 == 200
    })
    .await;
    let (_, metrics) = admin::request(proxy.socket(), "GET", "/metrics", None)
        .await
        .unwrap();
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    // One, unless this machine has stood still, too.
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("lameduck_control_stalls_total "))
        .unwrap();
    assert_ne!(counted, "0");
    until(
        "the log to tell of each, and of its end",
        PATIENCE,
        async || {
            let told = |words: &str| said(&log).matches(words).count().to_string();
            told("the control thread does not turn") == counted
                && told("the control thread turns again") == counted
        },
    )
    .await;
}

#[lameduck_rig::test]
async fn process_whose_main_thread_stands_still_ends_at_its_deadline() {
    let bench = Bench::start("stuck", App::BuiltIn, 1).await.unwrap();
    let server = "lame_duck = \"0s\"\ndeadline = \"2s\"";
    let (mut proxy, log) = start(&bench, "main", server).await;
    let Some(frozen) = Frozen::new(proxy.process().pid(), "lameduck") else {
        return skip("stuck", "the right to trace a process");
    };
    let begun = Instant::now();
    proxy.process().signal(libc::SIGTERM).unwrap();
    let status = ended(&mut proxy, &frozen).await;
    assert_eq!(status.code(), Some(1), "{}", said(&log));
    let took = begun.elapsed();
    // And an upper bound: `ended` has one.
    assert!(took > Duration::from_secs(1), "{took:?}");
    assert!(said(&log).contains("lameduck is stuck"), "{}", said(&log));
}

#[lameduck_rig::test]
async fn reload_that_hangs_does_not_hold_up_the_end() {
    let bench = Bench::start("stuck", App::BuiltIn, 1).await.unwrap();
    let server = "lame_duck = \"0s\"\ndeadline = \"20s\"";
    let (mut proxy, log) = start(&bench, "reload", server).await;
    let config = proxy.config().to_owned();
    std::fs::remove_file(&config).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&config).status();
    assert!(made.unwrap().success());
    proxy.process().signal(libc::SIGHUP).unwrap();
    // Long enough for the reload to have begun; if it has not, the test tests less.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.process().signal(libc::SIGTERM).unwrap();
    let ended = proxy.process().wait(Duration::from_secs(10)).await;
    assert!(ended.unwrap().0.success(), "{}", said(&log));
}
