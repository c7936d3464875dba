//! Programs that run another one in their own place: `gosu app`, `tini --`, `env A=b`, `doppler run --`, …

use super::command_line::base;

/// Description of a wrapper's own words.
struct Wrapper {
    names: &'static [&'static str],
    /// Options whose value is a separate word.
    valued: &'static [&'static str],
    /// Number of arguments before the command.
    arguments: usize,
    /// First words, one of which is needed (`run` in `doppler run`).
    verbs: &'static [&'static str],
}

const fn plain(names: &'static [&'static str]) -> Wrapper {
    taking(names, &[], 0)
}

const fn taking(
    names: &'static [&'static str],
    valued: &'static [&'static str],
    arguments: usize,
) -> Wrapper {
    running(names, &[], valued, arguments)
}

const fn running(
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    valued: &'static [&'static str],
    arguments: usize,
) -> Wrapper {
    Wrapper {
        names,
        valued,
        arguments,
        verbs,
    }
}

const WRAPPERS: &[Wrapper] = &[
    plain(&[
        "nohup",
        "setsid",
        "time",
        "catatonit",
        "dumb-init",
        "unbuffer",
        "valgrind",
        "ddtrace-run",
        "vault-env",
        "with-contenv",
        "cross-env",
        "numactl",
        "command",
        "entrypoint",
        "entrypoint.sh",
        "docker-entrypoint",
        "docker-entrypoint.sh",
        "docker-php-entrypoint",
    ]),
    plain(&["wait-for", "wait-for.sh", "wait-for-it", "wait-for-it.sh"]),
    taking(&["exec"], &["-a"], 0),
    taking(&["env"], &["-u", "--unset", "-C", "--chdir"], 0),
    taking(&["nice"], &["-n", "--adjustment"], 0),
    taking(&["ionice"], &["-c", "-n", "--class", "--classdata"], 0),
    taking(
        &["sudo", "doas"],
        &["-u", "-g", "-C", "-h", "-p", "--user", "--group"],
        0,
    ),
    taking(
        &[
            "gosu",
            "su-exec",
            "setuidgid",
            "s6-setuidgid",
            "s6-envdir",
            "envdir",
        ],
        &[],
        1,
    ),
    taking(&["runuser"], &["-u", "-g", "-G"], 0),
    taking(
        &["setpriv"],
        &[
            "--reuid",
            "--regid",
            "--ruid",
            "--euid",
            "--rgid",
            "--egid",
            "--groups",
            "--inh-caps",
            "--ambient-caps",
            "--bounding-set",
            "--securebits",
            "--pdeathsig",
        ],
        0,
    ),
    taking(
        &["chpst"],
        &[
            "-u", "-U", "-b", "-e", "-/", "-n", "-l", "-L", "-m", "-d", "-o", "-p", "-f", "-c",
            "-r", "-t",
        ],
        0,
    ),
    taking(
        &["softlimit", "s6-softlimit"],
        &[
            "-a", "-c", "-d", "-f", "-l", "-m", "-o", "-p", "-r", "-s", "-t",
        ],
        0,
    ),
    taking(&["tini", "tini-static", "docker-init"], &["-p", "-e"], 0),
    taking(&["timeout"], &["-k", "-s", "--kill-after", "--signal"], 1),
    taking(&["stdbuf"], &["-i", "-o", "-e"], 0),
    taking(&["xvfb-run"], &["-n", "-e", "-f", "-p", "-s", "-w"], 0),
    taking(&["taskset", "chrt"], &[], 1),
    taking(&["cgexec"], &["-g"], 0),
    taking(&["systemd-cat"], &["-t", "-p"], 0),
    taking(&["flock"], &["-w", "-E"], 1),
    taking(&["strace"], &["-o", "-e", "-s", "-E"], 0),
    taking(
        &["dockerize"],
        &["-wait", "-timeout", "-template", "-stdout", "-stderr"],
        0,
    ),
    taking(&["dotenv"], &["-e", "-f", "-p"], 0),
    taking(&["env-cmd"], &["-f", "-e"], 0),
    taking(
        &["s6-notifyoncheck"],
        &["-3", "-s", "-T", "-t", "-w", "-n"],
        0,
    ),
    running(
        &["doppler"],
        &["run"],
        &[
            "-p",
            "-c",
            "-t",
            "--project",
            "--config",
            "--token",
            "--mount",
        ],
        0,
    ),
    running(
        &["infisical"],
        &["run"],
        &["--env", "--path", "--projectId", "--token"],
        0,
    ),
    running(&["dotenvx"], &["run"], &["-f", "-e"], 0),
    running(&["op", "teller"], &["run"], &["--env-file", "--account"], 0),
    running(&["chamber", "aws-vault"], &["exec"], &[], 1),
    running(
        &["berglas", "rbenv", "asdf", "mise", "bundle"],
        &["exec"],
        &[],
        0,
    ),
    running(
        &["poetry", "pipenv", "pdm", "hatch", "rye"],
        &["run"],
        &[],
        0,
    ),
    running(
        &["uv"],
        &["run"],
        &[
            "-p",
            "--python",
            "--with",
            "--project",
            "--directory",
            "--env-file",
            "--extra",
            "--group",
        ],
        0,
    ),
    running(
        &["conda", "micromamba", "mamba"],
        &["run"],
        &["-n", "-p", "--name", "--prefix"],
        0,
    ),
    running(&["newrelic-admin"], &["run-program"], &[], 0),
];

