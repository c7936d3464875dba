//! What a scanner finds with default settings, and what OpenSSL thinks of it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::rig::{Rig, proving, skip};

/// sslyze judges by Mozilla's profile and by the known attacks.
#[lameduck_rig::test]
async fn a_scanner_finds_nothing() {
    let sslyze = Path::new("target/scan-venv/bin/sslyze");
    if !sslyze.exists() {
        skip("a scanner finds nothing", "sslyze (run tests/setup.sh)");
        return;
    }
    let rig = Rig::new("").await;
    let report = rig.dir().join("report.json");
    let arguments = [
        "--sslv2",
        "--sslv3",
        "--tlsv1",
        "--tlsv1_1",
        "--tlsv1_2",
        "--tlsv1_3",
        "--compression",
        "--early_data",
        "--fallback",
        "--heartbleed",
        "--openssl_ccs",
        "--reneg",
        "--robot",
        "--resum",
        "--elliptic_curves",
        "--ems",
    ];
    let (address, out) = (rig.address().to_string(), report.clone());
    let scan = tokio::task::spawn_blocking(move || {
        Command::new(sslyze)
            .args(arguments)
            .arg("--mozilla_config=disable")
            .arg(format!("--json_out={}", out.display()))
            .arg("--sni=localhost")
            .arg(address)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    let output = scan.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: serde_json::Value = serde_json::from_slice(
        &std::fs::read(&report).unwrap_or_else(|error| panic!("{error}\n{said}")),
    )
    .unwrap();
    let result = &report["server_scan_results"][0]["scan_result"];
    let found = |name: &str| {
        let one = &result[name];
        assert_eq!(one["status"], "COMPLETED", "{name}: {one}\n{said}");
        one["result"].clone()
    };
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let accepted = found(&format!("{old}_cipher_suites"))["accepted_cipher_suites"].clone();
        assert_eq!(
            accepted.as_array().map(Vec::len),
            Some(0),
            "{old}: {accepted}"
        );
    }
    let tls12 = found("tls_1_2_cipher_suites")["accepted_cipher_suites"].clone();
    for suite in tls12.as_array().unwrap() {
        let name = suite["cipher_suite"]["name"].as_str().unwrap();
        let strong = name.contains("ECDHE") && (name.contains("GCM") || name.contains("CHACHA20"));
        assert!(
            strong,
            "{name}: no forward secrecy, or no authenticated encryption"
        );
    }
    assert_eq!(
        found("tls_1_3_cipher_suites")["accepted_cipher_suites"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    for (name, key, good) in [
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
        (
            "openssl_ccs_injection",
            "is_vulnerable_to_ccs_injection",
            false,
        ),
        ("tls_compression", "supports_compression", false),
        ("tls_1_3_early_data", "supports_early_data", false),
        ("tls_fallback_scsv", "supports_fallback_scsv", true),
        ("tls_extended_master_secret", "supports_ems_extension", true),
        (
            "session_renegotiation",
            "is_vulnerable_to_client_renegotiation_dos",
            false,
        ),
        (
            "session_renegotiation",
            "supports_secure_renegotiation",
            true,
        ),
    ] {
        assert_eq!(found(name)[key], good, "{name}: {}", found(name));
    }
    assert!(
        found("robot")["robot_result"]
            .as_str()
            .unwrap()
            .starts_with("NOT_VULNERABLE")
    );
    if proving() {
        println!("{said}");
    }
}

#[lameduck_rig::test]
async fn openssl_connects_and_resumes() {
    if Command::new("openssl").arg("version").output().is_err() {
        skip("OpenSSL connects and resumes", "openssl");
        return;
    }
    let rig = Rig::new("").await;
    let (dir, address) = (rig.dir().to_owned(), rig.address().to_string());
    let run = move |more: &str| {
        let session = dir.join("session");
        let script = format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | \
             openssl s_client -connect {address} -servername localhost -CAfile {}/ca.pem -verify_return_error \
             -ign_eof {} 2>&1",
            dir.display(),
            more.replace("SESSION", session.to_str().unwrap())
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = tokio::task::spawn_blocking(move || {
        ["-tls1_2", "-tls1_3"].map(|version| {
            let first = run(&format!("{version} -sess_out SESSION"));
            (version, first, run(&format!("{version} -sess_in SESSION")))
        })
    });
    for (version, first, second) in said.await.unwrap() {
        for answer in [&first, &second] {
            assert!(answer.contains("HTTP/1.1 200 OK"), "{version}: {answer}");
            assert!(
                answer.contains("Verify return code: 0 (ok)"),
                "{version}: {answer}"
            );
        }
        assert!(first.contains("New, TLSv1."), "{first}");
        assert!(second.contains("Reused, TLSv1."), "{version}: {second}");
    }
}

/// A client whose list begins with the weaker suite gets the stronger one all the same.
#[lameduck_rig::test]
async fn suites_are_chosen_by_the_server_s_order() {
    if Command::new("openssl").arg("version").output().is_err() {
        skip("suites by the server's order", "openssl");
        return;
    }
    let rig = Rig::new("").await;
    let address = rig.address().to_string();
    let run = move |options: &str| {
        let script = format!(
            "openssl s_client -connect {address} -servername localhost {options} </dev/null 2>&1"
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = tokio::task::spawn_blocking(move || {
        let lists = [
            (
                "-tls1_3 -ciphersuites",
                "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",
                "TLS_AES_256_GCM_SHA384",
            ),
            (
                "-tls1_2 -cipher",
                "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384",
                "AES256-GCM-SHA384",
            ),
        ];
        lists.map(|(option, list, wanted)| (run(&format!("{option} {list}")), wanted))
    });
    for (said, wanted) in said.await.unwrap() {
        let line = said.lines().find(|line| line.contains("Cipher is"));
        assert!(
            line.is_some_and(|line| line.contains(wanted)),
            "{wanted}: {said}"
        );
    }
}
