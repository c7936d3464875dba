//! Lines compared byte for byte, because programs read them.

use super::*;

/// A line without its date, which comes from the clock.
fn undated(format: LogFormat, record: &AccessRecord<'_>) -> String {
    let line = String::from_utf8(line_of(format, record)).unwrap();
    let (before, date) = match format {
        LogFormat::Json => ("{\"time\":\"", "2026-07-29T12:34:56.789Z"),
        LogFormat::Combined => {
            let at = line.find('[').unwrap() + 1;
            return format!("{}{}", &line[..at], &line[at + 26..]);
        }
    };
    assert!(line.starts_with(before), "{line}");
    line[before.len() + date.len()..].to_owned()
}

/// A typical request.
fn usual() -> AccessRecord<'static> {
    AccessRecord {
        time: crate::rt::clock::now(),
        client: "127.0.0.1",
        method: b"GET",
        target: b"/hello",
        host: b"bench.example",
        version: "HTTP/1.1",
        status: 200,
        bytes_out: 5,
        duration: Duration::from_micros(123),
        upstream: Duration::from_micros(110),
        pool: "app",
        backend: "127.0.0.1:4321",
        attempts: 1,
        request_id: b"0123456789abcdef0123456789abcdef",
        user_agent: b"bench/1",
        ..AccessRecord::default()
    }
}

#[test]
fn usual_request_makes_this_line() {
    assert_eq!(
        undated(LogFormat::Json, &usual()),
        "\",\"client\":\"127.0.0.1\",\"method\":\"GET\",\"host\":\"bench.example\",\"target\":\"/hello\",\
         \"version\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\"bytes_out\":5,\"duration_ms\":0.123,\
         \"upstream_ms\":0.110,\"pool\":\"app\",\"backend\":\"127.0.0.1:4321\",\"attempts\":1,\
         \"request_id\":\"0123456789abcdef0123456789abcdef\",\"user_agent\":\"bench/1\"}\n"
    );
    assert_eq!(
        undated(LogFormat::Combined, &usual()),
        "127.0.0.1 - - [] \"GET /hello HTTP/1.1\" 200 5 \"-\" \"bench/1\" host=\"bench.example\" pool=app \
         backend=127.0.0.1:4321 attempts=1 duration_ms=0.123 upstream_ms=0.110 held_ms=0.000 bytes_in=0 \
         retry_reason=- end=- cause=\"-\" request_id=\"0123456789abcdef0123456789abcdef\"\n"
    );
}

#[test]
fn request_with_everything_makes_this_line() {
    let record = AccessRecord {
        user: "ada",
        ..full()
    };
    assert_eq!(
        undated(LogFormat::Json, &record),
        "\",\"client\":\"192.0.2.7\",\"method\":\"POST\",\"host\":\"shop.example.org\",\"target\":\"/orders?id=7\",\
         \"version\":\"HTTP/1.1\",\"status\":201,\"bytes_in\":42,\"bytes_out\":1024,\"duration_ms\":12.345,\
         \"upstream_ms\":11.007,\"pool\":\"api\",\"backend\":\"api-1\",\"attempts\":2,\"held_ms\":3.000,\"user\":\"ada\",\
         \"route\":\"shop-api\",\"retry_reason\":\"refused\",\"sticky\":\"moved\",\"end\":\"client_closed\",\
         \"cause\":\"none eligible\",\"request_id\":\"0123456789abcdef\",\"user_agent\":\"curl/8.5.0\",\
         \"referer\":\"https://example.org/\",\"restarts\":\"19a.7-3:retried+held\",\
         \"trace_id\":\"0af7651916cd43dd8448eb211c80319c\"}\n"
    );
}

#[test]
fn texts_that_need_escapes_make_these_lines() {
    let record = AccessRecord {
        method: b"G\"T",
        target: b"/\\\x1b[2J?\xff",
        host: "é\n.example".as_bytes(),
        user: "a b",
        user_agent: b"a rather long one\tof more than one block \x7f",
        ..usual()
    };
    assert_eq!(
        undated(LogFormat::Json, &record),
        "\",\"client\":\"127.0.0.1\",\"method\":\"G\\\"T\",\"host\":\"é\\n.example\",\"target\":\"/\\\\\\u001b[2J?\\\\xff\",\
         \"version\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\"bytes_out\":5,\"duration_ms\":0.123,\
         \"upstream_ms\":0.110,\"pool\":\"app\",\"backend\":\"127.0.0.1:4321\",\"attempts\":1,\"user\":\"a b\",\
         \"request_id\":\"0123456789abcdef0123456789abcdef\",\
         \"user_agent\":\"a rather long one\\tof more than one block \\u007f\"}\n"
    );
    assert_eq!(
        undated(LogFormat::Combined, &record),
        "127.0.0.1 - a_b [] \"G\\x22T /\\x5c\\x1b[2J?\\xff HTTP/1.1\" 200 5 \"-\" \
         \"a rather long one\\x09of more than one block \\x7f\" host=\"\\xc3\\xa9\\x0a.example\" pool=app \
         backend=127.0.0.1:4321 attempts=1 duration_ms=0.123 upstream_ms=0.110 held_ms=0.000 bytes_in=0 \
         retry_reason=- end=- cause=\"-\" request_id=\"0123456789abcdef0123456789abcdef\"\n"
    );
}

