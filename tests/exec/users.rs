//! Two users of this host at the socket for apps: each has its own instances, and the log says who asked for what.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;

use crate::rig::{exe, turn, until};

/// `nobody`, and another who is nobody else.
const FIRST: u32 = 65_534;
const SECOND: u32 = 65_533;

/// A command that a user has run.
struct Done {
    pid: u32,
    is_good: bool,
    said: String,
}

struct Host {
    proxy: DemoProxy,
    exe: PathBuf,
    apps: PathBuf,
    scratch: ScratchDir,
}

impl Host {
    async fn new() -> Self {
        let scratch = ScratchDir::new("lameduck-users").unwrap();
        // Everybody may come to the socket, and run what the test runs, wherever that was built.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(scratch.path(), everybody.clone()).unwrap();
        let own_exe = scratch.path().join("lameduck");
        std::fs::copy(exe(), &own_exe).unwrap();
        std::fs::set_permissions(&own_exe, everybody).unwrap();
        let apps = scratch.path().join("apps.sock");
        let settings = ProxySettings {
            admin: format!("apps_socket = {:?}\napps_mode = \"0666\"", apps.display()),
            server: "lame_duck = \"0s\"".into(),
            ..ProxySettings::default()
        };
        let proxy = DemoProxy::start(exe(), "proxy", scratch.path(), &settings, &[])
            .await
            .unwrap();
        Self {
            proxy,
            exe: own_exe,
            apps,
            scratch,
        }
    }

    /// Runs a command of lameduck's as this user, through a socket.
    fn run(&self, user: u32, socket: &Path, line: &str) -> Done {
        let mut command = Command::new(&self.exe);
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("LAMEDUCK_ADMIN", socket)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .uid(user)
            .gid(user);
        let child = command.spawn().unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        Done {
            pid,
            is_good: output.status.success(),
            said: String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        }
    }

    fn may(&self, user: u32, line: &str) -> Done {
        let done = self.run(user, &self.apps, line);
        assert!(done.is_good, "user {user}: {line}: {}", done.said);
        done
    }

    fn may_not(&self, user: u32, line: &str) -> Done {
        let done = self.run(user, &self.apps, line);
        assert!(!done.is_good, "user {user}: {line}: {}", done.said);
        done
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("proxy.log")).unwrap()
    }

    /// The log has a line with all of these, which comes a little later.
    async fn logs(&self, words: &[&str]) {
        until(&format!("the log has {words:?}"), async || {
            let log = self.log();
            log.lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        })
        .await;
    }

    /// Who closed this backend.
    async fn drains(&self, name: &str) -> Vec<String> {
        let pool = self.proxy.pool().await.unwrap();
        let backend = pool.backends.into_iter().find(|one| one.name == name);
        let drains = backend.unwrap().drains.into_iter();
        drains.map(|drain| drain.id).collect()
    }
}

#[lameduck_rig::test]
async fn user_changes_its_own_instances_alone_and_the_log_names_it() {
    let _turn = turn().await;
    if !rustix::process::geteuid().is_root() {
        return lameduck_rig::setting::skip(
            "two users at the socket for apps",
            "root, to be two users",
        );
    }
    let host = Host::new().await;

    // Its own.
    let register = host.may(FIRST, "register app/one 127.0.0.1:9");
    host.may(SECOND, "register app/two 127.0.0.1:9");
    let drain = host.may(FIRST, "drain app/one --timeout 1s");
    let id = format!("uid-{FIRST}");
    assert_eq!(host.drains("one").await, [id]);
    host.may(FIRST, "resume app/one");
    assert!(host.drains("one").await.is_empty());

    // Another user's, root's at this door included.
    let mut refused = Vec::new();
    for (user, name) in [(FIRST, "two"), (SECOND, "one"), (0, "one"), (0, "two")] {
        for line in [
            format!("drain app/{name} --timeout 1s"),
            format!("resume app/{name}"),
            format!("register app/{name} 127.0.0.1:10"),
            format!("deregister app/{name} --timeout 1s"),
        ] {
            refused.push((user, host.may_not(user, &line), line));
        }
    }
    assert!(host.drains("one").await.is_empty());
    assert!(host.drains("two").await.is_empty());

    // The socket of the proxy's owner is closed to them: its file says so.
    let owners = host.proxy.socket().to_owned();
    assert!(!host.run(FIRST, &owners, "drain app/two").is_good);

    // Who, and by which process.
    for (done, what) in [
        (&register, "/backends/one"),
        (&drain, "/backends/one/drain"),
    ] {
        let actor = format!("uid {FIRST} pid {}", done.pid);
        host.logs(&["asked for", "apps", &actor, what]).await;
    }
    for (user, done, line) in &refused {
        let actor = format!("uid {user} pid {}", done.pid);
        host.logs(&["refused", &actor, "not-yours"]).await;
        let why = "not an instance that this user has registered";
        assert!(done.said.contains(why), "{line}: {}", done.said);
    }

    host.may(FIRST, "deregister app/one --timeout 1s");
    host.may(SECOND, "deregister app/two --timeout 1s");
}
