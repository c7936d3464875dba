//! What a drain finishes.

use lameduck::tools::demo::admin;
use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::json;

use super::PATIENCE;
use super::ways::{drain, ready, resume};
use crate::harness::apps::App;
use crate::harness::{Bench, exe, turn, until};

/// Requests that are in flight when the drain begins are served in it, as many as the app's journal has.
#[tokio::test]
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
    let mut requests = tokio::task::JoinSet::new();
    let address = proxy.address();
    for id in 1..=9 {
        requests.spawn(async move {
            let mut connection = LoadConnection::open(address).await.unwrap();
            let request =
                format!("GET /slow?ms=1500 HTTP/1.1\r\nHost: app\r\nx-demo-id: {id}\r\n\r\n");
            connection
                .exchange(request.as_bytes())
                .await
                .unwrap()
                .status
        });
    }
    let arrived = |instance: &DemoInstance| instance.lives().unwrap()[0].arrivals.len();
    until("all nine", PATIENCE, async || {
        bench.instances.iter().map(arrived).sum::<usize>() == 9
    })
    .await;
    let name = bench.instances[0].name();
    let own = arrived(&bench.instances[0]) as u64;
    drain(&proxy, name, json!({"timeout": "20s"})).await;
    while let Some(status) = requests.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
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
