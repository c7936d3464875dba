//! What routes change on the way, under restarts and reloads.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, scale, turn, turn_beside_one, until, usual_load};
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::oracle::{DemoRequestKind, LoadAccount, Sent};
use lameduck_rig::oracle;
use lameduck_rig::results::{Row, record};
use lameduck_rig::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(20);

/// Routes for what the load asks: each rewritten, and with rules for its fields.
fn routes(round: usize) -> String {
    let (other, mark) = (round % 2, format!("round-{round}"));
    let route = |matcher: &str, name: &str| {
        format!(
            "\n[[route]]\nname = \"{name}-{mark}\"\n{matcher}\npool = \"app\"\nrewrite = \"{{path}}?{{query}}&mark={mark}\"\n\
             [route.request_headers]\nset = {{ X-Mark = \"{mark}\", X-Real-IP = \"{{client}}\" }}\nadd = {{ X-Way = \"{{method}} {{host}}\" }}\n\
             [route.response_headers]\nset = {{ X-Mark = \"{mark}\" }}\nremove = [\"X-Powered-By\"]\n"
        )
    };
    let echo = match other {
        0 => "path = \"/echo\"",
        _ => "path_regex = \"^/ech\"",
    };
    let rest = match other {
        0 => "path_prefix = \"/\"",
        _ => "methods = [\"GET\", \"POST\"]",
    };
    [
        route(echo, "echo"),
        route("path_prefix = \"/slow\"", "slow"),
        route(rest, "rest"),
        format!("\n[[route]]\nhost = \"gone.test\"\nredirect = {{ host = \"{mark}.test\" }}\n"),
    ]
    .concat()
}

