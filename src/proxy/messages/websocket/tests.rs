use super::*;
use proptest::prelude::*;

/// Returns a frame with a payload of `length` zeros.
fn frame(first: u8, length: u64, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(mask | length as u8),
        126..=65535 => {
            frame.push(mask | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    if masked {
        frame.extend_from_slice(&[1, 2, 3, 4]);
    }
    frame.resize(frame.len() + length as usize, 0);
    frame
}

#[test]
fn boundaries_are_where_frames_end() {
    for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
        for masked in [false, true] {
            let bytes = frame(0x82, length, masked);
            let mut tracker = FrameTracker::new();
            assert!(tracker.at_boundary());
            assert_eq!(tracker.next_boundary(&bytes), Some(0));
            tracker.feed(&bytes[..1]);
            assert!(!tracker.at_boundary());
            assert_eq!(tracker.next_boundary(&bytes[1..]), Some(bytes.len() - 1));
            assert_eq!(tracker.next_boundary(&bytes[1..bytes.len() - 1]), None);
            let two = [&bytes[1..], &bytes[..]].concat();
            assert_eq!(tracker.next_boundary(&two), Some(bytes.len() - 1));
            tracker.feed(&bytes[1..]);
            assert!(tracker.at_boundary() && !tracker.saw_close());
        }
    }
}

#[test]
fn next_boundary_changes_nothing() {
    let bytes = frame(0x88, 300, true);
    let mut tracker = FrameTracker::new();
    tracker.feed(&bytes[..3]);
    assert_eq!(tracker.next_boundary(&bytes[3..]), Some(bytes.len() - 3));
    assert!(!tracker.saw_close() && !tracker.at_boundary());
    assert_eq!(tracker.next_boundary(&[]), None);
}

/// RFC 6455 §5.5.1.
#[test]
fn close_frame_is_detected() {
    let mut tracker = FrameTracker::new();
    tracker.feed(&[frame(0x81, 5, true), frame(0x89, 0, true)].concat());
    assert!(!tracker.saw_close());
    tracker.feed(&frame(0x88, 2, true));
    assert!(tracker.saw_close() && tracker.at_boundary());
}

/// RFC 6455 §5.2: the most significant bit of a length must be 0.
#[test]
fn impossible_length_makes_the_frames_invalid() {
    let mut tracker = FrameTracker::new();
    tracker.feed(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert!(tracker.is_broken() && !tracker.at_boundary());
    assert_eq!(tracker.next_boundary(&[0; 100]), None);
    tracker.feed(&[0; 100]);
    assert!(tracker.is_broken());
}

#[test]
fn close_frames() {
    assert_eq!(close_frame(1001, "", None), [0x88, 2, 0x03, 0xe9]);
    assert_eq!(
        close_frame(1012, "bye", None),
        [&[0x88, 5, 0x03, 0xf4][..], b"bye"].concat()
    );
    let key = [9, 8, 7, 6];
    let masked = close_frame(1012, "restarting", Some(key));
    assert_eq!(&masked[..6], [0x88, 0x80 | 12, 9, 8, 7, 6]);
    let plain: Vec<u8> = masked[6..]
        .iter()
        .zip(key.iter().cycle())
        .map(|(b, k)| b ^ k)
        .collect();
    assert_eq!(plain, [&[0x03, 0xf4][..], b"restarting"].concat());
    let mut tracker = FrameTracker::new();
    tracker.feed(&masked);
    assert!(tracker.at_boundary() && tracker.saw_close());
}

/// RFC 6455 §5.5: at most 125 bytes, and the reason is UTF-8.
#[test]
fn a_long_reason_is_cut_between_characters() {
    let long = close_frame(1001, &"\u{e9}".repeat(100), None);
    assert_eq!(long.len(), 2 + 2 + 122);
    assert_eq!(
        std::str::from_utf8(&long[4..]).unwrap(),
        "\u{e9}".repeat(61)
    );
    assert_eq!(close_frame(1001, &"a".repeat(200), None)[1], 125);
}

proptest! {
    /// However the bytes are split, the boundaries are the frames' ends.
    #[test]
    fn boundaries_do_not_depend_on_the_split(lengths in prop::collection::vec(prop_oneof![0u64..200, 60_000u64..70_000], 1..6), masked: bool, cuts in prop::collection::vec(1usize..5000, 1..40)) {
        let frames: Vec<_> = lengths.iter().map(|length| frame(0x82, *length, masked)).collect();
        let mut ends: Vec<usize> = vec![0];
        for frame in &frames {
            ends.push(ends.last().unwrap() + frame.len());
        }
        let bytes = frames.concat();
        let (mut tracker, mut at) = (FrameTracker::new(), 0);
        for cut in cuts.iter().cycle() {
            prop_assert_eq!(tracker.at_boundary(), ends.contains(&at));
            let next = ends.iter().find(|end| **end >= at).unwrap();
            prop_assert_eq!(tracker.next_boundary(&bytes[at..]), Some(next - at));
            if at == bytes.len() { break; }
            let piece = &bytes[at..(at + cut).min(bytes.len())];
            tracker.feed(piece);
            at += piece.len();
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0usize..80) {
        let cut = cut.min(bytes.len());
        let (mut one, mut two) = (FrameTracker::new(), FrameTracker::new());
        one.feed(&bytes);
        two.feed(&bytes[..cut]);
        if let Some(end) = two.next_boundary(&bytes[cut..]) {
            let mut there = two.clone();
            there.feed(&bytes[cut..cut + end]);
            prop_assert!(there.at_boundary());
        }
        two.feed(&bytes[cut..]);
        prop_assert_eq!(one.at_boundary(), two.at_boundary());
        prop_assert_eq!(one.saw_close(), two.saw_close());
        prop_assert_eq!(one.is_broken(), two.is_broken());
    }
}

/// The example of RFC 6455 §1.3.
#[test]
fn accept_field_is_derived_from_the_key() {
    let (key, answer) = (b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(accepts(key, answer));
    assert!(!accepts(b"dGhlIHNhbXBsZSBub25jZQ=", answer));
    assert!(!accepts(key, b""));
    assert_eq!(encode_base64(b"ab"), b"YWI=");
    assert_eq!(encode_base64(b"a"), b"YQ==");
}
