//! The recipe for a new proxy that takes the place of an old one, as docs/shutdown-and-reload.md has it.

use crate::examples::{PATIENCE, Stage, block};
use crate::shell::Ended;

/// What should become of the old process: it is looked at for as long as that may take, or as it has to stay.
#[derive(Clone, Copy)]
enum OldProcess {
    Stays,
    Ends,
}

/// The recipe with a second configuration; whether the old process is still there afterwards.
fn hand_over(wanted: OldProcess, new: impl Fn(&str) -> String) -> (Ended, bool, Stage) {
    let (_, recipe) = block("docs/shutdown-and-reload.md", "NEW_PID");
    let mut stage = Stage::new();
    let old = std::fs::read_to_string(stage.shell.path("lameduck.toml")).unwrap();
    stage.shell.write("new.toml", &new(&old));
    let script = format!("unset LAMEDUCK_ADMIN\nOLD_PID=$(cat proxy.pid)\n{recipe}");
    let script = stage.localised(&script);
    let ended = stage.shell.run(&script, PATIENCE);
    let looks = match wanted {
        OldProcess::Stays => 30,
        OldProcess::Ends => 300,
    };
    let gone = format!(
        "for _ in $(seq {looks}); do kill -0 $(cat proxy.pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    );
    let stays = stage.shell.run(&gone, PATIENCE).code == 1;
    (ended, stays, stage)
}

#[test]
fn hand_over_ends_the_old_process_once_the_new_one_is_ready() {
    let (ended, stays, mut stage) = hand_over(OldProcess::Ends, |old| {
        let lines = old.replace("lameduck.sock", "new.sock");
        let http = lines
            .lines()
            .find(|line| line.starts_with("http"))
            .unwrap()
            .to_owned();
        lines.replace(&http, "http = \"\"")
    });
    assert_eq!((ended.code, stays), (0, false), "{}", ended.output);
    let front = stage.front;
    let after = stage
        .shell
        .run(&format!("curl -sf 127.0.0.1:{front}/"), PATIENCE);
    assert_eq!(after.code, 0, "{}", after.output);
}

#[test]
fn hand_over_to_what_cannot_start_ends_and_leaves_the_old_process() {
    let typo = |old: &str| old.replace("reuse_port = true", "reuse_prt = true");
    let (ended, stays, _stage) = hand_over(OldProcess::Stays, typo);
    assert_eq!((ended.code, stays), (0, true), "{}", ended.output);
    assert!(
        ended.output.contains("the old one stays"),
        "{}",
        ended.output
    );
    assert!(
        ended.output.contains("did you mean `reuse_port`"),
        "{}",
        ended.output
    );
}
