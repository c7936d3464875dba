//! The cases, by theme.

mod authority;
mod connect;
mod control;
mod fields;
mod floods;
mod flow;
mod frames;
mod headers;
mod hpack;
mod length;
mod preface;
mod pseudo;
mod responses;
mod streams;
mod target;
mod trailers;
mod why;

use super::case::Case;

/// All of them.
pub fn all() -> Vec<Case> {
    let themes = [
        ("Preface and SETTINGS", preface::cases()),
        ("Frames", frames::cases()),
        ("HEADERS and CONTINUATION", headers::cases()),
        ("HPACK", hpack::cases()),
        ("Streams", streams::cases()),
        ("Flow control", flow::cases()),
        ("PING, GOAWAY, PUSH_PROMISE, PRIORITY", control::cases()),
        ("Pseudo-header fields", pseudo::cases()),
        ("Authority", authority::cases()),
        ("Path", target::cases()),
        ("Fields", fields::cases()),
        ("Length", length::cases()),
        ("Trailers", trailers::cases()),
        ("CONNECT", connect::cases()),
        ("Responses", responses::cases()),
        ("Floods", floods::cases()),
    ];
    let mut all = Vec::new();
    for (theme, cases) in themes {
        for mut case in cases {
            case.theme = theme;
            let why = why::WHY
                .iter()
                .find(|(_, names)| names.contains(&case.name));
            case.differs = why.map_or("", |(why, _)| why);
            all.push(case);
        }
    }
    all
}

#[test]
fn reasons_are_about_cases() {
    let names: Vec<_> = all().iter().map(|case| case.name).collect();
    for (_, cases) in why::WHY {
        for case in *cases {
            assert!(names.contains(case), "no such case: {case}");
        }
    }
}
