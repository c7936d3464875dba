//! Large files, and files with very many mistakes: the work grows with the file, the output does not.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lameduck::app::check::load;
use lameduck::config::{ConfigError, parse};

/// Processor time of this thread so far: unlike the time of day, it does not grow with the load of the machine.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What is shown of a text with mistakes; how long they took to be found, and to be shown.
fn judged(text: &str) -> (String, Duration, Duration) {
    let began = cpu();
    let result = parse("x.toml", text);
    let found = cpu();
    let shown = match result {
        Ok(loaded) => loaded.warnings.render(false),
        Err(error) => {
            let _ = error.report().json();
            error.render(false)
        }
    };
    (
        shown,
        found.saturating_sub(began),
        cpu().saturating_sub(found),
    )
}

const HEAD: &str = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[pool]]\nname = \"app\"\n";

/// Texts with so many mistakes of one kind each.
fn texts(count: usize) -> Vec<(&'static str, String)> {
    let many = |head: &str, line: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        (0..count).for_each(|n| text.push_str(&line(n)));
        text
    };
    let mut inline = format!("{HEAD}tls = {{ ");
    (0..count).for_each(|n| {
        let _ = write!(inline, "key-{n} = 1, ");
    });
    inline.push_str("ca = \"\" }\n");
    let list = many("trusted = [", &|n| format!("\"x{n}\", "));
    vec![
        (
            "unknown keys",
            many("[server]\n", &|n| format!("intervall_{n} = 1\n")),
        ),
        (
            "unknown sections",
            many("", &|n| format!("[pol{n}]\nx = 1\n")),
        ),
        ("unknown keys of an inline table", inline),
        (
            "equal addresses",
            many(HEAD, &|_| {
                "[[pool.backend]]\naddress = \"127.0.0.1:2\"\n".into()
            }),
        ),
        (
            "equal names of backends",
            many(HEAD, &|n| {
                format!(
                    "[[pool.backend]]\nname = \"a\"\naddress = \"127.0.0.1:{}\"\n",
                    n % 60_000 + 2
                )
            }),
        ),
        (
            "own listener as backend",
            many(HEAD, &|_| {
                "[[pool.backend]]\naddress = \"127.0.0.1:1\"\n".into()
            }),
        ),
        (
            "equal pools",
            many(HEAD, &|_| "[[pool]]\nname = \"app\"\n".into()),
        ),
        (
            "pools without a route",
            many("[[route]]\npool = \"p0\"\n", &|n| {
                format!("[[pool]]\nname = \"p{n}\"\n")
            }),
        ),
        (
            "routes without a pool",
            many(HEAD, &|n| {
                format!("[[pool]]\nname = \"p{n}\"\n[[route]]\nhost = \"h{n}\"\npool = \"q{n}\"\n")
            }),
        ),
        (
            "equal routes",
            many(HEAD, &|_| "[[route]]\npool = \"app\"\n".into()),
        ),
        (
            "equal listeners",
            many("", &|_| "[[listener]]\naddress = \"127.0.0.1:1\"\n".into()),
        ),
        (
            "listeners",
            many(HEAD, &|n| {
                format!(
                    "[[listener]]\naddress = \"127.{}.{}.{}:2\"\n",
                    n >> 16 & 255,
                    n >> 8 & 255,
                    n & 255
                )
            }),
        ),
        (
            "wrong values",
            many(HEAD, &|n| {
                format!(
                    "[[pool.backend]]\naddress = \"127.0.0.1:2\"\nweight = {}\n",
                    n + 1001
                )
            }),
        ),
        ("items of a list", format!("[headers]\n{list}]\n")),
        ("TOML errors", many("", &|n| format!("a{n} = = 1\n"))),
    ]
}

