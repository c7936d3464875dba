//! Files that are refused, each with its name and the reason.

use std::path::Path;
use std::process::Command;

use lameduck::app::check::load;
use rcgen::{KeyPair, date_time_ymd};

use lameduck_rig::certificates::{Authority, Pair, replace};

/// What `check` says of a configuration whose certificate and key are these texts; `None`: they don't exist.
fn check(dir: &Path, cert: Option<&str>, key: Option<&str>, more: &str) -> Result<String, String> {
    for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
        let _ = std::fs::remove_file(dir.join(name));
        if let Some(text) = text {
            replace(&dir.join(name), text);
        }
    }
    let config = dir.join("c.toml");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n{more}\n\
         [[pool]]\nname = \"app\"\n[[pool.backend]]\naddress = \"127.0.0.1:3000\"\n"
    );
    std::fs::write(&config, text).unwrap();
    match load(&config) {
        Ok(loaded) => Ok(loaded.warnings.render(false)),
        Err(error) => Err(error.render(false)),
    }
}

#[test]
fn bad_files_are_refused_with_their_name_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let middle = root.intermediate("middle");
    let good = middle.sign(&["a.example"]);
    let other = root.sign(&["a.example"]);
    let future = root.sign_as(&["a.example"], |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    let expired = root.sign_expired(&["a.example"]);
    let chain = |parts: &[&Pair]| {
        parts
            .iter()
            .map(|pair| pair.cert.as_str())
            .collect::<String>()
    };
    let encrypted = encrypted();
    let cut = &good.cert[..good.cert.len() / 2];
    let broken = good.cert.replacen("MII", "AAA", 1);

    let cases: &[(&str, Option<String>, Option<String>, &str)] = &[
        ("cert.pem", None, Some(good.key.clone()), "no such file"),
        ("key.pem", Some(good.cert.clone()), None, "no such file"),
        (
            "cert.pem",
            Some(" \n".into()),
            Some(good.key.clone()),
            "it is empty",
        ),
        (
            "key.pem",
            Some(good.cert.clone()),
            Some(String::new()),
            "it is empty",
        ),
        (
            "cert.pem",
            Some("hello".into()),
            Some(good.key.clone()),
            "no certificate in it",
        ),
        (
            "cert.pem",
            Some(good.key.clone()),
            Some(good.key.clone()),
            "a key in it, and no certificate",
        ),
        (
            "key.pem",
            Some(good.cert.clone()),
            Some(good.cert.clone()),
            "a certificate in it, and no key",
        ),
        (
            "key.pem",
            Some(good.cert.clone()),
            Some("hello".into()),
            "no private key in it",
        ),
        (
            "key.pem",
            Some(good.cert.clone()),
            Some(encrypted),
            "the key is encrypted",
        ),
        (
            "key.pem",
            Some(good.cert.clone()),
            Some(other.key.clone()),
            "it is not the key of",
        ),
        (
            "cert.pem",
            Some(cut.into()),
            Some(good.key.clone()),
            "it ends in the middle",
        ),
        ("cert.pem", Some(broken), Some(good.key.clone()), "damaged"),
        (
            "cert.pem",
            Some(expired.cert.clone()),
            Some(expired.key.clone()),
            "expired at 2020-02-29",
        ),
        (
            "cert.pem",
            Some(future.cert.clone()),
            Some(future.key.clone()),
            "not valid before 2090",
        ),
        (
            "cert.pem",
            Some(format!("{}{}", middle.pem, good.cert)),
            Some(good.key.clone()),
            "wrong order: the key's own certificate is number 2",
        ),
        (
            "cert.pem",
            Some(chain(&[&good, &other])),
            Some(good.key.clone()),
            "the chain is broken",
        ),
        (
            "cert.pem",
            Some(format!("{}{}{}", good.cert, root.pem, middle.pem)),
            Some(good.key.clone()),
            "the chain is broken",
        ),
    ];
    for (file, cert, key, why) in cases {
        let told = check(dir.path(), cert.as_deref(), key.as_deref(), "").unwrap_err();
        assert!(
            told.contains(why) && told.contains(file),
            "{file}: {why}\n{told}"
        );
        assert!(told.contains("help: ") && told.contains("--> "), "{told}");
    }
    let whole = format!("{}{}{}", good.cert, middle.pem, root.pem);
    assert_eq!(
        check(dir.path(), Some(&whole), Some(&good.key), "").unwrap(),
        ""
    );
    // One file for both, as HAProxy has it; and keys in each of the usual forms.
    let both = format!("{}{}", good.key, good.cert);
    assert_eq!(check(dir.path(), Some(&both), Some(&both), "").unwrap(), "");
}

