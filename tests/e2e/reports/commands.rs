//! The commands: what they write, and their exit codes.

use std::path::Path;
use std::process::Stdio;

use lameduck::tools::demo::proxy::DemoProxy;
use lameduck::tools::report::document::RestartReport;
use lameduck::tools::report::ledger::{LinePlace, LogLedger};
use lameduck::tools::report::log_file::read_lines;
use lameduck::tools::report::verify::{ReportVerdict, compare};
use tokio::process::Command;

use super::PATIENCE;
use crate::harness::exe;

/// What a command printed, and its exit code.
async fn lameduck(words: &[&str]) -> (i32, String) {
    let mut command = Command::new(exe());
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("LAMEDUCK_ADMIN");
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), text + &errors)
}

/// The report on everything.
pub async fn report(proxy: &DemoProxy, path: &Path) -> RestartReport {
    let socket = proxy.socket().to_str().unwrap();
    let path = path.to_str().unwrap();
    let (code, said) = lameduck(&[
        "report", "--since", "1h", "--json", "--admin", socket, "--output", path,
    ])
    .await;
    assert_eq!(code, 0, "{said}");
    RestartReport::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn verify(report: &RestartReport, log: &Path) -> ReportVerdict {
    let mut ledger = LogLedger::new(report);
    read_lines(log, |line, text, end| {
        ledger.add_line(LinePlace { file: 0, line }, text, end)
    })
    .unwrap();
    compare(report, &ledger, &[log.display().to_string()])
}

/// The commands: exit codes, forms, and a log in parts that are compressed.
pub async fn commands(proxy: &DemoProxy, made: &RestartReport, path: &Path, log: &Path) {
    let socket = proxy.socket().to_str().unwrap().to_owned();
    let run = async |words: &[&str]| {
        let mut all = vec!["report", "--since", "1h", "--admin", &socket];
        all.extend(words);
        lameduck(&all).await
    };
    let (code, said) = run(&["--fail-on", "lost,unfinished"]).await;
    assert_eq!(code, 7, "{said}");
    assert!(
        said.contains(&format!("--fail-on: lost: {}", made.total.lost)),
        "{said}"
    );
    assert_eq!(run(&["--fail-on", "unfinished,empty"]).await.0, 0);
    let (code, page) = run(&["--html"]).await;
    assert!(code == 0 && page.starts_with("<!doctype html>"), "{page}");
    let (code, table) = run(&["--markdown"]).await;
    assert!(code == 0 && table.contains("| backend |"), "{table}");

    // Rotated: the first half compressed by gzip, the rest by zstd.
    let text = std::fs::read(log).unwrap();
    let half = text.len() / 2
        + text[text.len() / 2..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap()
        + 1;
    let (old, new) = (
        log.with_extension("log.1.gz"),
        log.with_extension("log.zst"),
    );
    let mut packed = flate2::write::GzEncoder::new(
        std::fs::File::create(&old).unwrap(),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut packed, &text[..half]).unwrap();
    packed.finish().unwrap();
    std::fs::write(&new, zstd::encode_all(&text[half..], 1).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let (code, said) = lameduck(&["verify", path, "--log", old, new]).await;
    assert!(code == 0 && said.contains("agrees: "), "{code} {said}");
    let (code, said) = lameduck(&["verify", path, "--log", old]).await;
    assert!(
        code == 7 && said.contains("later lines may be missing"),
        "{code} {said}"
    );
    let (code, said) = lameduck(&["verify", path, "--log", old, old]).await;
    assert!(
        code == 1 && said.contains("begin with the same line"),
        "{code} {said}"
    );
    let (code, said) = lameduck(&["verify", path, "--log", path]).await;
    assert!(
        code == 1 && said.contains("no line of lameduck's access log"),
        "{code} {said}"
    );
}
