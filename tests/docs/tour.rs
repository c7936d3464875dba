//! The README's five minutes, typed in order in an empty directory.

use std::time::Duration;

use crate::shell::{Shell, answers, has, missing, plain, ports, script, typed};
use crate::{Block, blocks};

/// From the first thing typed to the last, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The proxy starts in the background, and a person needs a moment before the next command.
const MOMENT: &str =
    "for _ in $(seq 300); do lameduck status 2>&1 | grep -q '2 of 2' && break; sleep 0.1; done";

fn tour() -> Vec<Block> {
    let text = std::fs::read_to_string("README.md").unwrap();
    let begin = text.find("## Five minutes").unwrap();
    let end = text.find("### What `/health` must answer").unwrap();
    blocks(&text[begin..end])
}

/// The whole tour, with other ports, and `app` for the app's command.
fn take(app: Option<&str>) {
    let [first, second, front] = ports();
    let localised = |text: &str| {
        let text = text
            .replace("3001", &first.to_string())
            .replace("3002", &second.to_string())
            .replace("8080", &front.to_string());
        match app {
            Some(app) => text.replace("node app.mjs", app),
            None => text,
        }
    };
    let mut shell = Shell::new();
    let mut all = Vec::new();
    for block in tour() {
        match block.language.as_str() {
            "js" => shell.write("app.mjs", &block.text),
            "sh" | "console" => all.extend(typed(&block.language, &localised(&block.text))),
            other => panic!("nobody knows what to do with {other}"),
        }
    }
    for typed in &mut all {
        if typed.command.contains("lameduck run") {
            typed.command = format!("{}\n{MOMENT}", typed.command.trim_end());
        }
    }
    assert!(all.len() >= 9, "only {} commands found", all.len());
    let ended = shell.run(&script(&all), PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.output);
    let answers = answers(&ended.output);
    assert_eq!(answers.len(), all.len(), "{}", ended.output);
    for (typed, (printed, code)) in all.iter().zip(answers) {
        let whole = &ended.output;
        assert_eq!(code, "0", "{}\n{whole}", typed.command);
        // Only the Node app says which process it is.
        let ours = |line: &&String| app.is_none() || !line.contains("hello from");
        let shown: Vec<_> = typed.shown.iter().filter(ours).cloned().collect();
        if let Some(line) = missing(&shown, &printed) {
            panic!("{}\ndoesn't print\n{line}\nbut\n{whole}", typed.command);
        }
    }
    assert!(shell.is_quiet(), "something still runs\n{}", ended.output);
    assert_eq!(shell.files(), ["app.mjs"], "{}", ended.output);
}

#[test]
fn tour_with_the_built_in_app_runs_and_leaves_nothing() {
    take(Some("lameduck demo-app"));
}

#[test]
fn tour_with_node_runs_and_leaves_nothing() {
    if !has("node") {
        eprintln!("skipped: needs node");
        assert!(std::env::var_os("CI").is_none(), "CI has node");
        return;
    }
    take(None);
}

#[test]
fn lines_are_compared_without_what_differs() {
    assert_eq!(
        plain("app/app-1: drained in 1907 ms"),
        "app/app-N: drained in N s"
    );
    assert_eq!(
        plain("  app-1  0   127.0.0.1:3001"),
        plain("app-1 12 127.0.0.1:45678")
    );
    let shown = ["a 1", "...", "c 3"].map(str::to_owned);
    assert_eq!(missing(&shown, "a 9\nb\nc 10\n"), None);
    assert_eq!(
        missing(&shown, "c 9\na 1\n").map(String::as_str),
        Some("c 3")
    );
}
