//! What is read, what is passed over, and what is said of files that can't be read: never that requests are cut.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// `lameduck doctor` in a directory with these files: exit code, standard output, standard error.
fn doctor(files: &[(&str, &str)], args: &[&str], input: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut child = Command::new(lameduck_rig::place::exe())
        .arg("doctor")
        .args(args)
        .current_dir(dir.path())
        .env_remove("LAMEDUCK_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who reads no input has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// One file, by its name.
fn one(name: &str, text: &str) -> (i32, String, String) {
    doctor(&[(name, text)], &[name], "")
}

#[test]
fn ecosystem_files_may_print_and_keep_node_busy() {
    if !super::has_node() {
        return;
    }
    let text = "console.log('[dotenv@17] injecting env (3) from .env'); process.stderr.write('x\\n');\n\
                require('fs').writeSync(1, 'JSON {\"apps\":[]}\\n');\n\
                setInterval(() => {}, 1000);\n\
                module.exports = { apps: [{ name: 'web', script: 'server.js', env: { PORT: 3000 } }] };\n";
    let (code, out, err) = one("ecosystem.config.cjs", text);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("warning[uncoordinated]") && !out.contains("dotenv"),
        "{out}"
    );
}

#[test]
fn exports_that_are_no_configuration_have_words_of_their_own() {
    if !super::has_node() {
        return;
    }
    for (text, says) in [
        (
            "module.exports = () => ({ apps: [] });",
            "it exports a function",
        ),
        (
            "module.exports = (async () => ({ apps: [] }))();",
            "it exports a promise",
        ),
        (
            "const a = { apps: [] }; a.self = a; module.exports = a;",
            "(a circle)",
        ),
        ("const apps = [];", "it exports nothing"),
        ("module.exports = undefined;", "it exports nothing"),
        ("process.exit(3);", "it ends Node before"),
        ("require('no-such-module');", "npm ci"),
        ("module.exports = { apps: [ };", "SyntaxError"),
        (
            "throw new Error('first\\nsecond');",
            "Node says: Error: first;",
        ),
        ("while (true) {}", "more than 5 s"),
        (
            "require('child_process').execSync('yes | head -c 9000000', { stdio: 'inherit' });",
            "more than 4 MiB",
        ),
    ] {
        let (code, out, err) = one("ecosystem.config.cjs", text);
        assert_eq!((code, out.as_str()), (2, ""), "{text}: {err}");
        assert!(err.contains(says), "{text}: {err}");
        // Node's internals are nobody's business.
        assert!(!err.contains("    at ") && !err.contains("node:"), "{err}");
    }
}

#[test]
fn what_cannot_be_read_is_no_error_that_cuts_requests() {
    let helm = "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: {{ .Values.replicas }}\n";
    let jinja = "{% for app in apps %}\n[program:{{ app.name }}]\ncommand={{ app.command }}\n{% endfor %}\n";
    let erb = "[Service]\nExecStart=/usr/bin/node <%= @app %>\n";
    for (name, text, says) in [
        (
            "deployment.yaml",
            helm,
            "helm template CHART | lameduck doctor -",
        ),
        ("app.conf.j2", jinja, "render it first"),
        ("app.service.erb", erb, "render it first"),
        (
            "compose.yaml",
            "services:\n  a: [\n",
            "neither YAML nor JSON",
        ),
        ("oxfile.toml", "[[apps]]\nname =\n", "no TOML"),
        ("x.yaml", "a: b\n", "no `kind`"),
    ] {
        let (code, out, _) = one(name, text);
        assert_eq!(code, 2, "{name}: {out}");
        assert!(
            out.contains(says) && out.contains("can't be read"),
            "{name}: {out}"
        );
        assert!(!out.contains("will cut requests"), "{name}: {out}");
    }
}

#[test]
fn files_of_other_supervisors_are_passed_over() {
    for name in [
        "runit/app/run",
        "s6/app-1/notification-fd",
        "s6/app-1/timeout-kill",
        "foreman/Procfile",
        "docker/Dockerfile",
    ] {
        let path = Path::new("deploy").join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let (code, out, err) = one(name, &text);
        assert_eq!((code, err.as_str()), (0, ""), "{name}: {out}");
        assert!(out.contains("passed over"), "{name}: {out}");
    }
    let (code, out, _) = doctor(&[("app/run", "#!/bin/sh\nexec node a.js\n")], &["app"], "");
    assert!(code == 0 && out.contains("passed over"), "{out}");
}

#[test]
fn standard_input_is_told_by_its_content() {
    for (text, kind) in [
        (
            "---\n# Source: a.yaml\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
            "Kubernetes manifest",
        ),
        (
            "name: x\nservices:\n  db:\n    image: postgres\n",
            "Compose file",
        ),
        (
            "version = 1\n[[apps]]\nname = \"a\"\ncommand = \"./a\"\n",
            "Oxmgr's Oxfile",
        ),
        (
            "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/x\n",
            "systemd unit",
        ),
        (
            "; x\n[program:x]\ncommand=/bin/x\n",
            "supervisord's configuration",
        ),
        (
            "{ \"apps\": [{ \"name\": \"bot\", \"script\": \"bot.py\" }] } // x\n",
            "PM2's ecosystem file",
        ),
    ] {
        let (code, out, err) = doctor(&[], &["-"], text);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(
            out.contains(&format!("(standard input) ({kind}): nothing found")),
            "{out}"
        );
    }
    let (code, out, _) = doctor(&[], &["-"], "module.exports = {};\n");
    assert!(code == 2 && out.contains("ecosystem.config.cjs"), "{out}");
}

#[test]
fn supervisord_s_patterns_match_as_python_s_glob_does() {
    let unsafe_program = "[program:web]\ncommand=sh -c 'gunicorn a:a'\n";
    let files = [
        (
            "supervisord.conf",
            "[supervisord]\nnodaemon=true\n[include]\nfiles = d/*.conf e/[ab].ini e/[!a-y].cfg\n",
        ),
        ("d/.old.conf", unsafe_program),
        ("d/new.conf", unsafe_program),
        ("e/a.ini", unsafe_program),
        ("e/c.ini", unsafe_program),
        ("e/x.cfg", unsafe_program),
        ("e/z.cfg", unsafe_program),
    ];
    let (_, out, err) = doctor(&files, &["supervisord.conf"], "");
    assert_eq!(err, "");
    for (name, is_read) in [
        ("d/new.conf", true),
        ("e/a.ini", true),
        ("e/z.cfg", true),
        // Hidden, and outside the sets: before, each set matched any character, and a star hidden files.
        ("d/.old.conf", false),
        ("e/c.ini", false),
        ("e/x.cfg", false),
    ] {
        assert_eq!(out.contains(name), is_read, "{name}\n{out}");
    }
}

#[test]
fn supervisord_s_includes_are_read() {
    let files = [
        (
            "etc/supervisord.conf",
            "[supervisord]\nnodaemon=true\n[include]\nfiles = conf.d/*.conf %(here)s/more/x?.ini\n",
        ),
        (
            "etc/conf.d/a.conf",
            "[program:web]\ncommand=gunicorn -b :8000 a:a\n",
        ),
        (
            "etc/conf.d/b.conf.off",
            "[program:c]\ncommand=gunicorn a:a\n",
        ),
        (
            "etc/more/x1.ini",
            "[fcgi-program:php]\nsocket=tcp://localhost:9000\ncommand=php-cgi\n[include]\nfiles = *.ini\n",
        ),
    ];
    let (code, out, err) = doctor(&files, &["etc/supervisord.conf"], "");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("etc/conf.d/a.conf (supervisord's configuration): 1 finding"),
        "{out}"
    );
    assert!(
        out.contains("x1.ini (supervisord's configuration): nothing found"),
        "{out}"
    );
    assert!(!out.contains("b.conf.off"), "{out}");
}

