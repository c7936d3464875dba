//! `lameduck import ingress` over a corpus of files, as `lameduck import nginx` has one.
//!
//! `ingress/NAME.yaml` is read; `ingress/results/NAME.toml` is what comes of it, and `NAME.txt` the exit code and what is
//! said. `LAMEDUCK_BLESS=1` writes both.

use std::path::{Path, PathBuf};

use clap::Parser;
use lameduck::cli::import::run_import;
use lameduck::config;
use lameduck::tools::import::ingress::annotations::{AnnotationFate, ROWS, annotation_tables};
use lameduck_rig::pages::check_generated;

use super::{ImportCli, check_notices};

const FILES: &str = "tests/import/ingress";

/// Exit code, what is written, and what is said.
fn import(words: &[&str]) -> (u8, String, String) {
    let args = ImportCli::parse_from(["import", "ingress"].iter().chain(words)).args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_import(args, &mut out, &mut err);
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// A text as a file of its own.
fn import_text(text: &str) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ingress.yaml");
    std::fs::write(&path, text).unwrap();
    let (code, out, err) = import(&[path.to_str().unwrap()]);
    let dir = format!("{}/", dir.path().display());
    (code, out.replace(&dir, ""), err.replace(&dir, ""))
}

/// An Ingress with these annotations for `/` of one host.
fn import_annotated(annotations: &[(&str, &str)]) -> (u8, String, String) {
    let mut text = String::from(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: app\n  annotations:\n",
    );
    for (name, value) in annotations {
        text.push_str(&format!(
            "    nginx.ingress.kubernetes.io/{name}: {value:?}\n"
        ));
    }
    text.push_str(
        "spec:\n  tls:\n    - hosts: [app.example.org]\n      secretName: app\n  rules:\n    - host: app.example.org\n      http:\n        paths:\n          - path: /\n            pathType: Prefix\n            backend:\n              service: {name: app, port: {number: 80}}\n",
    );
    import_text(&text)
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FILES)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{files:?}");
    files
}

#[test]
fn ingresses_become_what_is_written_beside_them_and_check_accepts_it() {
    let bless = std::env::var_os("LAMEDUCK_BLESS").is_some();
    for path in files() {
        let (code, out, err) = import(&[path.to_str().unwrap()]);
        let name = path.file_stem().unwrap().to_str().unwrap();
        for (end, text) in [("toml", &out), ("txt", &format!("exit {code}\n{err}"))] {
            let result = Path::new(FILES).join(format!("results/{name}.{end}"));
            if bless {
                std::fs::write(&result, text).unwrap();
            }
            let expected = std::fs::read_to_string(&result).unwrap_or_default();
            assert_eq!(
                *text,
                expected,
                "{}: run with LAMEDUCK_BLESS=1",
                result.display()
            );
        }
        if let Err(error) = config::parse("lameduck.toml", &out) {
            panic!(
                "{}
{}
{out}",
                path.display(),
                error.render(false)
            );
        }
        check_notices(&path, ".yaml", (code, &out, &err));
    }
}

#[test]
fn the_table_of_annotations_in_the_documentation_is_the_code_s() {
    const BEGIN: &str =
        "<!-- annotations: begin (generated; see tests/import/ingress/mod.rs) -->\n";
    const END: &str = "<!-- annotations: end -->";
    check_generated(
        "docs/from-ingress.md",
        BEGIN,
        END,
        &format!("{}\n", annotation_tables()),
    );
}

#[test]
fn file_of_ingresses_that_cannot_be_read_ends_with_1_and_names_the_line() {
    let (code, out, err) = import(&["/nowhere/ingress.yaml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("error: /nowhere/ingress.yaml: can't read it"),
        "{err}"
    );
    let (code, out, err) =
        import_text("kind: Ingress\nmetadata:\n  name: {{ .Release.Name }}-web\n");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.starts_with("error: ingress.yaml:3: "), "{err}");
}

#[test]
fn file_without_an_ingress_says_so_and_opens_nothing() {
    let (code, out, err) = import_text("kind: Service\nmetadata: {name: x}\n");
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("there is no Ingress in it"), "{err}");
    assert!(out.contains("name = \"left-out\""), "{out}");
}

