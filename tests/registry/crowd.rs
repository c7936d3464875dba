//! Pools of very many backends: to write one down is no single piece of work for the registry's task.

use std::time::Duration;

use lameduck::core::backend::{BackendEvent, DerivedState, ProbeResult};
use lameduck::rt::clock;

use crate::rig::{Rig, TWO, pool, within};

/// Seconds would do, on a machine with nothing else to do.
const ENOUGH: Duration = Duration::from_secs(60);

const MANY: usize = 3_000;

/// So many that work for each of them about each of them would take minutes.
const CROWD: usize = 6_000;

fn crowd(backends: usize) -> String {
    let mut text = "[[pool]]\nname = \"app\"\n".to_owned();
    for n in 0..backends {
        let address = format!(
            "127.{}.{}.{}:80",
            n / 40_000 + 1,
            n / 200 % 200,
            n % 200 + 1
        );
        text += &format!("[[pool.backend]]\nname = \"b{n}\"\naddress = \"{address}\"\n");
    }
    text
}

/// A network that breaks, and is mended: each backend's restart begins and ends, and none looks at all others.
#[lameduck_rig::test]
async fn crowd_that_changes_all_at_once_is_dealt_with_in_time_in_proportion() {
    let rig = Rig::new(&crowd(CROWD));
    let keys: Vec<_> = rig.probes.lock().keys().copied().collect();
    assert_eq!(keys.len(), CROWD);
    let probes = [
        (ProbeResult::Pass, 2, CROWD),
        (ProbeResult::Refused, 5, 0),
        (ProbeResult::Pass, 3, CROWD),
    ];
    for (probe, times, ready) in probes {
        for _ in 0..times {
            for key in &keys {
                let event = BackendEvent::Probed {
                    probe,
                    began: clock::now(),
                    listener: None,
                };
                rig.handle.report(*key, event, String::new());
            }
        }
        let settled = tokio::time::timeout(ENOUGH, rig.handle.answers()).await;
        settled.expect("it takes too long").unwrap();
        assert_eq!(
            rig.handle.count_backends("app").await.unwrap(),
            (ready, CROWD),
            "{probe}"
        );
    }
    let restarts = rig.handle.restarts().list(1);
    assert!(restarts[0].ready.is_some(), "{restarts:?}");
    assert!(restarts[0].capacity_percent < 100.0, "{restarts:?}");
}

#[lameduck_rig::test]
async fn commands_are_answered_while_a_large_pool_is_written_down() {
    let small = "[[pool]]\nname = \"small\"\n[[pool.backend]]\naddress = \"127.0.0.1:9\"\n";
    let rig = Rig::new(&(crowd(MANY) + small + "[[route]]\npool = \"app\"\n"));
    rig.settled().await;
    for whole in [true, false] {
        let writing = async {
            match whole {
                true => drop(rig.handle.pools().await.unwrap()),
                false => drop(rig.handle.pool("app").await.unwrap()),
            }
        };
        tokio::select! {
            biased;
            () = writing => panic!("everybody had to wait for it"),
            answered = rig.handle.answers() => answered.unwrap(),
        }
    }
    let pools = rig.handle.pools().await.unwrap();
    let names: Vec<_> = pools
        .iter()
        .map(|pool| (&*pool.name, pool.backends.len()))
        .collect();
    assert_eq!(names, [("app", MANY), ("small", 1)]);
    let app = rig.handle.pool("app").await.unwrap();
    assert_eq!(app, pools[0]);
    let shown: Vec<_> = app.backends.iter().map(|one| one.name.clone()).collect();
    let all: Vec<_> = (0..MANY).map(|n| format!("b{n}")).collect();
    assert_eq!(shown, all);
    assert_eq!(rig.handle.count_backends("app").await.unwrap(), (0, MANY));
}

/// Metrics and the supervisor's status read it without a question.
#[lameduck_rig::test]
async fn endpoints_know_their_state_as_people_see_it() {
    let rig = Rig::new(&pool("", &TWO));
    rig.settled().await;
    let endpoint = rig.endpoint("a");
    assert_eq!(endpoint.state(), DerivedState::Starting);
    rig.ready("a").await;
    rig.ready("b").await;
    assert_eq!(endpoint.state(), DerivedState::Ready);
    rig.handle.drain("app", "a", within("5s")).await.unwrap();
    assert_eq!(endpoint.state(), DerivedState::Drained);
    for _ in 0..5 {
        rig.probe("b", ProbeResult::Refused);
    }
    rig.settled().await;
    assert_eq!(rig.state("b").await, "down");
    assert_eq!(rig.endpoint("b").state(), DerivedState::Down);
}
