//! No target leads out of the root, and nothing is opened that is no file.

use super::{SECRET, ask, rig};

/// Each target must not show what is beside the root, nor what is hidden in it, and must be answered at once.
#[lameduck_rig::test]
async fn no_target_leads_out_of_the_root() {
    const TARGETS: [&str; 92] = [
        // Dots, plain and encoded, once and twice.
        "/..",
        "/../",
        "/../secret.txt",
        "/../../etc/passwd",
        "/docs/../../secret.txt",
        "/docs/deep/../../../secret.txt",
        "/./../secret.txt",
        "/.././secret.txt",
        "/docs/..%2f../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e./secret.txt",
        "/.%2e/secret.txt",
        "/%2E%2E/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/..%2Fsecret.txt",
        "/docs%2f..%2f..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/..%252fsecret.txt",
        "/%25252e%25252e/secret.txt",
        "/....//secret.txt",
        "/...//secret.txt",
        "/..../secret.txt",
        "/.../secret.txt",
        "/.. /secret.txt",
        "/..%20/secret.txt",
        "/..%09/secret.txt",
        "/..;/secret.txt",
        "/..;a=b/secret.txt",
        "/;/../secret.txt",
        // Overlong UTF-8, half of it, and full-width dots and slashes.
        "/%c0%ae%c0%ae/secret.txt",
        "/%c0%ae%c0%ae%c0%afsecret.txt",
        "/%e0%80%ae%e0%80%ae/secret.txt",
        "/..%c0%afsecret.txt",
        "/..%c1%9csecret.txt",
        "/%c0%2e%c0%2e/secret.txt",
        "/%uff0e%uff0e/secret.txt",
        "/%ef%bc%8e%ef%bc%8e/secret.txt",
        "/..%ef%bc%8fsecret.txt",
        "/%u002e%u002e/secret.txt",
        // Backslashes.
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/%5c..%5csecret.txt",
        "/docs\\..\\..\\secret.txt",
        "/\\..\\secret.txt",
        "/..%255csecret.txt",
        "/%2e%2e%5csecret.txt",
        "/..\\/secret.txt",
        "/..%5c/secret.txt",
        // NUL and other controls.
        "/%00",
        "/hello.txt%00",
        "/../secret.txt%00.html",
        "/secret.txt%00",
        "/%00/../secret.txt",
        "/%0a../secret.txt",
        "/..%0d%0a/secret.txt",
        "/..%01/secret.txt",
        "/%7f../secret.txt",
        // Absolute paths, absolute form, other schemes and hosts.
        "//etc/passwd",
        "///etc/passwd",
        "/%2fetc%2fpasswd",
        "/%2Fetc/passwd",
        "http://a/../secret.txt",
        "http://a/%2e%2e/secret.txt",
        "http://a/..%2fsecret.txt",
        "http://a//etc/passwd",
        "http://a:80/../secret.txt",
        "/file:///etc/passwd",
        "/http://a/../secret.txt",
        // Links: out by a relative, an absolute and a magic one, by a directory, and in a circle.
        "/outside.txt",
        "/absolute.txt",
        "/up/secret.txt",
        "/up/",
        "/up/up/secret.txt",
        "/up/site-secret/",
        "/rootlink/etc/passwd",
        "/rootlink/",
        "/magic/c.toml",
        "/magic/",
        "/loop",
        "/loop/x",
        // Beside the root by its name.
        "/../site-secret/index.html",
        "/..//site-secret/",
        "/../site/../secret.txt",
        // Hidden.
        "/.env",
        "/.git/config",
        "/.git/",
        "/docs/.htpasswd",
        "/%2eenv",
        "/.well-known/../.env",
        "/docs/../.git/config",
    ];
    let (rig, _root) =
        rig(", try = [\"{path}\", \"{path}/\", \"{path}index.html\"], precompressed = true").await;
    for target in TARGETS {
        let mut client = rig.client().await;
        for fields in [
            &[][..],
            &["Accept-Encoding: gzip, br, zstd"],
            &["Range: bytes=0-999"],
        ] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\n{}\r\n",
                fields
                    .iter()
                    .map(|field| format!("{field}\r\n"))
                    .collect::<String>()
            );
            client.send(request).await;
            let answer = client.response().await;
            let body = String::from_utf8_lossy(&answer.body);
            assert!(
                !body.contains(SECRET) && !body.contains("root:"),
                "{target}: {body}"
            );
            assert!(!body.contains("[server]"), "{target}: {body}");
            assert!(
                [301, 400, 403, 404].contains(&answer.status()),
                "{target}: {}",
                answer.head
            );
            if answer.status() == 301 {
                let location = answer.field("location").unwrap();
                assert!(
                    location.starts_with('/')
                        && !location.starts_with("//")
                        && !location.starts_with("/\\"),
                    "{target}: {location}"
                );
            }
            if answer.has("Connection: close") {
                client = rig.client().await;
            }
        }
    }
    // Nothing of it was decoded twice, or hid behind a trailing dot, a colon or a case that is another one.
    for target in [
        "/hello.txt.",
        "/hello.txt%20",
        "/hello.txt::$DATA",
        "/HELLO.TXT",
        "/hello.txt;x",
        "/hello%2etxt%2f",
    ] {
        let mut client = rig.client().await;
        assert_eq!(
            ask(&mut client, &format!("GET {target}"), &[])
                .await
                .status(),
            404,
            "{target}"
        );
    }
}

/// To open a pipe would wait for its writer, and to open a device may do anything.
#[lameduck_rig::test]
async fn pipe_and_socket_are_never_opened() {
    let (rig, root) = rig("").await;
    let mut client = rig.client().await;
    // Who opens a pipe for writing without waiting learns whether anybody reads.
    let writer = std::thread::spawn({
        let pipe = root.join("pipe");
        move || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let open = || {
                std::fs::File::options()
                    .write(true)
                    .custom_flags(libc_o_nonblock())
                    .open(&pipe)
            };
            (0..2_000).filter(|_| open().is_ok()).count()
        }
    });
    for _ in 0..50 {
        for target in ["/pipe", "/socket"] {
            let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
            assert_eq!(answer.status(), 404, "{target}");
        }
    }
    assert_eq!(writer.join().unwrap(), 0, "somebody read from the pipe");
}

fn libc_o_nonblock() -> i32 {
    0o4000
}