#[test]
fn numbers_and_times_of_every_length_are_written_out() {
    for number in [
        0,
        9,
        10,
        99,
        100,
        105,
        999,
        1_000,
        1_005,
        9_999,
        10_000,
        4_294_967_296,
        u64::MAX,
    ] {
        let record = AccessRecord {
            bytes_out: number,
            ..usual()
        };
        let line = undated(LogFormat::Json, &record);
        assert!(
            line.contains(&format!(",\"bytes_out\":{number},\"")),
            "{line}"
        );
    }
    for (time, text) in [
        (Duration::from_nanos(999), "0.000"),
        (Duration::from_micros(7), "0.007"),
        (Duration::from_micros(1_000), "1.000"),
        (Duration::from_micros(10_090), "10.090"),
        (Duration::from_micros(999_999), "999.999"),
        (Duration::from_secs(1), "1000.000"),
        (Duration::from_micros(4_294_967_295), "4294967.295"),
        (Duration::from_micros(4_294_967_296), "4294967.296"),
        (Duration::MAX, "18446744073709551.615"),
    ] {
        let record = AccessRecord {
            duration: time,
            ..usual()
        };
        let line = undated(LogFormat::Json, &record);
        assert!(
            line.contains(&format!(",\"duration_ms\":{text},\"")),
            "{line}"
        );
    }
}

#[test]
fn long_texts_are_cut_and_marked_whatever_is_in_them() {
    let cases = [
        (b'x', "x", 2_049),
        (b'"', "\\\"", 2_049),
        (b'x', "x", 60_000),
    ];
    for (byte, escaped, length) in cases {
        let (agent, target) = (vec![byte; length], vec![b'y'; 8_193]);
        let record = AccessRecord {
            user_agent: &agent,
            target: &target,
            ..usual()
        };
        let line = undated(LogFormat::Json, &record);
        let agent = format!("\"user_agent\":\"{}…\"}}\n", escaped.repeat(2_048));
        assert!(line.ends_with(&agent), "{line}");
        let target = format!("\"target\":\"{}…\",", "y".repeat(8_192));
        assert!(line.contains(&target), "{line}");
    }
}

#[test]
fn line_that_just_fits_is_complete_and_a_longer_one_is_reported() {
    let config = config::AccessLogConfig::default();
    let layout = LineLayout::new(&config);
    let length = line_by(&config, &usual()).len();
    for size in 0..length + 2 {
        let mut room = vec![0; size];
        let mut stamp = timestamp::TimestampText::default();
        let written = format::line(&mut room, &layout, &mut stamp, &usual());
        // One byte stays free: it shows that the others were enough.
        assert_eq!(written, (size > length).then_some(length), "{size}");
    }
}

proptest! {
    #[test]
    fn line_is_the_same_whether_its_texts_were_escaped_one_by_one_or_not(
        texts in prop::collection::vec(prop::collection::vec(prop_oneof![40 => 0x23u8..0x5c, 1 => any::<u8>()], 0..60), 5),
        is_json in any::<bool>(),
    ) {
        let format = if is_json { LogFormat::Json } else { LogFormat::Combined };
        let record = AccessRecord {
            method: &texts[0],
            target: &texts[1],
            host: &texts[2],
            user_agent: &texts[3],
            referer: &texts[4],
            ..usual()
        };
        let layout = LineLayout::new(&config::AccessLogConfig { format, ..config::AccessLogConfig::default() });
        let mut stamp = timestamp::TimestampText::default();
        let (mut room, mut escaped) = (vec![0; format::room(&record)], vec![0; format::room(&record)]);
        let length = format::line(&mut room, &layout, &mut stamp, &record);
        let expected = format::escaped_line(&mut escaped, &layout, &mut stamp, &record);
        prop_assert_eq!(length, expected);
        prop_assert_eq!(&room[..length.unwrap()], &escaped[..length.unwrap()]);
    }
}
