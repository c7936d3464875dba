//! What the log of a first start says.

use std::time::Duration;

use crate::shell::{Shell, ports};

/// [`Shell`] names a socket, as the README's tour does.
const NO_VARIABLE: &str = "unset LAMEDUCK_ADMIN";

const PATIENCE: Duration = Duration::from_secs(60);

/// A file whose socket and port the test knows; nothing listens where its backends should be.
fn file(shell: &Shell) -> (u16, String) {
    let [front, one, two] = ports();
    let socket = shell.path("file.sock").display().to_string();
    let text = format!(
        "[admin]\nsocket = \"{socket}\"\n[server]\nlame_duck = \"0s\"\n\
         [[listener]]\naddress = \"127.0.0.1:{front}\"\n[[pool]]\nname = \"app\"\n\
         [[pool.backend]]\naddress = \"127.0.0.1:{one}\"\n[[pool.backend]]\naddress = \"127.0.0.1:{two}\"\n"
    );
    shell.write("lameduck.toml", &text);
    (front, socket)
}

/// The log until the first round of probes is over, and `then` has been done.
fn log(shell: &mut Shell, before: &str, arguments: &str, then: &str) -> String {
    let script = format!(
        "rm -f log\n{before}\nlameduck run {arguments} > /dev/null 2> log & pid=$!\n\
         until_log() {{ for _ in $(seq 300); do grep -qs \"$1\" log && break; sleep 0.1; done; }}\n\
         until_log 'first round'\n{then}\nkill $pid; wait $pid; cat log"
    );
    shell.run(&script, PATIENCE).output
}

#[test]
fn log_says_how_many_backends_are_ready() {
    let mut shell = Shell::new();
    file(&shell);
    let said = log(&mut shell, NO_VARIABLE, "-c lameduck.toml", "");
    assert!(said.contains("is over: 0 of 2 backends ready"), "{said}");
    assert!(!said.contains("is over: ready"), "{said}");
}

#[test]
fn change_of_state_without_a_drain_is_logged_without_an_actor() {
    let mut shell = Shell::new();
    file(&shell);
    let before = format!(
        "{NO_VARIABLE}\nport=$(grep -o '1:[0-9]*' lameduck.toml | tail -1 | cut -d: -f2)\n\
         lameduck demo-app --port $port > app & app=$!\n\
         for _ in $(seq 300); do [ -s app ] && break; sleep 0.1; done"
    );
    let then = "until_log 'to=\"ready\"'; lameduck drain --admin file.sock app/app-2; kill $app";
    let said = log(&mut shell, &before, "-c lameduck.toml", then);
    let line = |text: &str| {
        said.lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{said}"))
    };
    assert!(!line("to=\"ready\"").contains("actor"), "{said}");
    assert!(
        line("to=\"drained\"").contains("actor=\"operator\""),
        "{said}"
    );
}

#[test]
fn variables_that_override_the_file_are_named() {
    let mut shell = Shell::new();
    let (front, socket) = file(&shell);
    let [other] = ports();
    let before = format!("export LAMEDUCK_ADMIN=$PWD/other.sock LAMEDUCK_LISTEN=127.0.0.1:{other}");
    let said = log(&mut shell, &before, "-c lameduck.toml", "");
    let admin = format!("other.sock, and not {socket} as lameduck.toml says");
    assert!(
        said.contains("LAMEDUCK_ADMIN is set") && said.contains(&admin),
        "{said}"
    );
    let listen = format!("127.0.0.1:{other}, and not 127.0.0.1:{front} as lameduck.toml says");
    assert!(
        said.contains("LAMEDUCK_LISTEN is set") && said.contains(&listen),
        "{said}"
    );
    // The same values, or flags that were typed: nothing to be surprised at.
    let same = format!("export LAMEDUCK_ADMIN={socket} LAMEDUCK_LISTEN=127.0.0.1:{front}");
    let said = log(&mut shell, &same, "-c lameduck.toml", "");
    assert!(!said.contains("is set"), "{said}");
    let typed = format!("-c lameduck.toml --admin typed.sock --listen 127.0.0.1:{other}");
    let said = log(&mut shell, &before, &typed, "");
    assert!(
        !said.contains("is set") && said.contains("typed.sock"),
        "{said}"
    );
    // Flags are enough without a file; by a variable, a file that is there is passed over.
    let before = format!("unset LAMEDUCK_ADMIN\nexport LAMEDUCK_BACKEND=127.0.0.1:{other}");
    let said = log(
        &mut shell,
        &before,
        "--listen 127.0.0.1:0 --admin typed.sock",
        "",
    );
    assert!(
        said.contains("LAMEDUCK_BACKEND is set: ./lameduck.toml is not read"),
        "{said}"
    );
}

#[test]
fn second_proxy_on_the_default_address_starts_without_a_warning() {
    // Another test's proxy may have it, and end at any moment: this test's is the one that stays.
    let _held = (0..200).find_map(|_| {
        let held = std::net::TcpListener::bind("127.0.0.1:9901").ok();
        if held.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        held
    });
    let mut shell = Shell::new();
    file(&shell);
    let said = log(&mut shell, NO_VARIABLE, "-c lameduck.toml", "");
    let line = said.lines().find(|line| line.contains("127.0.0.1:9901"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains("INFO") && line.contains("no admin API over TCP"),
        "{line}"
    );
}
