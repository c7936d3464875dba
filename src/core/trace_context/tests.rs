use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn traceparent_of_the_specification_is_read_and_written() {
    let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!((parent.span, parent.flags), (0xb7ad_6b71_6920_3331, 1));
    assert_eq!(&parent.write()[..], GOOD.as_bytes());
    assert_eq!(
        &trace_id_text(parent.trace)[..],
        b"0af7651916cd43dd8448eb211c80319c"
    );
}

/// The cases of the W3C's own test suite (`w3c/trace-context`, `test/test.py`), by their names there.
#[test]
fn broken_traceparents_are_refused() {
    let trace = "12345678901234567890123456789012";
    let span = "1234567890123456";
    for (case, value) in [
        ("empty", String::new()),
        ("header_name", format!("00_{trace}-{span}-01")),
        ("version_0xff", format!("ff-{trace}-{span}-01")),
        ("version_0xff_more", format!("ff-{trace}-{span}-01-x")),
        ("version_illegal", format!(".0-{trace}-{span}-01")),
        ("version_illegal_upper", format!("0.-{trace}-{span}-01")),
        ("version_too_long", format!("000-{trace}-{span}-01")),
        ("version_too_short", format!("0-{trace}-{span}-01")),
        (
            "trace_id_all_zero",
            format!("00-{}-{span}-01", "0".repeat(32)),
        ),
        (
            "trace_id_illegal",
            format!("00-.2345678901234567890123456789012-{span}-01"),
        ),
        (
            "trace_id_upper_case",
            format!("00-1234567890123456789012345678901A-{span}-01"),
        ),
        ("trace_id_too_long", format!("00-{trace}3-{span}-01")),
        (
            "trace_id_too_short",
            format!("00-{}-{span}-01", &trace[1..]),
        ),
        (
            "parent_id_all_zero",
            format!("00-{trace}-{}-01", "0".repeat(16)),
        ),
        (
            "parent_id_illegal",
            format!("00-{trace}-123456789012345.-01"),
        ),
        ("parent_id_too_long", format!("00-{trace}-{span}7-01")),
        (
            "parent_id_too_short",
            format!("00-{trace}-{}-01", &span[1..]),
        ),
        ("trace_flags_illegal", format!("00-{trace}-{span}-.0")),
        (
            "trace_flags_illegal_second",
            format!("00-{trace}-{span}-0."),
        ),
        ("trace_flags_upper_case", format!("00-{trace}-{span}-0A")),
        ("trace_flags_too_long", format!("00-{trace}-{span}-001")),
        ("trace_flags_too_short", format!("00-{trace}-{span}-1")),
        ("version_0x00_more", format!("00-{trace}-{span}-01-x")),
        ("version_0x00_dash", format!("00-{trace}-{span}-01-")),
        ("version_0xcc_no_dash", format!("cc-{trace}-{span}-01.x")),
        ("blank_before", format!(" 00-{trace}-{span}-01")),
        (
            "twice_in_one",
            format!("00-{trace}-{span}-01,00-{trace}-{span}-01"),
        ),
    ] {
        assert_eq!(
            TraceParent::parse(value.as_bytes()),
            None,
            "{case}: {value}"
        );
    }
}

#[test]
fn later_versions_are_read_as_far_as_they_are_known() {
    let rest = "12345678901234567890123456789012-1234567890123456";
    for value in [
        format!("cc-{rest}-01"),
        format!("cc-{rest}-01-what-the-future-will-be-like"),
        format!("cc-{rest}-01-"),
        format!("01-{rest}-ff"),
    ] {
        let parent = TraceParent::parse(value.as_bytes()).unwrap();
        let written = parent.write();
        assert_eq!(&written[..3], b"00-", "{value}");
        assert!(parent.is_sampled() && parent.flags <= 3, "{value}");
    }
}

