use super::*;
use std::os::unix::fs::MetadataExt as _;

fn settings(socket: Option<PathBuf>) -> Config {
    let admin = config::AdminConfig {
        socket,
        mode: 0o640,
        group: None,
        http: None,
        token_file: None,
        probes: None,
        ..config::AdminConfig::default()
    };
    let backend = ["127.0.0.1:3000".to_owned()];
    let config = Config::from_args(Some("127.0.0.1:8080"), &backend, None).unwrap();
    Config { admin, ..config }
}

#[test]
fn the_socket_has_its_mode_and_goes_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let bound = bind(&settings(Some(path.clone()))).unwrap();
    assert_eq!(bound.socket(), Some(path.as_path()));
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_dead_process_s_socket_is_replaced_and_a_live_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    // std leaves the file behind, as a killed process does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = bind(&settings(Some(path.clone()))).unwrap();
    let error = bind(&settings(Some(path.clone()))).unwrap_err().to_string();
    assert!(error.contains("a running process listens"), "{error}");
    assert!(error.contains("lameduck status --admin"), "{error}");
    drop(bound);
    bind(&settings(Some(path))).unwrap();
}

#[test]
fn a_successor_s_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let first = bind(&settings(Some(path.clone()))).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = bind(&settings(Some(path.clone()))).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn other_files_are_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    let error = bind(&settings(Some(path.clone()))).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn errors_say_what_to_do() {
    let missing = settings(Some("/nonexistent/lameduck.sock".into()));
    let error = bind(&missing).unwrap_err().to_string();
    assert!(error.contains("make its directory first"), "{error}");
    let long = settings(Some(PathBuf::from("/tmp").join("x".repeat(200))));
    let error = bind(&long).unwrap_err().to_string();
    assert!(error.contains("107 bytes"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(Some(dir.path().join("sock")));
    settings.admin.http = Some(taken.local_addr().unwrap());
    let error = bind(&settings).unwrap_err().to_string();
    assert!(error.contains("[admin] http 127.0.0.1:"), "{error}");
    assert!(error.contains("choose another port"), "{error}");
    settings.admin.group = Some("no-such-group".to_owned());
    let error = bind(&settings).unwrap_err().to_string();
    assert!(error.contains("groupadd no-such-group"), "{error}");
}

#[test]
fn without_a_name_the_first_default_that_works_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("sock");
    let paths = ["/nonexistent/a/lameduck.sock".into(), good.clone()];
    let mut warnings = Vec::new();
    let bound = bind_default(&paths, &settings(None).admin, &mut warnings).unwrap();
    assert_eq!(bound.1.path(), good);
    assert!(warnings.is_empty());
    assert!(bind_default(&paths, &settings(None).admin, &mut warnings).is_none());
    assert!(warnings[0].contains("/nonexistent/a") && warnings[0].contains("--admin"));
}

/// If the address is the default, that is a note; if it is configured explicitly, it is an error.
#[test]
fn taken_http_address_is_an_error_where_it_was_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(Some(dir.path().join("sock")));
    settings.admin.http = Some(taken.local_addr().unwrap());
    let bound = bind_or_inherit(&settings, true, &InheritedSockets::default()).unwrap();
    assert!(bound.http.is_none() && bound.note.is_some(), "{bound:?}");
    drop(bound);
    bind_or_inherit(&settings, false, &InheritedSockets::default()).unwrap_err();
}

#[test]
fn both_families_of_a_port_are_bound_beside_each_other() {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let mut settings = settings(None);
    settings.admin.http = Some(SocketAddr::new("::".parse().unwrap(), port));
    settings.admin.probes = Some(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    let Ok(http) = listen_tcp(settings.admin.http.unwrap(), &settings) else {
        return; // No IPv6 here.
    };
    let probes = listen_tcp(settings.admin.probes.unwrap(), &settings).unwrap();
    drop(http);
    // Without `probes`, it binds both address families.
    settings.admin.probes = None;
    let refused = listen_tcp(settings.admin.http.unwrap(), &settings).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    drop(probes);
}
