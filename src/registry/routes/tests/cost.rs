//! Cost of a lookup among routes with conditions.

use super::rules::{asked, exact, prefix, regex, table};
use crate::config::Route;

/// Returns the shortest of several times: other load on the machine only makes them longer.
fn time(mut task: impl FnMut()) -> std::time::Duration {
    let once = |_| {
        let start = std::time::Instant::now();
        task();
        start.elapsed()
    };
    (0..10).map(once).min().unwrap()
}

#[test]
fn cost_does_not_grow_with_hosts_paths_and_prefixes() {
    let lookups = |count: usize| {
        let routes: Vec<Route> = (0..count)
            .map(|i| Route {
                hosts: vec![format!("h{}.example.org", i % 1000)],
                methods: vec!["GET".into()],
                ..match i % 2 {
                    0 => prefix(&format!("/p/{i}"), 0),
                    _ => exact(&format!("/p/{i}"), 0),
                }
            })
            .collect();
        let table = table(&routes);
        let last = count - 1;
        let request = asked(
            &format!("h{}.example.org", last % 1000),
            &format!("/p/{last}"),
        );
        time(|| {
            (0..500)
                .for_each(|_| assert!(std::hint::black_box(&table).find_rule(&request).is_some()))
        })
    };
    let (few, many) = (lookups(2), lookups(20_000));
    assert!(many < few * 20, "{few:?} for 2 routes, {many:?} for 20,000");
}

/// With these patterns, a backtracking engine would not finish.
#[test]
fn hostile_path_of_a_mebibyte_takes_linear_time() {
    let t = table(&[
        regex("^/(a+)+$", 1),
        regex("^/(a|aa)*b$", 2),
        regex("(.*)(.*)(.*)(.*)x$", 3),
        regex("^(/[a-z]*)*\\.php$", 4),
        regex("[a-q][^u-z]{13}y", 5),
    ]);
    let search = |length: usize| {
        let request = asked("h", &format!("/{}!", "a".repeat(length)));
        time(|| assert!(t.find_rule(&request).is_none()))
    };
    let (short, long) = (search(1 << 19), search(1 << 20));
    assert!(
        long < short * 10,
        "{short:?} for 512 KiB, {long:?} for 1 MiB"
    );
}
