//! What an app and its hooks may do through the socket for apps, with the binary.

use std::process::{Command, Output};

use crate::rig::{Launched, Rig, exe, turn};

fn ask(rig: &Rig, line: &str) -> Output {
    let mut command = Command::new(exe());
    command.args(line.split_whitespace());
    command.env("LAMEDUCK_ADMIN", &rig.through);
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

async fn one_app(rig: &mut Rig) -> Launched {
    let launched = rig.launch("api-0", &["--lame-duck", "100ms"]);
    rig.ready("api-0").await;
    launched
}

#[lameduck_rig::test]
async fn app_drains_and_resumes_its_own_instance_and_no_operator_s_drain() {
    let _turn = turn().await;
    let mut rig = Rig::start().await;
    rig.through = rig.scratch.path().join("apps.sock");
    let mut app = one_app(&mut rig).await;

    let drained = ask(&rig, "drain app/api-0 --timeout 5s");
    assert!(drained.status.success(), "{}", told(&drained));
    let by: Vec<_> = rig.backends().await[0]
        .drains
        .iter()
        .map(|drain| drain.actor.clone())
        .collect();
    assert_eq!(by, ["supervisor"]);
    assert!(ask(&rig, "health app/api-0").status.success());
    // One of an id of its own, that `resume` lifts as well.
    let again = ask(&rig, "drain app/api-0 --timeout 5s --until restarted");
    assert!(again.status.success(), "{}", told(&again));
    assert_eq!(rig.backends().await[0].drains.len(), 2);

    // What an operator has closed stays closed.
    let own = std::mem::replace(&mut rig.through, rig.proxy.socket().to_owned());
    assert!(ask(&rig, "drain app/api-0 --timeout 5s").status.success());
    rig.through = own;
    let resumed = ask(&rig, "resume app/api-0");
    assert!(resumed.status.success(), "{}", told(&resumed));
    let drains = rig.backends().await[0].drains.clone();
    assert_eq!(drains.len(), 1, "{drains:?}");
    assert_eq!(drains[0].actor, "operator");
    let all = ask(&rig, "resume app/api-0 --all");
    assert!(!all.status.success());
    assert!(
        told(&all).contains("ask whoever runs the proxy"),
        "{}",
        told(&all)
    );

    for refused in [
        "status",
        "reload",
        "roll app -- true",
        "drain app/api-1",
        "register other/x 127.0.0.1:1",
    ] {
        let output = ask(&rig, refused);
        assert!(!output.status.success(), "{refused}: {}", told(&output));
    }
    // The launcher's own stop, lame duck included, needs no other socket.
    assert!(app.stop().await.success(), "{}", app.said());
    assert!(!app.said().contains("lame duck:"), "{}", app.said());
    rig.gone("api-0").await;
}
