//! Basic authentication: who is let in, what it costs, and what a reload changes.

use super::{ANN, ANNS, get, passes, refusals, refused_so_many, rig, told};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use std::time::Duration;

#[lameduck_rig::test]
async fn passwords_are_checked_and_stay_with_the_proxy() {
    let rig = rig("[[route]]\nname = \"staff\"\npool = \"app\"\n\
         auth = { basic = \"users\", realm = \"the staff\", user_header = \"X-User\" }\n\
         [[route]]\npath_prefix = \"/kept\"\npool = \"app\"\n\
         auth = { basic = \"users\", keep_authorization = true }\n")
    .await;
    for fields in [
        "",
        "Authorization: Basic YW5uOmI=\r\n",
        "Authorization: Basic Ym9iOmE=\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Bearer YW5uOmE=\r\n",
        &format!("{ANNS}{ANNS}"),
    ] {
        let answer = told(&rig, get("/", fields)).await;
        assert_eq!(answer.status(), 401, "{fields}");
        let asked = answer.field("www-authenticate");
        assert_eq!(asked, Some("Basic realm=\"the staff\", charset=\"UTF-8\""));
    }
    let fields = format!("{ANNS}X-User: root\r\nx_user: root\r\n");
    for _ in 0..2 {
        let (seen, _) = passes(&rig, get("/", &fields)).await;
        assert!(
            !seen.head.to_lowercase().contains("authorization"),
            "{}",
            seen.head
        );
        assert!(!seen.head.contains("root"), "{}", seen.head);
        assert_eq!(seen.field("x-user"), Some("ann"));
    }
    let (seen, _) = passes(&rig, get("/kept", ANNS)).await;
    assert!(seen.head.contains("YW5uOmE="), "{}", seen.head);
    let log = rig.access_log(9).await;
    assert_eq!(log.iter().filter(|line| line["user"] == "ann").count(), 3);
    let refused = log.iter().filter(|line| line["end"] == "unauthorized");
    assert!(refused.clone().all(|line| line["user"].is_null()));
    assert_eq!(refused.count(), 6);
    assert!(
        !format!("{log:?}").contains("YW5uO"),
        "a password is in the log"
    );
    refused_so_many(&rig, "staff", "unauthorized", 6).await;
}

#[lameduck_rig::test]
async fn trailers_can_not_say_who_asks() {
    let rig = rig("[[route]]\npool = \"app\"\nrequest_buffering = false\n\
         auth = { basic = \"users\", user_header = \"X-User\" }\n")
    .await;
    for name in ["X-User", "x_user", "X-USER"] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{ANNS}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: root\r\n\r\n"
        );
        let answer = told(&rig, request).await;
        assert_eq!(answer.status(), 400, "{name}");
    }
}

#[lameduck_rig::test]
async fn reload_takes_another_file_of_users_and_refuses_a_bad_one() {
    let rig =
        rig("[[route]]\npool = \"app\"\nmax_body = \"1KiB\"\nauth = { basic = \"users\" }\n").await;
    passes(&rig, get("/", ANNS)).await;
    let users = rig.socket.with_file_name("users");
    std::fs::write(&users, "ann:hunter2secret\nbob:$apr1$abc$hunter2secret\n").unwrap();
    let (status, text) = rig.reload("1KiB", "2KiB").await;
    assert_eq!(status, 422, "{text}");
    assert!(
        text.contains("users:1: ") && text.contains("users:2: "),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!rig.log().contains("hunter2"));
    passes(&rig, get("/", ANNS)).await;
    // The password of ann is "b" from now on; nobody remembers the old one.
    std::fs::write(
        &users,
        ANN.replace(
            "hvfkN/qlp/zhXR3cuerq6jd2Z7g=",
            "6dcfXufJLW3J6S/9rRe4vUlBj5g=",
        ),
    )
    .unwrap();
    let (status, text) = rig.reload("2KiB", "3KiB").await;
    assert_eq!(status, 200, "{text}");
    let old = told(&rig, get("/", ANNS)).await;
    let new = "Authorization: Basic YW5uOmI=\r\n";
    match old.status() {
        401 => {
            passes(&rig, get("/", new)).await;
        }
        other => panic!("the old password is answered with {other}"),
    }
    let (_, config) = lameduck::tools::demo::admin::request(&rig.socket, "GET", "/v1/config", None)
        .await
        .unwrap();
    let config = String::from_utf8_lossy(&config).into_owned();
    assert!(
        !config.contains("{SHA}") && !config.contains("hvfkN"),
        "{config}"
    );
}

/// A browser asks for the parts of a page at once, all with a password that was not checked yet.
#[lameduck_rig::test]
async fn requests_that_bring_one_password_at_once_share_its_check() {
    let (backends, port) = backends(1).await;
    let dir = tempfile::tempdir().unwrap();
    // Of "bench-password", with cost 10.
    let hash = "$2y$10$cD.ujOZpuOyU75xJpDZXiexL5WbrnsGWtox3nfCwK4RmDJeT7c8cy";
    std::fs::write(dir.path().join("users"), format!("ann:{hash}\n")).unwrap();
    let pool = format!(
        "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfast_interval = \"10ms\"\n",
        backends[0].address
    );
    let tables = "[[route]]\nname = \"page\"\npool = \"app\"\nauth = { basic = \"users\" }\n";
    let rig = Rig::start(dir, "", tables, &pool, backends).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(
            rig.ask(get(
                "/",
                "Authorization: Basic YW5uOmJlbmNoLXBhc3N3b3Jk\r\n",
            ))
            .await,
        );
    }
    for _ in 0..12 {
        let mut app = rig.backends[0].accept().await;
        app.request().await;
        app.answer_and_close("app").await;
    }
    for mut client in clients {
        assert_eq!(client.response().await.status(), 200);
    }
    assert_eq!(refusals(&rig, "page", "auth_busy").await, 0);
}

/// Somebody who tries passwords with a slow hash holds up neither traffic nor others.
#[lameduck_rig::test]
async fn flood_of_wrong_passwords_starves_nobody() {
    // Cost 14: about a second of a core.
    let hash = bcrypt_hash();
    let (backends, port) = backends(1).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("slow"), format!("ann:{hash}\n")).unwrap();
    let pool = format!(
        "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfast_interval = \"10ms\"\n",
        backends[0].address
    );
    let tables = "[[route]]\nname = \"slow\"\npath_prefix = \"/slow\"\npool = \"app\"\nauth = { basic = \"slow\" }\n\
         [[route]]\npool = \"app\"\n";
    let rig = Rig::start(dir, "", tables, &pool, backends).await;
    let mut clients = Vec::new();
    for n in 10..50 {
        // Another one each time, as who guesses has them: the same ones would share a check.
        let field = format!(
            "Authorization: Basic {}\r\n",
            BASE64.encode(format!("ann:{n}"))
        );
        clients.push(rig.ask(get("/slow", &field)).await);
    }
    let began = std::time::Instant::now();
    passes(&rig, get("/", "")).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let (mut wrong, mut busy) = (0, 0);
    for mut client in clients {
        match client.response().await.status() {
            401 => wrong += 1,
            429 | 503 => busy += 1,
            other => panic!("{other}"),
        }
    }
    assert!(busy >= 10 && wrong >= 1, "{busy} {wrong}");
    refused_so_many(&rig, "slow", "auth_busy", busy).await;
}

/// Of a password that nobody asks for, with cost 14.
fn bcrypt_hash() -> &'static str {
    "$2y$14$abcdefghijklmnopqrstuu5EHxj5fFSFXmgGnTx7SDuEKfk9uBpFy"
}
