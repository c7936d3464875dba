//! Real apps as pods, signalled as the kubelet does it, under load, with the oracle: what a request meets between SIGTERM
//! and the word of the API server.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::LoadAccount;
use lameduck_rig::kubernetes::{ApiServer, Pod, slice};
use lameduck_rig::oracle::{account, launch, lives_of};
use lameduck_rig::place::exe;
use lameduck_rig::proxy::Rig;
use lameduck_rig::results::{Row, record};
use lameduck_rig::setting::{proving, say};

const PATIENCE: Duration = Duration::from_secs(40);

/// A proxy that finds the Service `app`. Its probes are so rare that nothing but the API server tells it of an end.
pub async fn proxy(server: &ApiServer, health: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let (token, kubeconfig) = (dir.path().join("token"), dir.path().join("kubeconfig"));
    std::fs::write(&token, "token").unwrap();
    std::fs::write(&kubeconfig, server.kubeconfig(&token)).unwrap();
    let mut pool = String::new();
    let _ = writeln!(
        pool,
        "[[pool.discovery]]\ntype = \"kubernetes\"\nservice = \"app\"\nport = \"http\"\nkubeconfig = {kubeconfig:?}\n\
         [pool.health]\npath = \"/health\"\nrise = 1\n{health}"
    );
    Rig::start(dir, "threads = 2", "", &pool, Vec::new()).await
}

/// Every pod has a slice of its own: on one host, each has a port of its own.
fn write(server: &ApiServer, instance: &DemoInstance, change: impl Fn(Pod) -> Pod) {
    let address = instance.address();
    let pod = change(Pod::ready(instance.name(), address.ip()));
    let name = format!("app-{}", instance.name());
    server.put(slice(&name, "app", address.port(), &[pod]));
}

async fn until_ready(rig: &Rig, name: &str) {
    let name = name.to_owned();
    rig.until(&format!("{name} ready"), |pool| {
        pool.backends
            .iter()
            .any(|one| one.name == name && one.state == "ready")
    })
    .await;
}

/// Replaces each pod in turn, as a rollout does: the new one first. The old one is marked, and has its SIGTERM `lag` before
/// its mark can be seen. Also says how long after a signal the proxy showed at the latest that it had understood.
async fn roll_out(stop: &str, lag: Duration, pods: usize) -> (LoadAccount, Duration) {
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::built_in(exe()).with(&["--stop", stop]);
    let names = |from: usize, count: usize| (from..from + count).map(|n| format!("pod-{n}"));
    let mut old = launch(names(0, pods), &program, scratch.path()).await;
    let server = ApiServer::start().await;
    for instance in &old {
        write(&server, instance, |pod| pod);
    }
    // A first probe that fails because the machine stands still for a moment would have its next in half a minute.
    let health = "interval = \"30s\"\nfast_interval = \"30s\"\ntimeout = \"20s\"\n";
    let rig = proxy(&server, health).await;
    for instance in &old {
        until_ready(&rig, instance.name()).await;
    }
    let mut plan = LoadPlan::new(rig.address, 100);
    plan.slow = Duration::from_millis(500);
    let load = Load::start(plan);
    let (mut all, mut latest) = (Vec::new(), Duration::ZERO);
    for (n, mut ending) in old.drain(..).enumerate() {
        let mut new = launch(names(pods + n, 1), &program, scratch.path()).await;
        write(&server, &new[0], |pod| pod.not_ready());
        write(&server, &new[0], |pod| pod);
        until_ready(&rig, new[0].name()).await;
        let signalled = Instant::now();
        ending.terminate().unwrap();
        tokio::time::sleep(lag).await;
        write(&server, &ending, Pod::terminating);
        rig.until("its end is known", |pool| {
            let mut ready = pool.backends.iter().filter(|one| one.state == "ready");
            !ready.any(|one| one.name == ending.name())
        })
        .await;
        latest = latest.max(signalled.elapsed());
        ending.exited(PATIENCE).await.unwrap();
        server.delete(&format!("app-{}", ending.name()));
        all.push(ending);
        all.append(&mut new);
    }
    let sent = load.stop().await;
    let gone = |pool: &lameduck::registry::view::PoolView| pool.backends.len() == pods;
    rig.until("only the new ones", gone).await;
    (account(sent, lives_of(&all)), latest)
}

fn tell(what: &str, account: &LoadAccount) {
    let latest = account.reached_stopping_latest_ms.unwrap_or_default();
    say(&format!(
        "{what}: {} requests, {} lost; {} reached a pod after its SIGTERM, the last one after {latest:.1} ms; slowest stop {:.0} ms",
        account.sent,
        account.lost,
        account.reached_stopping,
        account.slowest_stop_ms.unwrap_or_default()
    ));
    record(Row {
        test: "a rollout by EndpointSlices",
        proxy: "lameduck".to_owned(),
        app: what.to_owned(),
        account: account.clone(),
        notes: vec![format!(
            "the last request came {latest:.1} ms after the signal"
        )],
    });
}

/// Once the proxy shows that it knows of an end, which is soon after the mark, nothing comes but what was on its way.
fn check_latest(account: &LoadAccount, known: Duration) {
    let latest = account.reached_stopping_latest_ms.unwrap_or_default();
    let known = known.as_secs_f64() * 1000.0;
    assert!(
        latest < known + 1000.0,
        "{latest} ms after the signal, known after {known} ms: {account:#?}"
    );
}

/// The mark is seen as soon as it is written: what still comes is on its way already.
#[lameduck_rig::test]
async fn pods_that_stay_open_get_nothing_once_they_are_marked() {
    let pods = if proving() { 10 } else { 3 };
    let (account, known) = roll_out("linger", Duration::ZERO, pods).await;
    tell("marked as it is signalled, open for 3 s", &account);
    assert_eq!(account.lost, 0, "{account:#?}");
    assert!(
        account.sent > 100 && account.unexplained == 0,
        "{account:#?}"
    );
    check_latest(&account, known);
}

/// Until the mark comes, a pod that stays open is asked, and answers; one that closes its port refuses what was on its way,
/// and that goes elsewhere.
#[lameduck_rig::test]
async fn what_comes_before_the_mark_is_answered_or_goes_elsewhere() {
    let lag = Duration::from_millis(1_000);
    for stop in ["linger", "graceful"] {
        let (account, known) = roll_out(stop, lag, 2).await;
        tell(&format!("marked 1 s after its signal, {stop}"), &account);
        assert_eq!(account.lost, 0, "{stop}: {account:#?}");
        check_latest(&account, known);
    }
}
