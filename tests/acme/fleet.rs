//! Several proxies with one directory.

use super::authority::TestAuthority;
use super::rig::{Ports, Proxy, scratch};

#[lameduck_rig::test]
async fn proxies_that_share_a_directory_order_once_and_all_answer_and_serve() {
    let dir = scratch();
    let ports: Vec<Ports> = (0..3).map(|_| Ports::free()).collect();
    let plain: Vec<_> = ports.iter().map(|ports| ports.plain).collect();
    // It comes to any of them: here it asks all.
    let authority = TestAuthority::start(dir.path(), &plain).await;
    let shared = format!("state_dir = {:?}\n", dir.path().join("shared"));
    let acme = authority.keys(&["a.test", "b.test"]) + &shared;
    let acme = acme + "[[listener.acme.certificates]]\ndomains = [\"c.test\"]\n";
    let starts = ports.iter().enumerate().map(|(n, ports)| {
        let (dir, acme) = (dir.path().join(n.to_string()), acme.clone());
        async move { Proxy::start(&dir, *ports, "", &acme).await }
    });
    let proxies = futures_util::future::join_all(starts).await;
    let client = authority.client();
    for name in ["b.test", "c.test"] {
        let mut shown = Vec::new();
        for proxy in &proxies {
            shown.push(proxy.until_served(name, &client).await.certificate);
        }
        assert!(shown.iter().all(|one| *one == shown[0]), "{name}");
    }
    for proxy in &proxies {
        proxy.until_state("good").await;
    }
    assert_eq!(authority.orders(), 2);
    assert_eq!(authority.asked("account"), 1);
}

#[lameduck_rig::test]
async fn order_of_a_proxy_that_was_killed_is_finished_by_another() {
    let dir = scratch();
    let (one, two) = (Ports::free(), Ports::free());
    let authority = TestAuthority::start(dir.path(), &[one.plain]).await;
    authority.script.lock().processing = u32::MAX;
    let shared = format!("state_dir = {:?}\n", dir.path().join("shared"));
    let acme = authority.keys(&["a.test"]) + &shared;
    let mut first = Proxy::start(&dir.path().join("1"), one, "", &acme).await;
    super::rig::until("the request", async || authority.asked("finalize") == 1).await;
    let second = Proxy::start(&dir.path().join("2"), two, "", &acme).await;
    first.kill().await;
    authority.heard.lock().finish_all();
    second.until_served("a.test", &authority.client()).await;
    assert_eq!((authority.orders(), authority.asked("finalize")), (1, 1));
}
