use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::rt::clock;

fn drain(deadline: Option<Duration>, expires: Option<Duration>) -> drain::OpenDrain {
    drain::OpenDrain {
        actor: drain::DrainActor::Operator,
        id: "deploy \"7\"".into(),
        reason: "new release\n→ 1.2".into(),
        deadline,
        until: drain::DrainUntil::Restarted(drain::RestartSign::Probe),
        expires,
        since: clock::now(),
        unseen: false,
    }
}

fn keep(drain: &drain::OpenDrain) -> DrainRecord {
    DrainRecord::kept(drain, &ClockReading::take())
}

fn state() -> KeptState {
    let now = clock::now();
    KeptState {
        drains: vec![
            KeptDrain {
                pool: "api".into(),
                backend: "api-0~2".into(),
                address: None,
                drain: keep(&drain(
                    Some(now + Duration::from_secs(30)),
                    Some(now + Duration::from_secs(3600)),
                )),
            },
            KeptDrain {
                pool: "web".into(),
                backend: "web-1".into(),
                address: Some("127.0.0.1:3001".into()),
                drain: keep(&drain(None, None)),
            },
        ],
        registrations: vec![KeptRegistration {
            pool: "api".into(),
            backend: KeptBackend {
                name: "api-7".into(),
                address: "unix:/run/api.sock".into(),
                weight: 3,
                backup: true,
                zone: Some("eu-1a".into()),
            },
            owner: Some(1000),
        }],
        pauses: vec![KeptPause {
            pool: "api".into(),
            reason: "migration".into(),
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            until: None,
            page: Some(MaintenancePage {
                status: 503,
                media_type: "text/html".into(),
                body: "soon".into(),
            }),
        }],
        splits: vec![KeptSplit {
            route: "shop".into(),
            configured: [("api".into(), 1)].into(),
            weights: [("api".into(), 2)].into(),
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        }],
        plans: Vec::new(),
        sources: vec![KeptSource {
            pool: "api".into(),
            source: "dns api.internal:80".into(),
            answered: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            backends: vec![KeptBackend {
                name: "10.0.0.5-80".into(),
                address: "10.0.0.5:80".into(),
                weight: 2,
                backup: true,
                zone: Some("eu-1a".into()),
            }],
        }],
    }
}

#[test]
fn saved_state_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    // The directory is created if it does not exist.
    let dir = dir.path().join("var/lib/lameduck");
    let saved = state();
    save(&dir, &saved).unwrap();
    let loaded = load(&dir).unwrap();
    assert_eq!(loaded.registrations, saved.registrations);
    for (loaded, saved) in loaded.drains.iter().zip(&saved.drains) {
        let (loaded, saved) = (loaded.drain.order(), saved.drain.order());
        assert_eq!(
            (&loaded.actor, &loaded.id, &loaded.reason, loaded.until),
            (&saved.actor, &saved.id, &saved.reason, saved.until)
        );
        // The file has a resolution of milliseconds.
        for (loaded, saved) in [
            (loaded.deadline, saved.deadline),
            (loaded.expires, saved.expires),
        ] {
            assert_eq!(loaded.is_some(), saved.is_some());
            let (loaded, saved) = (loaded.unwrap_or_default(), saved.unwrap_or_default());
            assert!(loaded.abs_diff(saved) <= Duration::from_millis(1));
        }
    }
    let mode = std::fs::metadata(dir.join(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777 & 0o007, 0, "readable by everybody");
}

#[test]
fn missing_state_file_loads_as_empty_state() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path()).unwrap(), KeptState::default());
    assert_eq!(
        load(&dir.path().join("none")).unwrap(),
        KeptState::default()
    );
}

#[test]
fn a_truncated_file_is_moved_aside_at_any_length() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &state()).unwrap();
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let text_end = whole.len() - 1;
    for length in (0..text_end).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(
            load(dir.path()).unwrap(),
            KeptState::default(),
            "{length} bytes"
        );
        assert!(!path.exists());
        assert_eq!(
            std::fs::read(dir.path().join(BAD)).unwrap(),
            &whole[..length]
        );
    }
    // The next run starts without state, and can save.
    save(dir.path(), &state()).unwrap();
    assert_eq!(load(dir.path()).unwrap().drains.len(), 2);
}

