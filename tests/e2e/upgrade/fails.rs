//! Upgrades that come to nothing.

use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::Load;
use serde_json::json;

use super::{
    EndOnDrop, PATIENCE, begin, goes_on, refused, script, text, upgrade, upgraded, view, waiting,
};
use crate::harness::front::Front;
use crate::harness::{get, turn, until, usual_load};
use lameduck_rig::process::children;

/// Each of these leaves the old process as it was, and says why at the prompt, in the log and in the status.
#[lameduck_rig::test]
async fn failed_upgrade_leaves_the_old_process_as_it_was_and_says_why() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-fails").await;
    let dir = bench.scratch.path().to_owned();
    let socket = proxy.socket().to_owned();
    let pid = proxy.process().pid();
    let load = Load::start(usual_load(proxy.address()));
    goes_on(&load, 60).await;

    let plain = dir.join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let ends = script(&dir, "ends", "exit 7");
    let hangs = script(&dir, "hangs", "exec sleep 60");
    let broken = dir.join("broken.toml");
    std::fs::write(&broken, "[[listener]]\nadress = \"127.0.0.1:1\"\n").unwrap();
    let config = std::fs::read_to_string(proxy.config()).unwrap();
    let other = |name: &str, from: &str, to: &str| {
        let changed = config.replace(from, to);
        assert_ne!(changed, config, "{from}");
        let path = dir.join(name);
        std::fs::write(&path, changed).unwrap();
        path
    };
    // As on a full disk: nothing can be made there.
    let unwritable = other("unwritable.toml", text(&dir.join("state")), text(&plain));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("address = \"{}\"", proxy.address());
    let busy = format!(
        "{address}\n[[listener]]\naddress = \"{}\"",
        taken.local_addr().unwrap()
    );
    let busy = other("busy.toml", &address, &busy);

    for (words, said) in [
        (vec!["--binary", "/nowhere/lameduck"], "can't be started"),
        (vec!["--binary", text(&plain)], "chmod +x"),
        (vec!["--binary", text(&ends)], "exit status: 7"),
        (
            vec!["--binary", text(&hangs), "--timeout", "1s"],
            "within 1s",
        ),
        (vec!["-c", text(&broken)], "adress"),
        (vec!["-c", text(&unwritable)], "state_dir"),
        (vec!["-c", text(&busy)], "choose another port"),
    ] {
        let message = refused(&socket, &words).await;
        assert!(message.contains(said), "{words:?}: {message}");
        let now = view(&socket).await;
        assert_eq!(now.pid, pid, "{words:?}");
        assert!(!now.under_way);
        let failure = now.last_failure.unwrap();
        assert!(failure.contains(said), "{failure}");
        // Changes are taken as before.
        let drain = json!({ "wait": true, "timeout": "5s" });
        let path = "/v1/pools/app/backends/app-1";
        admin::call(&socket, "POST", &format!("{path}/drain"), Some(&drain))
            .await
            .unwrap();
        let wait = json!({ "wait": "10s" });
        admin::call(&socket, "POST", &format!("{path}/resume"), Some(&wait))
            .await
            .unwrap();
        goes_on(&load, 20).await;
    }
    let failures = || {
        let log = std::fs::read_to_string(dir.join("proxy.log")).unwrap();
        log.matches("the upgrade failed").count()
    };
    until("the log to tell of all", PATIENCE, async || failures() >= 7).await;
    assert_eq!(failures(), 7);
    until("their processes to be gone", PATIENCE, async || {
        children(pid).is_empty()
    })
    .await;

    let account = bench
        .account(load.stop().await, &Front::Lameduck(proxy))
        .await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
}

#[lameduck_rig::test]
async fn second_upgrade_is_refused_and_a_killed_new_process_is_told() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-second").await;
    let dir = bench.scratch.path();
    let (socket, pid) = (proxy.socket().to_owned(), proxy.process().pid());
    let binary = waiting(dir, &dir.join("never"));
    let first = {
        let (socket, binary) = (socket.clone(), binary.clone());
        tokio::spawn(async move { refused(&socket, &["--binary", text(&binary)]).await })
    };
    until("the new process", PATIENCE, async || {
        !children(pid).is_empty()
    })
    .await;
    assert!(view(&socket).await.under_way);
    let message = refused(&socket, &[]).await;
    assert!(message.contains("under way"), "{message}");
    for child in children(pid) {
        let _ = syscall::kill(child, libc::SIGKILL);
    }
    let message = first.await.unwrap();
    assert!(message.contains("signal: 9"), "{message}");
    assert!(matches!(get(proxy.address(), "/").await, Ok((200, _))));
    // And then one goes well.
    upgraded(&socket).await;
}

#[lameduck_rig::test]
async fn new_process_starts_anew_where_the_old_one_dies_before_it_has_given_anything() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-dies").await;
    let dir = bench.scratch.path();
    let (socket, pid) = (proxy.socket().to_owned(), proxy.process().pid());
    let go = dir.join("go");
    let binary = waiting(dir, &go);
    let asked = {
        let (socket, binary) = (socket.clone(), binary.clone());
        tokio::spawn(async move { upgrade(&socket, &["--binary", text(&binary)]).await })
    };
    until("the new process", PATIENCE, async || {
        !children(pid).is_empty()
    })
    .await;
    let new = children(pid)[0];
    proxy.process().signal(libc::SIGKILL).unwrap();
    assert!(!asked.await.unwrap().status.success());
    proxy.process().wait(PATIENCE).await.unwrap();
    std::fs::write(&go, "").unwrap();
    let ended = EndOnDrop(new);
    until("the new process to serve", PATIENCE, async || {
        matches!(get(proxy.address(), "/").await, Ok((200, _)))
    })
    .await;
    // The admin socket may come a moment after the listener.
    until("it to say who it is", PATIENCE, async || {
        let view = admin::call(&socket, "GET", "/v1/upgrade", None).await;
        view.is_ok_and(|view| view["pid"] == new)
    })
    .await;
    drop(ended);
}
