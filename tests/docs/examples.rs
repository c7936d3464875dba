//! Every block of commands in README, docs/ and deploy/: bash understands it, and it runs from a clean directory in
//! front of a proxy with the pools that the pages speak of; or the table below says why it can't.

use std::time::Duration;

use crate::shell::{Ended, Shell, has, is_bash, missing, ports, typed};
use crate::{blocks, pages};

/// From a command to its end, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// For how long a command that never ends by itself has to stay.
const WHILE: Duration = Duration::from_secs(4);

/// How a block is tried.
enum Way {
    /// By [`crate::tour`].
    Tour,
    /// In front of the stage; it ends with this code.
    Stage(i32),
    /// In front of the stage; its last command goes on until somebody ends it.
    Stays,
    /// The same, without a stage: it is a proxy itself.
    Alone,
    /// In front of the stage, with `--dry-run`: the pool is there, and nothing is restarted.
    DryRun,
    /// By a test of its own, in this file or in `hand_over.rs`.
    Own,
    /// Not here, because:
    Not(&'static str),
}

/// Page, a text that only this block has, and how it is tried.
const WAYS: &[(&str, &str, Way)] = &[
    (
        "README.md",
        "make demo",
        Way::Not("builds the crate: CI does that"),
    ),
    (
        "README.md",
        "make packages",
        Way::Not("makes and installs packages: --test packages does that"),
    ),
    (
        "docs/report.md",
        "lameduck verify report.json",
        Way::Not("restarts systemd's units; --test e2e reports:: does the rest"),
    ),
    ("README.md", "cat > restart", Way::Tour),
    ("README.md", "PROXY=$!", Way::Tour),
    ("README.md", "$ curl localhost:8080/", Way::Tour),
    ("README.md", "$ lameduck drain app/app-1", Way::Tour),
    ("README.md", "$ lameduck roll app", Way::Tour),
    ("README.md", "kill $PROXY", Way::Tour),
    ("README.md", "lameduck exec --pool app", Way::Stays),
    (
        "CONTRIBUTING.md",
        "make lint",
        Way::Not("builds the crate: CI does that"),
    ),
    (
        "CONTRIBUTING.md",
        "cargo test --lib",
        Way::Not("parts of this test suite"),
    ),
    (
        "docs/monitoring.md",
        "promtool check rules",
        Way::Not("tests/docs/monitoring.rs runs both"),
    ),
    (
        "docs/top.md",
        "lameduck top api",
        Way::Not("needs a terminal: tests/e2e/top.rs has some"),
    ),
    (
        "docs/acme.md",
        "lameduck status --listeners",
        Way::Not("needs an authority: --test acme has two"),
    ),
    (
        "deploy/README.md",
        "systemctl daemon-reload",
        Way::Not("writes to /usr and /etc, and needs root and systemd; tests/e2e runs the units"),
    ),
    (
        "docs/upgrade.md",
        "$ lameduck upgrade",
        Way::Not("tests/e2e/upgrade.rs runs it"),
    ),
    (
        "docs/access-log.md",
        "journalctl -t lameduck",
        Way::Not("there is no journal where tests run"),
    ),
    ("docs/access-log.md", "jq 'select(.end", Way::Stage(0)),
    ("docs/admin-api.md", "deploy 42", Way::Stage(0)),
    ("docs/admin-api.md", "/lease", Way::Stays),
    (
        "docs/canary.md",
        "--to 100 --in 10m",
        Way::Not("takes ten minutes under load: tests/plane/canary.rs does it in seconds"),
    ),
    (
        "docs/canary.md",
        "lameduck split shop-api --wait ",
        Way::Not("needs a plan under way: tests/admin/plans.rs has one"),
    ),
    (
        "docs/cli.md",
        "completions bash",
        Way::Not("the last command shows a page: --test packages runs them"),
    ),
    ("docs/configuration.md", "lameduck run --listen", Way::Alone),
    ("docs/configuration.md", "lameduck check -c", Way::Stage(0)),
    (
        "docs/dashboard.md",
        "ssh -L",
        Way::Not("needs another host"),
    ),
    (
        "docs/discovery.md",
        "lameduck changes --last",
        Way::Not("needs sources that change: --test discovery has them"),
    ),
    ("docs/doctor.md", "lameduck doctor oxfile.toml", Way::Own),
    ("docs/draining.md", "oxmgr restart", Way::DryRun),
    (
        "docs/from-ingress.md",
        "lameduck import ingress",
        Way::Not("asks a cluster: `--test import` reads such files"),
    ),
    (
        "README.md",
        "lameduck import nginx",
        Way::Not("reads a whole nginx.conf: `--test import` does that"),
    ),
    (
        "docs/from-nginx.md",
        "lameduck import nginx",
        Way::Not("reads a whole nginx.conf: `--test import` does that"),
    ),
    (
        "docs/from-nginx.md",
        "nginx -s quit",
        Way::Not("needs nginx on the port: tests/e2e/cut_over.rs does that"),
    ),
    (
        "docs/install.md",
        "make packages",
        Way::Not("builds the crate twice: --test packages makes them of the binary under test"),
    ),
    (
        "docs/install.md",
        "apt install",
        Way::Not("needs root and a system of its own: tests/packages/lifetime.rs has one"),
    ),
    ("docs/install.md", "dnf install", Way::Not("needs Fedora")),
    (
        "docs/install.md",
        "tar -xzf",
        Way::Not("writes to the whole system"),
    ),
    (
        "docs/install.md",
        "podman load",
        Way::Not("needs podman: tests/packages/image.rs runs the image without"),
    ),
    (
        "docs/install.md",
        "helm install",
        Way::Not("needs a cluster: tests/packages/chart.rs renders it"),
    ),
    (
        "docs/install.md",
        "make release",
        Way::Not("builds the crate"),
    ),
    (
        "docs/install.md",
        "packages/reproduce",
        Way::Not("builds the crate twice"),
    ),
    ("docs/launcher.md", "lameduck exec --pool api", Way::Stays),
    ("docs/rolling.md", "ssh {host}", Way::DryRun),
    (
        "docs/rolling.md",
        "rolling api",
        Way::Not(
            "needs systemd and its units; the README's tour shows the same lines with a script",
        ),
    ),
    ("docs/rolling.md", "exit 1", Way::Stage(1)),
    ("docs/rolling.md", "--restarted-when exit", Way::DryRun),
    (
        "docs/rolling.md",
        "systemctl reload app-1",
        Way::Not("needs systemd and its unit"),
    ),
    (
        "docs/rolling.md",
        "--until restarted --timeout 30s",
        Way::Stage(0),
    ),
    (
        "docs/routes.md",
        "lameduck split shop-api --reset",
        Way::Stage(0),
    ),
    (
        "docs/scaling.md",
        "lameduck exec --pool api",
        Way::Not("needs two proxies with TLS: tests/exec/several.rs has them"),
    ),
    ("docs/security.md", "admin.token", Way::Stage(0)),
    ("docs/shutdown-and-reload.md", "lame-duck", Way::Stage(0)),
    ("docs/shutdown-and-reload.md", "NEW_PID", Way::Own),
    (
        "docs/shutdown-and-reload.md",
        "run --keeper",
        Way::Not("tests/e2e/survives runs it, and kills its proxy"),
    ),
    (
        "docs/shutdown-and-reload.md",
        "lameduck reload",
        Way::Not("the file changes between its commands; tests/e2e/reload does that"),
    ),
    (
        "docs/supervisors.md",
        "s6-svc -wD",
        Way::Not("needs s6 and its services: tests/e2e restarts them so"),
    ),
    (
        "docs/testing.md",
        "hostile::slowhttptest",
        Way::Not("a long form of this test suite"),
    ),
    (
        "docs/testing.md",
        "hostile::encrypted",
        Way::Not("a long form of this test suite"),
    ),
    ("docs/troubleshooting.md", "lameduck status", Way::Stays),
    ("docs/upstreams.md", "lameduck pause api", Way::Stage(0)),
];

/// A proxy with the pools `app` and `api`, and their five instances.
pub struct Stage {
    pub shell: Shell,
    pub front: u16,
    admin: u16,
    spare: [u16; 2],
}

impl Stage {
    pub fn new() -> Self {
        let [a, b, c, d, e, front, admin, s, t] = ports();
        let mut shell = Shell::new();
        let socket = shell.path("lameduck.sock");
        let mut text = format!(
            "[admin]\nsocket = {socket:?}\nhttp = \"127.0.0.1:{admin}\"\n[server]\nlame_duck = \"0s\"\n\
             [[listener]]\naddress = \"127.0.0.1:{front}\"\nreuse_port = true\n"
        );
        let mut script = String::new();
        for (pool, ports) in [("app", vec![a, b]), ("api", vec![c, d, e])] {
            text.push_str(&format!("[[pool]]\nname = \"{pool}\"\n"));
            for (n, port) in ports.iter().enumerate() {
                text.push_str(&format!(
                    "[[pool.backend]]\nname = \"{pool}-{}\"\naddress = \"127.0.0.1:{port}\"\n",
                    n + 1
                ));
                script.push_str(&format!(
                    "lameduck demo-app --port {port} > /dev/null 2>&1 &\n"
                ));
            }
        }
        text.push_str(
            "[[pool]]\nname = \"api-next\"\n\
             [[route]]\nhost = \"api.example.org\"\npool = \"api\"\n[[route]]\npool = \"app\"\n\
             [[route]]\nname = \"shop-api\"\nhost = \"shop.example.org\"\n\
             split = { api = 95, api-next = 5 }\n",
        );
        shell.write("lameduck.toml", &text);
        script.push_str(&format!(
            "lameduck run -c lameduck.toml > access.log 2> lameduck.log &\necho $! > proxy.pid\n\
             for _ in $(seq 300); do\n\
             s=$(lameduck status 2>&1)\n\
             [[ $s == *'2 of 2'* && $s == *'3 of 3'* ]] && curl -sf 127.0.0.1:{front}/ && exit\n\
             sleep 0.1\ndone\ncat lameduck.log; exit 1\n"
        ));
        let ended = shell.run(&script, PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.output);
        let spare = [s, t];
        Self {
            shell,
            front,
            admin,
            spare,
        }
    }

