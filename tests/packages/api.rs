//! The admin API asked by a stranger, schemathesis, everything that its description allows and forbids: it answers as described,
//! never with a fault of its own, and refuses what is malformed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{exe, succeed};

/// Requests that stay open by design, and the one that is for the unix socket alone.
const LEFT_OUT: &str = "/v1/events|/lease$|/roll$|/v1/upgrade";

const TOKEN: &str = "a-token-that-nobody-guesses";

/// Names that are there; and the two ends that are no faults, which the description names.
const SETTINGS: &str = "[parameters]\n\"path.pool\" = \"app\"\n\"path.name\" = \"app-1\"\n\"path.route\" = \"shop\"\n\
    [checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 503, 504]\n";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Killed {
    Killed(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

#[test]
fn api_answers_a_stranger_as_it_is_described() {
    let Some(stranger) = lameduck_rig::place::in_venv("api-venv", "schemathesis") else {
        return lameduck_rig::setting::skip("the API", "schemathesis (tests/setup.sh fetches it)");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let addresses = lameduck_rig::ports::free_addresses(3);
    let [admin, app, next] = [0, 1, 2].map(|n: usize| addresses[n].port());
    let config = format!(
        "[server]\nlame_duck = \"0s\"\n[admin]\nsocket = \"{}\"\nhttp = \"127.0.0.1:{admin}\"\ntoken_file = \"{}\"\n\
         [access_log]\npath = \"off\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[pool]]\nname = \"app\"\n[[pool.backend]]\nname = \"app-1\"\naddress = \"127.0.0.1:{app}\"\n\
         [[pool]]\nname = \"next\"\n[[pool.backend]]\nname = \"next-1\"\naddress = \"127.0.0.1:{next}\"\n\
         [[route]]\nname = \"shop\"\nsplit = {{ app = 95, next = 5 }}\n",
        path("socket"),
        path("token"),
    );
    std::fs::write(path("lameduck.toml"), config).unwrap();
    std::fs::write(path("settings.toml"), SETTINGS).unwrap();
    let mut token = Command::new("sh");
    succeed(token.args([
        "-c",
        "umask 077; echo \"$0\" > \"$1\"",
        TOKEN,
        &path("token"),
    ]));
    let apps = [app, next].map(|port| {
        let mut app = Command::new(exe());
        start(app.args(["demo-app", "--port", &port.to_string()]))
    });
    let mut proxy = Command::new(exe());
    let proxy = start(proxy.args(["run", "-c", &path("lameduck.toml")]));
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", admin)).is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the admin API is not there"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let (phases, examples) = match lameduck_rig::setting::proving() {
        true => ("coverage,fuzzing", "100"),
        false => ("fuzzing", "5"),
    };
    let base = format!("http://127.0.0.1:{admin}");
    let mut stranger = Command::new(stranger);
    stranger.args(["--config-file", &path("settings.toml"), "run"]);
    stranger.args([&format!("{base}/v1/openapi.json"), "--url", &base]);
    stranger.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    stranger.args([
        "--exclude-path-regex",
        LEFT_OUT,
        "--phases",
        phases,
        "-n",
        examples,
    ]);
    // A name that is well formed and means nothing is refused, too; and reading needs no token on loopback.
    stranger.args([
        "--checks",
        "all",
        "--exclude-checks",
        "positive_data_acceptance,ignored_auth",
    ]);
    stranger.args([
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--request-timeout",
        "20",
    ]);
    let said = succeed(stranger.current_dir(dir.path()).env("NO_COLOR", "1"));
    assert!(said.contains("Test cases:"), "{said}");
    // The proxy has lived through all of that.
    let status = succeed(Command::new(exe()).args(["status", "--admin", &path("socket")]));
    assert!(status.contains("next-1"), "{status}");
    drop((apps, proxy));
}
