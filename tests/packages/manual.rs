//! Manual pages, as `man` and mandoc read them.

use std::process::Command;

use super::{exe, files_below, has, succeed};

#[test]
fn manual_pages_are_read_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let said = succeed(Command::new(exe()).arg("man").arg(dir.path()));
    assert!(said.contains("lameduck.1"), "{said}");
    let pages = files_below(dir.path());
    assert!(pages.len() > 20, "{pages:?}");
    if has("mandoc") {
        let mut lint = Command::new("mandoc");
        let output = lint
            .args(["-T", "lint", "-W", "warning"])
            .args(pages.values());
        let said = succeed(output);
        assert_eq!(said, "");
    } else {
        lameduck_rig::setting::skip("manual pages, linted", "mandoc");
    }
    if has("man") {
        for page in [&pages["lameduck.1"], &pages["lameduck.toml.5"]] {
            let mut man = Command::new("man");
            man.args(["--warnings=w", "--local-file"]).arg(page);
            let output = man
                .env("MANWIDTH", "80")
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert_eq!(complaints, "", "{}", page.display());
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(shown.contains("SEE ALSO"), "{shown}");
        }
    }
}

/// bash completes with the script, and has nothing to say against it.
#[test]
fn bash_completes_commands_and_their_options() {
    let script = "source <(\"$0\" completions bash) && COMP_WORDS=(lameduck dra) COMP_CWORD=1 && \
                  _lameduck lameduck dra lameduck && echo \"${COMPREPLY[@]}\" && \
                  COMP_WORDS=(lameduck drain --un) COMP_CWORD=2 && \
                  _lameduck lameduck --un drain && echo \"${COMPREPLY[@]}\"";
    let said = succeed(Command::new("bash").args(["-c", script, exe()]));
    assert_eq!(said, "drain\n--until\n");
}