/// A key that OpenSSL has encrypted; without it, what it would look like.
fn encrypted() -> String {
    let key = KeyPair::generate().unwrap().serialize_pem();
    key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
}

#[test]
fn what_expires_soon_and_what_everybody_may_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let soon = root.sign_as(&["a.example"], |params| {
        let now = std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400);
        params.not_after = now.into();
    });
    let told = check(dir.path(), Some(&soon.cert), Some(&soon.key), "").unwrap();
    assert!(
        told.contains("cert.pem expires at") && told.starts_with("warning"),
        "{told}"
    );

    use std::os::unix::fs::PermissionsExt;
    let good = root.sign(&["a.example"]);
    check(dir.path(), Some(&good.cert), Some(&good.key), "").unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("key.pem"), open).unwrap();
    let told = load(&dir.path().join("c.toml"))
        .unwrap()
        .warnings
        .render(false);
    assert!(
        told.contains("everybody on this machine may read"),
        "{told}"
    );
}

#[test]
fn a_bad_authority_of_clients_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let good = root.sign(&["a.example"]);
    let more = "client_auth = \"required\"\nclient_ca = \"ca.pem\"";
    let judge = |ca: &str| {
        replace(&dir.path().join("ca.pem"), ca);
        check(dir.path(), Some(&good.cert), Some(&good.key), more)
    };
    assert_eq!(judge(&root.pem).unwrap(), "");
    for (ca, why) in [
        ("", "it is empty"),
        (good.key.as_str(), "a key in it, and no certificate"),
        (
            root.sign_expired(&["x"]).cert.as_str(),
            "all certificates in it have expired",
        ),
    ] {
        let told = judge(ca).unwrap_err();
        assert!(
            told.contains(why) && told.contains("ca.pem"),
            "{why}\n{told}"
        );
    }
}

#[test]
fn a_bad_revocation_list_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let good = root.sign(&["a.example"]);
    let more = "client_auth = \"required\"\nclient_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"";
    replace(&dir.path().join("ca.pem"), &root.pem);
    let judge = |crl: &str| {
        replace(&dir.path().join("crl.pem"), crl);
        check(dir.path(), Some(&good.cert), Some(&good.key), more)
    };
    let list = root.revoke(&[1], 4000);
    assert_eq!(judge(&list).unwrap(), "");
    let told = judge(&root.revoke(&[1], 2025)).unwrap();
    let why = "crl.pem: the revocation list of CN=root is out of date";
    assert!(told.contains(why), "{told}");
    let half = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (crl, why) in [
        ("", "it is empty"),
        (root.pem.as_str(), "there is no revocation list in it"),
        (&list[..list.len() / 2], "it ends in the middle"),
        (half, "revocation list 1 of it is damaged"),
    ] {
        let told = judge(crl).unwrap_err();
        assert!(
            told.contains(why) && told.contains("`client_crl`") && told.contains("crl.pem"),
            "{why}\n{told}"
        );
    }
}

/// `lameduck run` judges as `check` does.
#[test]
fn a_proxy_does_not_start_with_bad_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let (one, other) = (root.sign(&["a.example"]), root.sign(&["a.example"]));
    check(dir.path(), Some(&one.cert), Some(&other.key), "").unwrap_err();
    for command in ["check", "run"] {
        let output = Command::new(super::rig::exe())
            .args([command, "-c"])
            .arg(dir.path().join("c.toml"))
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert!(
            told.contains("key.pem: it is not the key of"),
            "{command}: {told}"
        );
    }
}