    /// The block with this place's paths and ports.
    pub fn localised(&self, text: &str) -> String {
        let socket = self.shell.path("lameduck.sock").display().to_string();
        let new = self.shell.path("new.sock").display().to_string();
        text.replace("/run/lameduck/lameduck.sock", &socket)
            .replace("/run/lameduck/new.sock", &new)
            .replace("localhost:9901", &format!("127.0.0.1:{}", self.admin))
            .replace("3001", &self.spare[0].to_string())
    }

    fn run(&mut self, text: &str, limit: Duration) -> Ended {
        let text = self.localised(text);
        self.shell.run(&format!("{STRICT}{text}"), limit)
    }

    /// The same for what goes on until somebody ends it.
    fn stays(&mut self, text: &str, said: impl Fn(&str) -> bool) -> Ended {
        let text = self.localised(text);
        self.shell.stays(&format!("{STRICT}{text}"), WHILE, said)
    }
}

/// The first command that fails ends the script, and an answer that is an error is a failure.
const STRICT: &str = "set -e -o pipefail\ncurl() { command curl --fail \"$@\"; }\n";

#[test]
fn every_block_of_commands_is_understood_by_bash_and_has_its_way() {
    let mut used = vec![0; WAYS.len()];
    for page in pages() {
        let name = page.path.display().to_string();
        for block in blocks(&page.text) {
            if !["sh", "console"].contains(&block.language.as_str()) {
                assert!(
                    block.language != "bash" && block.language != "shell",
                    "{name}: write sh"
                );
                continue;
            }
            let place = format!("{name}:{}", block.line);
            for typed in typed(&block.language, &block.text) {
                let checked = is_bash(&typed.command);
                assert!(checked.is_ok(), "{place}: {checked:?}");
            }
            let ways = WAYS
                .iter()
                .position(|(page, text, _)| *page == name && block.text.contains(text));
            match ways {
                Some(way) => used[way] += 1,
                None => panic!("{place}: add it to WAYS: how is it run, or why not?"),
            }
        }
    }
    for ((page, text, _), used) in WAYS.iter().zip(used) {
        assert_eq!(used, 1, "the row `{text}` of {page} fits so many blocks");
    }
}

/// The block of a row.
pub fn block(page: &str, text: &str) -> (String, String) {
    let whole = std::fs::read_to_string(page).unwrap();
    let mut found = blocks(&whole).into_iter().filter(|block| {
        ["sh", "console"].contains(&block.language.as_str())
            && WAYS
                .iter()
                .find(|(p, t, _)| *p == page && block.text.contains(t))
                .is_some_and(|way| way.1 == text)
    });
    let block = found.next().unwrap();
    (block.language, block.text)
}

#[test]
fn blocks_that_can_run_from_a_clean_directory_run() {
    for (page, text, way) in WAYS {
        let (code, dry) = match way {
            Way::Stage(code) => (*code, false),
            Way::Stays => (124, false),
            Way::DryRun => (0, true),
            Way::Tour | Way::Alone | Way::Own => continue,
            Way::Not(why) => {
                eprintln!("not run: {page}, `{text}`: {why}");
                continue;
            }
        };
        let (language, text) = block(page, text);
        if let Some(program) = ["jq", "node"]
            .into_iter()
            .find(|name| text.contains(*name) && !has(name))
        {
            eprintln!("skipped: {page}: needs {program}");
            continue;
        }
        let mut stage = Stage::new();
        for name in ["app.mjs", "server.js"] {
            stage.shell.write(name, "require = undefined");
            let app = "process.on('SIGTERM', () => process.exit());\n\
                       (async () => (await import('node:http')).createServer((q, r) => r.end('hello'))\
                       .listen(process.env.PORT, '127.0.0.1'))();\n";
            stage.shell.write(name, app);
        }
        let text = if dry {
            text.replace("lameduck roll", "lameduck roll --dry-run")
        } else {
            text
        };
        let all = typed(&language, &text);
        let commands: Vec<_> = all.iter().map(|typed| typed.command.as_str()).collect();
        let lost = |output: &str| all.iter().find_map(|typed| missing(&typed.shown, output));
        let commands = commands.join("\n");
        let ended = match way {
            Way::Stays => stage.stays(&commands, |output| lost(output).is_none()),
            _ => stage.run(&commands, PATIENCE),
        };
        let log = std::fs::read_to_string(stage.shell.path("lameduck.log")).unwrap();
        assert_eq!(ended.code, code, "{page}\n{text}\n{}\n{log}", ended.output);
        let lost = lost(&ended.output);
        assert!(lost.is_none(), "{page}: no {lost:?} in\n{}", ended.output);
    }
}

#[test]
fn flags_alone_start_a_proxy() {
    let (language, text) = block("docs/configuration.md", "lameduck run --listen");
    let [front, one, two] = ports();
    let text = text
        .replace("8080", &front.to_string())
        .replace("3000", &one.to_string())
        .replace("3001", &two.to_string());
    let command = &typed(&language, &text)[0].command;
    let began = |output: &str| output.contains("0 of 2 backends ready");
    let ended = Shell::new().stays(command, WHILE, began);
    assert_eq!(ended.code, 124, "{}", ended.output);
    assert!(
        ended.output.contains("0 of 2 backends ready"),
        "{}",
        ended.output
    );
}

#[test]
fn doctors_example_prints_what_is_shown() {
    let (language, text) = block("docs/doctor.md", "lameduck doctor oxfile.toml");
    let mut shell = Shell::new();
    shell.write(
        "oxfile.toml",
        "version = 1\n\n[[apps]]\nname = \"api\"\ncommand = \"lameduck exec --pool api --drain-timeout 30s -- node server.js\"\n\
         stop_timeout_secs = 60\n",
    );
    let typed = &typed(&language, &text)[0];
    let ended = shell.run(&typed.command, PATIENCE);
    assert_eq!(ended.code, 1, "{}", ended.output);
    let lost = missing(&typed.shown, &ended.output);
    assert!(lost.is_none(), "no {lost:?} in\n{}", ended.output);
}
