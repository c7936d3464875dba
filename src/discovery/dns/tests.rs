use super::*;

fn target(host: &str, priority: u16, weight: u16) -> ServiceTarget {
    ServiceTarget {
        host: host.to_owned(),
        port: 80,
        priority,
        weight,
    }
}

fn found(addresses: &[&str]) -> FoundRecords<IpAddr> {
    FoundRecords {
        records: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        ttl: Duration::from_secs(30),
        ..FoundRecords::none()
    }
}

#[test]
fn order_of_addresses_means_nothing() {
    let addresses: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "::1"]
        .map(|ip| ip.parse().unwrap())
        .into();
    let set = address_backends(&addresses, 80);
    let turned: Vec<_> = addresses.iter().rev().chain(&addresses).copied().collect();
    assert_eq!(set, address_backends(&turned, 80));
    let names: Vec<_> = set.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0-0-0-0-0-0-0-1-80", "10.0.0.1-80", "10.0.0.2-80"]);
}

#[test]
fn services_have_weights_and_backups_and_stay_with_their_host() {
    let targets = [
        target("a.internal", 10, 0),
        target("b.internal", 10, 500),
        target("c.internal", 20, 1),
        target("gone.internal", 10, 1),
    ];
    let mut addresses: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for (host, ips) in [
        ("a.internal", vec!["10.0.0.1"]),
        ("b.internal", vec!["10.0.0.3", "10.0.0.2"]),
        ("c.internal", vec!["10.0.0.4"]),
    ] {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        addresses.insert(host.to_owned(), ips);
    }
    let set = service_backends(&targets, &addresses);
    let shown: Vec<_> = set
        .iter()
        .map(|(name, one)| format!("{name} {} {} {}", one.address, one.weight, one.is_backup))
        .collect();
    assert_eq!(
        shown,
        [
            "10.0.0.2-80 10.0.0.2:80 500 false",
            "10.0.0.3-80 10.0.0.3:80 500 false",
            "a.internal-80 10.0.0.1:80 1 false",
            "c.internal-80 10.0.0.4:80 1 true",
        ]
    );
    let heavy = [target("a.internal", 0, 65535), target("c.internal", 0, 655)];
    let set = service_backends(&heavy, &addresses);
    let weights: Vec<_> = set.iter().map(|(_, one)| one.weight).collect();
    assert_eq!(weights, [1000, 9]);
}

#[test]
fn a_family_that_fails_keeps_its_addresses() {
    let mut known = KnownAddresses::default();
    let error = || SourceError::new("SERVFAIL");
    let (both, failure) =
        both_families(Ok(found(&["10.0.0.1"])), Ok(found(&["::1"])), &mut known).unwrap();
    assert_eq!((both.records.len(), failure), (2, None));
    let (both, failure) =
        both_families(Ok(found(&["10.0.0.2"])), Err(error()), &mut known).unwrap();
    assert_eq!(both.records, found(&["10.0.0.2", "::1"]).records);
    assert_eq!(failure, Some(error()));
    assert!(both_families(Err(error()), Err(error()), &mut known).is_err());
}

#[test]
fn addresses_that_no_host_has_are_no_backends_and_mapped_ones_are_no_second_one() {
    let addresses = [
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "10.0.0.1",
    ];
    let addresses: Vec<IpAddr> = addresses.map(|ip| ip.parse().unwrap()).into();
    let set = address_backends(&addresses, 80);
    let names: Vec<_> = set.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["10.0.0.1-80"]);
    let by_host = HashMap::from([("a.internal".to_owned(), addresses)]);
    let set = service_backends(&[target("a.internal", 1, 1)], &by_host);
    let names: Vec<_> = set.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.internal-80"]);
}

#[test]
fn service_with_millions_of_addresses_takes_no_more_memory_than_what_is_refused() {
    let addresses = (0..4_000).map(|n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
    let by_host = HashMap::from([("a.internal".to_owned(), addresses.collect::<Vec<_>>())]);
    let targets: Vec<_> = (1..1_000)
        .map(|port| ServiceTarget {
            port,
            ..target("a.internal", 1, 1)
        })
        .collect();
    assert_eq!(service_backends(&targets, &by_host).len(), 20_001);
}
