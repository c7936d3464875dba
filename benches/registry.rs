//! What the registry's task costs with a thousand backends: time to be told of a drain, and time for each probe's
//! result. `cargo bench --bench registry [-- --backends N]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lameduck::config;
use lameduck::core::backend::{BackendEvent, ProbeResult};
use lameduck::registry::unattended::{NoObserver, NoProbes};
use lameduck::registry::view::{DrainRequest, ResumeRequest};
use lameduck::registry::{self, RegistryHandle, persist};
use lameduck::rt::clock;

fn option(name: &str) -> Option<u32> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn text(backends: u32) -> String {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n".to_owned();
    for n in 0..backends {
        let address = format!("10.0.{}.{}:80", n / 250, n % 250 + 1);
        text += &format!("[[pool.backend]]\nname = \"b{n}\"\naddress = \"{address}\"\n");
    }
    text
}

fn pass_all(handle: &RegistryHandle) {
    for endpoint in handle.snapshot().pools[0].backends.iter() {
        let event = BackendEvent::Probed {
            probe: ProbeResult::Pass,
            began: clock::now(),
            listener: None,
        };
        handle.report(endpoint.key, event, String::new());
    }
}

/// Prints the median and the worst.
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:?}, worst {worst:?}");
}

#[tokio::main]
async fn main() {
    let backends = option("--backends").unwrap_or(1000);
    let loaded = config::parse("bench.toml", &text(backends)).expect("a good configuration");
    let config = Arc::new(loaded.config);
    let start = Instant::now();
    let handle = registry::spawn(
        config.clone(),
        persist::KeptState::default(),
        persist::OwnKeySource::default(),
        |_| Box::new(NoProbes),
        Box::new(NoObserver),
    );
    println!("start: {:?}", start.elapsed());
    pass_all(&handle);
    pass_all(&handle);
    handle.pool("app").await.expect("it is there");
    let (mut drains, mut resumes, mut probes, mut reloads) = (vec![], vec![], vec![], vec![]);
    for n in 0..100 {
        let name = format!("b{}", n * 7 % backends);
        let start = Instant::now();
        let drained = handle.drain("app", &name, DrainRequest::default()).await;
        drains.push(start.elapsed());
        assert!(drained.is_ok_and(|answer| answer.outcome == "drained"));
        let start = Instant::now();
        let resumed = handle.resume("app", &name, ResumeRequest::default()).await;
        resumes.push(start.elapsed());
        assert!(resumed.is_ok());
        let start = Instant::now();
        pass_all(&handle);
        handle.backends("app", &name).await.expect("it is there");
        probes.push(start.elapsed() / backends);
    }
    for _ in 0..20 {
        let start = Instant::now();
        handle.apply(config.clone()).await.expect("it runs");
        reloads.push(start.elapsed());
    }
    println!("{backends} backends");
    print("drain, until told", drains);
    print("resume", resumes);
    print("each probe's result", probes);
    print("reload of the same", reloads);
}
