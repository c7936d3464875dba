mod golden;
mod layouts;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{LogField, LogFormat, LogSink};

const SOON: Duration = Duration::from_secs(10);

fn to(path: &Path, format: LogFormat) -> AccessLog {
    AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::File(path.to_owned()),
        format,
        ..config::AccessLogConfig::default()
    })
    .unwrap()
}

fn full() -> AccessRecord<'static> {
    AccessRecord {
        time: crate::rt::clock::now(),
        client: "192.0.2.7",
        method: b"POST",
        target: b"/orders?id=7",
        host: b"shop.example.org",
        version: "HTTP/1.1",
        status: 201,
        bytes_in: 42,
        bytes_out: 1024,
        duration: Duration::from_micros(12_345),
        upstream: Duration::from_micros(11_007),
        held: Duration::from_millis(3),
        user: "",
        route: "shop-api",
        pool: "api",
        backend: "api-1",
        attempts: 2,
        retry_reason: "refused",
        sticky: "moved",
        request_id: b"0123456789abcdef",
        user_agent: b"curl/8.5.0",
        referer: b"https://example.org/",
        end: "client_closed",
        cause: "none eligible",
        restarts: "19a.7-3:retried+held",
        trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
    }
}

fn line_of(format: LogFormat, record: &AccessRecord<'_>) -> Vec<u8> {
    let config = config::AccessLogConfig {
        format,
        ..config::AccessLogConfig::default()
    };
    line_by(&config, record)
}

fn line_by(config: &config::AccessLogConfig, record: &AccessRecord<'_>) -> Vec<u8> {
    let mut room = vec![0; format::room(record)];
    let length = format::line(
        &mut room,
        &LineLayout::new(config),
        &mut timestamp::TimestampText::default(),
        record,
    )
    .unwrap();
    room.truncate(length);
    room
}

#[test]
fn a_json_line_has_every_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = to(&path, LogFormat::Json);
    log.record(&full());
    assert!(log.flush(SOON));
    let text = std::fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "time": line["time"], "client": "192.0.2.7", "method": "POST", "host": "shop.example.org",
        "target": "/orders?id=7", "version": "HTTP/1.1", "status": 201, "bytes_in": 42, "bytes_out": 1024,
        "duration_ms": 12.345, "upstream_ms": 11.007, "held_ms": 3.0, "route": "shop-api", "pool": "api", "backend": "api-1",
        "attempts": 2, "retry_reason": "refused", "request_id": "0123456789abcdef",
        "user_agent": "curl/8.5.0", "referer": "https://example.org/", "end": "client_closed",
        "cause": "none eligible", "sticky": "moved", "restarts": "19a.7-3:retried+held",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    });
    assert_eq!(line, expected);
    assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
}

#[test]
fn the_documentation_names_every_field() {
    let document = include_str!("../../../docs/access-log.md");
    for (field, _) in LogField::WORDS {
        assert!(document.contains(&format!("| `{field}` |")), "{field}");
    }
}

#[test]
fn unknown_fields_are_left_out() {
    let out = line_of(LogFormat::Json, &AccessRecord::default());
    let line: serde_json::Map<String, Value> = serde_json::from_slice(&out).unwrap();
    let mut told: Vec<_> = line.keys().map(String::as_str).collect();
    let mut always = [
        "time",
        "client",
        "method",
        "host",
        "target",
        "version",
        "status",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "upstream_ms",
        "pool",
        "backend",
        "attempts",
    ];
    told.sort_unstable();
    always.sort_unstable();
    assert_eq!(told, always);
}

#[test]
fn a_combined_line_reads_as_apache_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = to(&path, LogFormat::Combined);
    log.record(&full());
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(" [").unwrap();
    let (date, rest) = rest.split_once("] ").unwrap();
    assert_eq!(head, "192.0.2.7 - -");
    assert_eq!(date.len(), 26);
    assert_eq!(
        rest,
        "\"POST /orders?id=7 HTTP/1.1\" 201 1024 \"https://example.org/\" \"curl/8.5.0\" \
         host=\"shop.example.org\" pool=api backend=api-1 attempts=2 duration_ms=12.345 upstream_ms=11.007 \
         held_ms=3.000 bytes_in=42 retry_reason=refused end=client_closed cause=\"none eligible\" \
         request_id=\"0123456789abcdef\" route=shop-api sticky=moved restarts=19a.7-3:retried+held \
         trace_id=0af7651916cd43dd8448eb211c80319c\n"
    );
}