#[test]
fn a_kill_between_write_and_rename_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &state()).unwrap();
    // Like a killed process: half of a new file beside the old one.
    std::fs::write(dir.path().join(NEW), b"{\"version\":1,\"dra").unwrap();
    assert_eq!(load(dir.path()).unwrap().drains.len(), 2);
    save(dir.path(), &KeptState::default()).unwrap();
    assert_eq!(load(dir.path()).unwrap(), KeptState::default());
    assert!(!dir.path().join(NEW).exists());
}

/// Each of these files is moved aside, and the next run starts without state.
#[test]
fn what_is_no_state_never_holds_up_a_start() {
    use std::os::unix::net::UnixListener;
    let nested = format!("{{\"version\":1,\"drains\":{}", "[".repeat(1 << 20));
    let put = |path: &Path, kind: &str| match kind {
        "pipe" => {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "directory" => std::fs::create_dir(path).unwrap(),
        "link" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        "nested" => std::fs::write(path, &nested).unwrap(),
        "large" => File::create(path).unwrap().set_len(MOST_BYTES + 1).unwrap(),
        _ => std::fs::write(path, "null").unwrap(),
    };
    for kind in [
        "pipe",
        "socket",
        "directory",
        "link",
        "nested",
        "large",
        "null",
    ] {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join(FILE), kind);
        let began = std::time::Instant::now();
        assert_eq!(load(dir.path()).unwrap(), KeptState::default(), "{kind}");
        assert!(began.elapsed() < Duration::from_secs(30), "{kind}");
        assert!(dir.path().join(BAD).symlink_metadata().is_ok(), "{kind}");
        save(dir.path(), &state()).unwrap();
        assert_eq!(load(dir.path()).unwrap().drains.len(), 2, "{kind}");
    }
}

#[test]
fn state_file_of_a_newer_version_is_not_interpreted() {
    let dir = tempfile::tempdir().unwrap();
    let text = br#"{"version":2,"drains":{"api":[]}}"#;
    std::fs::write(dir.path().join(FILE), text).unwrap();
    assert_eq!(load(dir.path()).unwrap(), KeptState::default());
    assert_eq!(std::fs::read(dir.path().join(BAD)).unwrap(), text);
    let why = parse(text).unwrap_err();
    assert_eq!(why, "it has version 2, this lameduck knows version 1");
}

#[test]
fn deadline_that_passed_while_the_proxy_was_away_is_due_at_once() {
    let text =
        br#"{"version":1,"drains":[{"pool":"api","backend":"api-0","drain":{"actor":"supervisor",
        "id":"1","reason":"","since":"2020-01-01T00:00:00Z","deadline":"2020-01-01T00:00:30Z",
        "until":"resumed"}}],"registrations":[]}"#;
    let state = parse(text).unwrap();
    let order = state.drains[0].drain.order();
    assert_eq!(order.deadline, Some(Duration::ZERO));
    assert_eq!(order.expires, None);
}

#[test]
fn path_that_is_no_directory_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for error in [
        save(&file, &KeptState::default()).unwrap_err(),
        load(&file).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains(&file.display().to_string()), "{text}");
        assert!(text.contains("state_dir"), "{text}");
    }
}

/// A link in place of the new file is replaced, and its target is left alone.
#[test]
fn save_writes_through_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "data").unwrap();
    for name in [NEW, FILE] {
        std::os::unix::fs::symlink(&precious, dir.path().join(name)).unwrap();
    }
    save(dir.path(), &state()).unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
    assert_eq!(load(dir.path()).unwrap().drains.len(), 2);
    let kept = std::fs::symlink_metadata(dir.path().join(FILE)).unwrap();
    assert!(kept.is_file());
}
