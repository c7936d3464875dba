use super::super::model::ProxyLook;
use super::super::sample::{self, answers, wall};
use super::*;

#[test]
fn hostile_names_reach_the_picture_without_control_characters() {
    let hostile = "a\x1b[2J\x07\r\nb";
    let picture = sample::picture(|second| {
        let mut answers = sample::every_state_at(second);
        let pool = &mut answers.pools[0];
        pool.name = hostile.into();
        pool.backends[0].name = hostile.into();
        pool.backends[0].address = hostile.into();
        pool.backends[3].drains[0].reason = hostile.into();
        pool.backends[5].last_probe = Some(hostile.into());
        pool.splits[0].route = hostile.into();
        answers.listeners[0]["certificates"][0]["names"][0] = hostile.into();
        answers.unready = Some(hostile.into());
        answers
    });
    let shown = format!(
        "{:?}",
        TopPicture {
            pools: vec![],
            ..picture.clone()
        }
    );
    assert!(shown.contains("a\u{fffd}[2J"), "{shown}");
    assert!(
        !shown.contains("\\u{1b}") && !shown.contains("\\r"),
        "{shown}"
    );
    for pool in &picture.pools {
        let rows = pool.backends.iter();
        let texts = rows.flat_map(|row| [&row.name, &row.address, &row.why, &row.probe]);
        for text in texts.chain([&pool.name, &pool.summary]) {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}

#[test]
fn pool_of_two_proxies_is_one_with_a_row_for_each_and_sums() {
    let mut model = TopModel::new(["a".to_owned(), "b".to_owned()]);
    for second in 0..2u64 {
        for (proxy, state) in [(0, "ready"), (1, "down")] {
            let answers = answers(
                &[("api-0", state), ("api-10", "ready"), ("api-9", "ready")],
                second as u32 * 10,
            );
            model.take_look(ProxyLook {
                proxy,
                at: Duration::from_secs(second),
                wall: wall(),
                answers: Ok(answers),
            });
        }
        model.tick();
    }
    let picture = TopPicture::of(&model, Duration::from_secs(1), wall());
    let [pool] = &*picture.pools else {
        panic!("{:?}", picture.pools);
    };
    assert_eq!(pool.summary, "2–3 of 3 eligible");
    assert_eq!(pool.rates.unwrap().answers, 20.0);
    let rows = pool.backends.iter();
    let rows: Vec<_> = rows
        .map(|row| (&*row.name, &*row.proxy_name, &*row.state))
        .collect();
    let expected = [
        ("api-0", "a", "ready"),
        ("api-0", "b", "down"),
        ("api-9", "a", "ready"),
        ("api-9", "b", "ready"),
        ("api-10", "a", "ready"),
        ("api-10", "b", "ready"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(picture.tiles[0].value, Some(20.0));
    // One proxy stops answering: its last answers stay, with the time of its silence.
    model.take_look(ProxyLook {
        proxy: 1,
        at: Duration::from_secs(5),
        wall: wall(),
        answers: Err("gone".into()),
    });
    model.tick();
    let picture = TopPicture::of(&model, Duration::from_secs(9), wall());
    let away = ProxyStanding::Away {
        why: "gone".into(),
        silent: Some(Duration::from_secs(8)),
    };
    assert_eq!(picture.proxies[1], ("b".to_owned(), away));
    assert_eq!(picture.tiles[0].value, Some(10.0));
}

#[test]
fn drains_progress_is_the_passed_part_of_the_time_to_its_deadline() {
    let picture = sample::every_state();
    let [drain] = &*picture.drains else {
        panic!("{:?}", picture.drains);
    };
    assert_eq!(drain.name, "api/api-3");
    assert_eq!(drain.cuts_in, Some(Duration::from_secs(18)));
    assert_eq!(drain.passed, Some(0.4));
    assert_eq!((drain.left.request, drain.left.stream), (2, 1));
    assert_eq!(drain.why, "operator: deploy 42");
    assert_eq!(drain.oldest.as_deref(), Some("14s GET /report"));
}

#[test]
fn restart_row_has_its_observed_phases_and_the_fate_of_requests() {
    let picture = sample::every_state();
    let millis = Duration::from_millis;
    let row = |name: &str| {
        let row = picture.restarts.iter().find(|row| row.name == name);
        row.unwrap().clone()
    };
    let whole = row("api/api-0");
    let phases = [
        (RestartPhase::Draining, millis(2500)),
        (RestartPhase::Away, millis(3500)),
        (RestartPhase::Starting, millis(2000)),
    ];
    assert_eq!(whole.phases, phases);
    assert_eq!(whole.account, "nothing lost, 3 retried, deploy 41");
    assert!(!whole.is_bad && whole.is_over);
    let died = row("api/api-1");
    assert_eq!(died.phases[0], (RestartPhase::Draining, millis(5000)));
    assert_eq!(died.account, "2 cut, 2 lost, deploy 41");
    assert!(died.is_bad);
    let resumed = row("api/api-4");
    assert_eq!(resumed.phases, [(RestartPhase::Draining, millis(1000))]);
    assert_eq!(resumed.account, "resumed, nothing lost, deploy 41");
}

#[test]
fn shares_of_a_split_are_in_percent_with_the_plan_that_moves_them() {
    let picture = sample::every_state();
    let shares = vec![("api".to_owned(), 75.0), ("api-next".to_owned(), 25.0)];
    let note = "api to 50 %, step 3 of 6, ends in 5m00s".to_owned();
    let row = SplitRow {
        route: "shop".into(),
        shares,
        note,
    };
    assert_eq!(picture.splits, [row]);
}

#[test]
fn warnings_name_what_somebody_should_know() {
    let picture = sample::picture(|second| {
        let mut answers = sample::every_state_at(second);
        answers.pools[1].eligible = 0;
        answers.pools[0].unsaved = Some("not saved: no space".into());
        answers
    });
    let expected = [
        "no backend of api-next takes requests",
        "drains would not survive a restart of lameduck: not saved: no space",
        "certificate of example.org expires in 9 days",
    ];
    assert_eq!(picture.warnings, expected);
}