#[test]
fn reopen_follows_a_rotation_and_loses_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        dir.path().join("access.log"),
        dir.path().join("access.log.1"),
    );
    let log = to(&path, LogFormat::Json);
    log.record(&full());
    assert!(log.flush(SOON));
    std::fs::rename(&path, &rotated).unwrap();
    log.record(&full());
    log.reopen();
    assert!(log.flush(SOON));
    log.record(&full());
    drop(log);
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(&rotated), 2);
    assert_eq!(lines(&path), 1);
}

#[test]
fn an_unwritable_file_is_named_with_a_remedy() {
    let error = AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::File("/nonexistent/dir/access.log".into()),
        ..config::AccessLogConfig::default()
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("/nonexistent/dir/access.log"), "{error}");
    assert!(error.contains("[access_log]"), "{error}");
}

#[test]
fn log_that_is_off_takes_no_record() {
    let log = AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::Off,
        ..config::AccessLogConfig::default()
    })
    .unwrap();
    log.record(&full());
    assert!(!log.is_on());
    assert!(log.flush(Duration::ZERO));
}

#[test]
fn every_line_of_many_threads_arrives_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = to(&path, LogFormat::Json);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for count in 0..2_000 {
                    log.record(&AccessRecord {
                        bytes_in: count,
                        ..full()
                    });
                }
            });
        }
    });
    let dropped = log.dropped();
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = 0;
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
        lines += 1;
    }
    assert_eq!(lines + dropped, 12_000);
}

#[test]
fn a_reader_that_stopped_reading_stops_no_request() {
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let sink = AccessLogSink::from_file(File::from(OwnedFd::from(pipe)));
    let log = AccessLog::start(sink, LineLayout::new(&config::AccessLogConfig::default())).unwrap();
    // 8 MiB of buffers, a pipe, and one buffer that is being written hold about 20,000 of these lines.
    let long = vec![b'a'; 400];
    let asked = 60_000;
    for _ in 0..asked {
        log.record(&AccessRecord {
            target: &long,
            ..full()
        });
    }
    assert!(log.dropped() > 0);
    assert!(!log.flush(Duration::from_millis(50)));
    let arrived = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        text.lines().count() as u64
    });
    assert!(log.flush(SOON));
    let dropped = log.dropped();
    drop(log);
    assert_eq!(arrived.join().unwrap() + dropped, asked);
}

#[test]
fn a_writer_that_went_to_sleep_wakes_for_the_next_line() {
    let (reader, pipe) = std::io::pipe().unwrap();
    let log = AccessLog::start(
        AccessLogSink::from_file(File::from(OwnedFd::from(pipe))),
        LineLayout::new(&config::AccessLogConfig::default()),
    )
    .unwrap();
    // The writer's own idle time has to pass: only its flag tells that it has gone to sleep.
    let shared = &log.0.as_ref().unwrap().shared;
    while !shared.is_asleep() {
        std::thread::sleep(Duration::from_millis(20));
    }
    log.record(&full());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap();
}

proptest! {
    #[test]
    fn any_bytes_make_one_line_of_valid_json(
        method in prop::collection::vec(any::<u8>(), 0..20),
        target in prop::collection::vec(any::<u8>(), 0..300),
        host in ".*",
        user_agent in prop::collection::vec(any::<u8>(), 0..100),
        cause in ".*",
        seconds in any::<u32>(),
        nanos in any::<u64>(),
        long in 0usize..20_000,
    ) {
        let referer = vec![0xe2; long];
        let record = AccessRecord {
            time: Duration::from_secs(seconds.into()),
            method: &method,
            target: &target,
            host: host.as_bytes(),
            user_agent: &user_agent,
            referer: &referer,
            cause: &cause,
            duration: Duration::from_nanos(nanos),
            held: Duration::MAX,
            ..AccessRecord::default()
        };
        let out = line_of(LogFormat::Json, &record);
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(line["host"].as_str().unwrap(), host.as_str());
        let mut out = line_of(LogFormat::Combined, &record);
        prop_assert!(out.pop() == Some(b'\n'));
        prop_assert!(out.iter().all(|byte| (b' '..0x7f).contains(byte)));
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'"').count() % 2, 0);
    }
}