/// Ten times the mistakes are to take ten times as long to be found, and no longer to be shown. With a search for each
/// it would be a hundred times.
#[test]
fn work_grows_no_faster_than_the_number_of_mistakes() {
    const FEW: usize = 300;
    let mut slow = Vec::new();
    for ((what, few), (_, many)) in texts(FEW).into_iter().zip(texts(10 * FEW)) {
        let quick = (0..3).map(|_| judged(&few).1).min().unwrap_or_default();
        let (shown, found, rendered) = judged(&many);
        assert!(shown.len() < 200_000, "{what}: {} bytes", shown.len());
        let findings = shown.matches("error: ").count() + shown.matches("warning: ").count();
        assert!(findings <= 110, "{what}: {findings}");
        let line = format!("{what}: {quick:?}, ten times as many {found:?}, shown in {rendered:?}");
        // The kernel counts in steps of some milliseconds.
        let quick = quick.max(Duration::from_millis(4));
        if found > quick * 25 || rendered > Duration::from_secs(2) {
            slow.push(line);
        } else {
            println!("{line}");
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn hundred_findings_are_shown_and_the_others_are_counted() {
    let (_, text) = texts(1000).remove(0);
    let shown = parse("x.toml", &text).unwrap_err().render(false);
    assert_eq!(shown.matches("there is no `intervall_").count(), 100);
    // And what is missing: a listener, a pool.
    assert!(
        shown.ends_with("\nand 902 more; these are the first 100\n"),
        "{}",
        &shown[shown.len() - 200..]
    );
    let json = parse("x.toml", &text).unwrap_err().report().json();
    assert_eq!(json.as_array().unwrap().len(), 100);
}

#[test]
fn values_of_a_mebibyte_are_not_repeated() {
    let value = "1".repeat(1 << 20);
    let words = "one two ".repeat(1 << 17);
    for text in [
        format!("[server]\nthreads = {value}\n"),
        format!("[server]\nmax_body = \"{value}\"\n"),
        format!("[server]\nlame_duck = \"{value}\"\n"),
        format!("[server]\nmax_body = {value}\n"),
        format!("[server]\nkey{value} = 1\n"),
        format!("[server]\n\"{words}\" = 1\n"),
        format!("[key{value}]\n"),
        format!("[server]\nlame_duck = {words}\n"),
        format!("[server]\nlame_duck {words}\n"),
        format!("[admin]\nsocket = \"{value}\"\n"),
        format!("{HEAD}[[pool.backend]]\naddress = \"{value}\"\n"),
        format!("{HEAD}[[pool.backend]]\naddress = \"http://{words}\"\n"),
        format!("{HEAD}[[route]]\npool = \"app\"\nhost = \"{value}/x\"\n"),
        format!("{HEAD}[[route]]\npool = \"app\"\npath_prefix = \"{value}\"\n"),
        format!("{HEAD}[pool.health]\nheaders = {{ x = 1, {words} = 2 }}\n"),
        format!("{HEAD}[pool.health]\nmethod = \"a{words}\"\n"),
        format!("{HEAD}[pool.retry]\nbudget = 7{value}\n"),
    ] {
        let (shown, ..) = judged(&text);
        let start = &text[..60];
        assert!(shown.contains("error"), "{start}");
        assert!(shown.len() < 8000, "{} bytes for {start}", shown.len());
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    const DEEP: usize = 100_000;
    for text in [
        format!("x = {}", "[".repeat(DEEP)),
        format!("x = {}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
        format!("x = {}1{}", "{a=".repeat(DEEP), "}".repeat(DEEP)),
        format!("{}a = 1", "a.".repeat(DEEP)),
        format!("[{}a]", "a.".repeat(DEEP)),
        format!("[[{}a]]", "a.".repeat(DEEP)),
        format!("x = {{ {}a = 1 }}", "a.".repeat(DEEP)),
    ] {
        let (shown, ..) = judged(&text);
        assert!(shown.contains("error"), "{}", &text[..20]);
        assert!(
            shown.len() < 8000,
            "{} bytes for {}",
            shown.len(),
            &text[..20]
        );
    }
}

#[test]
fn file_that_is_too_large_or_no_file_is_refused_and_a_pipe_is_read() {
    let why = |path: &Path| match load(path) {
        Err(ConfigError::Unreadable { why, .. }) => why,
        other => panic!("{}: {other:?}", path.display()),
    };
    assert_eq!(why(Path::new("/dev/zero")), "it is larger than 16MiB");
    assert_eq!(why(Path::new("/dev")), "is a directory");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.toml");
    // Sparse: a hundred MiB that take no room.
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(100 << 20).unwrap();
    assert_eq!(why(&path), "it is larger than 16MiB");
    // As `-c <(command)` and `-c /dev/stdin` have it.
    let good = format!(
        "{HEAD}[[pool.backend]]\naddress = \"127.0.0.1:2\"\n{}",
        "# comment\n".repeat(50_000)
    );
    let (reader, mut writer) = std::io::pipe().unwrap();
    let writing =
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, good.as_bytes()));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    assert_eq!(load(Path::new(&path)).unwrap().config.pools.len(), 1);
    drop(reader);
    let _ = writing.join().unwrap();
}
