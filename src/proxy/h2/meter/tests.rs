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
    assert!(meter.read(PREFACE));
    meter
}

/// How many of such frames it takes.
fn takes(meter: &mut Meter, frame: &[u8]) -> usize {
    (0..100_000).take_while(|_| meter.read(frame)).count()
}

#[test]
fn overhead_comes_to_an_end_and_work_does_not() {
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
        let taken = takes(&mut meter(0), &frame(kind, 0, length));
        assert!((2_000..2_100).contains(&taken), "{kind}: {taken}");
    }
    let taken = takes(&mut meter(0), &frame(kind::SETTINGS, 0, 0));
    assert!((200..220).contains(&taken), "{taken}");
    for (kind, flags, length) in [
        (kind::DATA, 0, 1),
        (kind::DATA, END_STREAM, 0),
        (kind::HEADERS, END_HEADERS, 10),
    ] {
        assert_eq!(takes(&mut meter(0), &frame(kind, flags, length)), 100_000);
    }
}

/// A client that only asks now and then whether we are there may do so for ever.
#[test]
fn what_comes_back_each_second_is_there_when_it_is_needed_first() {
    let mut meter = meter(0);
    let ping = frame(6, 0, 8);
    for _ in 0..2_000 {
        assert!(meter.read(&ping));
    }
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..5 {
        assert!(meter.read(&ping));
    }
}

/// Python's `h2` examples open both windows for every frame of a response, however small.
#[test]
fn a_client_that_opens_windows_for_every_small_frame_is_served() {
    let mut meter = meter(0);
    for _ in 0..100_000 {
        meter.wrote(9 + 60);
        assert!(meter.read(&frame(8, 0, 4)));
        assert!(meter.read(&frame(8, 0, 4)));
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
        assert!(meter.read(&[*byte]));
        assert_eq!(
            meter.open_block().is_some(),
            (8..end - 1).contains(&at),
            "{at}"
        );
    }
}
