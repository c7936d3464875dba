//! What a drain finishes.

use lameduck::tools::demo::admin;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::json;

use super::ways::{drain, ready, resume};
use super::{PATIENCE, SlowReader};
use crate::harness::apps::App;
use crate::harness::{Bench, exe, turn, until};

/// Requests that are in flight when the drain begins are served in it, as many as the app has been given.
#[lameduck_rig::test]
async fn requests_in_flight_are_served_while_draining_and_counted() {
    let _turn = turn().await;
    let bench = Bench::start("report-served", App::BuiltIn, 2)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    let settings = ProxySettings::default();
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    ready(&proxy, 2).await;
    let mut requests = Vec::new();
    for _ in 0..9 {
        requests.push(SlowReader::open(&proxy).await);
    }
    let name = bench.instances[0].name();
    let own = requests.iter().filter(|one| one.app == name).count() as u64;
    assert!(own > 0);
    let finished = async {
        until("the drain to begin", PATIENCE, async || {
            let pool = proxy.pool().await.unwrap();
            pool.backends[0].state == "draining"
        })
        .await;
        for request in requests {
            assert!(!request.finish().await, "it was lost");
        }
    };
    tokio::join!(drain(&proxy, name, json!({"timeout": "20s"})), finished);
    resume(&proxy, name, json!({"wait": "20s"})).await;
    let list = admin::call(proxy.socket(), "GET", "/v1/restarts?limit=5", None)
        .await
        .unwrap();
    let restarts = list["restarts"].as_array().unwrap();
    assert_eq!(restarts.len(), 1, "{list:#}");
    let one = &restarts[0];
    assert!(own > 0);
    assert_eq!(one["requests"]["served"], own, "{one:#}");
    assert_eq!(
        (&one["requests"]["lost"], &one["cause"], &one["outcome"]),
        (&json!(0), &json!("api"), &json!("resumed"))
    );
    assert_eq!(one["capacity_percent"], 50.0);
    let path = format!("/v1/restarts/{}", one["id"].as_str().unwrap());
    let same = admin::call(proxy.socket(), "GET", &path, None)
        .await
        .unwrap();
    assert_eq!(same["id"], one["id"]);
    let none = admin::request(proxy.socket(), "GET", "/v1/restarts/nothing", None)
        .await
        .unwrap();
    assert_eq!(none.0, 404);
}
