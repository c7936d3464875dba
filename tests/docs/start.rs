//! What the log of a first start says.

use std::time::Duration;

use crate::shell::{Shell, ports};

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

/// The log until the first round of probes is over.
fn log(shell: &mut Shell, before: &str, arguments: &str) -> String {
    let script = format!(
        "{before}\nlameduck run {arguments} > /dev/null 2> log & pid=$!\n\
         for _ in $(seq 300); do grep -q 'first round' log && break; sleep 0.1; done\n\
         kill $pid; wait $pid; cat log"
    );
    shell.run(&script, PATIENCE).output
}

#[test]
fn log_says_how_many_backends_are_ready_and_has_no_empty_actor() {
    let mut shell = Shell::new();
    file(&shell);
    let app = "P=$(grep -o '1:[0-9]*' lameduck.toml | tail -1 | cut -d: -f2)\n\
               lameduck demo-app --port $P > app & app=$!\n\
               for _ in $(seq 300); do [ -s app ] && break; sleep 0.1; done";
    let none = log(&mut shell, "unset LAMEDUCK_ADMIN", "-c lameduck.toml");
    assert!(none.contains("is over: 0 of 2 backends ready"), "{none}");
    let one = log(
        &mut shell,
        &format!("unset LAMEDUCK_ADMIN\n{app}"),
        "-c lameduck.toml",
    );
    let counted = one.contains("is over: 1 of 2 backends ready")
        || one.contains("is over: 0 of 2 backends ready");
    assert!(counted && one.contains("state changed"), "{one}");
    assert!(
        !one.contains("actor=\"\"") && !one.contains("actor= "),
        "{one}"
    );
}

#[test]
fn variables_that_override_the_file_are_named() {
    let mut shell = Shell::new();
    let (front, socket) = file(&shell);
    let [other] = ports();
    let before = format!("export LAMEDUCK_ADMIN=$PWD/other.sock LAMEDUCK_LISTEN=127.0.0.1:{other}");
    let said = log(&mut shell, &before, "-c lameduck.toml");
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
    let said = log(&mut shell, &same, "-c lameduck.toml");
    assert!(!said.contains("is set"), "{said}");
    let typed = format!("-c lameduck.toml --admin typed.sock --listen 127.0.0.1:{other}");
    let said = log(&mut shell, &before, &typed);
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
    );
    assert!(
        said.contains("LAMEDUCK_BACKEND is set: ./lameduck.toml is not read"),
        "{said}"
    );
}

#[test]
fn second_proxy_on_the_default_address_starts_without_a_warning() {
    // Somebody has it: this test, or whoever had it before.
    let _held = std::net::TcpListener::bind("127.0.0.1:9901");
    let mut shell = Shell::new();
    file(&shell);
    let said = log(&mut shell, "unset LAMEDUCK_ADMIN", "-c lameduck.toml");
    let line = said.lines().find(|line| line.contains("127.0.0.1:9901"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains("INFO") && line.contains("no admin API over TCP"),
        "{line}"
    );
}