#[lameduck_rig::test]
async fn rolling_restart_under_header_rules_and_rewrites_loses_nothing() {
    let _turn = turn().await;
    let mut bench = Bench::start("front-door", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        pool: routes(0),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    for instance in &mut bench.instances {
        let sent = load.progress().sent;
        until("requests", PATIENCE, async || {
            load.progress().sent >= sent + 60
        })
        .await;
        roll::restart(instance, proxy, scale().deadline, &|_, _| {})
            .await
            .unwrap();
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    record(Row {
        test: "front-door",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec!["header rules and rewrites on every route".into()],
    });
}

/// A hundred times, every route is another one: its name, its rules, and what it matches by.
#[lameduck_rig::test]
async fn reloads_that_change_every_route_lose_nothing() {
    let _turn = turn().await;
    let bench = Bench::start("front-door-reload", App::BuiltIn, 2)
        .await
        .unwrap();
    let settings = |round| ProxySettings {
        pool: routes(round),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings(0)).await;
    let proxy = front.proxy();
    let backends: Vec<(String, SocketAddr)> = bench
        .instances
        .iter()
        .map(|instance| (instance.name().to_owned(), instance.address()))
        .collect();
    let plan = LoadPlan {
        slow: Duration::from_millis(300),
        ..usual_load(front.address())
    };
    let load = Load::start(plan);
    for round in 1..=100 {
        let text = settings(round).toml(proxy.socket(), &backends);
        std::fs::write(proxy.config(), text).unwrap();
        let answer = admin::call(proxy.socket(), "POST", "/v1/config/reload", None)
            .await
            .unwrap();
        let said = answer["changes"].to_string();
        assert!(said.contains(&format!("round-{round}")), "{said}");
        // Requests by this table, before the next one.
        let progress = load.progress();
        assert_eq!(progress.lost, 0, "after {round} reloads");
        until("requests", PATIENCE, async || {
            load.progress().sent >= progress.sent + 8
        })
        .await;
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    record(Row {
        test: "front-door-reload",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec!["100 reloads, each of which changes every route".into()],
    });
}

/// What nobody may wait longer than, beyond what its request takes anyway: with an instance always ready, nothing waits.
const LATE: Duration = Duration::from_secs(3);

/// Requests that took longer than they may.
fn late(sent: &[Sent], slow: Duration) -> Vec<&Sent> {
    let takes = |sent: &Sent| match sent.kind {
        DemoRequestKind::Slow => slow,
        DemoRequestKind::Get | DemoRequestKind::Post => Duration::ZERO,
    };
    let is_late = |sent: &&Sent| Duration::from_nanos(sent.latency) > takes(sent) + LATE;
    sent.iter().filter(is_late).collect()
}

fn page() -> String {
    (0..4_000)
        .map(|line| format!("<p>{}</p>\n", line * 7919 % 1000))
        .collect()
}

fn make_site(root: &Path) {
    std::fs::create_dir(root).unwrap();
    std::fs::write(root.join("robots.txt"), "User-agent: *\n").unwrap();
    std::fs::write(root.join("page.html"), page()).unwrap();
    std::fs::write(root.with_file_name("404.html"), "<h1>not here</h1>").unwrap();
}

fn pool(name: &str, instances: &[DemoInstance]) -> String {
    let backends = instances.iter().map(|instance| {
        let (name, address) = (instance.name(), instance.address());
        format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")
    });
    let backends: String = backends.collect();
    format!("[[pool]]\nname = \"{name}\"\n{backends}")
}

/// A browser that asks for files and for what there is not, until it is told to end. Whatever is lost ends it with a
/// panic; the longest that an answer took is returned, and how many came.
async fn browse(address: SocketAddr, ends: Arc<AtomicBool>) -> (Duration, usize) {
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    let page = page();
    while !ends.load(Ordering::Relaxed) {
        let mut client = Wire::connect(address).await;
        for (target, fields, status) in [
            ("/robots.txt", "", 200),
            ("/page.html", "", 200),
            ("/page.html", "Accept-Encoding: gzip\r\n", 200),
            ("/page.html", "Accept-Encoding: br\r\n", 200),
            ("/page.html", "Range: bytes=100-199\r\n", 206),
            ("/no/such/page", "Accept: text/html\r\n", 404),
        ] {
            let begun = Instant::now();
            client
                .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
                .await;
            let got = client.response().await;
            slowest = slowest.max(begun.elapsed());
            count += 1;
            assert_eq!(got.status(), status, "{target}: {}", got.head);
            match (target, got.field("content-encoding")) {
                ("/robots.txt", _) => assert_eq!(got.text(), "User-agent: *\n"),
                ("/no/such/page", _) => assert_eq!(got.text(), "<h1>not here</h1>"),
                (_, Some("gzip")) => {
                    let mut text = String::new();
                    let mut decoder = flate2::read::GzDecoder::new(&*got.body);
                    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
                    assert!(text == page);
                }
                (_, Some(_)) => assert!(got.body.len() < page.len() / 3),
                (_, None) if status == 206 => assert_eq!(got.text(), &page[100..200]),
                (_, None) => assert!(got.text() == page),
            }
            if got.has("Connection: close") {
                break;
            }
        }
    }
    (slowest, count)
}

/// A whole site: files before the app, a split over two pools, copies for a third, compression, and error pages for the
/// app's own errors. Every instance of the app is restarted, and so is the shadow.
#[lameduck_rig::test]
async fn rolling_restart_of_a_whole_site_loses_nothing_and_nobody_waits() {
    let _turn = turn_beside_one().await;
    let mut bench = Bench::start("site", App::BuiltIn, 6).await.unwrap();
    let scratch = bench.scratch.path().to_owned();
    let root = scratch.join("site");
    make_site(&root);
    let settings = ProxySettings {
        listener: format!(
            "[compression]\nmin_size = \"1\"\n[[route]]\nname = \"site\"\nsplit = {{ app = 2, next = 1 }}\n\
             files = {{ root = {root:?} }}\nmirror = {{ pool = \"shadow\" }}\nintercept = true\n\
             error_pages = {{ \"404\" = {:?} }}\n",
            scratch.join("404.html")
        ),
        pool: pool("next", &bench.instances[3..5]) + &pool("shadow", &bench.instances[5..]),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &bench.instances[..3], &settings).await;
    let proxy = front.proxy();
    let plan = LoadPlan {
        slow: Duration::from_millis(500),
        ..usual_load(front.address())
    };
    let slow = plan.slow;
    let ends = Arc::new(AtomicBool::new(false));
    let browser = tokio::spawn(browse(front.address(), ends.clone()));
    let load = Load::start(plan);
    for index in 0..3 {
        let sent = load.progress().sent;
        until("requests", PATIENCE, async || {
            load.progress().sent >= sent + 60
        })
        .await;
        let (app, others) = bench.instances.split_at_mut(3);
        roll::restart(&mut app[index], proxy, scale().deadline, &|_, _| {})
            .await
            .unwrap();
        // A shadow may go as it likes.
        let shadow = &mut others[2];
        shadow.signal_end(libc::SIGKILL).unwrap();
        shadow.exited(scale().deadline).await.unwrap();
        shadow.start_again().await.unwrap();
    }
    let sent = load.stop().await;
    ends.store(true, Ordering::Relaxed);
    let (slowest, browsed) = browser.await.unwrap();
    assert!(browsed > 50, "{browsed}");
    assert!(slowest < LATE, "{slowest:?}");
    let too_late = late(&sent, slow);
    assert!(too_late.is_empty(), "{too_late:?}");
    // Its arrivals are copies: for the oracle, the shadow is no instance of the app.
    let mut evidence = bench.evidence(sent, &front).await;
    evidence.lives = oracle::lives_of(&bench.instances[..5]);
    let account = LoadAccount::of(&evidence);
    assert!(
        account.is_clean() && account.delivered_twice == 0 && account.stops == 3,
        "{account}"
    );
    let next = oracle::lives_of(&bench.instances[3..5]);
    assert!(next.iter().any(|life| !life.arrivals.is_empty()));
    record(Row {
        test: "front-door-site",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec![format!(
            "files, split, mirror, compression, error pages; {browsed} answers of files and pages, the slowest in {} ms",
            slowest.as_millis()
        )],
    });
}
