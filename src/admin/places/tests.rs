use futures_util::FutureExt;

use super::*;

fn is_out(slot: &ConnectionSlot) -> bool {
    slot.pushed_out().now_or_never().is_some()
}

fn address(text: &str) -> ConnectionSource {
    ConnectionSource::of(text.parse().unwrap())
}

#[test]
fn oldest_waiting_connection_of_the_largest_crowd_loses_its_place() {
    let places = DoorPlaces::new(true);
    let good = places.enter(address("10.0.0.1"));
    let crowd: Vec<_> = (0..WAITING)
        .map(|_| places.enter(address("10.0.0.9")))
        .collect();
    assert!(!is_out(&good), "older, but alone");
    assert!(is_out(&crowd[0]));
    assert!(!is_out(&crowd[1]));
    // Newcomers of other sources are no reason to push each other out.
    let other = places.enter(address("10.0.0.2"));
    assert!(is_out(&crowd[1]) && !is_out(&other) && !is_out(&good));
}

#[test]
fn pushed_out_connections_that_have_not_gone_hold_up_the_next_ones() {
    let places = DoorPlaces::new(true);
    let flood: Vec<_> = (0..2 * WAITING - 1)
        .map(|_| places.enter(address("10.0.0.9")))
        .collect();
    assert!(places.take_more());
    let last = places.enter(address("10.0.0.9"));
    assert!(!places.take_more(), "as many have to go as may stay");
    drop(flood);
    assert!(places.take_more());
    drop(last);
    assert_eq!(places.table.lock().open, 0);
}

#[test]
fn pushed_out_connection_has_its_first_request_answered_and_no_other() {
    let places = DoorPlaces::new(true);
    let (quick, slow) = (
        places.enter(address("10.0.0.9")),
        places.enter(address("10.0.0.9")),
    );
    assert!(quick.renew() && quick.renew());
    let flood: Vec<_> = (0..WAITING)
        .map(|_| places.enter(address("10.0.0.9")))
        .collect();
    assert!(is_out(&quick) && is_out(&slow));
    assert!(!quick.renew(), "what was sent ahead is no work any more");
    assert!(slow.renew() && !slow.renew());
    assert!(!is_out(&flood[WAITING - 1]));
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    assert_eq!(address("2001:db8::1"), address("2001:db8::2"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
}

#[test]
fn busy_connection_is_not_pushed_out_and_waits_again_afterwards() {
    let places = DoorPlaces::new(false);
    let first = places.enter(ConnectionSource::User(0));
    let busy = first.begin(AdminClass::Change).unwrap();
    let crowd: Vec<_> = (0..WAITING + 10)
        .map(|_| places.enter(ConnectionSource::User(0)))
        .collect();
    assert!(!is_out(&first));
    drop(busy);
    assert!(!is_out(&first), "it is the youngest now");
    assert!(is_out(&crowd[10]));
    assert_eq!(places.table.lock().waiting.len(), WAITING);
    drop((first, crowd));
    let table = places.table.lock();
    assert!(table.waiting.is_empty() && table.crowd.is_empty() && table.busy.is_empty());
}

#[test]
fn one_source_gets_half_of_a_class_and_loopback_all_of_it() {
    let places = DoorPlaces::new(true);
    let take = |source: ConnectionSource| {
        let slots = std::iter::repeat_with(|| places.enter(source).begin(AdminClass::Stream));
        slots.map_while(|busy| busy).collect::<Vec<_>>()
    };
    let stranger = take(address("10.0.0.9"));
    assert_eq!(stranger.len(), AdminClass::Stream.bound() / 2);
    let other = take(address("10.0.0.1"));
    assert_eq!(other.len(), AdminClass::Stream.bound() / 2);
    drop((stranger, other));
    assert_eq!(take(address("127.0.0.1")).len(), AdminClass::Stream.bound());
}

#[test]
fn requests_are_classed_by_what_they_wait_for() {
    let class = |method: Method, path: &str| AdminClass::of(&method, path);
    assert_eq!(class(Method::GET, "/-/ready"), None);
    assert_eq!(class(Method::GET, "/metrics"), None);
    assert_eq!(class(Method::GET, "/v1/pools"), Some(AdminClass::Read));
    assert_eq!(class(Method::GET, "/v1/events"), Some(AdminClass::Stream));
    let backend = "/v1/pools/app/backends/a";
    let at = |last: &str| class(Method::POST, &format!("{backend}/{last}"));
    assert_eq!(at("drain"), Some(AdminClass::Change));
    assert_eq!(at("lease"), Some(AdminClass::Lease));
    assert_eq!(class(Method::DELETE, backend), Some(AdminClass::Change));
}
