//! Whatever a file holds: no panic, and an error with a position.

use super::{files, own};
use lameduck::tools::doctor::{DoctorOptions, InputFile, discover, examine};

fn survives(name: &str, text: String) -> usize {
    let file = InputFile {
        name: name.into(),
        text,
        ..InputFile::default()
    };
    let examined = examine(&[file], Some(own()), DoctorOptions::default());
    let report = &examined.reports[0];
    let _ = (report.render(false), report.json());
    report.diagnostics.len()
}

/// A small generator, seeded: failures can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

#[test]
fn cut_and_mangled_files_never_panic() {
    let mut random = Random(7);
    for path in files("tests/doctor/bad")
        .into_iter()
        .chain(files("tests/doctor/good"))
        .chain(crate::corpus::files_of_corpus())
    {
        let (files, _) = discover::read(&[path]);
        for file in files {
            let chars: Vec<char> = file.text.chars().collect();
            for _ in 0..2 {
                let end = random.below(chars.len() + 1);
                survives(&file.name, chars[..end].iter().collect());
                let mut mangled = chars.clone();
                for _ in 0..4 {
                    let junk = [
                        '\0', '{', '[', '\'', '"', ':', '\t', 'é', '&', '*', '|', '=', '9',
                        '\u{feff}',
                    ];
                    let at = random.below(mangled.len());
                    mangled[at] = junk[random.below(junk.len())];
                }
                survives(&file.name, mangled.into_iter().collect());
            }
        }
    }
}

#[test]
fn hostile_files_are_refused() {
    for name in [
        "x.yaml",
        "x.json",
        "oxfile.toml",
        "x.service",
        "supervisord.conf",
        "x",
    ] {
        for deep in [
            "[",
            "{a: ",
            "- ",
            "&a [*a, ",
            "a = [",
            "[[apps]]\n",
            "\\\n",
            "'",
            "\u{202e}",
        ] {
            survives(name, deep.repeat(5_000));
        }
        survives(name, String::new());
    }
    let text =
        "[Service]\nExecStart=sh -c \"sh -c 'sh -c \\\"sh -c a\\\"'\"\nTimeoutStopSec=1e400\n";
    survives("x.service", text.into());
    let seconds = "18446744073709551615";
    survives(
        "oxfile.toml",
        format!(
            "[[apps]]\nname=\"api\"\nstop_timeout_secs={seconds}\ncommand=\"lameduck exec --pool api --drain-timeout 365d -- a\""
        ),
    );
    survives(
        "c.yaml",
        format!("services: {{api: {{command: node server.js, stop_grace_period: {seconds}}}}}"),
    );
}

#[test]
fn broken_files_say_where() {
    for (name, text, line, says) in [
        ("oxfile.toml", "[[apps]]\nname = \n", 2, "no TOML"),
        (
            "oxfile.toml",
            "[[pool]]\nname = 'a'\n",
            1,
            "lameduck's own configuration",
        ),
        ("oxfile.toml", "x = 1\n", 1, "neither `[[apps]]` nor"),
        ("k.yaml", "a: [1\nb: 2\n", 2, "neither YAML nor JSON"),
        ("k.yaml", "a: 1\n", 1, "no `kind`"),
        (
            "x.service",
            "[Service]\nExecStart\n",
            2,
            "neither `[section]`",
        ),
        ("a.conf", "[x]\ny=1\n", 1, "no `[program:NAME]`"),
        ("notes.txt", "hello\n", 1, "no known kind"),
    ] {
        let file = InputFile {
            name: name.into(),
            text: text.into(),
            ..InputFile::default()
        };
        let json = examine(&[file], None, DoctorOptions::default()).reports[0].json();
        let first = &json[0];
        assert_eq!(
            (&first["code"], &first["severity"]),
            (&"broken-file".into(), &"error".into()),
            "{name}: {json}"
        );
        assert_eq!(first["line"], line, "{name}: {json}");
        assert!(
            first["message"].as_str().unwrap().contains(says),
            "{name}: {json}"
        );
        assert!(
            !first["help"].as_str().unwrap().is_empty(),
            "{name}: {json}"
        );
    }
}
