//! Routes that several pools answer by weight, and whose weights are moved while they run.

use lameduck::tools::demo::admin;
use serde_json::{Value, json};

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;

/// The pools `app` and `next`, each with one backend that answers with its pool's name.
async fn rig(route: &str) -> Rig {
    let (backends, port) = backends(2).await;
    let pool = |n: usize| {
        format!(
            "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\n\
             rise = 1\nfast_interval = \"10ms\"\n",
            backends[n].address
        )
    };
    let pools = format!("{}[[pool]]\nname = \"next\"\n{}", pool(0), pool(1));
    let route = format!("[[route]]\nname = \"shop\"\n{route}\n");
    Rig::start(tempfile::tempdir().unwrap(), "", &route, &pools, backends).await
}

async fn serve(rig: &Rig, index: usize) {
    loop {
        let mut backend = rig.backends[index].accept().await;
        while backend.head_or_end().await.is_some() {
            backend.answer(["app", "next"][index]).await;
        }
    }
}

/// Who answers each of these requests.
async fn asked(rig: &Rig, heads: impl IntoIterator<Item = String>) -> Vec<String> {
    let asking = async {
        let mut client: Wire = rig.client().await;
        let mut answers = Vec::new();
        for head in heads {
            client.send(format!("{head}\r\n\r\n")).await;
            let response = client.response().await;
            assert_eq!(response.status(), 200, "{}", response.head);
            answers.push(response.text().to_owned());
        }
        answers
    };
    tokio::select! {
        answers = asking => answers,
        ((), ()) = async { tokio::join!(serve(rig, 0), serve(rig, 1)) } => unreachable!(),
    }
}

fn plain(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|_| "GET / HTTP/1.1\r\nHost: x".to_owned())
}

fn count(answers: &[String], pool: &str) -> usize {
    answers.iter().filter(|answer| *answer == pool).count()
}

async fn move_split(rig: &Rig, weights: Value) -> (u16, Value) {
    let body = json!({ "weights": weights });
    let path = "/v1/routes/shop/split";
    let (status, body) = admin::request(&rig.socket, "PUT", path, Some(&body))
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[lameduck_rig::test]
async fn requests_are_split_by_weight_and_the_log_names_the_pool() {
    let rig = rig("split = { app = 3, next = 1 }").await;
    let answers = asked(&rig, plain(400)).await;
    // 100 expected; five standard deviations.
    let next = count(&answers, "next");
    assert!((56..=144).contains(&next), "{next}");
    let log = rig.access_log(400).await;
    let logged = log.iter().filter(|line| line["pool"] == "next").count();
    assert_eq!(logged, next);
    assert!(log.iter().all(|line| line["route"] == "shop"));
    let share = &rig.pool().await.splits[0];
    assert_eq!(
        (
            share.route.as_str(),
            share.weight,
            share.of,
            share.configured
        ),
        ("shop", 3, 4, 3)
    );
}

#[lameduck_rig::test]
async fn weights_are_moved_without_a_reload_and_stay_until_the_file_says_otherwise() {
    let rig = rig("split = { app = 1, next = 0 }").await;
    assert_eq!(count(&asked(&rig, plain(20)).await, "app"), 20);
    let (status, moved) = move_split(&rig, json!({"app": 0, "next": 7})).await;
    assert_eq!((status, &moved["weights"]["next"]), (200, &json!(7)));
    assert_eq!(moved["configured"], json!({"app": 1, "next": 0}));
    assert!(moved["moved"].is_string());
    assert_eq!(count(&asked(&rig, plain(20)).await, "next"), 20);
    let series = "lameduck_split_weight{route=\"shop\",pool=\"next\"}";
    rig.counts(series, 7).await;
    rig.logs("the weights of a split are moved").await;
    // A reload that says the same of the split leaves it.
    let (status, _) = rig.reload("rise = 1", "rise = 2").await;
    assert_eq!(status, 200);
    assert_eq!(count(&asked(&rig, plain(20)).await, "next"), 20);
    // One that says something else counts.
    let (status, changes) = rig
        .reload(
            "split = { app = 1, next = 0 }",
            "split = { app = 2, next = 0 }",
        )
        .await;
    assert_eq!(status, 200);
    assert!(
        changes.contains("split app 1, next 0 → split app 2, next 0"),
        "{changes}"
    );
    assert_eq!(count(&asked(&rig, plain(20)).await, "app"), 20);
    rig.logs("not the moved ones").await;
    move_split(&rig, json!({"app": 0, "next": 1})).await;
    let path = "/v1/routes/shop/split";
    let reset = admin::call(&rig.socket, "DELETE", path, None)
        .await
        .unwrap();
    assert_eq!(reset["weights"], reset["configured"]);
    assert_eq!(reset.get("moved"), None);
}

#[lameduck_rig::test]
async fn weights_that_can_not_be_are_refused_with_what_to_do() {
    let rig = rig("split = { app = 1, next = 1 }").await;
    for (weights, says) in [
        (json!({"app": 1}), "`next` is missing"),
        (
            json!({"app": 1, "nxt": 1, "next": 1}),
            "did you mean `next`?",
        ),
        (json!({"app": 0, "next": 0}), "every weight is 0"),
        (json!({"app": 1, "next": 1_000_001}), "use 0 to 1000000"),
    ] {
        let (status, problem) = move_split(&rig, weights).await;
        assert_eq!(status, 422, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail}");
    }
    let path = "/v1/routes/shp/split";
    let (status, body) = admin::request(&rig.socket, "GET", path, None)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(status, 404);
    assert!(text.contains("did you mean `shop`?"), "{text}");
}

/// One cookie stays where it is, also while weights move away from the other pool; without it, the client counts.
#[lameduck_rig::test]
async fn sticky_split_gives_one_cookie_to_one_pool() {
    let rig = rig("split = { app = 1, next = 1 }\nsplit_on = \"cookie:session\"").await;
    let heads = |count: usize| {
        (0..count).map(|n| format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; session=s{n}"))
    };
    let first = asked(&rig, heads(60)).await;
    assert_eq!(asked(&rig, heads(60)).await, first);
    let on_next = count(&first, "next");
    assert!((12..=48).contains(&on_next), "{on_next}");
    move_split(&rig, json!({"app": 1, "next": 3})).await;
    let moved = asked(&rig, heads(60)).await;
    assert!(count(&moved, "next") > on_next);
    for (before, after) in first.iter().zip(&moved) {
        assert!(before == after || after == "next", "{before} → {after}");
    }
    let nobody = asked(&rig, plain(10)).await;
    assert!(nobody.windows(2).all(|two| two[0] == two[1]), "{nobody:?}");
}

/// A request that waits for its pool is not moved to the other one by a reload.
#[lameduck_rig::test]
async fn held_request_stays_in_its_pool_over_a_reload() {
    let rig = rig("split = { app = 1, next = 0 }").await;
    let path = "/v1/pools/app/backends/b/drain";
    admin::call(&rig.socket, "POST", path, Some(&json!({})))
        .await
        .unwrap();
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    rig.until("held", |pool| pool.held == 1).await;
    move_split(&rig, json!({"app": 1, "next": 1_000_000})).await;
    let (status, _) = rig.reload("rise = 1", "rise = 2").await;
    assert_eq!(status, 200);
    let path = "/v1/pools/app/backends/b/resume";
    admin::call(&rig.socket, "POST", path, Some(&json!({})))
        .await
        .unwrap();
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
}