/// For any bytes: no panic, and a value that was parsed is written as it was.
#[test]
fn any_bytes_are_refused_or_read_as_written() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let mut read = 0;
    for _ in 0..200_000 {
        let mut value = GOOD.as_bytes().to_vec();
        for _ in 0..next() % 3 {
            let at = next() % value.len();
            match next() % 4 {
                0 => value[at] = next() as u8,
                1 => value[at] = b"0123456789abcdef-"[next() % 17],
                2 => value.truncate(at.max(1)),
                _ => value.insert(at, b"0-f"[next() % 3]),
            }
        }
        let Some(parent) = TraceParent::parse(&value) else {
            continue;
        };
        read += 1;
        assert_ne!((parent.trace, parent.span), (0, 0));
        assert_eq!(parent.write()[3..52], value[3..52]);
        assert_eq!(TraceParent::parse(&parent.write()), Some(parent));
    }
    assert!(read > 50_000, "{read}");
}

#[test]
fn tracestates_of_the_test_suite_are_judged() {
    let long_key = "a".repeat(256);
    let long_value = "v".repeat(256);
    for good in [
        "foo=1".to_owned(),
        "foo=1,bar=2".to_owned(),
        "foo=1 \t , \t bar=2, \t baz=3".to_owned(),
        "foo=1,".to_owned(),
        ",foo=1,,bar=2".to_owned(),
        String::new(),
        "foo@=1".replace("@=", "@t="),
        "fw529a3039@dt=FfD8kAAAA".to_owned(),
        "0tenant@system=1".to_owned(),
        "a-_*/b=x y~!".to_owned(),
        format!("{long_key}={long_value}"),
        (0..32).map(|n| format!("k{n}=1,")).collect(),
    ] {
        assert!(is_state_valid(good.as_bytes()), "{good}");
    }
    for bad in [
        "foo".to_owned(),
        "foo=".to_owned(),
        "=1".to_owned(),
        "foo =1".to_owned(),
        "FOO=1".to_owned(),
        "foo.bar=1".to_owned(),
        "foo@=1".to_owned(),
        "@foo=1".to_owned(),
        "foo@@bar=1".to_owned(),
        "foo@bar@baz=1".to_owned(),
        "foo=1,foo=1".to_owned(),
        "foo=1,foo=2".to_owned(),
        "foo=bar=baz".to_owned(),
        "foo=\u{e9}".to_owned(),
        "foo=a\u{7f}".to_owned(),
        format!("{long_key}z=1"),
        format!("a={long_value}v"),
        (0..33).map(|n| format!("k{n}=1,")).collect(),
        ",".repeat(LONGEST_STATE + 1),
    ] {
        assert!(!is_state_valid(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn share_of_those_taken_is_what_was_asked_for() {
    // A fixed seed, so that the numbers are the same each time: splitmix64.
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    for (asked, low, high) in [
        (0.0, 0, 0),
        (0.000_001, 0, 4),
        (0.01, 3_800, 4_200),
        (0.5, 198_500, 201_500),
        (1.0, 400_000, 400_000),
    ] {
        let share = SampleShare::new(asked);
        let taken = (0..400_000).filter(|_| share.takes(next())).count();
        assert!((low..=high).contains(&taken), "{asked}: {taken}");
    }
    assert!(SampleShare::new(1.0).is_all() && !SampleShare::new(0.999_999).is_all());
}

#[test]
fn callers_decide_and_broken_contexts_go_no_further() {
    let sampled = TraceParent::parse(GOOD.as_bytes()).unwrap();
    let unsampled = TraceParent {
        flags: 0,
        ..sampled
    };
    let (none, all) = (SampleShare::new(0.0), SampleShare::new(1.0));
    for (parent, has_context, share, expected) in [
        (Some(sampled), true, none, TraceDecision::Join(sampled)),
        (Some(unsampled), true, all, TraceDecision::Pass(unsampled)),
        (None, true, none, TraceDecision::Strip),
        (None, true, all, TraceDecision::Begin),
        (None, false, none, TraceDecision::Absent),
        (None, false, all, TraceDecision::Begin),
    ] {
        assert_eq!(decide_trace(parent, has_context, share, 1), expected);
    }
}
