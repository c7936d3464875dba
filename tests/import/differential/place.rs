//! A site in a place of its own: its files, its backends, nginx, and lameduck with what was made of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lameduck::tools::import::nginx::import_nginx;
use lameduck::tools::import::nginx::tree::{NginxDirective, TreeReader};
use lameduck::tools::import::notice::ImportNotice;
use lameduck_rig::place::exe;
use lameduck_rig::ports::free_address;
use regex::Regex;

use super::backend::start_echo;

/// What both serve, from one text that differs in the ports on which they listen.
pub struct PlacedSite {
    /// Where nginx and lameduck listen, in the order in which the ports stand in the file.
    pub doors: Vec<(SocketAddr, SocketAddr)>,
    pub notices: Vec<ImportNotice>,
    pub tree: Vec<NginxDirective>,
    /// Whether files have types of nginx's own list, or of the site's.
    pub has_types: bool,
    /// The backends of each upstream, by the names that they have in the file: which one is asked is not compared.
    pub upstreams: Vec<Vec<String>>,
    /// lameduck's configuration.
    pub toml: String,
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Drop for PlacedSite {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Directories whose files both serve; each is put below the site's own directory.
const ROOTS: [&str; 6] = [
    "/var/www",
    "/srv",
    "/usr/share/nginx",
    "/etc/nginx",
    "/opt",
    "/home",
];

impl PlacedSite {
    pub fn start(nginx: &Path, path: &Path) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display().to_string();
        let text = std::fs::read_to_string(path).unwrap();
        let upstreams = upstreams_of(&text);
        let text = text_in_place(&text, &root);
        make_files(&text, &root);
        let (text, ports) = listens_apart(&text);
        let (mut theirs, mut ours) = (text.clone(), text);
        let mut doors = Vec::new();
        for port in &ports {
            let (there, here) = (free_address(), free_address());
            theirs = theirs.replace(&format!("@{port}@"), &there.to_string());
            ours = ours.replace(&format!("@{port}@"), &here.to_string());
            doors.push((there, here));
        }
        let (their_file, our_file) = (dir.path().join("nginx.conf"), dir.path().join("site.conf"));
        // nginx's module for it is not in every build of it, and there are no packed files here.
        let theirs = theirs.replace("gzip_static on;", "");
        std::fs::write(&their_file, whole(&theirs, &root)).unwrap();
        std::fs::write(&our_file, whole(&ours, &root)).unwrap();
        let imported = import_nginx(&our_file, None).map_err(|error| error.to_string())?;
        let admin = free_address();
        let toml = format!(
            "{}\n[admin]\nsocket = \"{root}/admin.sock\"\nhttp = \"{admin}\"\n",
            imported.toml
        );
        let config = dir.path().join("lameduck.toml");
        std::fs::write(&config, &toml).unwrap();
        let tree = TreeReader::new(dir.path())
            .read_file(&our_file)
            .map_err(|error| error.to_string())?;
        let mut site = PlacedSite {
            doors,
            notices: imported.notices,
            has_types: ours.contains("mime.types") || ours.contains("types {"),
            tree,
            upstreams,
            toml,
            dir,
            children: Vec::new(),
        };
        let mut command = Command::new(nginx);
        command
            .args(["-p", &root, "-e", "stderr", "-c"])
            .arg(&their_file);
        site.children
            .push(quiet(&mut command, &site.path("nginx.log")));
        let mut command = Command::new(exe());
        command.arg("run").arg("-c").arg(&config);
        site.children
            .push(quiet(&mut command, &site.path("lameduck.log")));
        let addresses = site.doors.iter().map(|(there, _)| *there);
        for address in addresses.chain([admin]).collect::<Vec<_>>() {
            site.await_door(address)?;
        }
        let end = Instant::now() + Duration::from_secs(30);
        while !super::ask(
            admin,
            format!("GET /-/ready HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
            false,
        )
        .is_ok_and(|answer| answer.status == 200)
        {
            if Instant::now() > end {
                return Err(format!("lameduck is not ready:\n{}", site.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // What the import left out has no listener.
        let known = site.toml.clone();
        site.doors
            .retain(|(_, here)| known.contains(&format!("\"{here}\"")));
        if site.doors.is_empty() {
            return Err(format!("no listener was carried over:\n{}", site.toml));
        }
        Ok(site)
    }

    /// Whether a text stands in nginx's configuration.
    pub fn tree_has_text(&self, text: &str) -> bool {
        fn has(level: &[NginxDirective], text: &str) -> bool {
            level
                .iter()
                .any(|d| d.args().iter().any(|word| word == text) || has(d.inner(), text))
        }
        has(&self.tree, text)
    }

    /// The directory below which all of its files are.
    pub fn root(&self) -> String {
        self.dir.path().display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("lameduck.log")).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }

    fn await_door(&mut self, address: SocketAddr) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(address).is_err() {
            for (child, log) in self.children.iter_mut().zip(["nginx.log", "lameduck.log"]) {
                if let Ok(Some(status)) = child.try_wait() {
                    let said =
                        std::fs::read_to_string(self.dir.path().join(log)).unwrap_or_default();
                    return Err(format!(
                        "{log}: ended with {status}:\n{said}\n{}",
                        self.toml
                    ));
                }
            }
            if Instant::now() > end {
                return Err(format!("nobody listens on {address}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn quiet(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The text with its directories below `root`, its backends where they are, and no TLS, which other tests look at.
fn text_in_place(text: &str, root: &str) -> String {
    let backend = Regex::new(r"127\.0\.0\.1:\d+|\blocalhost:\d+").unwrap();
    let dropped = Regex::new(r"^\s*(ssl_|user |pid |access_log|error_log|worker_|http2 |quic|daemon|resolver|load_module|http3|add_header Alt-Svc)").unwrap();
    let mut known: BTreeMap<String, SocketAddr> = BTreeMap::new();
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if dropped.is_match(&line) && !line.contains('{') {
            line.clear();
        }
        if !line.trim_start().starts_with("listen") {
            line = backend
                .replace_all(&line, |found: &regex::Captures<'_>| {
                    let name = found[0].to_owned();
                    known
                        .entry(name.clone())
                        .or_insert_with(|| start_echo(&name))
                        .to_string()
                })
                .into_owned();
            for dir in ROOTS {
                line = line.replace(&format!(" {dir}"), &format!(" {root}{dir}"));
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn upstreams_of(text: &str) -> Vec<Vec<String>> {
    let block = Regex::new(r"(?s)upstream\s+\S+\s*\{(.*?)\}").unwrap();
    let server = Regex::new(r"server\s+([^;\s]+)").unwrap();
    let names = |found: regex::Captures<'_>| {
        let inner = found.get(1).map_or("", |inner| inner.as_str());
        let names = server.captures_iter(inner).map(|name| name[1].to_owned());
        names.collect()
    };
    block.captures_iter(text).map(names).collect()
}

/// The text with `@80@` in the place of each address on port 80, and these ports. Lines of IPv6 are left out.
fn listens_apart(text: &str) -> (String, Vec<String>) {
    let listen =
        Regex::new(r"^(\s*)listen\s+(?:\[::\]:|\*:|0\.0\.0\.0:|127\.0\.0\.1:)?(\d+)([^;]*);")
            .unwrap();
    let words = Regex::new(
        r"\b(ssl|http2|quic|reuseport|deferred|fastopen=\d+|ipv6only=\w+|proxy_protocol)\b",
    )
    .unwrap();
    let mut ports: Vec<String> = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        match listen.captures(line) {
            Some(_) if line.contains("[::]") => {}
            Some(found) => {
                let port = found[2].to_owned();
                let rest = words.replace_all(&found[3], "");
                out.push_str(&listen.replace(line, format!("${{1}}listen @{port}@{rest};")));
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    (out, ports)
}

/// A whole file for nginx, on the same lines.
fn whole(text: &str, root: &str) -> String {
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/temp-{kind};"))
        .join(" ");
    let main =
        format!("daemon off; master_process off; pid {root}/nginx.pid; error_log stderr crit;");
    let inner = format!("access_log off; {temp}");
    let is_whole = text
        .lines()
        .any(|line| line.trim_start().starts_with("http {"));
    match is_whole {
        true => {
            let text = text.replacen("http {", &format!("http {{ {inner}"), 1);
            let events = if text.contains("events {") {
                ""
            } else {
                "events {}"
            };
            format!("{main} {events} {text}")
        }
        false => format!("{main} events {{}} http {{ {inner} {text}}}\n"),
    }
}

/// Files for every directory that the text names.
fn make_files(text: &str, root: &str) {
    let named = Regex::new(r"\b(root|alias)\s+([^;$]+)([;$])").unwrap();
    for found in named.captures_iter(text) {
        // In front of a variable: the directory alone.
        let name = match &found[3] {
            ";" => found[2].trim(),
            _ => found[2].rsplit_once('/').map_or("", |(dir, _)| dir),
        };
        let dir = PathBuf::from(name);
        if !dir.starts_with(root) {
            continue;
        }
        if dir.extension().is_some_and(|end| {
            ["html", "txt", "ico", "xml", "js", "png"].contains(&end.to_str().unwrap_or_default())
        }) && !dir.exists()
        {
            std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
            std::fs::write(&dir, "one file\n").unwrap();
        }
        if dir.is_file() {
            continue;
        }
        for (name, text) in files() {
            let file = dir.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
        }
    }
    let etc = PathBuf::from(format!("{root}/etc/nginx"));
    std::fs::create_dir_all(&etc).unwrap();
    // user "ada", password "engine", by SHA-1: both know it.
    for file in [
        format!("{root}/etc/nginx/.htpasswd"),
        format!("{root}/etc/nginx/htpasswd"),
    ] {
        std::fs::write(file, "ada:{SHA}xkAzZy9cqYTf6WKQlnGWHoAS8MU=\n").unwrap();
    }
    let types = "types { text/html html; text/css css; application/javascript js; application/json json; image/png png; image/jpeg jpg; image/svg+xml svg; text/plain txt; image/x-icon ico; font/woff2 woff2; }\n";
    std::fs::write(etc.join("mime.types"), types).unwrap();
    std::fs::write(format!("{root}/mime.types"), types).unwrap();
}

fn files() -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("index.html", "<h1>index</h1>\n".to_owned()),
        ("404.html", "<h1>not here</h1>\n".to_owned()),
        ("50x.html", "<h1>broken</h1>\n".to_owned()),
        ("robots.txt", "User-agent: *\n".to_owned()),
        ("favicon.ico", "icon".to_owned()),
        ("sub/index.html", "<h1>sub</h1>\n".to_owned()),
        ("page.html", "<h1>page</h1>\n".to_owned()),
        ("a b.txt", "a space\n".to_owned()),
    ];
    for dir in ["", "assets/", "static/", "media/", "images/"] {
        let name: &'static str = match dir {
            "" => "app.js",
            "assets/" => "assets/app.js",
            "static/" => "static/app.js",
            "media/" => "media/photo.jpg",
            _ => "images/logo.png",
        };
        files.push((name, format!("// {dir}\n{}", "x = 1;\n".repeat(300))));
    }
    files.push(("assets/style.css", "a { b: c }\n".repeat(200)));
    files.push(("static/style.css", "a { b: c }\n".repeat(200)));
    files
}
