//! `lameduck split` by plan.

use serde_json::{Value, json};

use crate::commands::run;
use crate::server::Server;

#[lameduck_rig::test]
async fn plan_is_begun_shown_listed_and_ended() {
    let server = Server::start().await;
    server.split().await;
    let begin = "split shop next --to 100 --in 10m --abort-on 5xx>1% --abort-on p99>1.5s --detach";
    let (code, out, err) = run(&server, begin).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let says = "next from 5 % to 100 %, step 1 of 10, ends ";
    assert!(
        out.starts_with(says) && out.ends_with("; goes back on 5xx>1%, p99>1500ms\n"),
        "{out}"
    );
    for line in ["split", "split shop"] {
        let (code, out, _) = run(&server, line).await;
        let starts = "shop: app=8550 (85.5 %) next=1450 (14.5 %); moved (the configuration has app=95 next=5)\n  plan: next";
        assert!(code == 0 && out.starts_with(starts), "{line}: {out}");
    }
    let (_, out, _) = run(&server, "status").await;
    let plan = "split of route shop: 1450 of 10000 (configured: 5); plan: to 100 %, step 1 of 10, ends in ";
    let ends = out.split(plan).nth(1).unwrap_or_else(|| panic!("{out}"));
    // A second of it may be over.
    assert!(ends.starts_with("10m") || ends.starts_with("9m "), "{out}");
    for line in ["split shop app=1 next=1", "split shop --reset", begin] {
        let (code, _, err) = run(&server, line).await;
        assert!(
            code == 1 && err.contains("`lameduck split shop --stop`"),
            "{line}: {err}"
        );
    }
    let (code, out, _) = run(&server, "split shop --stop --json").await;
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &plan["state"]), (0, &json!("stopped")));
    assert_eq!(plan["before"], json!({"app": 95, "next": 5}));
    let (code, _, err) = run(&server, "split shop --stop").await;
    assert!(
        code == 1 && err.contains("no plan moves the split of route `shop`"),
        "{err}"
    );
    // From what was left, and back to exactly that.
    let (code, _, _) = run(
        &server,
        "split shop next --to 0 --in 1m --every 30s --detach",
    )
    .await;
    assert_eq!(code, 0);
    let (code, out, _) = run(&server, "split shop --back").await;
    assert_eq!(code, 0);
    let says = "next from 14.5 % to 0 %: went back in step 1 of 2 to app=8550 next=1450: asked by operator\n";
    assert_eq!(out, says);
    server.stop().await;
}

#[lameduck_rig::test]
async fn followed_plan_tells_each_step_and_ends_with_its_report() {
    let server = Server::start().await;
    server.split().await;
    let (code, out, err) = run(&server, "split shop next --to 50 --in 2s").await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("shop: next from 5 % to 50 %, step 1 of 2"),
        "{out}"
    );
    assert_eq!(lines[1], "step 1 of 2: next has 27.5 %");
    assert_eq!(lines[2], "  in step 1: app 0 requests; next 0 requests");
    assert_eq!(lines[3], "step 2 of 2: next has 50 %");
    assert!(lines[5].trim_start().starts_with("STEP  SHARE"), "{out}");
    assert_eq!(lines.last(), Some(&"shop: next has 50 %"));
    // Somebody else ends one that is followed.
    let follow = run(&server, "split shop app --to 0 --in 1m --json");
    let stop = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let (code, _, _) = run(&server, "split shop --stop").await;
            if code == 0 {
                return;
            }
        }
    };
    let ((code, out, err), ()) = tokio::join!(follow, stop);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &plan["state"]), (6, &json!("stopped")));
    assert!(
        err.contains("app from 50 % to 0 %: stopped in step 1 of 10: asked by operator"),
        "{err}"
    );
    let (code, _, err) = run(&server, "split shop --wait").await;
    assert!(code == 6 && err.contains("stopped"), "{err}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn arguments_that_make_no_plan_are_refused_with_what_to_do() {
    let server = Server::start().await;
    server.split().await;
    for (line, expected, says) in [
        (
            "split shop nxt --to 100 --in 10m",
            1,
            "did you mean `next`?",
        ),
        (
            "split shp next --to 100 --in 10m",
            1,
            "did you mean `shop`?",
        ),
        (
            "split shop next --to 5 --in 10m",
            1,
            "`next` has 5 % already",
        ),
        (
            "split shop next --to 5.001 --in 10m",
            1,
            "at most two decimals",
        ),
        (
            "split shop next --to 100 --in 5s --steps 10",
            1,
            "give it more time (`in`) or fewer steps",
        ),
        ("split shop next --to 100 --in 8d", 1, "at most 7days"),
        (
            "split shop next --to 100 --in 1m --every 2m",
            1,
            "`every` is the time of one step",
        ),
        (
            "split shop next --to 100 --in 1h --every 1s",
            1,
            "use 1 to 100",
        ),
        (
            "split shop next=5 --to 100 --in 10m",
            2,
            "--to is for one pool",
        ),
        ("split shop --to 100 --in 10m", 2, "--to is for one pool"),
        (
            "split shop next",
            2,
            "write POOL=WEIGHT, for example api-next=5",
        ),
        (
            "split shop next --to 1 --in 1m --abort-on 5xx>1",
            2,
            "a share ends with %, and a comparison",
        ),
        (
            "split shop next --to 1 --in 1m --abort-on 5xx=1%",
            2,
            "a > has to stand here",
        ),
        (
            "split shop --wait",
            1,
            "no plan moves the split of route `shop`",
        ),
    ] {
        let (code, out, err) = run(&server, line).await;
        assert_eq!((code, out.as_str()), (expected, ""), "{line}: {err}");
        assert!(err.contains(says), "{line}: {err}");
    }
    let path = "/v1/routes/shop/split/plan";
    for (body, status, says) in [
        (json!({}), 400, "missing field `pool`"),
        (
            json!({"pool": "next", "to": 101, "in": "1m"}),
            422,
            "from 0 to 100",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "1m", "steps": 0}),
            422,
            "use 1 to 100",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "soon"}),
            422,
            "\"30s\"",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "1m", "steps": 2, "every": "1s"}),
            422,
            "one of them",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "1m", "min_requests": 0}),
            422,
            "use 1 to",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "1m", "abort_on": ["p99>1%"]}),
            422,
            "ms or s",
        ),
        (
            json!({"pool": "next", "to": 50, "in": "1m", "abort_on": vec!["5xx>1%"; 17]}),
            422,
            "at most 16",
        ),
    ] {
        let answer = server.ask("POST", path, Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{body}: {detail}");
    }
    // Nothing of it has changed anything.
    let (_, out, _) = run(&server, "split").await;
    assert_eq!(out, "shop: app=95 (95 %) next=5 (5 %)\n");
    server.stop().await;
}