#[test]
fn what_npm_runs_is_taken_from_its_package() {
    let files = [
        (
            "ecosystem.json",
            "{\"apps\": [{\"name\": \"web\", \"script\": \"npm\", \"args\": \"run start:prod\"}]}",
        ),
        (
            "package.json",
            "{\"scripts\": {\"start:prod\": \"node --enable-source-maps dist/main.js\"}}",
        ),
    ];
    let (code, out, _) = doctor(&files, &["ecosystem.json"], "");
    assert_eq!(code, 0, "{out}");
    let line = "exec --pool app --drain-timeout 30s -- node --enable-source-maps dist/main.js";
    assert!(out.contains(line), "{out}");
}

/// The manifest of a proxy that discovers its backends, with each of its rights taken away in turn.
#[test]
fn missing_rights_to_discover_are_found_where_they_are_missing() {
    let shipped = std::fs::read_to_string("deploy/kubernetes/discovery.yaml").unwrap();
    let (code, out, _) = one("discovery.k8s.yaml", &shipped);
    assert_eq!(code, 0, "{out}");
    let account = "      serviceAccountName: lameduck\n";
    let unmounted = format!("{account}      automountServiceAccountToken: false\n");
    for (right, wrong, says) in [
        (
            "verbs: [\"list\", \"watch\"]",
            "verbs: [\"get\", \"list\"]",
            "lameduck may not watch EndpointSlices",
        ),
        (
            "apiGroups: [\"discovery.k8s.io\"]",
            "apiGroups: [\"\"]",
            "EndpointSlices are of the group discovery.k8s.io",
        ),
        (
            "resources: [\"endpointslices\"]",
            "resources: [\"endpoints\"]",
            "no rule lets lameduck read EndpointSlices",
        ),
        (account, unmounted.as_str(), "the pod has no token"),
    ] {
        assert_eq!(shipped.matches(right).count(), 1, "{right}");
        let (code, out, _) = one("discovery.k8s.yaml", &shipped.replace(right, wrong));
        assert_ne!(code, 0, "{wrong}: {out}");
        assert!(
            out.contains("error[discovery-rights]") && out.contains(says),
            "{wrong}: {out}"
        );
        // A configuration that asks elsewhere needs no rights here.
        let elsewhere = shipped.replace(right, wrong).replace(
            "    service = \"app\"\n",
            "    service = \"app\"\n    kubeconfig = \"/etc/lameduck/kubeconfig\"\n",
        );
        let (code, out, _) = one("discovery.k8s.yaml", &elsewhere);
        assert_eq!(code, 0, "{out}");
    }
    // Rights to everything are rights to this, too.
    let all = shipped.replace("verbs: [\"list\", \"watch\"]", "verbs: [\"*\"]");
    assert_eq!(one("discovery.k8s.yaml", &all).0, 0);
}

#[test]
fn app_whose_supervisor_is_watched_needs_neither_launcher_nor_hook() {
    let unit = "[Service]\nEnvironment=PORT=3001\nExecStart=/usr/bin/node /srv/api/server.mjs\nTimeoutStopSec=90\n";
    let own = |supervisor: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"api\"\n[[pool.backend]]\nname = \"api-1\"\n\
             address = \"127.0.0.1:3001\"\n{supervisor}"
        )
    };
    let said = |supervisor: &str| {
        let files = [("api.service", unit), ("lameduck.toml", &own(supervisor))];
        doctor(&files, &["-c", "lameduck.toml", "api.service"], "").1
    };
    let alone = said("");
    assert!(alone.contains("warning[uncoordinated]"), "{alone}");
    let way = "[pool.supervisor] with type = \"systemd\"";
    assert!(alone.contains(way), "{alone}");
    let other = said("[pool.supervisor]\ntype = \"docker\"\n");
    assert!(other.contains("uncoordinated"), "{other}");
    let watched = said("[pool.supervisor]\ntype = \"systemd\"\nprocess = \"api.service\"\n");
    assert!(!watched.contains("uncoordinated"), "{watched}");
}
