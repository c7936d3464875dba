use super::*;

/// Returns an endpoint at this address, whose events go nowhere.
pub(crate) fn endpoint_at(address: std::net::SocketAddr) -> Endpoint {
    let (signals, _) = tokio::sync::mpsc::unbounded_channel();
    Endpoint::new(
        BackendKey(0),
        "pool".into(),
        "one".into(),
        Address::Socket(address),
        1,
        signals,
        Arc::default(),
    )
}

fn endpoint() -> Endpoint {
    endpoint_at(([127, 0, 0, 1], 9).into())
}

#[test]
fn backend_that_has_just_become_ready_skips_nearly_all_requests() {
    let endpoint = endpoint();
    endpoint.mark_ready(clock::now());
    assert!(endpoint.is_warming(Duration::from_secs(3600), u32::MAX / 2));
    assert!(!endpoint.is_warming(Duration::from_secs(3600), 0));
}

#[test]
fn backend_skips_no_requests_without_a_window_or_after_it() {
    let endpoint = endpoint();
    endpoint.mark_ready(clock::now());
    assert!(!endpoint.is_warming(Duration::ZERO, u32::MAX));
    std::thread::sleep(Duration::from_millis(5));
    assert!(!endpoint.is_warming(Duration::from_millis(2), u32::MAX));
}

fn connection(endpoint: &Arc<Endpoint>) -> Box<IdleConnection> {
    let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
    let stream = pingora::protocols::l4::stream::Stream::from(ours);
    Box::new(IdleConnection {
        stream: Box::new(stream),
        epoch: endpoint.epoch(),
        transport: 0,
        expires: Time::MAX,
        safe_until: Time::MAX,
        requests: 1,
        sent: 0,
        accepted: false,
        ticket: endpoint.connection_opened(),
    })
}

fn open() -> Arc<Endpoint> {
    let endpoint = Arc::new(endpoint());
    endpoint.gate.open();
    endpoint
}

#[tokio::test]
async fn connection_is_kept_only_if_it_may_stay_open() {
    let endpoint = open();
    endpoint.release(connection(&endpoint));
    assert_eq!(endpoint.idle.len(), 1);
    let old = connection(&endpoint);
    endpoint.begin_epoch(1);
    assert_eq!(endpoint.idle.len(), 0);
    endpoint.release(old);
    assert_eq!(endpoint.connections.open(), 0, "an epoch that is over");
    endpoint.gate.close();
    endpoint.release(connection(&endpoint));
    assert_eq!(endpoint.connections.open(), 0, "fail-open keeps nothing");
}

#[tokio::test]
async fn eviction_includes_a_connection_that_is_being_checked() {
    let endpoint = open();
    endpoint.release(connection(&endpoint));
    let mut looks = 0;
    // A new epoch begins while the reaper checks a connection, which is in no slot at that time.
    endpoint.close_outdated_idle(|_| {
        looks += 1;
        endpoint.begin_epoch(1);
        true
    });
    assert_eq!((looks, endpoint.idle.len()), (1, 0));
    assert_eq!(endpoint.connections.open(), 0);
}

#[tokio::test]
async fn events_are_reported_once_and_losses_no_later_than_quiet() {
    let (signals, mut queue) = tokio::sync::mpsc::unbounded_channel();
    let address = Address::Socket(([127, 0, 0, 1], 9).into());
    let endpoint = Endpoint::new(
        BackendKey(4),
        "pool".into(),
        "one".into(),
        address,
        1,
        signals,
        Arc::default(),
    );
    let endpoint = Arc::new(endpoint);
    endpoint.gate.open();
    endpoint.begin_epoch(7);
    let permits = [endpoint.permit(0).unwrap(), endpoint.permit(0).unwrap()];
    endpoint.gate.close();
    for permit in permits {
        endpoint.request_lost();
        drop(permit);
    }
    endpoint.hint();
    assert_eq!(queue.try_recv(), Ok(Wakeup(BackendKey(4))));
    assert!(queue.try_recv().is_err(), "one signal for all of it");
    let news = EndpointEvents {
        lost: 2,
        hint: true,
        peer_closed: false,
        outlier: false,
        quiet: Some(7),
    };
    assert_eq!(endpoint.take_news(), news);
    assert_eq!(endpoint.take_news(), EndpointEvents::default());
    endpoint.peer_closed();
    assert_eq!(queue.try_recv(), Ok(Wakeup(BackendKey(4))));
}

#[test]
fn backend_that_has_left_stays_closed() {
    let endpoint = open();
    let (permit, ticket) = (endpoint.permit(0).unwrap(), endpoint.connection_opened());
    endpoint.retire();
    assert_eq!(ticket.interrupt().level(), ShutdownLevel::Cut);
    assert!(endpoint.permit(0).is_none() && endpoint.permit_anyway().is_none());
    drop(ticket);
    drop(permit);
}
