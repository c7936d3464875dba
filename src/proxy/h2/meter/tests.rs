use std::time::Duration;

use super::*;

fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![
        0,
        (length >> 8) as u8,
        length as u8,
        kind,
        flags,
        0,
        0,
        0,
        1,
    ];
    frame.resize(9 + length, 0);
    frame
}

fn meter(resets: u32) -> Meter {
    let mut meter = Meter::new(resets);
    assert!(meter.read(PREFACE, |_, _| {}));
    meter
}

/// Returns how many such frames the meter accepts.
fn takes(meter: &mut Meter, frame: &[u8]) -> usize {
    (0..100_000)
        .take_while(|_| meter.read(frame, |_, _| {}))
        .count()
}

/// Returns the maximum credit that the time since `began` can have restored.
fn earned_since(began: Time) -> usize {
    let took = clock::now().saturating_sub(began);
    (took.as_millis() as usize + 1) * PER_SECOND as usize / 1000
}

#[test]
fn overhead_uses_up_the_credit_and_work_does_not() {
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const PRIORITY: u8 = 2;
    for (kind, length) in [
        (PING, 8),
        (WINDOW_UPDATE, 4),
        (PRIORITY, 5),
        (kind::DATA, 0),
        (kind::CONTINUATION, 0),
        (0xaa, 0),
    ] {
        let began = clock::now();
        let taken = takes(&mut meter(0), &frame(kind, 0, length));
        let most = 2_100 + earned_since(began);
        assert!((2_000..most).contains(&taken), "{kind}: {taken}");
    }
    let began = clock::now();
    let taken = takes(&mut meter(0), &frame(kind::SETTINGS, 0, 0));
    let most = 220 + earned_since(began);
    assert!((200..most).contains(&taken), "{taken}");
    for (kind, flags, length) in [
        (kind::DATA, 0, 1),
        (kind::DATA, END_STREAM, 0),
        (kind::HEADERS, END_HEADERS, 10),
    ] {
        assert_eq!(takes(&mut meter(0), &frame(kind, flags, length)), 100_000);
    }
}

/// A client that only checks from time to time whether the proxy responds may do so for ever.
#[test]
fn restored_credit_is_available_when_first_needed() {
    let mut meter = meter(0);
    let ping = frame(6, 0, 8);
    for _ in 0..2_000 {
        assert!(meter.read(&ping, |_, _| {}));
    }
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..5 {
        assert!(meter.read(&ping, |_, _| {}));
    }
}

/// Python's `h2` examples open both windows for every frame of a response, however small.
#[test]
fn a_client_that_opens_windows_for_every_small_frame_is_served() {
    let mut meter = meter(0);
    for _ in 0..100_000 {
        assert!(meter.wrote(&frame(kind::DATA, 0, 60)));
        assert!(meter.read(&frame(8, 0, 4), |_, _| {}));
        assert!(meter.read(&frame(8, 0, 4), |_, _| {}));
    }
}

#[test]
fn streams_that_are_reset_at_once_are_counted_against_those_that_are_not() {
    let request = frame(kind::HEADERS, END_HEADERS, 10);
    let reset = frame(kind::RST_STREAM, 0, 4);
    let each = [&request[..], &reset[..]].concat();
    assert_eq!(takes(&mut meter(100), &each), 99);
    assert_eq!(takes(&mut meter(0), &each), 100_000);
    let some = [&request[..], &request[..], &request[..], &reset[..]].concat();
    assert_eq!(takes(&mut meter(100), &some), 100_000);
}

#[test]
fn a_header_block_is_open_until_its_last_byte() {
    let mut bytes = frame(kind::HEADERS, 0, 3);
    bytes.extend(frame(kind::CONTINUATION, 0, 3));
    bytes.extend(frame(kind::CONTINUATION, END_HEADERS, 3));
    let end = bytes.len();
    bytes.extend(frame(kind::DATA, 0, 3));
    let mut meter = meter(0);
    for (at, byte) in bytes.iter().enumerate() {
        assert!(meter.read(&[*byte], |_, _| {}));
        assert_eq!(
            meter.open_block().is_some(),
            (8..end - 1).contains(&at),
            "{at}"
        );
    }
}

fn reset_with(stream: u32, code: u32) -> Vec<u8> {
    let mut reset = frame(kind::RST_STREAM, 0, 4);
    reset[5..9].copy_from_slice(&stream.to_be_bytes());
    reset[9..].copy_from_slice(&code.to_be_bytes());
    reset
}

/// CVE-2025-8671: the client makes the proxy reset its streams instead of resetting them itself.
#[test]
fn provoked_resets_count_like_resets_by_the_client() {
    let request = frame(kind::HEADERS, END_HEADERS, 10);
    // PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM.
    for code in [1, 3, 5, 6, 7] {
        let mut meter = meter(100);
        let taken = (0..1_000)
            .take_while(|n| {
                // In slices of any size. A stream that is reset again counts once.
                let reset = reset_with(2 * n + 1, code);
                let answer = [frame(kind::DATA, 0, 300), reset.clone(), reset].concat();
                let (one, two) = answer.split_at(*n as usize % answer.len());
                meter.read(&request, |_, _| {}) && meter.wrote(one) && meter.wrote(two)
            })
            .count();
        assert_eq!(taken, 99, "{code}");
    }
}

/// NO_ERROR after a response that was complete before its request, INTERNAL_ERROR and CANCEL are caused by the proxy.
#[test]
fn resets_for_reasons_of_the_proxy_do_not_count() {
    let request = frame(kind::HEADERS, END_HEADERS, 10);
    let mut meter = meter(100);
    for n in 0..10_000 {
        assert!(meter.read(&request, |_, _| {}));
        assert!(meter.wrote(&reset_with(2 * n + 1, [0, 2, 8][n as usize % 3])));
    }
}

/// Padding is not stored, however much of it there is.
#[test]
fn content_is_reported_without_padding() {
    let mut padded = frame(kind::DATA, PADDED, 300);
    padded[9] = 200;
    let mut all_padding = frame(kind::DATA, PADDED, 256);
    all_padding[9] = 255;
    let bytes = [
        padded,
        frame(kind::DATA, 0, 40),
        all_padding,
        frame(kind::DATA, 0, 0),
        frame(kind::DATA, END_STREAM, 7),
    ]
    .concat();
    for piece in [1, 8, 9, 10, 11, bytes.len()] {
        let (mut meter, mut told) = (meter(0), Vec::new());
        for piece in bytes.chunks(piece) {
            assert!(meter.read(piece, |stream, length| told.push((stream, length))));
        }
        assert_eq!(told, [(1, 99), (1, 40), (1, 0), (1, 0), (1, 7)]);
    }
}