/// Whoever writes one of these wants to keep somebody out, whatever its value says.
#[test]
fn what_is_guarded_never_leads_to_an_open_route() {
    let guards: [&[(&str, &str)]; 33] = [
        &[("whitelist-source-range", "10.0.0.0/8")],
        &[("whitelist-source-range", "10.0.0.0/8,nonsense")],
        &[("whitelist-source-range", ",")],
        &[("allowlist-source-range", "10.0.0.0/8;11.0.0.0/8")],
        &[("allowlist-source-range", "::1/129")],
        &[("denylist-source-range", "bad")],
        &[("denylist-source-range", "10.0.0.0/8")],
        &[("auth-type", "basic"), ("auth-secret", "users")],
        &[("auth-type", "basic")],
        &[("auth-type", "digest"), ("auth-secret", "users")],
        &[("auth-type", "Basic"), ("auth-secret", "users")],
        &[("auth-secret", "users")],
        &[("auth-url", "http://auth.example.org/verify")],
        &[("auth-url", "https://$host/oauth2/auth")],
        &[("auth-url", "auth.example.org/verify")],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("auth-method", "POST"),
        ],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("auth-response-headers", "Content-Length"),
        ],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("auth-type", "basic"),
            ("auth-secret", "users"),
        ],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("whitelist-source-range", "10.0.0.0/8"),
            ("satisfy", "any"),
        ],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("enable-cors", "true"),
            ("cors-allow-origin", "https://a.example.org"),
        ],
        &[
            ("auth-snippet", "proxy_set_header X-A b;"),
            ("auth-url", "http://auth.example.org/verify"),
        ],
        &[("auth-tls-secret", "default/ca")],
        &[
            ("auth-tls-secret", "default/ca"),
            ("auth-tls-verify-client", "optional_no_ca"),
        ],
        &[
            ("auth-tls-secret", "default/ca"),
            ("auth-tls-match-cn", "CN=x"),
        ],
        &[("auth-tpye", "basic")],
        &[("ssl-passthrough", "true")],
        &[("configuration-snippet", "deny all;")],
        &[(
            "configuration-snippet",
            "more_set_headers \"A: b\";\nif ($x) { return 403; }",
        )],
        &[("server-snippet", "satisfy any;")],
        &[
            ("whitelist-source-range", "10.0.0.0/8"),
            ("rewrite-target", "/$9"),
        ],
        &[
            ("whitelist-source-range", "10.0.0.0/8"),
            ("server-alias", "other.example.org"),
            ("use-regex", "true"),
        ],
        &[
            ("whitelist-source-range", "10.0.0.0/8"),
            ("mirror-target", "https://$host/"),
        ],
        &[
            ("auth-url", "http://auth.example.org/verify"),
            ("limit-rps", "5"),
            ("proxy-body-size", "0"),
        ],
    ];
    for annotations in guards {
        let (_, out, err) = import_annotated(annotations);
        let loaded: toml::Table = out.parse().unwrap();
        let routes = loaded["route"].as_array().unwrap();
        assert!(!routes.is_empty());
        for route in routes {
            let keys = ["allow", "deny", "auth", "client_certificate"];
            let guarded = keys.iter().any(|key| route.get(key).is_some());
            let closed = route.get("pool").and_then(toml::Value::as_str) == Some("left-out");
            // A preflight is answered here: it reaches nobody.
            let answered = route.get("respond").is_some();
            assert!(
                guarded || closed || answered,
                "{annotations:?}\n{out}\n{err}"
            );
        }
    }
}

