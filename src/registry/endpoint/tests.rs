#![allow(clippy::unwrap_used)]
use super::*;

fn endpoint() -> Endpoint {
    let (signals, _) = tokio::sync::mpsc::unbounded_channel();
    let address = Address::Socket(([127, 0, 0, 1], 9).into());
    Endpoint::new(Key(0), "pool".into(), "one".into(), address, 1, signals)
}

#[test]
fn a_backend_that_has_just_become_ready_passes_up_nearly_everything() {
    let endpoint = endpoint();
    endpoint.mark_ready(clock::now());
    assert!(endpoint.is_warming(Duration::from_secs(3600), u32::MAX / 2));
    assert!(!endpoint.is_warming(Duration::from_secs(3600), 0));
}

#[test]
fn without_a_window_and_after_it_nothing_is_passed_up() {
    let endpoint = endpoint();
    endpoint.mark_ready(clock::now());
    assert!(!endpoint.is_warming(Duration::ZERO, u32::MAX));
    std::thread::sleep(Duration::from_millis(5));
    assert!(!endpoint.is_warming(Duration::from_millis(2), u32::MAX));
}
