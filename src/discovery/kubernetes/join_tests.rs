//! Tests of sets of slices.

use std::net::IpAddr;

use proptest::prelude::*;

use super::join::*;
use super::slice::*;
use super::version::ResourceVersion;

fn rules() -> JoinRules {
    JoinRules {
        port: PortChoice::Only,
        family: None,
    }
}

fn endpoint(address: &str, pod: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: address.parse().unwrap(),
        pod: (!pod.is_empty()).then(|| PodReference {
            name: pod.to_owned(),
            uid: format!("uid-{pod}"),
        }),
        zone: None,
        serving: true,
        terminating: false,
    }
}

fn ending(address: &str, pod: &str) -> SliceEndpoint {
    SliceEndpoint {
        terminating: true,
        ..endpoint(address, pod)
    }
}

fn slice(version: u64, endpoints: Vec<SliceEndpoint>) -> ParsedSlice {
    let is_v6 = endpoints.first().is_some_and(|e| e.address.is_ipv6());
    ParsedSlice {
        name: format!("app-{version}"),
        uid: String::new(),
        version: ResourceVersion::new(version.to_string()),
        family: Some(if is_v6 {
            AddressFamily::V6
        } else {
            AddressFamily::V4
        }),
        ports: ports(&[("http", 3000)]),
        endpoints,
    }
}

fn ports(ports: &[(&str, u16)]) -> Vec<SlicePort> {
    let port = |(name, number): &(&str, u16)| SlicePort {
        name: (*name).to_owned(),
        number: *number,
    };
    ports.iter().map(port).collect()
}

fn shown(slices: &[ParsedSlice], rules: &JoinRules) -> Vec<String> {
    let joined = join_slices(slices, rules);
    let endpoints = joined.endpoints.iter();
    endpoints
        .map(|e| format!("{} {} {:?}", e.name, e.address, e.condition))
        .collect()
}