/// Index of the program that is finally run; 0 without a wrapper.
pub(super) fn skip<S: AsRef<str>>(words: &[S]) -> usize {
    let word = |at: usize| words.get(at).map(AsRef::as_ref);
    let mut at = 0;
    while let Some(name) = word(at) {
        if is_assignment(name) {
            at += 1;
            continue;
        }
        let known = |wrapper: &&Wrapper| wrapper.names.contains(&base(name));
        let Some(wrapper) = WRAPPERS.iter().find(known) else {
            break;
        };
        match behind(wrapper, at + 1, &word) {
            Some(next) => at = next,
            None => break,
        }
    }
    if at < words.len() { at } else { 0 }
}

fn behind<'w>(
    wrapper: &Wrapper,
    mut at: usize,
    word: &impl Fn(usize) -> Option<&'w str>,
) -> Option<usize> {
    let options = |mut at: usize| {
        while let Some(option) = word(at) {
            match option {
                "--" => return (at + 1, true),
                _ if wrapper.valued.contains(&option) => at += 2,
                _ if option.starts_with('-') && option.len() > 1 => at += 1,
                _ if is_assignment(option) && wrapper.arguments == 0 => at += 1,
                _ => break,
            }
        }
        (at, false)
    };
    if !wrapper.verbs.is_empty() {
        at = options(at).0;
        if !wrapper.verbs.contains(&word(at)?) {
            return None;
        }
        at += 1;
    }
    let (mut at, ended) = options(at);
    if ended && wrapper.arguments == 0 {
        return word(at).map(|_| at);
    }
    at += wrapper.arguments;
    // `wait-for-it.sh db:5432 --`, or `taskset -c 0 --`.
    if base(word(at.saturating_sub(1)).unwrap_or_default()) != "--" && word(at) == Some("--") {
        at += 1;
    } else if wrapper.names.contains(&"wait-for")
        && let Some(end) = (at..at + 8).find(|n| word(*n) == Some("--"))
    {
        at = end + 1;
    }
    word(at).map(|_| at)
}

/// Whether a word is `NAME=value`, as `env` and a shell accept it.
pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_end_where_the_program_begins() {
        for (text, program) in [
            ("gosu app X", "X"),
            ("tini -g -- X", "X"),
            ("/sbin/tini X", "X"),
            ("tini -- gosu app:app env -u B A=1 X", "X"),
            ("nice -n 10 ionice -c2 X", "X"),
            ("sudo -E -u app X", "X"),
            ("timeout -k 5 3600 X", "X"),
            ("setpriv --reuid app --clear-groups X", "X"),
            ("doppler run --project p -- X", "X"),
            ("doppler run X", "X"),
            ("bundle exec X", "X"),
            ("bundle install", "bundle"),
            ("chpst -u app -e ./env X", "X"),
            ("./wait-for-it.sh db:5432 -t 30 -- X", "X"),
            ("A=1 B=2 X", "X"),
            ("exec X", "X"),
            ("env", "env"),
            ("dotenv -e .env -- X", "X"),
        ] {
            let words: Vec<_> = text.split(' ').collect();
            assert_eq!(words[skip(&words)], program, "{text}");
        }
    }
}
