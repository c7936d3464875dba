//! The dashboard in Chromium: refused without the token, changed with it, its figures those of the API through a rolling
//! restart, names that are markup, and what axe says of it. What is done in the browser is in `dashboard.js`.

use std::time::Duration;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll::restart;
use lameduck_rig::place::{exe, root};
use lameduck_rig::ports::free_address;
use lameduck_rig::setting::skip;

use super::command::{Talking, has_app, is_there};

/// Any of these will do: CI has the first.
const BROWSERS: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

const TOKEN: &str = "a-token-of-the-test";

#[lameduck_rig::test]
async fn dashboard_shows_the_api_and_changes_nothing_without_the_token() {
    let packages = root().join("tests/apps/node_modules");
    if !has_app() || !packages.join("axe-core").is_dir() {
        return skip("clients", "tests/apps/node_modules (tests/setup.sh)");
    }
    let Some(browser) = BROWSERS.into_iter().find(|name| is_there(name)) else {
        return skip("clients", "chromium-headless-shell (tests/setup.sh)");
    };
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let program = Program::built_in(exe());
    let mut instances = Vec::new();
    for name in ["app-1", "app-2", "app-3"] {
        instances.push(
            DemoInstance::launch(name, &program, dir.path())
                .await
                .unwrap(),
        );
    }
    let admin = free_address();
    let settings = ProxySettings {
        admin: format!("http = \"{admin}\"\ntoken_file = {token_file:?}"),
        pool: format!(
            "[[pool]]\nname = \"next\"\n[[pool.backend]]\nname = \"next-1\"\naddress = \"{}\"\n\
             [[route]]\nhost = \"shop.example\"\nname = \"shop\"\nsplit = {{ app = 95, next = 5 }}\n\
             [[route]]\npool = \"app\"\n",
            instances[0].address()
        ),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", dir.path(), &settings, &instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let load = Load::start(LoadPlan::new(proxy.address(), 50));
    let admin = admin.to_string();
    let mut words = vec!["node", "tests/clients/dashboard.js", browser, &admin, TOKEN];
    // Where pictures of it are wanted, to be looked at.
    let pictures = std::env::var("LAMEDUCK_PICTURES").unwrap_or_default();
    if !pictures.is_empty() {
        words.push(&pictures);
    }
    let mut page = Talking::start(&words);
    let begun = page.line().await;
    assert_eq!(begun, "rolling", "{}", page.rest().await.0);
    for instance in &mut instances[..2] {
        restart(instance, &proxy, Duration::from_secs(10), &|_, _| {})
            .await
            .unwrap();
    }
    let told = page.line().await;
    let compared: Option<u32> = told
        .strip_prefix("compared ")
        .and_then(|looks| looks.parse().ok());
    let Some(compared) = compared else {
        panic!("{told}\n{}", page.rest().await.0);
    };
    assert!(compared >= 3, "only {compared} looks were compared");
    loop {
        match page.line().await {
            line if line == "done" => break,
            line if line.starts_with("axe ") => {}
            line => panic!("{line}\n{}", page.rest().await.0),
        }
    }
    let sent = load.stop().await;
    assert!(sent.len() > 50);
    proxy.stop(Duration::from_secs(20)).await.unwrap();
}
