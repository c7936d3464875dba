//! Lines by configuration: chosen fields, a share of requests, and destinations.

use super::*;
use crate::config::{LogField, SyslogTarget};

fn chosen(names: &[&str]) -> config::AccessLogConfig {
    let text = format!(
        "[access_log]\nfields = {names:?}\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[pool]]\nname = \"a\"\n[[pool.backend]]\naddress = \"127.0.0.1:1\"\n"
    );
    config::parse("test.toml", &text).unwrap().config.access_log
}

#[test]
fn all_fields_chosen_make_the_line_of_none_chosen() {
    let all: Vec<_> = LogField::WORDS.iter().map(|(word, _)| *word).collect();
    for record in [full(), AccessRecord::default()] {
        let all = line_by(&chosen(&all), &record);
        let expected = line_of(LogFormat::Json, &record);
        assert_eq!(
            String::from_utf8_lossy(&all),
            String::from_utf8_lossy(&expected)
        );
    }
}

#[test]
fn chosen_fields_come_in_their_order_in_both_forms() {
    let mut config = chosen(&["status", "held_ms", "host", "trace_id", "slow", "method"]);
    let line = line_by(&config, &full());
    assert_eq!(
        String::from_utf8_lossy(&line),
        "{\"status\":201,\"held_ms\":3.000,\"host\":\"shop.example.org\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"method\":\"POST\"}\n"
    );
    config.slow = Some(Duration::from_millis(12));
    config.format = LogFormat::Combined;
    let line = String::from_utf8(line_by(&config, &full())).unwrap();
    let (_, own) = line.split_once("\"curl/8.5.0\" ").unwrap();
    assert_eq!(
        own,
        "held_ms=3.000 host=\"shop.example.org\" trace_id=0af7651916cd43dd8448eb211c80319c slow=true\n"
    );
    let nothing = line_by(&chosen(&["end"]), &AccessRecord::default());
    assert_eq!(nothing, b"{}\n");
}

/// A plain success, of which only a share is logged.
fn plain() -> AccessRecord<'static> {
    AccessRecord {
        held: Duration::ZERO,
        retry_reason: "",
        restarts: "",
        end: "",
        cause: "",
        attempts: 1,
        ..full()
    }
}

#[test]
fn a_share_of_successes_is_logged_and_all_that_is_of_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::File(path.clone()),
        sample: 0.1,
        slow: Some(Duration::from_secs(1)),
        ..config::AccessLogConfig::default()
    })
    .unwrap();
    let of_note = [
        AccessRecord {
            status: 503,
            ..plain()
        },
        AccessRecord {
            status: 404,
            ..plain()
        },
        AccessRecord {
            status: 0,
            end: "client_closed",
            ..plain()
        },
        AccessRecord {
            end: "cut",
            ..plain()
        },
        AccessRecord {
            retry_reason: "connection_died",
            ..plain()
        },
        AccessRecord {
            held: Duration::from_millis(1),
            ..plain()
        },
        AccessRecord {
            duration: Duration::from_secs(1),
            ..plain()
        },
    ];
    for _ in 0..5000 {
        log.record(&plain());
    }
    for record in &of_note {
        log.record(record);
    }
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sampled = lines.iter().filter(|line| line["sample"] == 0.1).count();
    // The expected number is 500, with a standard deviation of 21.
    assert!((380..620).contains(&sampled), "{sampled}");
    assert_eq!(lines.len(), sampled + of_note.len());
    assert_eq!(lines.iter().filter(|line| line["slow"] == true).count(), 1);
}

#[test]
fn lines_to_syslog_begin_with_its_header_and_tell_how_much_they_matter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(SOON)).unwrap();
    let log = AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::Syslog(SyslogTarget::Unix(path)),
        slow: Some(Duration::from_secs(1)),
        ..config::AccessLogConfig::default()
    })
    .unwrap();
    for (record, severity) in [
        (plain(), 6),
        (
            AccessRecord {
                status: 502,
                ..plain()
            },
            3,
        ),
        (
            AccessRecord {
                end: "cut",
                ..plain()
            },
            4,
        ),
        (
            AccessRecord {
                duration: Duration::from_secs(2),
                ..plain()
            },
            5,
        ),
    ] {
        log.record(&record);
        let mut buffer = vec![0; 10_000];
        let length = daemon.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        let (header, message) = text.split_once(" - {").unwrap();
        let words: Vec<_> = header.split(' ').collect();
        let [first, time, host, "lameduck", pid, "access"] = words[..] else {
            panic!("{header}");
        };
        assert_eq!(first, format!("<{}>1", 3 * 8 + severity));
        assert!(
            humantime::parse_rfc3339(time).is_ok() && !host.is_empty(),
            "{header}"
        );
        assert_eq!(pid, std::process::id().to_string());
        serde_json::from_str::<Value>(&format!("{{{message}")).unwrap();
    }
}

#[test]
fn lines_to_the_journal_are_entries_with_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journal = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(SOON)).unwrap();
    let log = AccessLog::open(&config::AccessLogConfig {
        sink: LogSink::Journald(path),
        ..config::AccessLogConfig::default()
    })
    .unwrap();
    log.record(&AccessRecord {
        status: 502,
        ..plain()
    });
    let mut buffer = vec![0; 10_000];
    let length = journal.recv(&mut buffer).unwrap();
    let entry = String::from_utf8(buffer[..length].to_vec()).unwrap();
    for line in [
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=lameduck",
        "MESSAGE=POST shop.example.org/orders?id=7 502 12.345 ms by api-1",
        "LAMEDUCK_STATUS=502",
        "LAMEDUCK_POOL=api",
        "LAMEDUCK_TRACE_ID=0af7651916cd43dd8448eb211c80319c",
    ] {
        assert!(
            entry.lines().any(|found| found == line),
            "{line} is not in {entry}"
        );
    }
}
