//! What was left out of a build is refused by name. Which features this one has, the tests are built with: the suite runs with
//! all of them, `benches/measure-features` and `cargo test --no-default-features --test config` without.

use std::path::Path;

const POOL: &str = "[[pool]]\nname = \"app\"\n[[pool.backend]]\naddress = \"127.0.0.1:3000\"\n";

/// Features, whether they are there, and what asks for each.
fn features() -> Vec<(&'static str, bool, String)> {
    let listener = "[[listener]]\naddress = \"127.0.0.1:8080\"\n";
    let discovery = |kind: &str, keys: &str| {
        format!("{listener}{POOL}[[pool.discovery]]\ntype = \"{kind}\"\n{keys}\n")
    };
    let supervisor = |kind: &str| {
        format!(
            "{listener}{POOL}[pool.supervisor]\ntype = \"{kind}\"\nprocess = \"{{name}}.service\"\n"
        )
    };
    let dns = discovery("dns", "name = \"app.internal\"\nport = 3000");
    let kubernetes = discovery("kubernetes", "service = \"app\"");
    let acme = format!(
        "[[listener]]\naddress = \"127.0.0.1:8443\"\n[listener.acme]\ndomains = [\"shop.example.org\"]\n\
         email = \"me@example.org\"\nstate_dir = \"/nowhere\"\n{POOL}"
    );
    vec![
        ("acme", cfg!(feature = "acme"), acme),
        ("dns", cfg!(feature = "dns"), dns),
        ("docker", cfg!(feature = "docker"), discovery("docker", "")),
        ("docker", cfg!(feature = "docker"), supervisor("docker")),
        ("kubernetes", cfg!(feature = "kubernetes"), kubernetes),
        (
            "otlp",
            cfg!(feature = "otlp"),
            format!("[tracing]\nendpoint = \"http://127.0.0.1:4318\"\n{listener}{POOL}"),
        ),
        ("systemd", cfg!(feature = "systemd"), supervisor("systemd")),
    ]
}

#[test]
fn configuration_that_asks_for_what_was_built_out_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (feature, is_built, text) in features() {
        let path = dir.path().join("lameduck.toml");
        std::fs::write(&path, &text).unwrap();
        let said = match lameduck::app::check::load(Path::new(&path)) {
            Ok(_) => String::new(),
            Err(error) => error.report().render(false),
        };
        let names_it = said.contains(&format!("built without the feature `{feature}`"));
        assert_eq!(names_it, !is_built, "{feature}: {said}\n{text}");
        if !is_built {
            assert!(said.contains(&format!("--features {feature}")), "{said}");
        }
    }
}
