//! Sessions that a drain lets finish, and supervisors that don't wait for them.

use std::path::PathBuf;

use lameduck::config::Config;
use lameduck::tools::doctor::{DoctorOptions, discover, examine};

/// A pool `shop` whose sessions finish or move, and whose drains last for 30 s.
fn own(on_drain: &str, more: &str) -> Config {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"shop-1\"\n\
         address = \"127.0.0.1:3000\"\n[pool.sticky]\non_drain = \"{on_drain}\"\n{more}"
    );
    let loaded = lameduck::config::parse("lameduck.toml", &text);
    loaded
        .unwrap_or_else(|error| panic!("{}", error.render(false)))
        .config
}

/// What is found in such a file of a supervisor.
fn found(name: &str, text: &str, config: Config) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let (files, errors) = discover::read(std::slice::from_ref(&path));
    assert!(errors.is_empty(), "{errors:?}");
    let examined = examine(&files, Some(config), DoctorOptions::default());
    examined
        .reports
        .iter()
        .map(|report| report.render(false))
        .collect()
}

const WATCHED: &str = "[pool.supervisor]\ntype = \"systemd\"\nprocess = \"{name}.service\"\n";

fn unit(stop: &str) -> String {
    format!("[Service]\nExecStart=/usr/bin/node /srv/shop/app.mjs\nTimeoutStopSec={stop}\n")
}

#[test]
fn process_that_is_killed_before_its_sessions_have_finished_is_shown() {
    let report = found("shop-1.service", &unit("20"), own("finish", WATCHED));
    assert!(
        report.contains(
            "warning[session-cut]: `shop-1` is killed 20s after its signal (TimeoutStopSec), and its pool `shop` lets \
             sessions finish for 30s"
        ),
        "{report}"
    );
    assert!(report.contains("= help: TimeoutStopSec=36"), "{report}");
    // The same by PM2, whose default is shorter than a second look.
    let ecosystem =
        "{\"apps\": [{\"name\": \"shop\", \"script\": \"server.js\", \"env\": {\"PORT\": 3000}}]}";
    let watched = "[pool.supervisor]\ntype = \"pm2\"\nprocess = \"{name}\"\n";
    let report = found("ecosystem.config.json", ecosystem, own("finish", watched));
    assert!(
        report.contains("warning[session-cut]: `shop` is killed 1s600ms"),
        "{report}"
    );
}

/// As long as the drain, sessions that move at once, and times that say it already.
#[test]
fn process_with_enough_time_or_without_sessions_to_finish_is_not_shown() {
    for (name, text, config) in [
        ("shop-1.service", unit("30"), own("finish", WATCHED)),
        ("shop-1.service", unit("20"), own("move", WATCHED)),
        (
            "shop-1.service",
            unit("20"),
            own(
                "finish",
                &format!("{WATCHED}[pool.drain]\ndeadline = \"15s\"\n"),
            ),
        ),
        ("other.service", unit("20"), own("finish", WATCHED)),
    ] {
        let report = found(name, &text, config);
        assert!(!report.contains("session-cut"), "{report}");
    }
    let launched = "[Service]\nExecStart=/usr/bin/lameduck exec --pool shop --drain-timeout 30s -- node app.mjs\n\
        Type=notify\nKillMode=mixed\nTimeoutStopSec=20\n";
    let report = found("x.service", launched, own("finish", ""));
    assert!(!report.contains("session-cut"), "{report}");
    assert!(
        report.contains("error[kill-timeout]")
            && report.contains("30s drain, in which sessions finish + 5s"),
        "{report}"
    );
}
