use super::*;
use proptest::prelude::*;

/// `{SHA}` of "a", and a bcrypt hash of "secret" at the lowest cost.
const SHA_OF_A: &str = "{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=";

fn bcrypt_of(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, [7; 16])
        .unwrap()
        .format_for_version(bcrypt::Version::TwoY)
}

#[test]
fn right_passwords_and_no_others_are_let_in() {
    let text = format!(
        "# users\nann:{SHA_OF_A}\r\n\nbob:{}\ncyd:{}:staff\n",
        bcrypt_of("secret"),
        bcrypt_of("päss wörd").replace("$2y$", "$2a$"),
    );
    let file = UserFile::parse(text.as_bytes()).unwrap();
    for (user, password, is_right) in [
        ("ann", "a", true),
        ("ann", "b", false),
        ("ann", "", false),
        ("bob", "secret", true),
        ("bob", "secret\0", false),
        ("bob", "secret\0x", false),
        ("bob", "Secret", false),
        ("Bob", "secret", false),
        ("cyd", "päss wörd", true),
        ("dan", "secret", false),
        ("dan", "a", false),
        ("", "", false),
        ("# users", "", false),
    ] {
        let found = file.check(user.as_bytes(), password.as_bytes());
        assert_eq!(found.is_some(), is_right, "{user}:{password}");
        assert_eq!(found.as_deref(), is_right.then_some(user));
    }
    assert!(file.check(b"bob", &[b'x'; LONGEST_PASSWORD + 1]).is_none());
}

#[test]
fn each_bad_line_is_reported_without_its_content() {
    let high = bcrypt_of("x").replace("$04$", "$16$");
    for (line, part) in [
        ("hunter2", "no colon"),
        (":{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=", "no user"),
        ("ann:", "no hash"),
        ("ann:$apr1$hunter2$hunter2", "apr1"),
        ("ann:$1$hunter2", "$1$"),
        ("ann:$5$hunter2", "$5$"),
        ("ann:$6$hunter2", "$6$"),
        ("ann:$y$hunter2", "$y$"),
        ("ann:$2x$10$hunter2", "$2x$"),
        ("ann:$2y$10$hunter2", "damaged"),
        (&format!("ann:{high}"), "cost of 16"),
        ("ann:{SHA}hunter2", "damaged"),
        ("ann:{SSHA}hunter2", "{SSHA}"),
        ("ann:{PLAIN}hunter2", "{PLAIN}"),
        ("ann:$argon2id$hunter2", "Argon2"),
        ("ann:hunter2hunter", "in the clear"),
        ("ann:hunter2", "behind its colon"),
        ("a\u{1}b:hunter2", "name"),
    ] {
        let text = format!("ok:{SHA_OF_A}\n{line}\n");
        let problems = UserFile::parse(text.as_bytes()).unwrap_err();
        assert_eq!(problems.len(), 1, "{line}");
        let problem = &problems[0];
        assert_eq!(problem.line, Some(2));
        assert!(problem.why.contains(part), "{line}: {}", problem.why);
        let told = format!("{problem:?}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let twice = format!("ann:{SHA_OF_A}\nbob:{SHA_OF_A}\nann:{SHA_OF_A}\n");
    let problems = UserFile::parse(twice.as_bytes()).unwrap_err();
    assert!(problems[0].why.contains("line 1"), "{problems:?}");
    let problems = UserFile::parse(b"# nobody\n").unwrap_err();
    assert_eq!(problems[0].line, None);
    assert!(!format!("{:?}", UserFile::parse(&twice.as_bytes()[..40])).contains("hvfk"));
}

/// An unknown name takes as long as a known one that is equally slow to check.
#[test]
fn unknown_user_is_checked_against_a_hash_too() {
    let slow = bcrypt::hash_with_salt("secret", 11, [7; 16]).unwrap();
    let slow = slow.format_for_version(bcrypt::Version::TwoB);
    let file = UserFile::parse(format!("ann:{slow}\n").as_bytes()).unwrap();
    let time = |user: &[u8]| {
        let began = std::time::Instant::now();
        assert!(file.check(user, b"wrong").is_none());
        began.elapsed()
    };
    let (mut known, unknown) = (time(b"ann"), time(b"nobody"));
    // The best of several: a busy machine only ever adds.
    for _ in 0..5 {
        if unknown * 5 <= known {
            known = known.min(time(b"ann"));
        }
    }
    assert!(unknown * 5 > known, "{unknown:?} against {known:?}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "([a-c#:{}$]|\\$2y\\$|\\{SHA\\}|[0-9/.=]|\\r|\\n){0,80}") {
        if let Ok(file) = UserFile::parse(text.as_bytes()) {
            file.check(b"a", b"b");
        }
    }
}