#[test]
fn a_pod_that_ends_by_any_slice_of_any_family_is_ending() {
    let slices = [
        slice(
            9,
            vec![endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")],
        ),
        slice(4, vec![ending("fd00::1", "a")]),
        slice(3, vec![ending("10.0.0.2", "b")]),
    ];
    assert_eq!(
        shown(&slices, &rules()),
        ["a 10.0.0.1:3000 Terminating", "b 10.0.0.2:3000 Terminating"]
    );
}

#[test]
fn the_newer_slice_says_whether_a_pod_that_moves_is_serving() {
    let not_serving = SliceEndpoint {
        serving: false,
        ..endpoint("10.0.0.1", "a")
    };
    let slices = [
        slice(9, vec![not_serving.clone()]),
        slice(10, vec![endpoint("10.0.0.1", "a")]),
    ];
    assert_eq!(shown(&slices, &rules()), ["a 10.0.0.1:3000 Serving"]);
    let slices = [
        slice(10, vec![not_serving]),
        slice(9, vec![endpoint("10.0.0.1", "a")]),
    ];
    assert_eq!(shown(&slices, &rules()), ["a 10.0.0.1:3000 NotServing"]);
}

#[test]
fn a_stateful_sets_new_pod_counts_before_the_old_one_of_its_name() {
    let mut new = endpoint("10.0.0.9", "web-0");
    new.pod.as_mut().unwrap().uid = "another".to_owned();
    let slices = [
        slice(9, vec![ending("10.0.0.1", "web-0")]),
        slice(4, vec![new]),
    ];
    assert_eq!(shown(&slices, &rules()), ["web-0 10.0.0.9:3000 Serving"]);
}

#[test]
fn endpoints_without_a_pod_are_named_by_their_address() {
    let long = "p".repeat(254);
    let endpoints = vec![
        endpoint("10.0.0.1", ""),
        ending("10.0.0.2", ""),
        endpoint("10.0.0.3", &long),
    ];
    assert_eq!(
        shown(&[slice(1, endpoints)], &rules()),
        [
            "10.0.0.1-3000 10.0.0.1:3000 Serving",
            "10.0.0.2-3000 10.0.0.2:3000 Terminating",
            "10.0.0.3-3000 10.0.0.3:3000 Serving"
        ]
    );
    let slices = [slice(1, vec![endpoint("::1", ""), endpoint("fd00::1", "")])];
    let shown = shown(&slices, &rules());
    assert_eq!(
        shown,
        [
            "0-0-0-0-0-0-0-1-3000 [::1]:3000 Serving",
            "fd00-0-0-0-0-0-0-1-3000 [fd00::1]:3000 Serving"
        ]
    );
    for found in join_slices(&slices, &rules()).endpoints {
        crate::config::check_name(&found.name).unwrap();
    }
}

#[test]
fn both_families_are_one_backend_and_ipv4_goes_first() {
    let slices = [
        slice(1, vec![endpoint("fd00::1", "a"), endpoint("fd00::2", "b")]),
        slice(2, vec![endpoint("10.0.0.1", "a")]),
    ];
    assert_eq!(shown(&slices, &rules()), ["a 10.0.0.1:3000 Serving"]);
    let six = JoinRules {
        family: Some(AddressFamily::V6),
        ..rules()
    };
    assert_eq!(
        shown(&slices, &six),
        ["a [fd00::1]:3000 Serving", "b [fd00::2]:3000 Serving"]
    );
    assert_eq!(
        shown(&slices[..1], &rules()).len(),
        2,
        "where there is nothing else"
    );
}

#[test]
fn a_port_is_found_by_name_number_or_because_it_is_the_only_one() {
    let two = |number| ParsedSlice {
        ports: ports(&[("http", number), ("metrics", 9100)]),
        ..slice(
            u64::from(number),
            vec![endpoint("10.0.0.1", &format!("p{number}"))],
        )
    };
    let by =
        |port: PortChoice, slices: &[ParsedSlice]| shown(slices, &JoinRules { port, family: None });
    let named = PortChoice::Named("http".to_owned());
    assert_eq!(
        by(named, &[two(3000), two(4000)]),
        ["p3000 10.0.0.1:3000 Serving", "p4000 10.0.0.1:4000 Serving"],
        "a named targetPort has a number for each kind of pod"
    );
    assert_eq!(
        by(PortChoice::Number(9100), &[two(3000)]),
        ["p3000 10.0.0.1:9100 Serving"]
    );
    let bare = ParsedSlice {
        ports: Vec::new(),
        ..slice(1, vec![endpoint("10.0.0.1", "a")])
    };
    assert_eq!(
        by(PortChoice::Number(80), &[bare]),
        ["a 10.0.0.1:80 Serving"]
    );
}

#[test]
fn missing_port_is_reported_with_the_existing_ones() {
    let two = ParsedSlice {
        ports: ports(&[("http", 3000), ("metrics", 9100)]),
        ..slice(1, vec![endpoint("10.0.0.1", "a")])
    };
    let problem = |port| {
        let joined = join_slices([&two], &JoinRules { port, family: None });
        assert!(joined.endpoints.is_empty());
        joined.problem.unwrap().to_string()
    };
    assert_eq!(
        problem(PortChoice::Only),
        "the Service has several ports (http = 3000, metrics = 9100; 1 endpoints left out); write which one: `port = …`"
    );
    assert_eq!(
        problem(PortChoice::Number(80)),
        "the pods have no port 80, but http = 3000, metrics = 9100 (1 endpoints left out); `port` is the Service's \
         `targetPort`, not its `port`"
    );
    assert_eq!(
        problem(PortChoice::Named("web".to_owned())),
        "the Service has no port named \"web\", but http = 3000, metrics = 9100 (1 endpoints left out); correct `port`"
    );
}

#[test]
fn a_slice_without_endpoints_has_no_say_about_ports_or_families() {
    let empty = ParsedSlice {
        ports: Vec::new(),
        ..slice(1, Vec::new())
    };
    let joined = join_slices(
        [&empty, &slice(2, vec![endpoint("fd00::1", "a")])],
        &rules(),
    );
    assert_eq!((joined.endpoints.len(), joined.problem), (1, None));
}

/// A pod with its addresses and state.
fn pods() -> impl Strategy<Value = Vec<SliceEndpoint>> {
    let pod = (any::<bool>(), any::<bool>(), 0..3u8);
    proptest::collection::vec(pod, 0..40).prop_map(|pods| {
        let pod =
            |(number, (serving, terminating, zone)): (usize, (bool, bool, u8))| SliceEndpoint {
                serving,
                terminating,
                zone: (zone > 0).then(|| format!("zone-{zone}")),
                ..endpoint(
                    &IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]).to_string(),
                    &format!("pod-{number:02}"),
                )
            };
        pods.into_iter().enumerate().map(pod).collect()
    })
}

proptest! {
    /// Distributing pods to slices of any sizes, in any order, some of them in two slices at once (as when the
    /// controller moves them), does not change the result.
    #[test]
    fn slices_in_any_order_and_split_are_the_same_set(
        pods in pods(),
        places in proptest::collection::vec(0..5usize, 40),
        copies in proptest::collection::vec(proptest::option::of(0..5usize), 40),
        order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let whole = join_slices([&slice(1, pods.clone())], &rules());
        let mut parts: Vec<ParsedSlice> = (0..5).map(|n| slice(10 + n, Vec::new())).collect();
        for (n, pod) in pods.iter().enumerate() {
            parts[places[n]].endpoints.push(pod.clone());
            if let Some(copy) = copies[n].filter(|copy| *copy != places[n]) {
                parts[copy].endpoints.push(pod.clone());
            }
        }
        let shuffled = order.iter().map(|n| &parts[*n]);
        prop_assert_eq!(join_slices(shuffled, &rules()), whole);
    }

    /// An old copy from before a pod began to terminate, or became unready, has no effect.
    #[test]
    fn stale_copies_of_pods_that_end_are_never_used(
        pods in pods(),
        stale in proptest::collection::vec(any::<bool>(), 40),
        stale_first in any::<bool>(),
    ) {
        let old = pods.iter().zip(&stale).filter(|(_, stale)| **stale).map(|(pod, _)| SliceEndpoint {
            serving: true,
            terminating: false,
            ..pod.clone()
        });
        let (old, new) = (slice(1, old.collect()), slice(2, pods.clone()));
        let both = if stale_first { [&old, &new] } else { [&new, &old] };
        prop_assert_eq!(join_slices(both, &rules()), join_slices([&new], &rules()));
    }
}