/// What each annotation of the table needs to be about something.
#[test]
fn every_annotation_is_carried_over_or_named() {
    for row in ROWS
        .iter()
        .filter(|row| row.fate != AnnotationFate::Harmless)
    {
        let (value, beside): (&str, &[(&str, &str)]) = match row.name {
            "rewrite-target" | "app-root" | "x-forwarded-prefix" => ("/x", &[]),
            "use-regex" | "from-to-www-redirect" | "enable-cors" => ("true", &[]),
            "ssl-redirect" => ("false", &[]),
            "permanent-redirect" | "temporal-redirect" => ("https://x.example.org/", &[]),
            "permanent-redirect-code" => {
                ("308", &[("permanent-redirect", "https://x.example.org/")])
            }
            "temporal-redirect-code" => ("307", &[("temporal-redirect", "https://x.example.org/")]),
            "server-alias" => ("x.example.org", &[]),
            "backend-protocol" => ("GRPC", &[]),
            "upstream-vhost" => ("x.example.org", &[]),
            "proxy-connect-timeout" | "proxy-read-timeout" => ("7", &[]),
            "proxy-next-upstream" | "proxy-request-buffering" => ("off", &[]),
            "proxy-next-upstream-tries" | "limit-rps" | "limit-rpm" | "limit-connections" => {
                ("7", &[])
            }
            "limit-burst-multiplier" => ("9", &[("limit-rps", "7")]),
            "proxy-ssl-secret" | "proxy-ssl-name" => {
                ("default/x", &[("backend-protocol", "HTTPS")])
            }
            "proxy-ssl-verify" => ("on", &[("backend-protocol", "HTTPS")]),
            "proxy-body-size" => ("7m", &[]),
            "whitelist-source-range" | "allowlist-source-range" | "denylist-source-range" => {
                ("10.0.0.0/8", &[])
            }
            "satisfy" => (
                "any",
                &[
                    ("auth-url", "http://x.example.org/"),
                    ("whitelist-source-range", "10.0.0.0/8"),
                ],
            ),
            "auth-type" => ("basic", &[]),
            "auth-secret" => ("users", &[("auth-type", "basic")]),
            "auth-secret-type" => (
                "auth-map",
                &[("auth-type", "basic"), ("auth-secret", "users")],
            ),
            "auth-realm" => ("here", &[("auth-type", "basic"), ("auth-secret", "users")]),
            "auth-url" => ("http://x.example.org/", &[]),
            "auth-response-headers" => ("X-User", &[("auth-url", "http://x.example.org/")]),
            "auth-method" => ("POST", &[("auth-url", "http://x.example.org/")]),
            "auth-tls-secret" => ("default/ca", &[]),
            "auth-tls-verify-client" => ("optional", &[("auth-tls-secret", "default/ca")]),
            name if name.starts_with("cors-") => ("x-1", &[("enable-cors", "true")]),
            "affinity" => ("cookie", &[]),
            "session-cookie-max-age" | "session-cookie-expires" => ("7", &[("affinity", "cookie")]),
            "session-cookie-path" => ("/x", &[("affinity", "cookie")]),
            "session-cookie-samesite" => ("Strict", &[("affinity", "cookie")]),
            "session-cookie-secure" => ("true", &[("affinity", "cookie")]),
            name if name.starts_with("session-cookie-") => {
                ("x.example.org", &[("affinity", "cookie")])
            }
            "mirror-target" => ("http://x.example.org", &[]),
            // Of the Ingress that is one; the corpus has them.
            name if name.starts_with("canary") => continue,
            "force-ssl-redirect" => continue,
            _ => ("x-1", &[]),
        };
        let (_, base, _) = import_annotated(beside);
        let mut all = beside.to_vec();
        all.push((row.name, value));
        let (_, out, err) = import_annotated(&all);
        let is_named = err.contains(&format!("`{}: ", row.name));
        // Without the numbers of lines, which every annotation moves.
        let still = |text: &str| {
            let kept = text.split("ingress.yaml:");
            let kept = kept.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
            kept.collect::<Vec<_>>().join("")
        };
        let is_carried = still(&out) != still(&base);
        assert!(
            is_named || is_carried,
            "{}: {value}\n{out}\n{err}",
            row.name
        );
        if matches!(row.fate, AnnotationFate::LeftOut | AnnotationFate::Closed) {
            assert!(is_named, "{}: {err}", row.name);
        }
    }
}

/// What ingress-nginx does for a whole host, it does for the paths of the others' Ingresses, too.
#[test]
fn what_guards_a_host_guards_the_paths_of_all_its_ingresses() {
    let ingress = |name: &str, annotations: &str, path: &str, kind: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\nspec:\n  tls: [{{hosts: [a.example.org], secretName: a}}]\n  rules:\n    - host: a.example.org\n      http: {{paths: [{{path: {path}, pathType: {kind}, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    let prefix = "nginx.ingress.kubernetes.io";
    for guard in [
        format!("{prefix}/auth-tls-secret: default/ca"),
        format!(
            "{prefix}/auth-tls-secret: default/ca, {prefix}/auth-tls-verify-client: optional_no_ca"
        ),
        format!("{prefix}/server-snippet: 'deny all;'"),
        format!("{prefix}/server-snippet: 'deny all;', {prefix}/canary: 'true'"),
        format!("{prefix}/ssl-passthrough: 'true'"),
    ] {
        let text = ingress("one", "", "/", "Prefix")
            + &ingress("two", &guard, "/", "Prefix").replace("path: /,", "path: /two,");
        let text = match guard.contains("canary") {
            true => text.replace("path: /two,", "path: /,"),
            false => text,
        };
        let (_, out, err) = import_text(&text);
        let loaded: toml::Table = out.parse().unwrap();
        for route in loaded["route"].as_array().unwrap() {
            let closed = route.get("pool").and_then(toml::Value::as_str) == Some("left-out");
            assert!(
                closed || route.get("client_certificate").is_some(),
                "{guard}\n{out}\n{err}"
            );
        }
    }
    // Paths that are one for lameduck: what guards the second guards the first.
    let guard = format!("{prefix}/whitelist-source-range: 10.0.0.0/8");
    for (first, second) in [("/x", "/x/"), ("/x/", "/x"), ("/x", "/x")] {
        let text = ingress("one", "", first, "Prefix") + &ingress("two", &guard, second, "Prefix");
        let (code, out, err) = import_text(&text);
        assert_eq!(code, 3, "{out}\n{err}");
        let loaded: toml::Table = out.parse().unwrap();
        for route in loaded["route"].as_array().unwrap() {
            let closed = route.get("pool").and_then(toml::Value::as_str) == Some("left-out");
            assert!(
                closed || route.get("allow").is_some(),
                "{first} {second}\n{out}\n{err}"
            );
        }
    }
}
