//! A lifted drain: at once while it was under way, after fresh passes where it was complete.

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;
use lameduck::registry::view::ResumeRequest;
use lameduck::rt::clock;

use crate::rig::Rig;

#[lameduck_rig::test]
async fn from_drained_it_opens_after_fresh_passes() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    for _ in 0..10 {
        rig.probe("a", ProbeResult::Pass);
    }
    rig.settled().await;
    let (before, now) = (clock::now(), rig.probed("a", |probed| probed.now));
    assert_eq!(rig.resume("a", false).await.unwrap().state, "starting");
    let (later, cadence) = rig.probed("a", |probed| (probed.now, probed.cadence));
    assert_eq!(later, now + 1, "probed at once");
    assert_eq!((cadence.interval.as_millis(), cadence.keep), (100, true));
    rig.probe_begun("a", ProbeResult::Pass, None, before);
    rig.probe("a", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rig.state("a").await, "starting");
    assert!(rig.endpoint("a").permit(0).is_none());
    rig.probe("a", ProbeResult::Pass);
    rig.becomes("a", "ready").await;
    assert!(rig.endpoint("a").permit(0).is_some());
}

#[lameduck_rig::test]
async fn waiting_for_it_takes_as_long_as_the_passes() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    let resume = |wait: &str| {
        let (handle, wait) = (rig.handle.clone(), Some(wait.to_owned()));
        let request = ResumeRequest {
            wait,
            ..ResumeRequest::default()
        };
        tokio::spawn(async move { handle.resume("app", "a", request).await })
    };
    let refusal = resume("20ms").await.unwrap().unwrap_err();
    assert!(matches!(refusal, RegistryError::NotReady { state, .. } if state == "starting"));
    let waiting = resume("10s");
    rig.settled().await;
    rig.ready("a").await;
    assert_eq!(waiting.await.unwrap().unwrap().state, "ready");
}

#[lameduck_rig::test]
async fn a_dead_process_is_not_opened() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    rig.resume("a", false).await.unwrap();
    rig.probe("a", ProbeResult::Refused);
    rig.settled().await;
    assert_eq!(rig.state("a").await, "starting");
}
